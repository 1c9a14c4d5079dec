// SPDX-License-Identifier: Apache-2.0
// WRAP: planner_flow_begin planner_flow_abandon scheduler_flow_pause scheduler_flow_resume
// WRAP: scheduler_flow_remove agents_resolve core_dispatch
#include "tests/unit/master/flow_world.h"

#include "common/rpc/rpc.h"
#include "master/services.h"
#include "master/watch.h"

enum { SEEN_MAX = 512 };

struct call {
    struct rpc *rpc;
    bool over;
    int code;
    char detail[256];
    size_t n_seen, n_states, n_live;
    uint64_t seqs[SEEN_MAX]; // of those that are stored
    int last_state;
    bool slow; // takes no message any more
};

static struct rpc_server *server;
static struct rpc_channel *channel;
static struct call calls[4];

static void on_event(struct rpc *r, const ProtobufCMessage *message) {
    const Sluice__V1__FlowEvent *m = (const Sluice__V1__FlowEvent *)message;
    struct call *c = rpc_user(r);
    assert_true(c->n_seen < SEEN_MAX);
    if (m->live) {
        assert_int_equal(m->seq, c->n_seen > 0 ? c->seqs[c->n_seen - 1] : 0);
        c->n_live++;
        return;
    }
    c->seqs[c->n_seen++] = m->seq;
    if (strcmp(m->event, "state_changed") == 0) {
        c->n_states++;
        c->last_state = (int)m->flow->state;
    }
    if (c->slow) {
        rpc_pause(r, true);
    }
}

static void on_over(struct rpc *r, const struct rpc_status *status) {
    struct call *c = rpc_user(r);
    c->over = true;
    c->rpc = NULL;
    c->code = status->code;
    snprintf(c->detail, sizeof c->detail, "%s", status->detail);
}

static const struct rpc_method method = {
    .path = "/sluice.v1.FlowService/WatchFlow",
    .input = &sluice__v1__flow_event__descriptor,
    .input_stream = true,
    .message = on_event,
    .closed = on_over,
};

static int setup_server(void **state) {
    int port = 0;
    char address[64];
    struct failure f = {0};
    setup(state);
    memset(calls, 0, sizeof calls);
    server = rpc_server_new(&w.core.loop, 1);
    watch_add(server, &w.core);
    assert_ok(rpc_server_listen(server, "127.0.0.1:0", NULL, &port, &f));
    rpc_server_start(server);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    channel = rpc_channel_new(address, NULL);
    assert_non_null(channel);
    return 0;
}

static bool drained;
static void on_drained(void *arg) {
    (void)arg;
    drained = true;
}
static bool is_drained(void) {
    for (size_t i = 0; i < 4; i++) {
        if (calls[i].rpc != NULL) {
            return false;
        }
    }
    return drained;
}

static int teardown_server(void **state) {
    drained = false;
    for (size_t i = 0; i < 4; i++) {
        if (calls[i].rpc != NULL) {
            rpc_cancel(calls[i].rpc);
        }
    }
    rpc_server_drain(server, 0, on_drained, NULL);
    until(is_drained);
    rpc_server_free(server);
    rpc_channel_free(channel);
    return teardown(state);
}

static void watch(size_t i, const char *flow, uint64_t from_seq) {
    Sluice__V1__WatchFlowRequest m = SLUICE__V1__WATCH_FLOW_REQUEST__INIT;
    m.flow_id = (char *)(uintptr_t)flow;
    m.from_seq = from_seq;
    calls[i].rpc = rpc_call(w.core.loop, channel, &method, 0, true, &calls[i]);
    assert_non_null(calls[i].rpc);
    assert_true(rpc_send(calls[i].rpc, &m.base));
    rpc_half_close(calls[i].rpc);
}

static bool first_has_seen_one(void) {
    return calls[0].n_seen > 0;
}
static bool first_is_over(void) {
    return calls[0].over;
}
static bool second_is_over(void) {
    return calls[1].over;
}
static bool third_is_over(void) {
    return calls[2].over;
}
static bool nothing_is_uncommitted(void) {
    return flows_entry(w.core.flows, w.id)->uncommitted == 0;
}
static bool two_are_watching(void) {
    return calls[0].n_seen > 0 && calls[1].n_seen > 0;
}

static void suspend_and_resume(struct flow *f, int times) {
    for (int i = 0; i < times; i++) {
        w.answered = false;
        flow_suspend(&w.core, f, 1, "", on_done, NULL);
        until(is_answered);
        w.answered = false;
        flow_resume(&w.core, f, 1, on_done, NULL);
        until(is_answered);
    }
}

static void past_and_present_come_in_order_and_end_with_the_flow(void **state) {
    (void)state;
    struct flow *f = accepted("");
    suspend_and_resume(f, 1);
    watch(0, f->id, 0);
    until(first_has_seen_one);
    suspend_and_resume(f, 2);
    flow_planned_out(&w.core, f, NULL);
    until(first_is_over);
    assert_int_equal(calls[0].code, 0);
    assert_int_equal(calls[0].n_states, 1 + 2 * 3 + 1);
    assert_int_equal(calls[0].last_state, FLOW_COMPLETED);
    for (size_t i = 0; i < calls[0].n_seen; i++) {
        assert_int_equal(calls[0].seqs[i], i + 1);
    }
}

static void what_is_only_told_takes_no_number(void **state) {
    (void)state;
    struct flow *f = accepted("");
    watch(0, f->id, 0);
    until(first_has_seen_one);
    for (int i = 0; i < 3; i++) {
        until(nothing_is_uncommitted);
        assert_true(flow_event_live(flows_entry(w.core.flows, f->id), "progress", NULL));
        suspend_and_resume(f, 1);
    }
    flow_planned_out(&w.core, f, NULL);
    until(first_is_over);
    assert_int_equal(calls[0].n_live, 3);
    assert_int_equal(calls[0].n_seen, calls[0].seqs[calls[0].n_seen - 1]);
}

static void a_flow_that_has_ended_is_told_from_the_database(void **state) {
    (void)state;
    struct flow *f = accepted("");
    uint64_t first_seq = f->last_seq;
    flow_planned_out(&w.core, f, NULL);
    until(is_forgotten);
    watch(0, w.id, 0);
    until(first_is_over);
    assert_int_equal(calls[0].code, 0);
    assert_int_equal(calls[0].last_state, FLOW_COMPLETED);
    watch(1, w.id, first_seq + 1);
    until(second_is_over);
    assert_int_equal(calls[1].n_states, 1);
}

static void an_unknown_flow_is_not_found(void **state) {
    (void)state;
    watch(0, "nothing", 0);
    until(first_is_over);
    assert_int_equal(calls[0].code, 5);
    watch(1, "01J000000000000000000000AA", 0);
    until(second_is_over);
    assert_int_equal(calls[1].code, 5);
}

static void one_watcher_too_many_is_refused_clearly(void **state) {
    (void)state;
    struct flow *f = accepted("");
    watch(0, f->id, 0);
    watch(1, f->id, 0);
    until(two_are_watching);
    watch(2, f->id, 0);
    until(third_is_over);
    assert_int_equal(calls[2].code, 8);
    assert_non_null(strstr(calls[2].detail, "watch"));
}

static void a_slow_watcher_loses_no_state_change(void **state) {
    (void)state;
    struct flow *f = accepted("");
    calls[0].slow = true;
    watch(0, f->id, 0);
    until(first_has_seen_one);
    suspend_and_resume(f, 100);
    flow_planned_out(&w.core, f, NULL);
    until(is_forgotten);
    calls[0].slow = false;
    rpc_pause(calls[0].rpc, false);
    until(first_is_over);
    assert_int_equal(calls[0].code, 0);
    assert_int_equal(calls[0].n_states, 1 + 200 + 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_server, teardown_server)
    const struct CMUnitTest tests[] = {
        TEST(past_and_present_come_in_order_and_end_with_the_flow),
        TEST(what_is_only_told_takes_no_number),
        TEST(a_flow_that_has_ended_is_told_from_the_database),
        TEST(an_unknown_flow_is_not_found),
        TEST(one_watcher_too_many_is_refused_clearly),
        TEST(a_slow_watcher_loses_no_state_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
