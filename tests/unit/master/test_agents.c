// SPDX-License-Identifier: Apache-2.0
// clang-format off
// WRAP: planner_spec planner_leased planner_result planner_want_tasks planner_unrunnable planner_lease_closed planner_page planner_agent_reported flow_is_quiet
// clang-format on
#include "tests/unit/master/fake_agent.h"

#include "common/hash.h"
#include "master/flow.h"
#include "master/planner.h"

#include <stdio.h>
#include <string.h>

#define FLOW "01HZZZZZZZZZZZZZZZZZZZZZZA"
enum { MAX_RESULTS = 16, LONG_MS = 60000, SHORT_MS = 200 };

// ---- a planner that does nothing ----

static Sluice__V1__TaskSpec spec;
static Sluice__V1__Place source_place, sink_place;
static struct {
    uint64_t number;
    void (*committed)(void *arg);
    void *arg;
} results[MAX_RESULTS];
static size_t n_results;
static void (*page_committed)(void *arg, enum err e);
static void *page_arg;
static size_t n_pages;

const Sluice__V1__TaskSpec *__wrap_planner_spec(struct planner *p, uint64_t task_id,
                                                uint32_t *ret_attempt);
const Sluice__V1__TaskSpec *__wrap_planner_spec(struct planner *p, uint64_t task_id,
                                                uint32_t *ret_attempt) {
    static char flow[] = FLOW, volume[] = "data";
    static uint8_t objects[] = "objects";
    (void)p;
    sluice__v1__task_spec__init(&spec);
    sluice__v1__place__init(&source_place);
    sluice__v1__place__init(&sink_place);
    source_place.volume = sink_place.volume = volume;
    spec.flow_id = flow;
    spec.task_id = task_id;
    spec.source = &source_place;
    spec.sink = &sink_place;
    spec.objects = (ProtobufCBinaryData){sizeof(objects), objects};
    *ret_attempt = 1;
    return &spec;
}

void __wrap_planner_leased(struct planner *p, uint64_t task_id, struct epoch e, const char *agent,
                           void (*stored)(void *arg, enum err result), void *arg);
void __wrap_planner_leased(struct planner *p, uint64_t task_id, struct epoch e, const char *agent,
                           void (*stored)(void *arg, enum err result), void *arg) {
    (void)p, (void)task_id, (void)e, (void)agent;
    stored(arg, OK);
}

void __wrap_planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                           void (*committed)(void *arg), void *arg);
void __wrap_planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                           void (*committed)(void *arg), void *arg) {
    (void)p, (void)agent;
    assert_true(n_results < MAX_RESULTS);
    results[n_results].number = m->number;
    results[n_results].committed = committed;
    results[n_results++].arg = arg;
}

void __wrap_planner_want_tasks(struct planner *p, const char *flow, uint32_t n);
void __wrap_planner_want_tasks(struct planner *p, const char *flow, uint32_t n) {
    (void)p, (void)n;
    scheduler_flow_drained(cluster.core.scheduler, flow);
}

void __wrap_planner_unrunnable(struct planner *p, uint64_t task_id, enum err why);
void __wrap_planner_unrunnable(struct planner *p, uint64_t task_id, enum err why) {
    (void)p, (void)task_id, (void)why;
}

void __wrap_planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch e,
                                 const char *agent, enum lease_closed_how how);
void __wrap_planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch e,
                                 const char *agent, enum lease_closed_how how) {
    (void)p, (void)task_id, (void)e, (void)agent, (void)how;
}

void __wrap_planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch e,
                         const Sluice__V1__ListPage *page,
                         void (*committed)(void *arg, enum err result), void *arg);
void __wrap_planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch e,
                         const Sluice__V1__ListPage *page,
                         void (*committed)(void *arg, enum err result), void *arg) {
    (void)p, (void)agent, (void)task_id, (void)e, (void)page;
    n_pages++;
    page_committed = committed;
    page_arg = arg;
}

void __wrap_planner_agent_reported(struct planner *p, const char *agent);
void __wrap_planner_agent_reported(struct planner *p, const char *agent) {
    (void)p, (void)agent;
}

void __wrap_flow_is_quiet(struct core *c, const char *flow_id);
void __wrap_flow_is_quiet(struct core *c, const char *flow_id) {
    (void)c, (void)flow_id;
}

// ---- fixture ----

static struct fake_agent a1, b1, b2;

static int start(void **state) {
    (void)state;
    n_results = n_pages = 0;
    cluster_start(LONG_MS);
    fake_init(&a1, "a1", "a", 0);
    fake_init(&b1, "b1", "b", 1);
    fake_init(&b2, "b2", "b", 1);
    return 0;
}

static int start_impatient(void **state) {
    (void)state;
    start(state);
    cluster_stop();
    cluster_start(SHORT_MS);
    return 0;
}

static int stop(void **state) {
    (void)state;
    cluster_stop();
    return 0;
}

static int64_t now(void) {
    return clock_mono_ms(&clock_system);
}

static void add_flow(void) {
    struct scheduler_flow f = {.id = FLOW};
    snprintf(f.source.site, sizeof(f.source.site), "a");
    snprintf(f.source.volume, sizeof(f.source.volume), "data");
    snprintf(f.sink.site, sizeof(f.sink.site), "b");
    snprintf(f.sink.volume, sizeof(f.sink.volume), "data");
    assert_ok(scheduler_flow_add(cluster.core.scheduler, &f, now()));
}

static void add_tasks(uint64_t first, uint64_t n) {
    for (uint64_t i = first; i < first + n; i++) {
        struct scheduler_task t = {.task_id = i,
                                   .flow = FLOW,
                                   .rule = EXECUTOR_MOVE,
                                   .reads = true,
                                   .writes = true,
                                   .cost_bytes = 1,
                                   .attempt = 1};
        assert_ok(scheduler_task_add(cluster.core.scheduler, &t, now()));
    }
    core_dispatch(&cluster.core);
}

static enum err resolve(const char *text, bool write, struct place *ret_place, struct failure *f) {
    struct location l;
    memset(f, 0, sizeof(*f));
    assert_ok(location_parse(text, strlen(text), &l, f));
    enum err e = agents_resolve(cluster.core.agents, &l, write, ret_place, f);
    location_deinit(&l);
    return e;
}

static bool resolves_somehow(const void *text) {
    struct place p;
    struct failure f;
    return resolve(text, true, &p, &f) != ERR_AGAIN;
}

// ---- sessions ----

static bool has_two_leases(const void *agent) {
    return ((const struct fake_agent *)agent)->n_assigned >= 2;
}

static void a_task_is_leased_with_a_ticket_for_its_source(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    assert_string_equal(b1.source, "a1");
    struct ticket t;
    assert_ok(
        ticket_open(b1.ticket, b1.ticket_len, b1.ticket_key, clock_wall_ms(&clock_system), &t));
    assert_string_equal(t.executor, "b1");
    assert_string_equal(t.source, "a1");
    assert_string_equal(t.flow, FLOW);
    assert_int_equal(t.task_id, 1);
    assert_int_equal(t.term, 3);
    uint8_t digest[32];
    sha256(spec.objects.data, spec.objects.len, digest);
    assert_memory_equal(t.objects_sha256, digest, 32);
}

static bool was_pinged(const void *agent) {
    return ((const struct fake_agent *)agent)->pinged == 5;
}

static void a_heartbeat_is_confirmed(void **state) {
    (void)state;
    fake_up(&a1);
    fake_beat(&a1, 5);
    wait_until(was_pinged, &a1);
}

// The master learns of a call's end on its own, not when the agent does.
static bool nobody_is_connected(const void *arg) {
    (void)arg;
    return agents_connected(cluster.core.agents) == 0;
}

static void a_silent_agent_is_cut_off(void **state) {
    (void)state;
    fake_up(&a1);
    wait_until(is_closed, &a1);
    wait_until(nobody_is_connected, NULL);
}

static void of_two_with_one_name_the_younger_stays(void **state) {
    (void)state;
    static struct fake_agent elder, younger; // their calls end with the cluster
    elder = younger = b1;
    memcpy(elder.incarnation, "01AAAAAAAAAAAAAAAAAAAAAAAA", IDENT_LEN);
    memcpy(younger.incarnation, "01BBBBBBBBBBBBBBBBBBBBBBBB", IDENT_LEN);
    fake_up(&elder);
    fake_up(&younger);
    wait_until(is_closed, &elder);
    fake_dial(&elder);
    wait_until(is_closed, &elder);
    assert_false(elder.welcomed);
    assert_non_null(strstr(elder.goodbye, "another agent of this name"));
    assert_false(younger.closed);
    assert_int_equal(agents_connected(cluster.core.agents), 1);
}

static void a_nonsensical_registration_is_refused(void **state) {
    (void)state;
    snprintf(a1.name, sizeof(a1.name), "no/name");
    fake_dial(&a1);
    wait_until(is_closed, &a1);
    assert_false(a1.welcomed);
    assert_true(a1.goodbye[0] != '\0');
}

static void more_agents_than_allowed_are_refused(void **state) {
    (void)state;
    cluster.options.agents = 2;
    fake_up(&a1);
    fake_up(&b1);
    fake_dial(&b2);
    wait_until(is_closed, &b2);
    assert_false(b2.welcomed);
}

static void the_master_says_goodbye(void **state) {
    (void)state;
    fake_up(&a1);
    agents_say_goodbye(cluster.core.agents);
    wait_until(is_closed, &a1);
    assert_string_equal(a1.goodbye, "the master stops");
}

static void an_agent_that_leaves_is_not_lost(void **state) {
    (void)state;
    fake_up(&a1);
    fake_leave(&a1);
    wait_until(is_closed, &a1);
    wait_until(nobody_is_connected, NULL);
    Sluice__V1__ListAgentsResponse *m = agents_list(cluster.core.agents, "");
    assert_int_equal(m->n_agents, 1);
    assert_false(m->agents[0]->connected);
    agents_list_free(m);
}

// ---- results ----

static bool has_two_results(const void *arg) {
    (void)arg;
    return n_results >= 2;
}

static bool committed_two(const void *agent) {
    return ((const struct fake_agent *)agent)->committed == 2;
}

static void lease_two(void) {
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 2);
    wait_until(has_two_leases, &b1);
}

static void results_are_committed_in_their_order(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    results[1].committed(results[1].arg);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(b1.committed, 0);
    results[0].committed(results[0].arg);
    wait_until(committed_two, &b1);
}

static void a_result_told_twice_counts_once(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    assert_int_equal(results[0].number, 1);
    assert_int_equal(results[1].number, 2);
    results[0].committed(results[0].arg);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

static void a_fenced_result_is_committed_without_effect(void **state) {
    (void)state;
    fake_up(&b1);
    fake_result(&b1, 1, &(struct fake_lease){77, 2, 5, 0});
    fake_result(&b1, 2, &(struct fake_lease){78, 2, 5, 0});
    wait_until(committed_two, &b1);
    assert_int_equal(n_results, 0);
}

static void results_under_way_survive_a_reconnection(void **state) {
    (void)state;
    lease_two();
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    b1.next_number = 3;
    fake_cut(&b1);
    fake_up(&b1);
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(n_results, 2);
    assert_int_equal(b1.committed, 0);
    results[0].committed(results[0].arg);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

// ---- coming back ----

static void an_agent_that_comes_back_keeps_what_nobody_else_got(void **state) {
    (void)state;
    lease_two();
    fake_cut(&b1);
    b1.holds[0] = b1.assigned[0];
    b1.n_holds = 1;
    b1.n_assigned = 0;
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    wait_until(has_lease, &b1); // the other one, again
    assert_int_equal(b1.n_assigned, 1);
    assert_int_not_equal(b1.assigned[0].task_id, b1.holds[0].task_id);
}

// It was cut off before it learnt that its results were judged: its leases are over.
static void a_lease_whose_result_was_judged_is_not_opened_again(void **state) {
    (void)state;
    lease_two();
    scheduler_agent_drain(cluster.core.scheduler, "b1", true, now()); // it gets no others
    fake_result(&b1, 1, &b1.assigned[0]);
    fake_result(&b1, 2, &b1.assigned[1]);
    wait_until(has_two_results, NULL);
    results[0].committed(results[0].arg);
    b1.next_number = 3;
    b1.n_holds = 2;
    for (size_t i = 0; i < b1.n_holds; i++) {
        b1.holds[i] = b1.assigned[i];
        b1.holds[i].result = i + 1;
    }
    fake_cut(&b1);
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    assert_int_equal(scheduler_leases_of(cluster.core.scheduler, "b1"), 0);
    results[1].committed(results[1].arg);
    wait_until(committed_two, &b1);
}

static void a_result_that_was_not_judged_yet_holds_its_lease(void **state) {
    (void)state;
    lease_two();
    b1.next_number = 2;
    b1.n_holds = 1;
    b1.holds[0] = b1.assigned[0];
    b1.holds[0].result = 1;
    fake_cut(&b1);
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 0);
    assert_true(scheduler_leases_of(cluster.core.scheduler, "b1") > 0);
}

static void what_another_agent_got_is_refused(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    fake_cut(&b1);
    fake_up(&b2);
    wait_until(has_lease, &b2);
    b1.holds[0] = b1.assigned[0];
    b1.n_holds = 1;
    fake_up(&b1);
    assert_int_equal(b1.n_refused, 1);
    assert_int_equal(scheduler_open_leases(cluster.core.scheduler, FLOW), 2);
    fake_stopped(&b1, &b1.holds[0]);
    fake_beat(&b1, 5);
    wait_until(was_pinged, &b1);
    assert_int_equal(scheduler_open_leases(cluster.core.scheduler, FLOW), 1);
}

static bool has_revoke(const void *agent) {
    return ((const struct fake_agent *)agent)->n_revoked > 0;
}

static void a_paused_flow_revokes(void **state) {
    (void)state;
    fake_up(&a1);
    fake_up(&b1);
    add_flow();
    add_tasks(1, 1);
    wait_until(has_lease, &b1);
    scheduler_flow_pause(cluster.core.scheduler, FLOW, now());
    core_dispatch(&cluster.core);
    wait_until(has_revoke, &b1);
    assert_int_equal(b1.revoked[0].task_id, 1);
}

// ---- places ----

static void agents_that_see_the_same_share_a_volume(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    fake_up(&b1);
    fake_up(&b2);
    wait_until(resolves_somehow, "b:/data/x/y");
    assert_ok(resolve("b:/data/x/y/", true, &p, &f));
    assert_string_equal(p.site, "b");
    assert_string_equal(p.agent, "");
    assert_string_equal(p.volume, "data");
    assert_int_equal(p.root_len, 3);
    assert_memory_equal(p.root, "x/y", 3);
}

static void agents_that_see_different_things_do_not(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    b2.storage = 2;
    fake_up(&b1);
    fake_up(&b2);
    wait_until(resolves_somehow, "b:/data/x");
    assert_err(resolve("b:/data/x", true, &p, &f), ERR_NOT_SHARED);
    assert_ok(resolve("b/b2:/data/x", true, &p, &f));
    assert_string_equal(p.agent, "b2");
}

static void what_cannot_be_resolved_says_what_there_is(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    assert_err(resolve("b:/data", true, &p, &f), ERR_NOT_FOUND);
    b1.writable = false;
    fake_up(&b1);
    assert_err(resolve("nowhere:/data", false, &p, &f), ERR_NOT_FOUND);
    assert_non_null(strstr(f.remedy, "b"));
    assert_err(resolve("b/b9:/data", false, &p, &f), ERR_NOT_FOUND);
    assert_err(resolve("b:/elsewhere", false, &p, &f), ERR_NO_VOLUME);
    assert_non_null(strstr(f.remedy, "/data"));
    assert_err(resolve("b:/database", false, &p, &f), ERR_NO_VOLUME);
    assert_err(resolve("b:/data", true, &p, &f), ERR_NO_VOLUME);
    assert_ok(resolve("b:/data", false, &p, &f));
    assert_int_equal(p.root_len, 0);
    fake_cut(&b1);
    wait_until(nobody_is_connected, NULL);
    assert_err(resolve("b:/data", false, &p, &f), ERR_NO_AGENT);
}

// ---- listings ----

static struct {
    struct rpc *call;
    uint64_t committed;
    bool done, failed, closed;
} listing;

static void list_reply(struct rpc *r, const ProtobufCMessage *base) {
    const Sluice__V1__ListReply *m = (const Sluice__V1__ListReply *)base;
    (void)r;
    listing.committed = m->pages_committed;
    listing.done = listing.done || m->done;
    listing.failed = listing.failed || m->failure != NULL;
}

static void list_ended(struct rpc *r, const struct rpc_status *status) {
    (void)r, (void)status;
    listing.closed = true;
}

static const struct rpc_method list = {.path = "/sluice.v1.AgentService/List",
                                       .input = &sluice__v1__list_reply__descriptor,
                                       .input_stream = true,
                                       .message = list_reply,
                                       .closed = list_ended};

static void send_page(const struct fake_lease *l, bool last) {
    Sluice__V1__ListPage m = SLUICE__V1__LIST_PAGE__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    if (l != NULL) {
        epoch.term = l->term;
        epoch.counter = l->counter;
        ref.task_id = l->task_id;
        ref.epoch = &epoch;
        m.lease = &ref;
    }
    m.last = last;
    assert_true(rpc_send(listing.call, &m.base));
}

static bool has_page(const void *n) {
    return n_pages >= *(const size_t *)n;
}

static bool listing_is_closed(const void *arg) {
    (void)arg;
    return listing.closed;
}

static void open_listing(void) {
    memset(&listing, 0, sizeof(listing));
    listing.call = rpc_call(cluster.loop, cluster.channel, &list, 0, true, NULL);
    assert_non_null(listing.call);
}

static void a_listing_ends_when_its_last_page_is_stored(void **state) {
    (void)state;
    lease_two();
    open_listing();
    send_page(&b1.assigned[0], false);
    wait_until(has_page, &(size_t){1});
    page_committed(page_arg, OK);
    send_page(NULL, true);
    wait_until(has_page, &(size_t){2});
    assert_false(listing.done);
    page_committed(page_arg, OK);
    assert_int_equal(n_results, 1); // the last page stands for the task's result
    results[0].committed(results[0].arg);
    wait_until(listing_is_closed, NULL);
    assert_true(listing.done);
    assert_int_equal(listing.committed, 2);
}

static void a_listing_under_an_old_lease_is_stopped(void **state) {
    (void)state;
    lease_two();
    open_listing();
    send_page(&(struct fake_lease){1, 1, 1, 0}, false);
    wait_until(listing_is_closed, NULL);
    assert_true(listing.failed);
    assert_int_equal(n_pages, 0);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(a_task_is_leased_with_a_ticket_for_its_source),
        CASE(a_heartbeat_is_confirmed),
        cmocka_unit_test_setup_teardown(a_silent_agent_is_cut_off, start_impatient, stop),
        CASE(of_two_with_one_name_the_younger_stays),
        CASE(a_nonsensical_registration_is_refused),
        CASE(more_agents_than_allowed_are_refused),
        CASE(the_master_says_goodbye),
        CASE(an_agent_that_leaves_is_not_lost),
        CASE(results_are_committed_in_their_order),
        CASE(a_result_told_twice_counts_once),
        CASE(a_fenced_result_is_committed_without_effect),
        CASE(results_under_way_survive_a_reconnection),
        CASE(an_agent_that_comes_back_keeps_what_nobody_else_got),
        CASE(a_lease_whose_result_was_judged_is_not_opened_again),
        CASE(a_result_that_was_not_judged_yet_holds_its_lease),
        CASE(what_another_agent_got_is_refused),
        CASE(a_paused_flow_revokes),
        CASE(agents_that_see_the_same_share_a_volume),
        CASE(agents_that_see_different_things_do_not),
        CASE(what_cannot_be_resolved_says_what_there_is),
        CASE(a_listing_ends_when_its_last_page_is_stored),
        CASE(a_listing_under_an_old_lease_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
