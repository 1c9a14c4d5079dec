// SPDX-License-Identifier: Apache-2.0
// The whole life of flows over played agents, with masters and agents killed anywhere.
// clang-format off
// WRAP: flow_progressed flow_add_share flow_add_transport flow_set_phase flow_object_failed flow_planned_out flow_sink_into_directory core_dispatch
// TIMEOUT: 900
// clang-format on
#include "common/hash.h"
#include "common/log.h"
#include "tests/unit/master/planner_world.h"

static void small_tree(struct world *w) {
    int root = node_add(w, -1, "", OBJECT_DIRECTORY, 0);
    node_add(w, root, "a", OBJECT_FILE, 1000);
    int d = node_add(w, root, "d", OBJECT_DIRECTORY, 0);
    node_add(w, d, "b", OBJECT_FILE, 0);
    node_add(w, d, "link", OBJECT_SYMLINK, 0);
    node_add(w, d, "fifo", OBJECT_FIFO, 0);
    int e = node_add(w, d, "e", OBJECT_DIRECTORY, 0);
    node_add(w, e, "large", OBJECT_FILE, 5 * LEAF + 17);
    node_add(w, root, "empty", OBJECT_DIRECTORY, 0);
}

static void big_tree(struct world *w) {
    small_tree(w);
    char name[32];
    int many = node_add(w, 0, "many", OBJECT_DIRECTORY, 0);
    for (int i = 0; i < 900; i++) {
        bool sub = i % 100 == 99;
        bool large = i % 250 == 7;
        snprintf(name, sizeof name, "f%d", i);
        int n = node_add(w, many, name, sub ? OBJECT_DIRECTORY : OBJECT_FILE,
                         sub     ? 0
                         : large ? 9 * LEAF
                                 : (uint64_t)i * 1000);
        for (int k = 0; sub && k < 20; k++) {
            snprintf(name, sizeof name, "g%d", k);
            node_add(w, n, name, k % 5 == 0 ? OBJECT_SYMLINK : OBJECT_FILE, k % 5 == 0 ? 0 : 77);
        }
    }
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "dir%d", i);
        int n = node_add(w, 0, name, OBJECT_DIRECTORY, 0);
        for (int k = 0; k < 10; k++) {
            snprintf(name, sizeof name, "x%d", k);
            node_add(w, n, name, OBJECT_FILE, 5000);
        }
    }
}

// Everything arrived, is counted, and nothing was left behind.
static void assert_exact(struct world *w) {
    uint64_t bytes = 0;
    int failed = 0;
    for (int i = 0; i < w->n_nodes; i++) {
        const struct node *n = &w->nodes[i];
        bytes += n->type == OBJECT_FILE ? n->size : 0;
        if (n->fails_always || n->list_fails) {
            failed++;
        } else if (n->type == OBJECT_DIRECTORY) {
            assert_true(n->made > 0);
            assert_true(n->meta > 0);
        } else if (n->delivered == 0) {
            fail_msg("%s did not arrive", n->path);
        }
    }
    const struct flow_progress *p = &w->flow.progress;
    assert_int_equal(w->why.err, OK);
    assert_int_equal(w->n_temps, 0);
    assert_int_equal(p->objects_total, w->n_nodes);
    assert_int_equal(p->objects_failed, failed);
    assert_int_equal(p->objects_done, w->n_nodes - failed);
    assert_int_equal(p->bytes_total, bytes);
    if (failed == 0) {
        assert_int_equal(p->bytes_done, bytes);
    }
    assert_false(p->listing);
    assert_false(w->flow.cleanup_pending);
}

static void a_tree_arrives_and_is_counted(void **state) {
    struct world *w = *state;
    small_tree(w);
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->flow.progress.bytes_resent, 0);
    assert_int_equal(w->flow.phase, PHASE_FINISHING);
    assert_int_equal(w->flow.progress.objects_skipped, 0);
}

static void a_large_tree_arrives(void **state) {
    struct world *w = *state;
    big_tree(w);
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->flow.progress.bytes_resent, 0);
}

static void batches_are_fair_shares_that_get_smaller_towards_the_end(void **state) {
    struct world *w = *state;
    w->page_entries = 400;
    int root = node_add(w, -1, "", OBJECT_DIRECTORY, 0);
    for (int i = 0; i < 400; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d", i);
        node_add(w, root, name, OBJECT_FILE, 1 << 20);
    }
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->n_in_first, 400 / 16);
    assert_true(w->n_in_last <= BATCH_MIN_BYTES >> 20);
}

static void a_missing_source_fails_the_flow(void **state) {
    struct world *w = *state;
    world_run(w);
    assert_int_equal(w->why.err, ERR_NOT_FOUND);
}

static void the_contents_of_a_file_are_refused(void **state) {
    struct world *w = *state;
    node_add(w, -1, "", OBJECT_FILE, 5);
    world_run(w);
    assert_int_equal(w->why.err, ERR_NOT_DIRECTORY);
}

static void a_single_file_takes_the_name_of_the_destination(void **state) {
    struct world *w = *state;
    w->flow.source_is_contents = false;
    w->flow.sink_is_named = false;
    node_add(w, -1, "", OBJECT_FILE, 5);
    world_run(w);
    assert_int_equal(w->nodes[0].delivered, 1);
    assert_int_equal(w->flow.sink.root_len, 3);
    assert_int_equal(w->flow.progress.objects_total, 1);
    assert_int_equal(w->flow.progress.bytes_done, 5);
}

static void a_single_file_goes_into_a_directory_that_exists(void **state) {
    struct world *w = *state;
    w->flow.source_is_contents = false;
    w->flow.sink_is_named = false;
    w->sink_type = OBJECT_DIRECTORY;
    node_add(w, -1, "", OBJECT_FILE, 6 * LEAF);
    world_run(w);
    assert_int_equal(w->nodes[0].delivered, 1);
    assert_memory_equal(w->flow.sink.root, "dst/src", 7);
}

static void a_directory_without_a_slash_goes_below_the_destination(void **state) {
    struct world *w = *state;
    w->flow.source_is_contents = false;
    w->flow.sink_is_named = false;
    small_tree(w);
    world_run(w);
    assert_exact(w);
    assert_memory_equal(w->flow.sink.root, "dst/src", 7);
}

static void what_fails_now_and_then_is_tried_again(void **state) {
    struct world *w = *state;
    small_tree(w);
    w->nodes[1].fails = 3;
    w->nodes[4].fails = 2;
    w->nodes[7].fails = 4;
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->n_failed, 0);
}

static void why_it_is_tried_again_is_known_until_something_arrives(void **state) {
    struct world *w = *state;
    w->flow.source_is_contents = false;
    node_add(w, -1, "", OBJECT_FILE, 6 * LEAF);
    w->nodes[0].full = 3; // each of its parts waits at the same time
    world_run(w);
    assert_int_equal(w->nodes[0].delivered, 1);
    assert_err(w->held_up.err, ERR_NO_SPACE);
    assert_string_equal(w->held_up.operation, "write");
    assert_int_equal(w->held_up_done, 0);
    assert_err(w->flow.held_up.err, OK);
}

static void why_it_was_tried_again_is_known_if_nothing_arrives(void **state) {
    struct world *w = *state;
    w->flow.source_is_contents = false;
    node_add(w, -1, "", OBJECT_FILE, 5);
    w->nodes[0].fails = 100;
    world_run(w);
    assert_int_equal(w->n_failed, 1);
    assert_err(w->flow.held_up.err, ERR_PEER_LOST);
    assert_string_equal(w->flow.held_up.operation, "read");
}

static void what_fails_for_good_is_listed(void **state) {
    struct world *w = *state;
    small_tree(w);
    w->nodes[1].fails_always = true;
    w->nodes[4].fails_always = true;
    w->nodes[7].fails_always = true;
    w->nodes[8].list_fails = true;
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->n_failed, 4);
}

// Its digest is another than it was put into the store with: it is read once more, and no oftener.
static void a_large_object_that_comes_spoilt_is_read_once_more(void **state) {
    struct world *w = *state;
    int root = node_add(w, -1, "", OBJECT_DIRECTORY, 0);
    int once = node_add(w, root, "once", OBJECT_FILE, 9 * LEAF);
    int always = node_add(w, root, "always", OBJECT_FILE, 6 * LEAF);
    w->nodes[once].is_corrupt = 1;
    w->nodes[always].is_corrupt = 9;
    world_run(w);
    assert_int_equal(w->nodes[once].delivered, 1);
    assert_int_equal(w->nodes[always].delivered, 0);
    assert_int_equal(w->nodes[always].is_corrupt, 7);
    assert_int_equal(w->flow.progress.objects_failed, 1);
    assert_int_equal(w->flow.progress.bytes_resent, 9 * LEAF + 6 * LEAF);
    assert_int_equal(w->n_temps, 0);
}

static void a_flow_has_a_budget_of_attempts_that_fail(void **state) {
    struct world *w = *state;
    small_tree(w);
    w->options.retries_per_flow = 2;
    w->nodes[1].fails = 4;
    w->nodes[4].fails = 4;
    w->nodes[7].fails = 4;
    world_run(w);
    assert_true(w->n_failed > 0);
    assert_true(w->planned_out);
}

static void an_unreadable_root_fails_the_flow(void **state) {
    struct world *w = *state;
    small_tree(w);
    w->nodes[0].list_fails = true;
    world_run(w);
    assert_int_equal(w->why.err, ERR_DENIED);
}

static void a_source_that_changed_begins_again(void **state) {
    struct world *w = *state;
    int root = node_add(w, -1, "", OBJECT_DIRECTORY, 0);
    int n = node_add(w, root, "large", OBJECT_FILE, 8 * LEAF);
    w->nodes[n].version = 7;
    w->odds_yield = 0;
    // It is listed under version 7; by the time that parts are read it has another.
    w->nodes[n].fails = 1;
    world_run(w);
    assert_exact(w);
}

// As an agent tells of blocks that the file system shares: they were not read.
static void without_digests(struct world *w, int n_parts) {
    int root = node_add(w, -1, "", OBJECT_DIRECTORY, 0);
    int n = node_add(w, root, "large", OBJECT_FILE, 8 * LEAF);
    w->nodes[n].bare = n_parts;
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->nodes[n].bare, 0);
    assert_int_equal(w->bytes_bare, (uint64_t)n_parts * 2 * LEAF);
}

static void within_a_site_parts_need_no_digests(void **state) {
    struct world *w = *state;
    without_digests(w, 3);
    assert_int_equal(w->flow.progress.bytes_resent, 0);
}

static void parts_from_another_site_need_digests(void **state) {
    struct world *w = *state;
    w->n_elsewhere = 2;
    snprintf(w->flow.source.site, sizeof w->flow.source.site, "there");
    without_digests(w, 3);
    assert_int_equal(w->flow.progress.bytes_resent, w->bytes_bare);
}

static void what_is_given_back_goes_on_elsewhere(void **state) {
    struct world *w = *state;
    big_tree(w);
    w->odds_yield = 3;
    world_run(w);
    assert_exact(w);
    assert_true(w->n_yields > 10);
    assert_int_equal(w->flow.progress.bytes_resent, 0);
}

static void however_little_may_wait_in_memory_every_agent_has_work(void **state) {
    struct world *w = *state;
    big_tree(w);
    w->options.spec_bytes_per_flow = 1; // one task waits
    w->hold_batches = AGENTS * SLOTS;
    world_run(w);
    assert_exact(w);
    assert_int_equal(w->hold_batches, 0);
}

static void killed_agents_leave_nothing_behind(void **state) {
    struct world *w = *state;
    big_tree(w);
    w->chance = 1;
    w->odds_agent = 150;
    w->odds_reboot = 2;
    w->budget = 60;
    world_run(w);
    assert_exact(w);
    assert_true(w->n_cleanups > 0);
}

static void run_with_accidents(struct world *w, uint64_t seed, int master, int agent) {
    w->chance = seed;
    w->odds_master = master;
    w->odds_agent = agent;
    w->odds_reboot = 3;
    w->odds_yield = 20;
    w->budget = 80;
    world_run(w);
    assert_exact(w);
}

static void killed_masters_lose_nothing(void **state) {
    struct world *w = *state;
    big_tree(w);
    w->nodes[10].fails = 2;
    run_with_accidents(w, 5, 12, 0);
    assert_true(w->n_masters > 3);
}

static void masters_and_agents_may_be_killed_at_once(void **state) {
    struct world *w = *state;
    big_tree(w);
    w->page_entries = 7; // many transactions, many interrupted listings
    run_with_accidents(w, 11, 60, 200);
}

static void a_small_tree_survives_a_restart_at_every_step(void **state) {
    struct world *w = *state;
    small_tree(w);
    w->page_entries = 1;
    run_with_accidents(w, 3, 3, 100);
}

static void cancel_at(struct world *w, uint64_t turns, uint64_t seed);
static void a_cancelled_flow_leaves_no_temporaries(void **state) {
    struct world *w = *state;
    big_tree(w);
    cancel_at(w, 300, 9);
    assert_int_equal(w->n_temps, 0);
    assert_false(w->flow.cleanup_pending);
    assert_true(w->abandoned);
}

static uint64_t cancel_turn;
static void cancel_when_due(void *arg) {
    struct world *w = arg;
    if (w->n_turns >= cancel_turn && !w->cancel && !w->planned_out) {
        w->cancel = true;
        scheduler_flow_remove(w->core.scheduler, FLOW, clock_mono_ms(w->core.clock));
        __wrap_core_dispatch(&w->core);
    } else if (!w->cancel && !w->planned_out) {
        loop_post(w->core.loop, cancel_when_due, w);
    }
}
static void cancel_at(struct world *w, uint64_t turns, uint64_t seed) {
    w->chance = seed;
    w->odds_agent = 300;
    w->budget = 10;
    cancel_turn = turns;
    master_start(w);
    planner_flow_begin(w->core.planner, &w->flow);
    loop_timer_arm(w->turn, 0);
    loop_post(w->core.loop, cancel_when_due, w);
    loop_run(w->core.loop);
    master_kill(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(a_tree_arrives_and_is_counted),
        TEST(a_large_tree_arrives),
        TEST(batches_are_fair_shares_that_get_smaller_towards_the_end),
        TEST(a_missing_source_fails_the_flow),
        TEST(the_contents_of_a_file_are_refused),
        TEST(a_single_file_takes_the_name_of_the_destination),
        TEST(a_single_file_goes_into_a_directory_that_exists),
        TEST(a_directory_without_a_slash_goes_below_the_destination),
        TEST(what_fails_now_and_then_is_tried_again),
        TEST(why_it_is_tried_again_is_known_until_something_arrives),
        TEST(why_it_was_tried_again_is_known_if_nothing_arrives),
        TEST(what_fails_for_good_is_listed),
        TEST(a_large_object_that_comes_spoilt_is_read_once_more),
        TEST(a_flow_has_a_budget_of_attempts_that_fail),
        TEST(an_unreadable_root_fails_the_flow),
        TEST(a_source_that_changed_begins_again),
        TEST(within_a_site_parts_need_no_digests),
        TEST(parts_from_another_site_need_digests),
        TEST(what_is_given_back_goes_on_elsewhere),
        TEST(however_little_may_wait_in_memory_every_agent_has_work),
        TEST(killed_agents_leave_nothing_behind),
        TEST(killed_masters_lose_nothing),
        TEST(masters_and_agents_may_be_killed_at_once),
        TEST(a_small_tree_survives_a_restart_at_every_step),
        TEST(a_cancelled_flow_leaves_no_temporaries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
