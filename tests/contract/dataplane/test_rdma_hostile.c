// SPDX-License-Identifier: Apache-2.0
// What a hostile peer can do to a wire over RDMA, on a real device: nothing but lose its
// connection. SLUICE_TEST_RDMA is the IP address that leads to it; tests/guest brings one.
// TIMEOUT: 600
#include "dataplane/transport_rdma.h"
#include "tests/contract/dataplane/rdma_hostile.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AROUND_BYTES = 8 * 1024, LANDING_BYTES = RDMA_CHUNKS * RDMA_CHUNK_BYTES };

static const char *ip;
static struct transport *transport;
static struct hostile hostile;

static struct listener *listener; // of the wire that is attacked, if it did not dial
static struct wire *wire;

static void listen_and_be_dialled(void) {
    char address[64];

    (void)snprintf(address, sizeof(address), "%s:0", ip);
    assert_ok(transport_listen(transport, address, &listener, NULL));
    hostile_connect(&hostile, listener_address(listener));
    assert_ok(listener_accept(listener, &wire));
}

static void *accept_dialler(void *arg) {
    (void)arg;
    hostile_accept(&hostile);
    return NULL;
}

// The wire has dialled, and offered its first buffer.
static struct rdma_offer dial(void) {
    char address[64];
    pthread_t thread;

    hostile_listen(&hostile, ip, address);
    assert_int_equal(pthread_create(&thread, NULL, accept_dialler, NULL), 0);
    assert_ok(transport_dial(transport, address, 60 * 1000, NULL, &wire, NULL));
    assert_int_equal(pthread_join(thread, NULL), 0);
    return hostile_await_offer(&hostile);
}

static void end(void) {
    wire_close(wire);
    hostile_close(&hostile);
    listener_free(listener);
    wire = NULL;
    listener = NULL;
}

static enum err send_large(void) {
    static uint8_t bytes[RDMA_CHUNK_BYTES];
    enum err e = OK;

    for (int i = 0; i < 8 && !e; i++) { // until the device has said what it thinks of the first
        struct iovec iov = {bytes, sizeof(bytes)};
        e = wire_send(wire, &iov, 1);
    }
    return e;
}

static void expect_broken(enum err e) {
    assert_true(e == ERR_PROTOCOL || e == ERR_PEER_LOST);
}

// Takes the memory of the wire around what it offered, and holds it against what is there later.
static uint8_t before[AROUND_BYTES], after[AROUND_BYTES];

static void remember(const struct rdma_offer *offer) {
    const uint8_t *landing = (const uint8_t *)(uintptr_t)offer->address;

    memcpy(before, landing - AROUND_BYTES, AROUND_BYTES);
    memcpy(after, landing + LANDING_BYTES, AROUND_BYTES);
}

static void expect_untouched(const struct rdma_offer *offer) {
    const uint8_t *landing = (const uint8_t *)(uintptr_t)offer->address;

    assert_memory_equal(before, landing - AROUND_BYTES, AROUND_BYTES);
    assert_memory_equal(after, landing + LANDING_BYTES, AROUND_BYTES);
}

// ---- what it offers ----

static void a_key_that_is_none_is_not_written_to(void **state) {
    (void)state;
    listen_and_be_dialled();
    hostile_offer(&hostile, (uintptr_t)hostile.memory, hostile.mr->rkey ^ 0x5a5a00, HOSTILE_BYTES);
    expect_broken(send_large());
    end();
}

static void a_buffer_that_is_longer_than_its_region_is_not_written_to(void **state) {
    (void)state;
    listen_and_be_dialled();
    hostile_offer(&hostile, (uintptr_t)hostile.memory, hostile.mr->rkey, 16 * HOSTILE_BYTES);
    expect_broken(send_large());
    end();
}

static void an_address_that_is_none_is_not_written_to(void **state) {
    (void)state;
    listen_and_be_dialled();
    hostile_offer(&hostile, 0x1000, hostile.mr->rkey, HOSTILE_BYTES);
    expect_broken(send_large());
    end();
}

static void what_is_offered_is_written_to_and_no_more(void **state) {
    static uint8_t bytes[2 * RDMA_WRITE_MIN];
    struct iovec iov = {bytes, sizeof(bytes)};

    (void)state;
    memset(bytes, 7, sizeof(bytes));
    listen_and_be_dialled();
    hostile_offer(&hostile, (uintptr_t)hostile.memory, hostile.mr->rkey, RDMA_WRITE_MIN);
    wire_set_stall_ms(wire, 2000);
    assert_err(wire_wait_readable(wire, 2000), ERR_TIMEOUT); // it takes the offer
    assert_err(wire_send(wire, &iov, 1), ERR_TIMEOUT);       // half of it has no place
    assert_memory_equal(hostile.memory, bytes, RDMA_WRITE_MIN);
    assert_int_equal(hostile.memory[RDMA_WRITE_MIN], 0xee);
    end();
}

// ---- what it writes, and says of it ----

static void a_write_where_nothing_was_offered_is_refused(void **state) {
    uint8_t in[1];

    (void)state;
    listen_and_be_dialled();
    (void)hostile_write(&hostile, 0, 0, 0, 0);
    expect_broken(wire_receive(wire, in, 1));
    end();
}

static void a_message_with_an_immediate_is_refused(void **state) {
    const uint32_t immediate = 1;
    uint8_t in[1];

    (void)state;
    listen_and_be_dialled();
    hostile_message(&hostile, RDMA_MESSAGE_BYTES, "x", 1, &immediate);
    expect_broken(wire_receive(wire, in, 1));
    end();
}

static void a_number_that_was_not_agreed_is_refused(void **state) {
    static const uint32_t numbers[] = {1, RDMA_CHUNKS, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        uint8_t in[1];
        struct rdma_offer offer = dial();
        remember(&offer);
        assert_int_equal(hostile_write(&hostile, offer.address, offer.rkey, 100, numbers[i]),
                         IBV_WC_SUCCESS);
        expect_broken(wire_receive(wire, in, 1));
        expect_untouched(&offer);
        end();
    }
}

static void the_same_number_twice_is_refused(void **state) {
    uint8_t in[100];
    struct rdma_offer offer = dial();

    (void)state;
    assert_int_equal(hostile_write(&hostile, offer.address, offer.rkey, 100, 0), IBV_WC_SUCCESS);
    assert_ok(wire_receive(wire, in, 100));
    assert_int_equal(in[99], 0xee);
    assert_int_equal(hostile_write(&hostile, offer.address, offer.rkey, 100, 0), IBV_WC_SUCCESS);
    expect_broken(wire_receive(wire, in, 1));
    end();
}

static void a_write_that_leaves_the_offered_buffers_changes_nothing(void **state) {
    static const struct {
        int64_t at; // from the first offered byte
        uint32_t length;
        uint32_t key_change;
    } bad[] = {
        {-4096, 4096, 0},               // before it
        {-1, 100, 0},                   // across its beginning
        {LANDING_BYTES - 100, 4096, 0}, // across its end
        {LANDING_BYTES, 4096, 0},       // behind it
        {0, 4096, 0x5a5a00},            // with another key
        {(int64_t)1 << 40, 4096, 0},    // anywhere
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t in[1];
        struct rdma_offer offer = dial();
        remember(&offer);
        assert_int_not_equal(hostile_write(&hostile, offer.address + (uint64_t)bad[i].at,
                                           offer.rkey ^ bad[i].key_change, bad[i].length, 0),
                             IBV_WC_SUCCESS);
        expect_broken(wire_receive(wire, in, 1));
        expect_untouched(&offer);
        end();
    }
}

static void a_good_peer_is_served_after_all_that(void **state) {
    uint8_t in[5];
    struct rdma_offer offer = dial();

    (void)state;
    assert_int_equal(hostile_write(&hostile, offer.address, offer.rkey, 5, 0), IBV_WC_SUCCESS);
    assert_ok(wire_receive(wire, in, 5));
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_is_none_is_not_written_to),
        cmocka_unit_test(a_buffer_that_is_longer_than_its_region_is_not_written_to),
        cmocka_unit_test(an_address_that_is_none_is_not_written_to),
        cmocka_unit_test(what_is_offered_is_written_to_and_no_more),
        cmocka_unit_test(a_write_where_nothing_was_offered_is_refused),
        cmocka_unit_test(a_message_with_an_immediate_is_refused),
        cmocka_unit_test(a_number_that_was_not_agreed_is_refused),
        cmocka_unit_test(the_same_number_twice_is_refused),
        cmocka_unit_test(a_write_that_leaves_the_offered_buffers_changes_nothing),
        cmocka_unit_test(a_good_peer_is_served_after_all_that),
    };
    struct failure f = {0};
    char text[1024];
    int failed;

    ip = getenv("SLUICE_TEST_RDMA");
    if (!ip) {
        fprintf(stderr, "skipped: SLUICE_TEST_RDMA does not say where an RDMA device is\n");
        return 77;
    }
    if (transport_rdma_new(&(struct transport_rdma_options){.pool_bytes = 8 << 20}, &transport,
                           &f)) {
        failure_format(&f, text, sizeof(text));
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    transport_free(transport);
    return failed;
}
