// SPDX-License-Identifier: Apache-2.0
// Servers that come and go, servers on several loops, and one that has enough.
#include "common/cleanup.h"
#include "common/rpc/rpc.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/loopback.h"
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_LOOPS = 2, N_CHANNELS = 8, TIMEOUT_MS = 120000, UNAVAILABLE = 14 };

struct running {
    struct loop *loops[N_LOOPS];
    pthread_t threads[N_LOOPS];
    struct rpc_server *server;
    int port;
    atomic_int n_calls[N_LOOPS];
};

static void get_flow(struct rpc *r, const ProtobufCMessage *m) {
    struct running *x = rpc_server_user(r);
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    (void)m;
    for (size_t i = 0; i < N_LOOPS; i++) {
        if (rpc_loop(r) == x->loops[i]) {
            assert_true(loop_is_current(x->loops[i]));
            atomic_fetch_add(&x->n_calls[i], 1);
        }
    }
    rpc_send(r, &flow.base);
    rpc_finish(r, 0, NULL);
}

static const struct rpc_method get_flow_method = {.path = "/sluice.v1.FlowService/GetFlow",
                                                  .input =
                                                      &sluice__v1__get_flow_request__descriptor,
                                                  .message = get_flow};

// Answers, and the call stays open.
static void hold(struct rpc *r, const ProtobufCMessage *m) {
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    (void)m;
    rpc_send(r, &flow.base);
}

static const struct rpc_method held_method = {.path = "/sluice.v1.FlowService/Hold",
                                              .input = &sluice__v1__get_flow_request__descriptor,
                                              .message = hold};

static const struct rpc_method read_on_method = {.path = "/sluice.v1.FlowService/ReadOn",
                                                 .input = &sluice__v1__get_flow_request__descriptor,
                                                 .input_stream = true,
                                                 .message = hold};

static void give_up(struct rpc *r, const ProtobufCMessage *m) {
    (void)m;
    rpc_cancel(r);
}

static const struct rpc_method given_up_method = {.path = "/sluice.v1.FlowService/GiveUp",
                                                  .input =
                                                      &sluice__v1__get_flow_request__descriptor,
                                                  .message = give_up};

static void *run(void *loop) {
    loop_run(loop);
    return NULL;
}

static void begin_limited(struct running *x, int port, uint32_t max_calls, uint32_t max_bytes) {
    struct failure f;
    char addr[LOOPBACK_SIZE];
    *x = (struct running){0};
    for (size_t i = 0; i < N_LOOPS; i++) {
        x->loops[i] = loop_new();
    }
    x->server = rpc_server_new_bounded(x->loops, N_LOOPS, max_bytes);
    rpc_server_add(x->server, &get_flow_method, x);
    rpc_server_add(x->server, &given_up_method, x);
    rpc_server_add(x->server, &held_method, x);
    rpc_server_add(x->server, &read_on_method, x);
    rpc_server_limit_calls(x->server, max_calls, "limits.calls");
    own_loopback(port, addr);
    assert_ok(rpc_server_listen(x->server, addr, NULL, &x->port, &f));
    rpc_server_start(x->server);
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_int_equal(pthread_create(&x->threads[i], NULL, run, x->loops[i]), 0);
    }
}

static void begin(struct running *x, int port) {
    begin_limited(x, port, 0, RPC_MAX_MESSAGE_BYTES);
}

static void drained(void *arg) {
    struct running *x = arg;
    for (size_t i = 0; i < N_LOOPS; i++) {
        loop_stop(x->loops[i]);
    }
}

static void drain(struct running *x) {
    rpc_server_drain(x->server, 0, drained, x);
    for (size_t i = 0; i < N_LOOPS; i++) {
        pthread_join(x->threads[i], NULL);
    }
}

static void end_drained(struct running *x) {
    rpc_server_free(x->server);
    for (size_t i = 0; i < N_LOOPS; i++) {
        loop_free(x->loops[i]);
    }
}

static void end(struct running *x) {
    drain(x);
    end_drained(x);
}

// ---- a client that waits ----

struct waiting {
    struct loop *loop;
    int code;
};

static void closed(struct rpc *r, const struct rpc_status *s) {
    struct waiting *w = rpc_user(r);
    w->code = s->code;
    loop_stop(w->loop);
}

static const struct rpc_method waiting_method = {.path = "/sluice.v1.FlowService/GetFlow",
                                                 .input = &sluice__v1__flow__descriptor,
                                                 .closed = closed};

static int call_and_wait(struct loop *l, struct rpc_channel *c) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    struct waiting w = {.loop = l, .code = -1};
    struct rpc *r = rpc_call(l, c, &waiting_method, TIMEOUT_MS, true, &w);
    rpc_send(r, &q.base);
    rpc_half_close(r);
    loop_run(l);
    return w.code;
}

// A call that leaves on a connection whose end is not known yet fails; the next one does not.
static int call_until_answered(struct loop *l, struct rpc_channel *c) {
    int code;
    do {
        code = call_and_wait(l, c);
    } while (code == UNAVAILABLE);
    return code;
}

static void a_channel_finds_a_server_that_came_back(void **state) {
    struct running x;
    struct loop *l = loop_new();
    char addr[LOOPBACK_SIZE];
    (void)state;
    begin(&x, 0);
    int port = x.port;
    own_loopback(port, addr);
    struct rpc_channel *c = rpc_channel_new_keepalive(addr, NULL, 1000);
    assert_int_equal(call_and_wait(l, c), 0);
    for (int i = 0; i < 3; i++) {
        end(&x);
        begin(&x, port);
        assert_int_equal(call_until_answered(l, c), 0);
    }
    end(&x);
    rpc_channel_free(c);
    loop_free(l);
}

static void calls_of_many_clients_are_spread_over_the_loops(void **state) {
    struct running x;
    struct loop *l = loop_new();
    char addr[LOOPBACK_SIZE];
    (void)state;
    begin(&x, 0);
    own_loopback(x.port, addr);
    for (int i = 0; i < N_CHANNELS; i++) {
        struct rpc_channel *c = rpc_channel_new(addr, NULL);
        for (int k = 0; k < 20; k++) {
            assert_int_equal(call_and_wait(l, c), 0);
        }
        rpc_channel_free(c);
    }
    int total = 0;
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_true(atomic_load(&x.n_calls[i]) > 0);
        total += atomic_load(&x.n_calls[i]);
    }
    assert_int_equal(total, N_CHANNELS * 20);
    end(&x);
    loop_free(l);
}

// Which is what one that is told to stop may do with a call that has just come.
static void a_server_that_gives_a_call_up_is_unreachable(void **state) {
    struct running x;
    struct failure f;
    ProtobufCMessage *reply = NULL;
    char addr[LOOPBACK_SIZE];
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    (void)state;
    begin(&x, 0);
    own_loopback(x.port, addr);
    struct rpc_channel *c = rpc_channel_new(addr, NULL);
    assert_err(rpc_unary(c, given_up_method.path, &q.base, &sluice__v1__flow__descriptor,
                         TIMEOUT_MS, &reply, &f),
               ERR_UNREACHABLE);
    assert_memory_equal(f.object, addr, strlen(addr));
    rpc_channel_free(c);
    end(&x);
}

// ---- one that has enough ----

static void stop_waiting(struct rpc *r, const ProtobufCMessage *m) {
    struct waiting *w = rpc_user(r);
    (void)m;
    loop_stop(w->loop);
}

static const struct rpc_method holding_method = {.path = "/sluice.v1.FlowService/Hold",
                                                 .input = &sluice__v1__flow__descriptor,
                                                 .message = stop_waiting,
                                                 .closed = closed};

static enum err get_flow_once(struct rpc_channel *c, struct failure *f) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    enum err e = rpc_unary(c, get_flow_method.path, &q.base, &sluice__v1__flow__descriptor,
                           TIMEOUT_MS, &reply, f);
    if (e == OK) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return e;
}

static void a_call_too_many_is_refused_until_another_has_ended(void **state) {
    struct running x;
    struct failure f = {0};
    char addr[LOOPBACK_SIZE];
    uint32_t n_open;
    uint64_t n_refused;
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    (void)state;
    begin_limited(&x, 0, 1, RPC_MAX_MESSAGE_BYTES);
    own_loopback(x.port, addr);
    struct rpc_channel *c = rpc_channel_new(addr, NULL);
    struct waiting w = {.loop = loop_new()};
    struct rpc *r = rpc_call(w.loop, c, &holding_method, TIMEOUT_MS, true, &w);
    rpc_send(r, &q.base);
    rpc_half_close(r);
    loop_run(w.loop); // until it is answered; it stays open
    assert_err(get_flow_once(c, &f), ERR_FULL);
    assert_non_null(strstr(f.message, "1 calls are open"));
    assert_non_null(strstr(f.remedy, "limits.calls"));
    rpc_server_count_calls(x.server, &n_open, &n_refused);
    assert_int_equal(n_open, 1);
    assert_int_equal(n_refused, 1);
    rpc_cancel(r);
    loop_run(w.loop); // until it is over here
    loop_free(w.loop);
    enum err e;
    do { // and there
        e = get_flow_once(c, &f);
    } while (e == ERR_FULL);
    assert_ok(e);
    rpc_channel_free(c);
    end(&x);
}

static const struct rpc_method writing_method = {.path = "/sluice.v1.FlowService/ReadOn",
                                                 .input = &sluice__v1__flow__descriptor,
                                                 .input_stream = true,
                                                 .message = stop_waiting,
                                                 .closed = closed};

// The server has answered it, and reads on.
static struct rpc *start_writing(struct waiting *w, struct rpc_channel *c) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    *w = (struct waiting){.loop = loop_new(), .code = -1};
    struct rpc *r = rpc_call(w->loop, c, &writing_method, TIMEOUT_MS, true, w);
    rpc_send(r, &q.base);
    loop_run(w->loop);
    assert_int_equal(w->code, -1);
    return r;
}

static void write_bytes(struct rpc *r, size_t bytes) {
    enum { TAG_AND_LENGTH = 4 };
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    AUTO(auto_free) char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, 'x', bytes);
    text[bytes - TAG_AND_LENGTH] = '\0';
    q.flow_id = text;
    assert_int_equal(protobuf_c_message_get_packed_size(&q.base), bytes);
    rpc_send(r, &q.base);
}

static void a_message_too_large_is_refused_and_counted_and_nothing_else_is(void **state) {
    enum { MAX = 64 << 10, EXHAUSTED = 8 };
    struct running x;
    struct waiting w[3];
    char addr[LOOPBACK_SIZE];
    uint64_t largest, n_refused;
    (void)state;
    begin_limited(&x, 0, 0, MAX);
    own_loopback(x.port, addr);
    struct rpc_channel *c = rpc_channel_new(addr, NULL);
    struct rpc *at_limit = start_writing(&w[0], c), *above = start_writing(&w[1], c);
    write_bytes(at_limit, MAX);
    loop_run(w[0].loop);
    assert_int_equal(w[0].code, -1); // it was answered
    write_bytes(above, MAX + 1);
    loop_run(w[1].loop);
    assert_int_equal(w[1].code, EXHAUSTED);
    // One that its client cancels, and one that is open when the server ends.
    rpc_cancel(at_limit);
    loop_run(w[0].loop);
    (void)start_writing(&w[2], c);
    drain(&x);
    rpc_server_count_messages(x.server, &largest, &n_refused);
    assert_int_equal(largest, MAX);
    assert_int_equal(n_refused, 1);
    end_drained(&x);
    loop_run(w[2].loop);
    for (size_t i = 0; i < 3; i++) {
        loop_free(w[i].loop);
    }
    rpc_channel_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_channel_finds_a_server_that_came_back),
        cmocka_unit_test(a_server_that_gives_a_call_up_is_unreachable),
        cmocka_unit_test(a_call_too_many_is_refused_until_another_has_ended),
        cmocka_unit_test(a_message_too_large_is_refused_and_counted_and_nothing_else_is),
        cmocka_unit_test(calls_of_many_clients_are_spread_over_the_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
