// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 240
#include "net_fixture.h"

#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static int setup(void **state) {
    struct net *n = malloc(sizeof(*n));

    assert_non_null(n);
    net_init(n);
    net_add_file(n, "a", 1000);
    net_add_file(n, "large", 9 * MIB);
    net_seal(n);
    *state = n;
    return 0;
}

static int teardown(void **state) {
    net_deinit(*state);
    free(*state);
    return 0;
}

static struct frame_header receive(struct conn *c) {
    struct frame_header h;
    struct failure f;
    enum err e = conn_receive(c, 0, &h, &f);

    if (e) {
        fail_msg("receive: %s: %s", err_name(e), f.message);
    }
    return h;
}

static void expect_pong(struct conn *c, uint64_t request) {
    struct frame_header h;

    assert_ok(
        conn_put(c, &(struct frame_header){.type = FRAME_PING, .request = request}, NULL, NULL));
    assert_ok(conn_flush(c, NULL));
    h = receive(c);
    assert_int_equal(h.type, FRAME_PONG);
    assert_int_equal(h.request, request);
}

// Expects an OBJECT_END with that failure.
static void expect_failed(struct conn *c, uint64_t request, enum err code) {
    uint8_t buf[FRAME_FAILURE_MAX + 1];
    struct frame_object_end end;
    struct frame_header h = receive(c);

    assert_int_equal(h.type, FRAME_OBJECT_END);
    assert_int_equal(h.request, request);
    assert_true(h.length <= sizeof(buf));
    assert_ok(conn_receive_payload(c, buf, h.length, NULL));
    assert_ok(frame_object_end_decode(buf, h.length, HASH_XXH3_128, &end));
    assert_err(end.failure.err, code);
}

static void a_small_file_is_three_frames(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);
    struct object_entry e;
    struct frame_object_end end;
    uint8_t buf[2048], digest[16];
    struct frame_header h;

    net_send_read(c, 5, 0, 0, SOURCE_TO_END);
    h = receive(c);
    assert_int_equal(h.type, FRAME_OBJECT);
    assert_int_equal(h.request, 5);
    assert_int_equal(h.aux, 1000);
    assert_ok(conn_receive_payload(c, buf, h.length, NULL));
    assert_ok(frame_object_decode(buf, h.length, &e));
    assert_int_equal(e.version.size, 1000);
    h = receive(c);
    assert_int_equal(h.type, FRAME_DATA);
    assert_int_equal(h.length, 1000);
    assert_ok(conn_receive_payload(c, buf, 1000, NULL));
    assert_int_equal(buf[999], net_byte(999));
    struct leaf_hasher *hasher = leaf_hasher_new(HASH_XXH3_128);
    const uint8_t *digests;
    size_t n_leaves;
    assert_ok(leaf_hasher_update(hasher, buf, 1000));
    assert_ok(leaf_hasher_finish(hasher, &digests, &n_leaves));
    memcpy(digest, digests, sizeof(digest));
    leaf_hasher_free(hasher);
    h = receive(c);
    assert_int_equal(h.type, FRAME_OBJECT_END);
    assert_ok(conn_receive_payload(c, buf, h.length, NULL));
    assert_ok(frame_object_end_decode(buf, h.length, HASH_XXH3_128, &end));
    assert_err(end.failure.err, OK);
    assert_int_equal(end.n_digests, 1);
    assert_memory_equal(end.digests, digest, sizeof(digest));
    assert_true(object_version_equal(&end.version, &e.version));
    assert_int_equal(data_server_bytes_served(n->server), 1000);
    conn_free(c);
}

static void a_read_without_a_task_is_refused(void **state) {
    struct net *n = *state;
    struct conn *c = net_connect(n);

    net_send_read(c, 1, 0, 0, 10);
    net_expect_refusal(c, ERR_DENIED);
    conn_free(c);
    c = net_open_task(n);
    assert_ok(
        conn_put(c, &(struct frame_header){.type = FRAME_CLOSE_TASK, .aux = NET_TASK}, NULL, NULL));
    net_send_read(c, 1, 0, 0, 10);
    net_expect_refusal(c, ERR_DENIED);
    conn_free(c);
}

static void hostile_reads_close_the_connection(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);

    net_send_read(c, 1, 2, 0, 10); // there are two objects
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
    c = net_open_task(n);
    net_send_read(c, 1, 0, UINT64_MAX - 5, 10);
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
    c = net_open_task(n);
    assert_ok(conn_put(c, &(struct frame_header){.type = FRAME_READ, .length = 3}, "abc", NULL));
    assert_ok(conn_flush(c, NULL));
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
}

static void a_range_within_a_leaf_is_the_objects_failure(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);

    net_send_read(c, 1, 0, 1, 10);
    expect_failed(c, 1, ERR_INVALID);
    expect_pong(c, 2);
    conn_free(c);
}

static void send_raw(struct wire *w, const void *bytes, size_t len) {
    struct iovec iov = {(void *)(uintptr_t)bytes, len};

    assert_ok(wire_send(w, &iov, 1));
}

// A wire on which the greeting is over. NULL: the server took us for idle before, as we were slow.
static struct wire *greet_raw(struct net *n) {
    const struct frame_hello hello = {.version_min = FRAME_VERSION_MIN,
                                      .version_max = 99,
                                      .role = FRAME_ROLE_EXECUTOR,
                                      .cluster = NET_CLUSTER,
                                      .agent = NET_EXECUTOR};
    uint8_t bytes[FRAME_HEADER_BYTES + FRAME_HELLO_MAX];
    struct frame_header h = {.type = FRAME_HELLO};
    struct wire *w = net_dial(n);

    h.length = (uint32_t)frame_hello_encode(&hello, bytes + FRAME_HEADER_BYTES);
    frame_header_encode(&h, bytes);
    if (wire_send(w, &(struct iovec){bytes, FRAME_HEADER_BYTES + h.length}, 1) != OK ||
        wire_receive(w, bytes, FRAME_HEADER_BYTES) != OK) {
        wire_close(w);
        return NULL;
    }
    frame_header_decode(bytes, &h);
    if (h.type != FRAME_WELCOME) {
        wire_close(w);
        return NULL;
    }
    assert_ok(wire_receive(w, bytes, h.length));
    return w;
}

static void an_overlong_frame_closes_the_connection(void **state) {
    struct net *n = *state;
    const struct frame_header h = {.type = FRAME_OPEN_TASK, .length = FRAME_PAYLOAD_MAX + 1};
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame_header got;

    frame_header_encode(&h, bytes);
    for (int i = 0; i < 2; i++) {
        struct wire *w = i == 0 ? net_dial(n) : greet_raw(n);
        uint8_t answer[FRAME_HEADER_BYTES];
        assert_non_null(w);
        send_raw(w, bytes, sizeof(bytes));
        assert_ok(wire_receive(w, answer, sizeof(answer)));
        frame_header_decode(answer, &got);
        assert_int_equal(got.type, FRAME_ERROR);
        wire_close(w);
    }
}

static void a_peer_of_other_versions_only_is_refused(void **state) {
    struct net *n = *state;
    const struct frame_hello hello = {.version_min = 98,
                                      .version_max = 99,
                                      .role = FRAME_ROLE_EXECUTOR,
                                      .cluster = NET_CLUSTER,
                                      .agent = NET_EXECUTOR};
    uint8_t bytes[FRAME_HEADER_BYTES + FRAME_FAILURE_MAX];
    struct frame_header h = {.type = FRAME_HELLO};
    struct wire *w = net_dial(n);
    struct failure f;

    h.length = (uint32_t)frame_hello_encode(&hello, bytes + FRAME_HEADER_BYTES);
    frame_header_encode(&h, bytes);
    send_raw(w, bytes, FRAME_HEADER_BYTES + h.length);
    assert_ok(wire_receive(w, bytes, FRAME_HEADER_BYTES));
    frame_header_decode(bytes, &h);
    assert_int_equal(h.type, FRAME_ERROR);
    assert_ok(wire_receive(w, bytes, h.length));
    assert_ok(frame_failure_decode(bytes, h.length, &f));
    assert_err(f.err, ERR_UNIMPLEMENTED);
    wire_close(w);
}

static void unknown_optional_frames_are_skipped_and_required_ones_are_not(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);
    uint8_t *payload = calloc(1, FRAME_PAYLOAD_MAX);

    assert_non_null(payload);
    assert_ok(conn_put(c,
                       &(struct frame_header){
                           .type = 2000, .flags = FRAME_FLAG_OPTIONAL, .length = FRAME_PAYLOAD_MAX},
                       payload, NULL));
    expect_pong(c, 3);
    assert_ok(conn_put(c, &(struct frame_header){.type = 2000, .length = 10}, payload, NULL));
    assert_ok(conn_flush(c, NULL));
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
    c = net_open_task(n);
    assert_ok(conn_put(c, &(struct frame_header){.type = FRAME_PING, .flags = 1}, NULL, NULL));
    assert_ok(conn_flush(c, NULL));
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
    c = net_open_task(n);
    assert_ok(conn_put(c, &(struct frame_header){.type = FRAME_DATA, .length = 10}, payload, NULL));
    assert_ok(conn_flush(c, NULL));
    net_expect_refusal(c, ERR_PROTOCOL);
    conn_free(c);
    free(payload);
}

static void frames_that_break_off_harm_nobody(void **state) {
    struct net *n = *state;
    const struct frame_header h = {.type = FRAME_HELLO, .length = 100};
    uint8_t bytes[FRAME_HEADER_BYTES + 20] = {0};

    frame_header_encode(&h, bytes);
    for (size_t len = 0; len <= sizeof(bytes); len += 13) {
        struct wire *w = net_dial(n);
        struct iovec iov = {bytes, len};
        assert_ok(wire_send(w, &iov, 1));
        wire_close(w);
    }
    struct conn *c = net_open_task(n);
    expect_pong(c, 1);
    conn_free(c);
}

static void an_idle_connection_is_told_to_go(void **state) {
    struct net *n = *state;
    struct frame_header h;

    net_restart(n, 0, 100);
    struct conn *c = net_connect_in_time(n);
    h = receive(c);
    assert_int_equal(h.type, FRAME_GOAWAY);
    assert_err(conn_receive(c, 0, &h, NULL), ERR_PEER_LOST);
    assert_true(conn_ended(c));
    conn_free(c);
}

static void who_stalls_in_the_middle_of_a_frame_is_cut_off(void **state) {
    struct net *n = *state;
    const struct frame_header h = {.type = FRAME_READ, .length = FRAME_READ_BYTES};
    uint8_t bytes[FRAME_HEADER_BYTES], byte;

    net_restart(n, 0, 100);
    frame_header_encode(&h, bytes);
    for (size_t len = 10; len <= sizeof(bytes); len += 22) {
        struct wire *w;
        while ((w = greet_raw(n)) == NULL) {
        }
        size_t got;
        enum err e = wire_send(w, &(struct iovec){bytes, len}, 1);
        while (e == OK && wire_receive_some(w, &byte, 1, &got) == OK && got > 0) {
        } // an error: it was cut off while we were slow ourselves
        wire_close(w);
    }
}

static void who_does_not_take_what_it_asked_for_is_cut_off(void **state) {
    struct net *n = *state;
    struct frame_header h;
    uint64_t bytes = 0;

    net_restart(n, 1, 3000); // enough for us to open the task
    struct conn *c = net_open_task(n);
    net_send_read(c, 1, 1, 0, SOURCE_TO_END); // far more than the wire holds
    conn_free(net_connect_in_time(n));        // it has room for one again
    while (conn_receive(c, 0, &h, NULL) == OK) {
        bytes += h.length;
    }
    assert_true(bytes < 9 * MIB);
    conn_free(c);
}

static void more_connections_than_the_limit_are_refused(void **state) {
    struct net *n = *state;
    uint8_t byte;
    size_t len;

    net_restart(n, 1, 0);
    struct conn *c = net_connect(n);
    struct wire *w = net_dial(n);
    assert_ok(wire_receive_some(w, &byte, 1, &len));
    assert_int_equal(len, 0);
    wire_close(w);
    expect_pong(c, 1);
    conn_free(c);
}

static void more_tasks_than_the_limit_are_refused(void **state) {
    enum { LIMIT = 16 };
    struct net *n = *state;
    struct conn *c = net_open_task(n);
    struct frame_header h;

    net_send_open(n, c, NULL, 0, NULL, 0, NULL); // the same one again takes no more room
    h = receive(c);
    assert_int_equal(h.type, FRAME_TASK_OPEN);
    for (int i = 1; i < LIMIT; i++) {
        n->ticket.task_id++;
        net_send_open(n, c, NULL, 0, NULL, 0, NULL);
        h = receive(c);
        assert_int_equal(h.type, FRAME_TASK_OPEN);
        assert_int_equal(h.aux, n->ticket.task_id);
    }
    n->ticket.task_id++;
    net_send_open(n, c, NULL, 0, NULL, 0, NULL);
    net_expect_refusal(c, ERR_FULL);
    conn_free(c);
}

static void a_cancelled_range_ends_early(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);
    uint64_t bytes = 0;
    struct frame_header h;

    net_send_read(c, 1, 1, 0, SOURCE_TO_END);
    assert_ok(conn_put(c, &(struct frame_header){.type = FRAME_CANCEL, .request = 1}, NULL, NULL));
    assert_ok(conn_flush(c, NULL));
    do {
        h = receive(c);
        bytes += h.type == FRAME_DATA ? h.length : 0;
    } while (h.type != FRAME_OBJECT_END);
    assert_true(bytes < 9 * MIB);
    expect_pong(c, 2);
    conn_free(c);
}

static void a_server_that_is_freed_cuts_its_connections(void **state) {
    struct net *n = *state;
    struct conn *c = net_open_task(n);
    struct frame_header h;
    enum err e = OK;

    net_send_read(c, 1, 1, 0, SOURCE_TO_END);
    net_restart(n, 0, 0);
    while (e == OK) {
        e = conn_receive(c, 0, &h, NULL);
    }
    assert_err(e, ERR_PEER_LOST);
    conn_free(c);
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_small_file_is_three_frames),
        T(a_read_without_a_task_is_refused),
        T(hostile_reads_close_the_connection),
        T(a_range_within_a_leaf_is_the_objects_failure),
        T(an_overlong_frame_closes_the_connection),
        T(a_peer_of_other_versions_only_is_refused),
        T(unknown_optional_frames_are_skipped_and_required_ones_are_not),
        T(frames_that_break_off_harm_nobody),
        T(an_idle_connection_is_told_to_go),
        T(who_stalls_in_the_middle_of_a_frame_is_cut_off),
        T(who_does_not_take_what_it_asked_for_is_cut_off),
        T(more_connections_than_the_limit_are_refused),
        T(more_tasks_than_the_limit_are_refused),
        T(a_cancelled_range_ends_early),
        T(a_server_that_is_freed_cuts_its_connections),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
