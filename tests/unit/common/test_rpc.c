// SPDX-License-Identifier: Apache-2.0
// Calls between a real server and a real client on loopback, on one loop each.
#include "common/cleanup.h"
#include "common/rpc/failure_message.h"
#include "common/rpc/rpc.h"
#include "grpc/health/v1/health.pb-c.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/test.h"
#include "tests/unit/common/rpc_fixture.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { TIMEOUT_MS = 60000 };

// ---- a client that writes down what it sees ----

struct client {
    struct loop *loop;
    struct rpc *rpc;
    size_t n_messages, stop_after; // cancel after so many; 0: never
    size_t n_to_send;
    uint64_t last;
    int code;
    bool closed;
    struct failure failure;
};

static void client_message(struct rpc *r, const ProtobufCMessage *m) {
    struct client *c = rpc_user(r);
    c->n_messages++;
    if (m->descriptor == &sluice__v1__flow_event__descriptor) {
        c->last = ((const Sluice__V1__FlowEvent *)m)->seq;
    } else if (m->descriptor == &sluice__v1__list_reply__descriptor) {
        c->last = ((const Sluice__V1__ListReply *)m)->pages_committed;
    }
    if (c->n_messages == c->stop_after) {
        rpc_cancel(r);
    }
}

static void client_closed(struct rpc *r, const struct rpc_status *s) {
    struct client *c = rpc_user(r);
    c->code = s->code;
    c->closed = true;
    rpc_status_failure(s, &c->failure);
    loop_stop(c->loop);
}

static void client_writable(struct rpc *r) {
    struct client *c = rpc_user(r);
    Sluice__V1__ListPage page = SLUICE__V1__LIST_PAGE__INIT;
    if (c->n_to_send > 0) {
        c->n_to_send--;
        rpc_send(r, &page.base);
    } else {
        rpc_half_close(r);
    }
}

static const struct rpc_method watch_call = {.path = "/sluice.v1.FlowService/WatchFlow",
                                             .input = &sluice__v1__flow_event__descriptor,
                                             .input_stream = true,
                                             .message = client_message,
                                             .closed = client_closed};
static const struct rpc_method list_call = {.path = "/sluice.v1.AgentService/List",
                                            .input = &sluice__v1__list_reply__descriptor,
                                            .input_stream = true,
                                            .message = client_message,
                                            .writable = client_writable,
                                            .closed = client_closed};

static void start_watch(struct client *c, struct fixture *x, const char *id, int64_t timeout_ms) {
    Sluice__V1__WatchFlowRequest q = SLUICE__V1__WATCH_FLOW_REQUEST__INIT;
    c->loop = loop_new();
    q.flow_id = (char *)(uintptr_t)id;
    c->rpc = rpc_call(c->loop, x->channel, &watch_call, timeout_ms, true, c);
    assert_true(rpc_send(c->rpc, &q.base));
    rpc_half_close(c->rpc);
}

static void finish(struct client *c) {
    loop_run(c->loop);
    loop_free(c->loop);
    assert_true(c->closed);
}

// ---- tests ----

static void a_unary_call_brings_its_reply(void **state) {
    struct fixture *x = *state;
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    q.flow_id = (char *)(uintptr_t) "f1";
    assert_ok(rpc_unary(x->channel, "/sluice.v1.FlowService/GetFlow", &q.base,
                        &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f));
    assert_string_equal(((Sluice__V1__Flow *)reply)->id, "f1");
    protobuf_c_message_free_unpacked(reply, NULL);
}

static void a_failure_travels_in_the_trailer(void **state) {
    struct fixture *x = *state;
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    q.flow_id = (char *)(uintptr_t) "missing";
    assert_err(rpc_unary(x->channel, "/sluice.v1.FlowService/GetFlow", &q.base,
                         &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f),
               ERR_NOT_FOUND);
    assert_string_equal(f.message, "no flow has this id");
    assert_string_equal(f.operation, "get");
    assert_memory_equal(f.object, "missing", 7);
    assert_null(reply);
}

static void an_unknown_method_is_refused(void **state) {
    struct fixture *x = *state;
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    assert_err(rpc_unary(x->channel, "/sluice.v1.FlowService/Juggle", &q.base,
                         &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f),
               ERR_UNIMPLEMENTED);
}

static void a_server_that_is_not_there_is_unreachable(void **state) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    char addr[32];
    (void)state;
    // A port that is taken, and does not listen.
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    snprintf(addr, sizeof addr, "127.0.0.1:%d", ntohs(a.sin_port));
    struct rpc_channel *c = rpc_channel_new(addr, NULL);
    assert_err(rpc_unary(c, "/sluice.v1.FlowService/GetFlow", &q.base,
                         &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f),
               ERR_UNREACHABLE);
    assert_memory_equal(f.object, addr, strlen(addr));
    rpc_channel_free(c);
    close(fd);
}

static void a_stream_arrives_whole_and_in_order(void **state) {
    struct client c = {0};
    start_watch(&c, *state, "f", TIMEOUT_MS);
    finish(&c);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.n_messages, N_EVENTS);
    assert_int_equal(c.last, N_EVENTS);
}

static void both_ends_stream_at_once(void **state) {
    struct fixture *x = *state;
    struct client c = {.loop = loop_new(), .n_to_send = 200};
    c.rpc = rpc_call(c.loop, x->channel, &list_call, TIMEOUT_MS, true, &c);
    client_writable(c.rpc);
    finish(&c);
    assert_int_equal(c.code, 0);
    assert_int_equal(c.n_messages, 200);
    assert_int_equal(c.last, 200);
}

static void unpause(void *arg) {
    rpc_pause(((struct client *)arg)->rpc, false);
}

static void a_paused_client_stops_the_server_and_loses_nothing(void **state) {
    struct fixture *x = *state;
    struct client c = {0};
    start_watch(&c, x, "f", TIMEOUT_MS);
    rpc_pause(c.rpc, true);
    struct loop_timer *t = loop_timer_new(c.loop, unpause, &c);
    loop_timer_arm(t, 300);
    loop_run(c.loop);
    loop_timer_free(t);
    loop_free(c.loop);
    assert_int_equal(c.n_messages, N_EVENTS);
    assert_int_equal(c.code, 0);
    assert_true(x->max_queued <= 4);
}

static void a_paused_call_can_be_cancelled(void **state) {
    struct client c = {0};
    start_watch(&c, *state, "f", TIMEOUT_MS);
    rpc_pause(c.rpc, true);
    rpc_cancel(c.rpc);
    finish(&c);
    assert_int_equal(c.code, 1);
}

static void a_deadline_ends_the_call_at_both_ends(void **state) {
    struct fixture *x = *state;
    struct client c = {0};
    start_watch(&c, x, "silent", 200);
    finish(&c);
    assert_int_equal(c.code, 4);
    assert_err(c.failure.err, ERR_TIMEOUT);
}

static void a_cancelled_call_ends_at_the_server(void **state) {
    struct fixture *x = *state;
    struct client c = {.stop_after = 1};
    start_watch(&c, x, "one event, no end", TIMEOUT_MS);
    finish(&c);
    assert_int_equal(c.code, 1);
    pthread_mutex_lock(&x->lock);
    while (x->n_closed == 0) {
        pthread_cond_wait(&x->changed, &x->lock);
    }
    assert_int_equal(x->last_code, 1);
    pthread_mutex_unlock(&x->lock);
}

static void unary_with(struct fixture *x, const char *path, const ProtobufCMessage *q,
                       enum err expected) {
    ProtobufCMessage *reply = NULL;
    struct failure f;
    assert_err(
        rpc_unary(x->channel, path, q, &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f),
        expected);
}

static void a_malformed_message_is_refused(void **state) {
    // A HealthCheckResponse has a number where GetFlowRequest has a text.
    Grpc__Health__V1__HealthCheckResponse q = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    q.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    unary_with(*state, "/sluice.v1.FlowService/GetFlow", &q.base, ERR_PROTOCOL);
}

static void a_message_over_the_limit_is_refused(void **state) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    q.flow_id = malloc(RPC_MAX_MESSAGE_BYTES + 1);
    memset(q.flow_id, 'x', RPC_MAX_MESSAGE_BYTES);
    q.flow_id[RPC_MAX_MESSAGE_BYTES] = '\0';
    unary_with(*state, "/sluice.v1.FlowService/GetFlow", &q.base, ERR_FULL);
    free(q.flow_id);
}

static void a_message_that_unpacks_to_much_is_refused(void **state) {
    enum { N = 20000 };
    Sluice__V1__Label label = SLUICE__V1__LABEL__INIT, **labels = malloc(N * sizeof(void *));
    Sluice__V1__FlowSpec spec = SLUICE__V1__FLOW_SPEC__INIT;
    Sluice__V1__SubmitFlowRequest q = SLUICE__V1__SUBMIT_FLOW_REQUEST__INIT;
    for (size_t i = 0; i < N; i++) {
        labels[i] = &label;
    }
    spec.n_labels = N;
    spec.labels = labels;
    q.spec = &spec;
    assert_true(protobuf_c_message_get_packed_size(&q.base) < 64 * 1024);
    unary_with(*state, "/sluice.v1.FlowService/SubmitFlow", &q.base, ERR_FULL);
    free(labels);
}

static void health_answers_for_known_services(void **state) {
    struct fixture *x = *state;
    Grpc__Health__V1__HealthCheckRequest q = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    q.service = (char *)(uintptr_t) "sluice.v1.FlowService";
    rpc_health_set_serving(x->server, false);
    assert_ok(rpc_unary(x->channel, "/grpc.health.v1.Health/Check", &q.base,
                        &grpc__health__v1__health_check_response__descriptor, TIMEOUT_MS, &reply,
                        &f));
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)reply)->status,
                     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
    protobuf_c_message_free_unpacked(reply, NULL);
    q.service = (char *)(uintptr_t) "sluice.v1.Juggling";
    unary_with(x, "/grpc.health.v1.Health/Check", &q.base, ERR_NOT_FOUND);
}

static void a_taken_port_is_named(void **state) {
    struct fixture *x = *state;
    struct loop *loop = loop_new();
    struct rpc_server *second = rpc_server_new(&loop, 1);
    struct failure f;
    char addr[32];
    int port = 0;
    snprintf(addr, sizeof addr, "127.0.0.1:%d", x->port);
    assert_err(rpc_server_listen(second, addr, NULL, &port, &f), ERR_BUSY_PORT);
    assert_memory_equal(f.object, addr, strlen(addr));
    assert_err(rpc_server_listen(second, "127.0.0.1:80000", NULL, &port, &f), ERR_INVALID);
    assert_err(rpc_server_listen(second, "0.0.0.0:0", NULL, &port, &f), ERR_DENIED);
    assert_ok(rpc_server_listen(second, "127.0.0.1:0", NULL, &port, &f));
    rpc_server_free(second); // never started
    loop_free(loop);
}

static void drained(void *arg) {
    loop_stop(arg);
}

static void a_drain_ends_calls_that_do_not_end(void **state) {
    struct client c = {0};
    void *own = NULL;
    (void)state;
    rpc_fixture_set_up(&own);
    struct fixture *x = own;
    start_watch(&c, x, "silent", TIMEOUT_MS);
    // Until the call is at the server, its drain would refuse it instead.
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f;
    assert_ok(rpc_unary(x->channel, "/sluice.v1.FlowService/GetFlow", &q.base,
                        &sluice__v1__flow__descriptor, TIMEOUT_MS, &reply, &f));
    protobuf_c_message_free_unpacked(reply, NULL);
    rpc_server_drain(x->server, 100, drained, x->loop);
    finish(&c);
    assert_int_not_equal(c.code, 0);
    pthread_join(x->thread, NULL);
    rpc_channel_free(x->channel);
    rpc_server_free(x->server);
    loop_free(x->loop);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->changed);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_unary_call_brings_its_reply, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_failure_travels_in_the_trailer, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_method_is_refused, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test(a_server_that_is_not_there_is_unreachable),
        cmocka_unit_test_setup_teardown(a_stream_arrives_whole_and_in_order, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(both_ends_stream_at_once, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_paused_client_stops_the_server_and_loses_nothing,
                                        rpc_fixture_set_up, rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_paused_call_can_be_cancelled, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_deadline_ends_the_call_at_both_ends, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_call_ends_at_the_server, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_malformed_message_is_refused, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_message_over_the_limit_is_refused, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_message_that_unpacks_to_much_is_refused,
                                        rpc_fixture_set_up, rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(health_answers_for_known_services, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_taken_port_is_named, rpc_fixture_set_up,
                                        rpc_fixture_tear_down),
        cmocka_unit_test(a_drain_ends_calls_that_do_not_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
