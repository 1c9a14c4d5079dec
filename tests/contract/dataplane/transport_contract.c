// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/dataplane/transport_contract.h"

#include "tests/lib/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct transport *transport;
    struct listener *listener;
    struct wire *near, *far;
};

enum { LONG_MS = 60 * 1000 };

static struct fixture *setup(const struct transport_kind *k) {
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    assert_ok(k->make(&f.transport));
    assert_ok(transport_listen(f.transport, k->listen, &f.listener, NULL));
    assert_ok(
        transport_dial(f.transport, listener_address(f.listener), LONG_MS, NULL, &f.near, NULL));
    assert_ok(listener_accept(f.listener, &f.far));
    return &f;
}

static void teardown(struct fixture *f) {
    wire_close(f->near);
    wire_close(f->far);
    listener_free(f->listener);
    transport_free(f->transport);
}

static void send_text(struct wire *w, const char *text) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};

    assert_ok(wire_send(w, &iov, 1));
}

static void it_has_the_name_of_its_kind(void **state) {
    const struct transport_kind *k = *state;
    struct fixture *f = setup(k);

    assert_string_equal(transport_name(f->transport), k->name);
    assert_true(strlen(wire_peer(f->near)) > 0);
    assert_true(strlen(wire_peer(f->far)) > 0);
    teardown(f);
}

static void pieces_arrive_in_order_as_one_stream(void **state) {
    struct fixture *f = setup(*state);
    char a[] = "one ", b[] = "two ", c[] = "three", in[14] = {0};
    struct iovec iov[] = {{a, 4}, {NULL, 0}, {b, 4}, {c, 5}};

    assert_ok(wire_send(f->near, iov, 4));
    assert_ok(wire_receive(f->far, in, 6));
    assert_ok(wire_receive(f->far, in + 6, 7));
    assert_string_equal(in, "one two three");
    send_text(f->far, "back");
    assert_ok(wire_receive(f->near, in, 4));
    assert_memory_equal(in, "back", 4);
    teardown(f);
}

static void some_gives_what_there_is(void **state) {
    struct fixture *f = setup(*state);
    char in[100];
    size_t len, all = 0;

    send_text(f->near, "something");
    while (all < 9) {
        assert_ok(wire_receive_some(f->far, in + all, sizeof(in) - all, &len));
        assert_true(len > 0);
        all += len;
    }
    assert_memory_equal(in, "something", 9);
    teardown(f);
}

struct bulk {
    struct wire *wire;
    uint8_t *bytes;
    size_t len;
    enum err result;
};

static void *run_send(void *arg) {
    struct bulk *b = arg;
    struct iovec iov[2] = {{b->bytes, b->len / 3}, {b->bytes + b->len / 3, b->len - b->len / 3}};

    b->result = wire_send(b->wire, iov, 2);
    return NULL;
}

static void move_more_than_the_wire_holds(struct wire *from, struct wire *to) {
    enum { LEN = 32 * 1024 * 1024 };
    struct bulk b = {.wire = from, .bytes = malloc(LEN), .len = LEN};
    uint8_t *in = malloc(LEN);
    pthread_t thread;

    assert_non_null(b.bytes);
    assert_non_null(in);
    for (size_t i = 0; i < LEN; i++) {
        b.bytes[i] = (uint8_t)(i * 31 >> 7);
    }
    assert_int_equal(pthread_create(&thread, NULL, run_send, &b), 0);
    assert_ok(wire_receive(to, in, LEN));
    pthread_join(thread, NULL);
    assert_ok(b.result);
    assert_memory_equal(in, b.bytes, LEN);
    free(in);
    free(b.bytes);
}

static void more_than_the_wire_holds_arrives_both_ways(void **state) {
    struct fixture *f = setup(*state);

    move_more_than_the_wire_holds(f->near, f->far);
    move_more_than_the_wire_holds(f->far, f->near);
    teardown(f);
}

// Of all sizes around the limits by which a transport may treat a piece in another way.
static void pieces_of_all_sizes_arrive_in_order(void **state) {
    enum { LEN = 600 * 1024 };
    struct fixture *f = setup(*state);
    static uint8_t bytes[LEN], in[LEN];
    const size_t sizes[] = {1,     219,   220,       221,        8183,       8184,       8185,
                            16383, 16384, 256 << 10, 262145,     LEN,        2,          17000,
                            3,     12,    65536,     300 * 1024, 100 * 1024, 262144 + 5, 1};

    for (size_t i = 0; i < LEN; i++) {
        bytes[i] = (uint8_t)(i * 131 >> 5);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct bulk b = {.wire = f->far, .bytes = bytes, .len = sizes[i]};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_send, &b), 0);
        memset(in, 0, sizeof(in));
        assert_ok(wire_receive(f->near, in, sizes[i]));
        pthread_join(thread, NULL);
        assert_ok(b.result);
        assert_memory_equal(in, bytes, sizes[i]);
    }
    teardown(f);
}

// Borrowed, received and waited for in turn: the stream is the same.
static void what_is_borrowed_is_the_stream(void **state) {
    enum { LEN = 8 * 1024 * 1024, CAP = 100 * 1000 };
    const struct transport_kind *k = *state;
    struct fixture *f = setup(k);
    struct bulk b = {.wire = f->far, .bytes = malloc(LEN), .len = LEN};
    static uint8_t in[CAP];
    size_t at = 0, borrowed = 0;
    pthread_t thread;

    assert_non_null(b.bytes);
    for (size_t i = 0; i < LEN; i++) {
        b.bytes[i] = (uint8_t)(i * 131 >> 5);
    }
    assert_int_equal(pthread_create(&thread, NULL, run_send, &b), 0);
    for (uint32_t turn = 0; at < LEN; turn++) {
        const void *bytes = in;
        size_t len = 0, cap = LEN - at < CAP ? LEN - at : CAP;
        if (turn % 4 == 3) {
            assert_ok(wire_wait_readable(f->near, LONG_MS));
        }
        if (turn % 3 < 2) {
            assert_ok(wire_borrow(f->near, cap, &bytes, &len));
            borrowed += len;
        }
        if (len == 0) {
            assert_ok(wire_receive_some(f->near, in, cap, &len));
            bytes = in;
        }
        assert_true(len > 0 && len <= cap);
        assert_memory_equal(bytes, b.bytes + at, len);
        at += len;
    }
    assert_int_equal(borrowed > 0, k->borrows);
    pthread_join(thread, NULL);
    assert_ok(b.result);
    free(b.bytes);
    teardown(f);
}

// As an executor that asks for more while its source sends what nobody takes yet.
static void small_pieces_get_through_to_who_is_stuck_in_sending(void **state) {
    enum { N = 128, LEN = 8 * 1024 * 1024 };
    struct fixture *f = setup(*state);
    struct bulk b = {.wire = f->far, .bytes = calloc(1, LEN), .len = LEN};
    uint8_t *in = malloc(LEN);
    uint32_t number;
    pthread_t thread;

    assert_non_null(b.bytes);
    assert_non_null(in);
    assert_int_equal(pthread_create(&thread, NULL, run_send, &b), 0);
    for (uint32_t i = 0; i < N; i++) {
        struct iovec iov = {&i, sizeof(i)};
        assert_ok(wire_send(f->near, &iov, 1));
    }
    assert_ok(wire_receive(f->near, in, LEN));
    pthread_join(thread, NULL);
    assert_ok(b.result);
    for (uint32_t i = 0; i < N; i++) {
        assert_ok(wire_receive(f->far, &number, sizeof(number)));
        assert_int_equal(number, i);
    }
    free(in);
    free(b.bytes);
    teardown(f);
}

static void an_end_is_seen_after_what_was_sent_before(void **state) {
    struct fixture *f = setup(*state);
    char in[8];
    size_t len = 1;

    send_text(f->near, "last");
    wire_close(f->near);
    f->near = NULL;
    assert_ok(wire_receive(f->far, in, 4));
    assert_ok(wire_receive_some(f->far, in, sizeof(in), &len));
    assert_int_equal(len, 0);
    assert_err(wire_receive(f->far, in, 1), ERR_PEER_LOST);
    assert_ok(wire_wait_readable(f->far, LONG_MS)); // an end is something to see
    teardown(f);
}

static void an_end_in_the_middle_is_a_lost_peer(void **state) {
    struct fixture *f = setup(*state);
    char in[8];

    send_text(f->near, "half");
    wire_close(f->near);
    f->near = NULL;
    assert_err(wire_receive(f->far, in, 8), ERR_PEER_LOST);
    teardown(f);
}

static void sending_to_a_closed_peer_fails_without_a_signal(void **state) {
    struct fixture *f = setup(*state);
    static char bytes[1 << 20];
    enum err e = OK;

    wire_close(f->far);
    f->far = NULL;
    for (int i = 0; i < 1000 && e == OK; i++) {
        struct iovec iov = {bytes, sizeof(bytes)};
        e = wire_send(f->near, &iov, 1);
    }
    assert_err(e, ERR_PEER_LOST);
    teardown(f);
}

static void a_stall_ends_receiving_and_sending(void **state) {
    struct fixture *f = setup(*state);
    static char bytes[64 << 20];
    struct iovec iov = {bytes, sizeof(bytes)};
    size_t len;

    wire_set_stall_ms(f->near, 50);
    assert_err(wire_receive(f->near, bytes, 1), ERR_TIMEOUT);
    assert_err(wire_receive_some(f->near, bytes, 1, &len), ERR_TIMEOUT);
    assert_err(wire_send(f->near, &iov, 1), ERR_TIMEOUT); // nobody takes it
    teardown(f);
}

static void waiting_says_whether_there_is_something(void **state) {
    struct fixture *f = setup(*state);

    assert_err(wire_wait_readable(f->far, 0), ERR_TIMEOUT);
    assert_err(wire_wait_readable(f->far, 20), ERR_TIMEOUT);
    send_text(f->near, "x");
    assert_ok(wire_wait_readable(f->far, LONG_MS));
    assert_ok(wire_wait_readable(f->far, 0));
    teardown(f);
}

static void *run_abort(void *arg) {
    wire_abort(arg);
    return NULL;
}

static void an_abort_from_another_thread_ends_every_call(void **state) {
    struct fixture *f = setup(*state);
    static char bytes[64 << 20];
    struct iovec iov = {bytes, sizeof(bytes)};
    pthread_t thread;
    size_t len;

    assert_int_equal(pthread_create(&thread, NULL, run_abort, f->near), 0);
    assert_err(wire_receive(f->near, bytes, 1), ERR_CANCELLED);
    pthread_join(thread, NULL);
    assert_err(wire_receive_some(f->near, bytes, 1, &len), ERR_CANCELLED);
    assert_err(wire_wait_readable(f->near, LONG_MS), ERR_CANCELLED);
    assert_err(wire_send(f->near, &iov, 1), ERR_CANCELLED);
    // The other end sees the connection end.
    assert_ok(wire_receive_some(f->far, bytes, 1, &len));
    assert_int_equal(len, 0);
    teardown(f);
}

static void *run_listener_abort(void *arg) {
    listener_abort(arg);
    return NULL;
}

static void an_aborted_listener_stops_accepting(void **state) {
    struct fixture *f = setup(*state);
    struct wire *w;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_listener_abort, f->listener), 0);
    assert_err(listener_accept(f->listener, &w), ERR_CANCELLED);
    pthread_join(thread, NULL);
    assert_err(listener_accept(f->listener, &w), ERR_CANCELLED);
    teardown(f);
}

static void an_address_in_use_is_said_to_be(void **state) {
    struct fixture *f = setup(*state);
    struct listener *other;
    struct failure failure = {0};

    assert_err(transport_listen(f->transport, listener_address(f->listener), &other, &failure),
               ERR_BUSY_PORT);
    assert_true(failure.object_len > 0);
    teardown(f);
}

static void nobody_there_is_unreachable(void **state) {
    const struct transport_kind *k = *state;
    struct fixture *f = setup(k);
    char address[WIRE_ADDRESS_MAX];
    struct failure failure = {0};
    struct wire *w;

    strcpy(address, listener_address(f->listener));
    listener_free(f->listener);
    f->listener = NULL;
    assert_err(transport_dial(f->transport, address, LONG_MS, NULL, &w, &failure), ERR_UNREACHABLE);
    assert_err(failure.err, ERR_UNREACHABLE);
    assert_true(strlen(failure.message) > 0);
    assert_err(transport_dial(f->transport, "", LONG_MS, NULL, &w, &failure), ERR_INVALID);
    teardown(f);
}

int transport_contract(struct transport_kind *k) {
#define T(fn)                                                                                      \
    { #fn, fn, NULL, NULL, k }
    const struct CMUnitTest tests[] = {
        T(it_has_the_name_of_its_kind),
        T(pieces_arrive_in_order_as_one_stream),
        T(some_gives_what_there_is),
        T(more_than_the_wire_holds_arrives_both_ways),
        T(pieces_of_all_sizes_arrive_in_order),
        T(what_is_borrowed_is_the_stream),
        T(small_pieces_get_through_to_who_is_stuck_in_sending),
        T(an_end_is_seen_after_what_was_sent_before),
        T(an_end_in_the_middle_is_a_lost_peer),
        T(sending_to_a_closed_peer_fails_without_a_signal),
        T(a_stall_ends_receiving_and_sending),
        T(waiting_says_whether_there_is_something),
        T(an_abort_from_another_thread_ends_every_call),
        T(an_aborted_listener_stops_accepting),
        T(an_address_in_use_is_said_to_be),
        T(nobody_there_is_unreachable),
    };
#undef T
    return cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
}
