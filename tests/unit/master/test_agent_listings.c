// SPDX-License-Identifier: Apache-2.0
// clang-format off
// WRAP: planner_spec planner_leased planner_result planner_want_tasks planner_unrunnable planner_lease_closed planner_page planner_agent_reported flow_is_quiet
// clang-format on
#include "tests/unit/master/fake_planner.h"

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
        CASE(a_listing_ends_when_its_last_page_is_stored),
        CASE(a_listing_under_an_old_lease_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
