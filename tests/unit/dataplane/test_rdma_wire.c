// SPDX-License-Identifier: Apache-2.0
// A wire over a device that the test plays: every completion that tells of an error, and what is
// posted.
// clang-format off
// WRAP: rdma_get_devices rdma_free_devices ibv_alloc_pd ibv_dealloc_pd ibv_reg_mr ibv_dereg_mr ibv_create_comp_channel ibv_destroy_comp_channel ibv_create_cq ibv_destroy_cq ibv_get_cq_event ibv_ack_cq_events rdma_create_qp rdma_destroy_qp rdma_disconnect rdma_destroy_id rdma_destroy_event_channel rdma_get_cm_event rdma_ack_cm_event
// clang-format on
#include "tests/unit/dataplane/rdma_fake.h"

#include "common/bytes.h"

#include <stdlib.h>

static uint8_t bytes[1024 * 1024];

static enum err send_bytes(size_t len) {
    struct iovec iov = {bytes, len};

    return wire_send(fake.wire, &iov, 1);
}

// ---- completions that tell of errors ----

static const struct {
    enum ibv_wc_status status;
    enum err want;
} statuses[] = {
    {IBV_WC_LOC_LEN_ERR, ERR_PROTOCOL},
    {IBV_WC_LOC_QP_OP_ERR, ERR_IO},
    {IBV_WC_LOC_EEC_OP_ERR, ERR_IO},
    {IBV_WC_LOC_PROT_ERR, ERR_IO},
    {IBV_WC_WR_FLUSH_ERR, ERR_PEER_LOST},
    {IBV_WC_MW_BIND_ERR, ERR_IO},
    {IBV_WC_BAD_RESP_ERR, ERR_PROTOCOL},
    {IBV_WC_LOC_ACCESS_ERR, ERR_IO},
    {IBV_WC_REM_INV_REQ_ERR, ERR_PROTOCOL},
    {IBV_WC_REM_ACCESS_ERR, ERR_PROTOCOL},
    {IBV_WC_REM_OP_ERR, ERR_PROTOCOL},
    {IBV_WC_RETRY_EXC_ERR, ERR_PEER_LOST},
    {IBV_WC_RNR_RETRY_EXC_ERR, ERR_PEER_LOST},
    {IBV_WC_LOC_RDD_VIOL_ERR, ERR_IO},
    {IBV_WC_REM_INV_RD_REQ_ERR, ERR_IO},
    {IBV_WC_REM_ABORT_ERR, ERR_PEER_LOST},
    {IBV_WC_INV_EECN_ERR, ERR_IO},
    {IBV_WC_INV_EEC_STATE_ERR, ERR_IO},
    {IBV_WC_FATAL_ERR, ERR_IO},
    {IBV_WC_RESP_TIMEOUT_ERR, ERR_PEER_LOST},
    {IBV_WC_GENERAL_ERR, ERR_IO},
};

static void every_failed_receive_breaks_the_wire(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        uint8_t in[4];
        fake_setup(false, 8);
        fake_message(RDMA_MESSAGE_BYTES, 0, "good", 4);
        fake_fail_receive(statuses[i].status);
        assert_ok(wire_receive(fake.wire, in, 4)); // what came before is still good
        assert_memory_equal(in, "good", 4);
        assert_err(wire_receive(fake.wire, in, 1), statuses[i].want);
        assert_err(wire_wait_readable(fake.wire, 1000), statuses[i].want);
        assert_err(send_bytes(1), statuses[i].want);
        fake_teardown();
    }
}

static void every_failed_send_breaks_the_wire(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        uint8_t in[1];
        fake_setup(false, 8);
        assert_ok(send_bytes(10));
        fake_complete_sends(statuses[i].status);
        assert_err(wire_receive(fake.wire, in, 1), statuses[i].want);
        assert_err(send_bytes(1), statuses[i].want);
        fake_teardown();
    }
}

static void a_flush_after_the_end_is_no_news(void **state) {
    uint8_t in[1];
    size_t len = 1;

    (void)state;
    fake_setup(false, 8);
    fake_event(RDMA_CM_EVENT_DISCONNECTED);
    assert_ok(wire_receive_some(fake.wire, in, 1, &len));
    assert_int_equal(len, 0);
    fake_fail_receive(IBV_WC_WR_FLUSH_ERR);
    assert_ok(wire_receive_some(fake.wire, in, 1, &len));
    assert_int_equal(len, 0);
    assert_err(send_bytes(1), ERR_PEER_LOST);
    fake_teardown();
}

static void a_removed_device_is_a_lost_peer(void **state) {
    uint8_t in[1];

    (void)state;
    fake_setup(false, 8);
    fake_event(RDMA_CM_EVENT_DEVICE_REMOVAL);
    assert_err(wire_receive(fake.wire, in, 1), ERR_PEER_LOST);
    fake_teardown();
}

static void a_device_that_takes_no_requests_breaks_the_wire(void **state) {
    uint8_t in[4];

    (void)state;
    fake_setup(false, 8);
    fake.post_send_fails = true;
    assert_err(send_bytes(10), ERR_IO);
    fake_teardown();
    fake_setup(false, 8);
    fake_message(RDMA_MESSAGE_BYTES, 0, "last", 4);
    fake.post_recv_fails = true;
    assert_ok(wire_receive(fake.wire, in, 4));
    assert_err(wire_receive(fake.wire, in, 1), ERR_IO);
    fake_teardown();
}

static void a_completion_of_what_was_never_posted_breaks_the_wire(void **state) {
    uint8_t in[1];

    (void)state;
    fake_setup(false, 8);
    fake.completions[fake.n_completions++] = (struct ibv_wc){.wr_id = 5};
    assert_err(wire_receive(fake.wire, in, 1), ERR_IO);
    fake_teardown();
}

static void whatever_cannot_be_made_leaves_nothing_behind(void **state) {
    int n = 1;
    enum err e = ERR_NO_MEMORY;

    (void)state;
    for (; e; n++) {
        fake_setup(true, 0);
        fake.n_made = 0;
        fake.fail_at = n;
        e = fake_make(true);
        fake_teardown();
        assert_true(n < 20);
    }
    assert_true(n > 4);
}

static void a_pool_that_is_used_up_refuses(void **state) {
    void *rest;

    (void)state;
    fake_setup(true, 0);
    rest = rdma_pool_take(fake.pool, RDMA_POOL_UNIT * 128, -1);
    assert_non_null(rest);
    assert_err(fake_make(true), ERR_FULL);
    rdma_pool_give(fake.pool, rest, RDMA_POOL_UNIT * 128);
    fake_teardown();
}

// ---- what is posted ----

static void the_last_credit_is_left_for_credits(void **state) {
    (void)state;
    fake_setup(false, 4);
    for (int i = 0; i < 3; i++) {
        assert_ok(send_bytes(10));
    }
    fake_complete_sends(IBV_WC_SUCCESS);
    assert_err(send_bytes(10), ERR_TIMEOUT);
    fake_message(RDMA_MESSAGE_CREDIT, 1, NULL, 0);
    assert_ok(send_bytes(10));
    assert_int_equal(fake.n_posted, 4);
    fake_teardown();
}

static void receive_requests_are_told_of_with_what_is_sent(void **state) {
    uint8_t in[10];

    (void)state;
    fake_setup(false, 8);
    for (int i = 0; i < 3; i++) {
        fake_message(RDMA_MESSAGE_BYTES, 0, "0123456789", 10);
        assert_ok(wire_receive(fake.wire, in, 10));
    }
    assert_int_equal(fake.n_posted, 0);
    assert_ok(send_bytes(1));
    assert_int_equal(get_u16(fake.posted[0].bytes + 2), 3);
    for (int i = 0; i < RDMA_SLOTS / 2; i++) { // nothing to send: on their own
        fake_message(RDMA_MESSAGE_BYTES, 0, "0123456789", 10);
        assert_ok(wire_receive(fake.wire, in, 10));
    }
    assert_int_equal(fake.n_posted, 2);
    assert_int_equal(fake.posted[1].bytes[0], RDMA_MESSAGE_CREDIT);
    assert_int_equal(get_u16(fake.posted[1].bytes + 2), RDMA_SLOTS / 2);
    fake_teardown();
}

static void one_request_in_four_and_the_last_ask_for_a_completion(void **state) {
    (void)state;
    fake_setup(false, 64);
    assert_ok(send_bytes(9 * (RDMA_SLOT_BYTES - RDMA_HEADER_BYTES)));
    assert_int_equal(fake.n_posted, 9);
    for (size_t i = 0; i < 9; i++) {
        bool is_signalled = (fake.posted[i].flags & IBV_SEND_SIGNALED) != 0;
        assert_int_equal(is_signalled, i == 3 || i == 7 || i == 8);
    }
    fake_complete_sends(IBV_WC_SUCCESS);
    fake_teardown();
}

static void small_messages_need_no_buffer_and_large_ones_wait_for_one(void **state) {
    (void)state;
    fake_setup(false, 64);
    assert_ok(send_bytes(100));
    assert_true((fake.posted[0].flags & IBV_SEND_INLINE) != 0);
    for (int i = 0; i < RDMA_SENDS; i++) {
        assert_ok(send_bytes(1000));
        assert_false((fake.posted[1 + i].flags & IBV_SEND_INLINE) != 0);
    }
    assert_err(send_bytes(1000), ERR_TIMEOUT);
    fake_complete_sends(IBV_WC_SUCCESS);
    assert_ok(send_bytes(1000));
    fake_complete_sends(IBV_WC_SUCCESS);
    fake_teardown();
}

static void a_device_without_inline_messages_is_good_enough(void **state) {
    (void)state;
    fake_setup(false, 0);
    fake.inline_max = 0;
    assert_ok(fake_make(false));
    fake_teardown();
}

static void large_pieces_are_written_to_what_was_offered_and_not_beyond(void **state) {
    (void)state;
    fake_setup(false, 64);
    fake_offer(0x10000, 77, 8192);
    fake_offer(0x90000, 78, 1 << 20);
    assert_ok(send_bytes(1)); // takes what arrived
    assert_ok(send_bytes(8192 + RDMA_CHUNK_BYTES));
    assert_int_equal(fake.n_posted, 3);
    assert_int_equal(fake.posted[1].opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
    assert_int_equal(fake.posted[1].remote_address, 0x10000);
    assert_int_equal(fake.posted[1].rkey, 77);
    assert_int_equal(fake.posted[1].length, 8192);
    assert_int_equal(fake.posted[1].immediate, 0);
    assert_int_equal(fake.posted[2].remote_address, 0x90000);
    assert_int_equal(fake.posted[2].length, RDMA_CHUNK_BYTES);
    assert_int_equal(fake.posted[2].immediate, 1);
    fake_complete_sends(IBV_WC_SUCCESS);
    assert_err(send_bytes(RDMA_WRITE_MIN), ERR_TIMEOUT); // no offer is used twice
    assert_int_equal(fake.n_posted, 3);
    fake_teardown();
}

static void what_was_filled_in_place_is_written_as_it_is(void **state) {
    uint8_t *lent;
    struct iovec iov;

    (void)state;
    fake_setup(false, 64);
    assert_null(wire_lend(fake.wire, RDMA_CHUNK_BYTES)); // nothing is offered
    for (int i = 0; i < RDMA_WRITES + 1; i++) {
        fake_offer(0x10000, 77, RDMA_CHUNK_BYTES);
    }
    assert_null(wire_lend(fake.wire, RDMA_CHUNK_BYTES + 1));
    lent = wire_lend(fake.wire, RDMA_CHUNK_BYTES);
    assert_non_null(lent);
    assert_ptr_equal(wire_lend(fake.wire, RDMA_CHUNK_BYTES), lent);
    memset(lent, 5, RDMA_CHUNK_BYTES);
    assert_ok(send_bytes(2 * RDMA_WRITE_MIN)); // another piece does not take its place
    for (size_t i = 0; i < fake.n_posted; i++) {
        assert_int_equal(fake.posted[i].opcode, IBV_WR_SEND);
    }
    iov = (struct iovec){lent, RDMA_CHUNK_BYTES};
    assert_ok(wire_send(fake.wire, &iov, 1));
    assert_int_equal(fake.posted[fake.n_posted - 1].opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
    assert_int_equal(fake.posted[fake.n_posted - 1].bytes[0], 5);
    for (int i = 1; i < RDMA_WRITES; i++) {
        uint8_t *next = wire_lend(fake.wire, RDMA_CHUNK_BYTES);
        assert_ptr_not_equal(next, lent);
        iov = (struct iovec){next, RDMA_CHUNK_BYTES};
        assert_ok(wire_send(fake.wire, &iov, 1));
    }
    assert_null(wire_lend(fake.wire, RDMA_CHUNK_BYTES)); // all are under way
    fake_complete_sends(IBV_WC_SUCCESS);
    assert_ptr_equal(wire_lend(fake.wire, RDMA_CHUNK_BYTES), lent);
    fake_teardown();
}

static void a_lent_buffer_that_is_longer_than_the_offers_arrives_whole(void **state) {
    enum { SHORT = 20000 };
    uint8_t *lent;
    struct iovec iov;
    uint32_t at = 0;

    (void)state;
    fake_setup(false, 64);
    for (int i = 0; i < RDMA_WRITES; i++) {
        fake_offer(0x10000, 77, SHORT);
    }
    lent = wire_lend(fake.wire, RDMA_CHUNK_BYTES);
    assert_non_null(lent);
    for (size_t i = 0; i < (size_t)RDMA_WRITES * SHORT; i++) {
        lent[i] = (uint8_t)(i % 251);
    }
    iov = (struct iovec){lent, (size_t)RDMA_WRITES * SHORT};
    assert_ok(wire_send(fake.wire, &iov, 1));
    for (size_t i = 0; i < fake.n_posted; i++) {
        assert_int_equal(fake.posted[i].opcode, IBV_WR_RDMA_WRITE_WITH_IMM);
        assert_int_equal(fake.posted[i].bytes[0], at % 251);
        at += fake.posted[i].length;
    }
    assert_int_equal(at, RDMA_WRITES * SHORT);
    fake_teardown();
}

static void what_arrived_is_borrowed_and_offered_again_when_it_is_given_back(void **state) {
    const void *first = NULL, *rest = NULL;
    uint8_t in[4];
    size_t len = 1, before;

    (void)state;
    fake_setup(true, 64);
    fake_message(RDMA_MESSAGE_BYTES, 0, "slot", 4);
    fake_write(0, 100);
    fake_write(1, RDMA_CHUNK_BYTES);
    assert_ok(wire_borrow(fake.wire, 1000, &first, &len));
    assert_int_equal(len, 0); // a slot
    assert_ok(wire_receive(fake.wire, in, 4));
    before = fake.n_posted;
    assert_ok(wire_borrow(fake.wire, 60, &first, &len));
    assert_int_equal(len, 60);
    assert_ok(wire_borrow(fake.wire, 1000, &rest, &len));
    assert_int_equal(len, 40);
    assert_ptr_equal(rest, (const uint8_t *)first + 60);
    assert_ok(wire_borrow(fake.wire, 1 << 20, &rest, &len));
    assert_int_equal(len, RDMA_CHUNK_BYTES);
    assert_ptr_equal(rest, (const uint8_t *)first + RDMA_CHUNK_BYTES);
    assert_int_equal(fake.n_posted, before);                   // the second is in use
    assert_err(wire_wait_readable(fake.wire, 0), ERR_TIMEOUT); // and now it is not
    assert_int_equal(fake.n_posted, before + 1);
    assert_int_equal(fake.posted[before].bytes[0], RDMA_MESSAGE_OFFER);
    assert_int_equal(get_u32(fake.posted[before].bytes + 4), 2 * RDMA_OFFER_BYTES);
    fake_complete_sends(IBV_WC_SUCCESS);
    fake_teardown();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_receive_breaks_the_wire),
        cmocka_unit_test(every_failed_send_breaks_the_wire),
        cmocka_unit_test(a_flush_after_the_end_is_no_news),
        cmocka_unit_test(a_removed_device_is_a_lost_peer),
        cmocka_unit_test(a_device_that_takes_no_requests_breaks_the_wire),
        cmocka_unit_test(a_completion_of_what_was_never_posted_breaks_the_wire),
        cmocka_unit_test(whatever_cannot_be_made_leaves_nothing_behind),
        cmocka_unit_test(a_pool_that_is_used_up_refuses),
        cmocka_unit_test(the_last_credit_is_left_for_credits),
        cmocka_unit_test(receive_requests_are_told_of_with_what_is_sent),
        cmocka_unit_test(one_request_in_four_and_the_last_ask_for_a_completion),
        cmocka_unit_test(small_messages_need_no_buffer_and_large_ones_wait_for_one),
        cmocka_unit_test(a_device_without_inline_messages_is_good_enough),
        cmocka_unit_test(large_pieces_are_written_to_what_was_offered_and_not_beyond),
        cmocka_unit_test(what_was_filled_in_place_is_written_as_it_is),
        cmocka_unit_test(a_lent_buffer_that_is_longer_than_the_offers_arrives_whole),
        cmocka_unit_test(what_arrived_is_borrowed_and_offered_again_when_it_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
