// SPDX-License-Identifier: Apache-2.0
// What the peer of a wire over RDMA may not say: every lie, to a device that the test plays.
// clang-format off
// WRAP: rdma_get_devices rdma_free_devices ibv_alloc_pd ibv_dealloc_pd ibv_reg_mr ibv_dereg_mr ibv_create_comp_channel ibv_destroy_comp_channel ibv_create_cq ibv_destroy_cq ibv_get_cq_event ibv_ack_cq_events rdma_create_qp rdma_destroy_qp rdma_disconnect rdma_destroy_id rdma_destroy_event_channel rdma_get_cm_event rdma_ack_cm_event
// clang-format on
#include "tests/unit/dataplane/rdma_fake.h"

static enum err send_byte(void) {
    uint8_t byte = 0;
    struct iovec iov = {&byte, 1};

    return wire_send(fake.wire, &iov, 1);
}

static void expect_protocol_error(void) {
    uint8_t in[1];

    assert_err(wire_receive(fake.wire, in, 1), ERR_PROTOCOL);
    assert_err(send_byte(), ERR_PROTOCOL);
    fake_teardown();
}

static void malformed_messages_break_the_protocol(void **state) {
    static const struct {
        uint8_t message[16];
        uint32_t length;
    } bad[] = {
        {{RDMA_MESSAGE_BYTES}, 0},                          // nothing
        {{RDMA_MESSAGE_BYTES}, 7},                          // less than a header
        {{RDMA_MESSAGE_BYTES, 0, 0, 0, 9}, 16},             // longer than it is
        {{RDMA_MESSAGE_BYTES, 0, 0, 0, 7}, 16},             // shorter than it is
        {{RDMA_MESSAGE_BYTES, 0, 0, 0, 8, 0, 0, 0x80}, 16}, // much longer
        {{RDMA_MESSAGE_BYTES, 1, 0, 0, 8}, 16},             // an unknown flag
        {{RDMA_MESSAGE_BYTES}, 8},                          // without bytes
        {{RDMA_MESSAGE_CREDIT, 0, 0, 0, 8}, 16},            // with bytes
        {{RDMA_MESSAGE_OFFER, 0, 0, 0, 8}, 16},             // half an offer
        {{RDMA_MESSAGE_OFFER}, 8},                          // none
        {{0}, 8},                                           // no kind
        {{99}, 8},                                          // an unknown one
        {{RDMA_MESSAGE_CREDIT, 0, 1}, 8},                   // more credits than it has
        {{RDMA_MESSAGE_CREDIT, 0, 0xff, 0xff}, 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake_setup(true, 8);
        fake_complete_sends(IBV_WC_SUCCESS);
        if (bad[i].message[2] == 1) { // the offers took one
            fake_message(RDMA_MESSAGE_CREDIT, 1, NULL, 0);
        }
        fake_raw_message(bad[i].message, bad[i].length);
        expect_protocol_error();
    }
}

static void offers_that_cannot_be_buffers_break_the_protocol(void **state) {
    static const struct {
        uint64_t address;
        uint32_t length;
    } bad[] = {{0x10000, 0}, {0x10000, 1}, {UINT64_MAX, 4096}, {UINT64_MAX - 100, UINT32_MAX}};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake_setup(false, 8);
        fake_offer(bad[i].address, 1, bad[i].length);
        expect_protocol_error();
    }
}

static void too_many_offers_break_the_protocol(void **state) {
    (void)state;
    fake_setup(false, 8);
    for (int i = 0; i < RDMA_OFFERS_MAX; i++) {
        fake_offer(0x10000, 1, 8192);
        assert_err(wire_wait_readable(fake.wire, 0), ERR_TIMEOUT);
    }
    fake_offer(0x10000, 1, 8192);
    expect_protocol_error();
}

static void writes_that_were_not_offered_break_the_protocol(void **state) {
    static const struct {
        bool offers;
        uint32_t number, length;
    } bad[] = {
        {false, 0, 100},       {true, 1, 100}, {true, UINT32_MAX, 100},
        {true, 8, 100},        {true, 0, 0},   {true, 0, RDMA_CHUNK_BYTES + 1},
        {true, 0, UINT32_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake_setup(bad[i].offers, 8);
        fake_write(bad[i].number, bad[i].length);
        expect_protocol_error();
    }
}

static void no_buffer_is_written_to_twice(void **state) {
    uint8_t in[100];

    (void)state;
    fake_setup(true, 8);
    fake_write(0, 100);
    assert_ok(wire_receive(fake.wire, in, 100));
    fake_write(0, 100);
    expect_protocol_error();
}

static void all_that_was_offered_may_be_written_to_and_no_more(void **state) {
    static uint8_t bytes[1024 * 1024];

    (void)state;
    fake_setup(true, 8);
    for (uint32_t i = 0; i < RDMA_CHUNKS; i++) {
        fake_write(i, RDMA_CHUNK_BYTES);
        assert_ok(wire_wait_readable(fake.wire, 0));
    }
    fake_write(RDMA_CHUNKS, 1);
    assert_ok(wire_receive(fake.wire, bytes, sizeof(bytes))); // four of them, before it is seen
    assert_err(send_byte(), ERR_PROTOCOL);
    fake_teardown();
}

static void what_is_no_greeting_is_refused(void **state) {
    uint8_t good[RDMA_GREETING_BYTES], bad[RDMA_GREETING_BYTES];

    (void)state;
    fake_setup(false, 0);
    assert_ok(fake_make(false));
    rdma_wire_greeting(good);
    assert_err(rdma_wire_greet(fake.wire, NULL, 0), ERR_PROTOCOL);
    assert_err(rdma_wire_greet(fake.wire, good, sizeof(good) - 1), ERR_PROTOCOL);
    for (size_t i = 0; i < 12; i++) { // magic, version, slots, their size
        memcpy(bad, good, sizeof(bad));
        bad[i] = i < 6 ? bad[i] ^ 1 : 0;
        if (memcmp(bad, good, sizeof(bad)) != 0 && (i < 6 || i == 6 || i == 9)) {
            assert_err(rdma_wire_greet(fake.wire, bad, sizeof(bad)), ERR_PROTOCOL);
        }
    }
    assert_ok(rdma_wire_greet(fake.wire, good, sizeof(good)));
    fake_teardown();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_messages_break_the_protocol),
        cmocka_unit_test(offers_that_cannot_be_buffers_break_the_protocol),
        cmocka_unit_test(too_many_offers_break_the_protocol),
        cmocka_unit_test(writes_that_were_not_offered_break_the_protocol),
        cmocka_unit_test(no_buffer_is_written_to_twice),
        cmocka_unit_test(all_that_was_offered_may_be_written_to_and_no_more),
        cmocka_unit_test(what_is_no_greeting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
