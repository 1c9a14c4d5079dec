// SPDX-License-Identifier: Apache-2.0
// What was moved under leases that ended without a result is counted once, whoever tells it, and
// whether the task is in memory or not.
#include "master/planner_impl.h"
#include "tests/lib/test.h"

#include <stdlib.h>

enum { TASK = 7 };

static const struct epoch old_epoch = {1, 5}, new_epoch = {2, 1}, other_epoch = {2, 9};

struct world {
    struct core core;
    struct planner planner;
    struct plan plan;
    struct planned_task task;
    struct open_lease open;
};

static int set_up(void **state) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_ok(hash_index_init(&w->planner.tasks));
    assert_ok(hash_index_init(&w->planner.moved));
    w->core.term = 2;
    w->planner.core = &w->core;
    w->plan.planner = &w->planner;
    DL_APPEND(w->planner.plans, &w->plan);
    w->task.plan = &w->plan;
    w->task.row.task_id = TASK;
    assert_ok(lease_add(&w->task, old_epoch, "b1"));
    assert_ok(lease_add(&w->task, new_epoch, "b2"));
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    struct world *w = *state;
    planner_moved_deinit(&w->planner);
    hash_index_deinit(&w->planner.tasks);
    free(w->task.leases);
    free(w);
    return 0;
}

static void bring_in(struct world *w) {
    hash_index_add(&w->planner.tasks, &w->task.by_id, hash_u64(TASK));
}

static void what_others_moved_is_lost_when_one_concludes(void **state) {
    struct world *w = *state;
    bring_in(w);
    planner_progress(&w->planner, TASK, old_epoch, 100);
    planner_progress(&w->planner, TASK, new_epoch, 70);
    assert_int_equal(leases_lost_bytes(&w->task, new_epoch), 100);
    assert_int_equal(leases_lost_bytes(&w->task, old_epoch), 70);
    leases_forgive_bytes(&w->task, new_epoch, 5);
    assert_int_equal(leases_lost_bytes(&w->task, new_epoch), 105);
}

static void what_is_told_twice_or_late_counts_once(void **state) {
    struct world *w = *state;
    bring_in(w);
    planner_progress(&w->planner, TASK, old_epoch, 100);
    planner_progress(&w->planner, TASK, old_epoch, 40);
    planner_moved(&w->planner, TASK, old_epoch, 100);
    planner_moved(&w->planner, TASK, other_epoch, 1000); // no lease of this task
    assert_int_equal(leases_lost_bytes(&w->task, new_epoch), 100);
    planner_moved(&w->planner, TASK, old_epoch, 120);
    assert_int_equal(leases_lost_bytes(&w->task, new_epoch), 120);
}

static void what_is_told_before_the_task_is_here_waits_for_it(void **state) {
    struct world *w = *state;
    planner_moved(&w->planner, TASK, old_epoch, 33);
    planner_moved(&w->planner, TASK + 1, old_epoch, 44);
    planner_moved(&w->planner, TASK, new_epoch, 55); // of this term: it would be here
    planner_moved(&w->planner, TASK, old_epoch, 0);
    assert_int_equal(w->planner.moved.count, 2);
    leases_recall_moved(&w->planner, &w->task);
    assert_int_equal(leases_lost_bytes(&w->task, new_epoch), 33);
    assert_int_equal(w->planner.moved.count, 1);
}

static void what_comes_after_the_task_was_concluded_is_added_at_once(void **state) {
    struct world *w = *state;
    w->open =
        (struct open_lease){.task_id = TASK, .lease = {.epoch = old_epoch, .moved_bytes = 10}};
    DL_APPEND(w->plan.open, &w->open);
    planner_moved(&w->planner, TASK, old_epoch, 25);
    planner_moved(&w->planner, TASK, old_epoch, 25);
    assert_int_equal(w->plan.body.exact.bytes_resent, 15);
    assert_int_equal(w->planner.moved.count, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_others_moved_is_lost_when_one_concludes),
        TEST(what_is_told_twice_or_late_counts_once),
        TEST(what_is_told_before_the_task_is_here_waits_for_it),
        TEST(what_comes_after_the_task_was_concluded_is_added_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
