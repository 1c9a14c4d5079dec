// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/master/database_contract.h"

#include "master/database_plan.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char FLOW_A[] = "01HZZZZZZZZZZZZZZZZZZZZZZA";
static const char FLOW_B[] = "01HZZZZZZZZZZZZZZZZZZZZZZB";

static struct blob text_blob(const char *text) {
    return (struct blob){(const uint8_t *)text, strlen(text)};
}

static const struct database_kind *kind_now;

// PostgreSQL lets go of a lock when it has noticed that its session ended.
static bool lock_is_waited_for(void *arg, bool begins) {
    (void)arg;
    (void)begins;
    return true;
}

struct database_place database_world_place(const struct database_world *w) {
    return (struct database_place){.state_dir = w->dir,
                                   .url = w->url,
                                   .session_ms = 10000,
                                   .outage_ms = 60000,
                                   .wait = lock_is_waited_for};
}

void database_world_open(struct database_world *w) {
    struct failure f = {0};
    const struct database_place place = database_world_place(w);
    w->loop = loop_new();
    assert_non_null(w->loop);
    if (database_open(&place, w->loop, &w->database, &f) != OK) {
        fail_msg("%s", f.message);
    }
}

void database_world_close(struct database_world *w) {
    if (w->loop != NULL) {
        database_close(w->database);
        loop_free(w->loop);
    }
    w->database = NULL;
    w->loop = NULL;
}

void database_world_kind(const struct database_kind *k) {
    kind_now = k;
}

const struct database_kind *database_world_kind_now(void) {
    return kind_now;
}

int database_world_set_up_closed(void **state) {
    struct database_world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/sluice-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->url = kind_now->make == NULL ? NULL : kind_now->make();
    *state = w;
    return 0;
}

int database_world_set_up(void **state) {
    (void)database_world_set_up_closed(state);
    database_world_open(*state);
    return 0;
}

int database_world_tear_down(void **state) {
    struct database_world *w = *state;
    database_world_close(w);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w->url);
    free(w);
    return 0;
}

static void on_done(void *arg, enum err result) {
    struct database_world *w = arg;
    w->result = result;
    loop_stop(w->loop);
}

void database_world_commit(struct database_world *w, struct change *c) {
    database_commit(w->database, c, on_done, w);
    loop_run(w->loop);
}

static void on_inserted(void *arg, enum err result, const char *existing, bool same) {
    struct database_world *w = arg;
    w->result = result;
    snprintf(w->existing, sizeof w->existing, "%s", existing == NULL ? "" : existing);
    w->same = same;
    loop_stop(w->loop);
}

void database_world_insert(struct database_world *w, const char *id, const char *request,
                           const char *spec) {
    struct flow_row row = {.owner = "me",
                           .request_id = request,
                           .spec = text_blob(spec),
                           .created_ms = 7,
                           .state = FLOW_STARTED,
                           .phase = PHASE_QUEUED,
                           .last_seq = 1};
    snprintf(row.id, sizeof row.id, "%s", id);
    struct flow_label label = {"team", "blue"};
    struct flow_event_row event = {
        .seq = 1, .at_ms = 7, .kind = "state_changed", .message = text_blob("one")};
    database_flow_insert(w->database, &row, &label, 1, &event, NULL, (struct blob){0}, on_inserted,
                         w);
    loop_run(w->loop);
}

static void on_flows(void *arg, enum err result, const struct flow_row *rows, size_t n, bool more) {
    struct database_world *w = arg;
    w->result = result;
    w->n_rows = n;
    w->more = more;
    if (n > 0) {
        snprintf(w->existing, sizeof w->existing, "%s", rows[0].id);
        w->progress = rows[0].progress;
    }
    loop_stop(w->loop);
}

static void the_same_request_is_stored_once(void **state) {
    struct database_world *w = *state;
    database_world_insert(w, FLOW_A, "r1", "spec");
    assert_ok(w->result);
    assert_string_equal(w->existing, "");
    database_world_insert(w, FLOW_B, "r1", "spec");
    assert_string_equal(w->existing, FLOW_A);
    assert_true(w->same);
    database_world_insert(w, FLOW_B, "r1", "another spec");
    assert_string_equal(w->existing, FLOW_A);
    assert_false(w->same);
    database_world_insert(w, FLOW_B, "", "spec");
    assert_string_equal(w->existing, "");
}

static void flows_are_listed_newest_first_and_filtered(void **state) {
    struct database_world *w = *state;
    database_world_insert(w, FLOW_A, "", "spec");
    database_world_insert(w, FLOW_B, "", "spec");
    struct flow_filter filter = {.limit = 1};
    database_flows_list(w->database, &filter, on_flows, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    assert_true(w->more);
    assert_string_equal(w->existing, FLOW_B);
    filter.before_id = FLOW_B;
    database_flows_list(w->database, &filter, on_flows, w);
    loop_run(w->loop);
    assert_string_equal(w->existing, FLOW_A);
    assert_false(w->more);
    struct flow_label label = {"team", "red"};
    filter = (struct flow_filter){.limit = 10, .labels = &label, .n_labels = 1};
    database_flows_list(w->database, &filter, on_flows, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 0);
    label.value = "blue";
    filter.owner = "me";
    filter.states = 1U << FLOW_STARTED;
    database_flows_list(w->database, &filter, on_flows, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 2);
    filter.states = 1U << FLOW_COMPLETED;
    database_flows_list(w->database, &filter, on_flows, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 0);
}

static void what_was_committed_survives_the_process(void **state) {
    struct database_world *w = *state;
    database_world_insert(w, FLOW_A, "", "spec");
    struct change *c = change_new();
    struct flow_progress p = {.bytes_done = 1ULL << 50, .listing = true, .wait_us = 3};
    change_plan(c, FLOW_A, text_blob("body"), &p);
    database_world_commit(w, c);
    uint64_t term = 0;
    char cluster[IDENT_SIZE];
    struct failure f;
    assert_ok(database_raise_term(w->database, &term, cluster, &f));
    assert_int_equal(term, 1);
    database_world_close(w);
    database_world_open(w);
    char again[IDENT_SIZE];
    assert_ok(database_raise_term(w->database, &term, again, &f));
    assert_int_equal(term, 2);
    assert_string_equal(cluster, again);
    database_flows_unfinished(w->database, "", 10, on_flows, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    assert_true(w->progress.bytes_done == 1ULL << 50);
    assert_true(w->progress.listing);
    assert_int_equal(w->progress.wait_us, 3);
}

static void a_second_master_is_refused(void **state) {
    struct database_world *w = *state;
    struct database_place place = database_world_place(w);
    place.wait = NULL;
    struct database *second = NULL;
    struct failure f = {0};
    assert_err(database_open(&place, w->loop, &second, &f), ERR_LOCKED);
    assert_string_not_equal(f.remedy, "");
}

static void first_of_three(void *arg, enum err result) {
    struct database_world *w = arg;
    assert_ok(result);
    assert_int_equal(w->order++, 0);
}
static void second_of_three(void *arg, enum err result, const struct plan_answer *plan) {
    struct database_world *w = arg;
    assert_ok(result);
    assert_true(plan->exists);
    assert_int_equal(plan->body.len, 3);
    assert_int_equal(w->order++, 1);
}
static void third_of_three(void *arg, enum err result) {
    struct database_world *w = arg;
    assert_ok(result);
    assert_int_equal(w->order++, 2);
    loop_stop(w->loop);
}

static void answers_come_in_the_order_of_the_questions(void **state) {
    struct database_world *w = *state;
    struct flow_progress p = {0};
    struct change *c = change_new();
    change_plan(c, FLOW_A, text_blob("one"), &p);
    database_commit(w->database, c, first_of_three, w);
    database_plan_load(w->database, FLOW_A, second_of_three, w);
    c = change_new();
    change_plan(c, FLOW_A, text_blob("seven"), &p);
    database_commit(w->database, c, third_of_three, w);
    loop_run(w->loop);
    assert_int_equal(w->order, 3);
}

static void a_change_without_memory_changes_nothing(void **state) {
    struct database_world *w = *state;
    database_world_commit(w, NULL);
    assert_err(w->result, ERR_NO_MEMORY);
}

static void on_tasks(void *arg, enum err result, const struct tasks_answer *a) {
    struct database_world *w = arg;
    assert_ok(result);
    w->n_rows = a->n_rows;
    w->more = a->more;
    w->same = a->any;
    if (a->n_rows > 0) {
        w->first = a->rows[0].task_id;
        w->last = a->rows[a->n_rows - 1].task_id;
        w->order = (int)a->rows[0].n_leases;
    }
    loop_stop(w->loop);
}

static void put_task(struct change *c, uint64_t id, uint32_t kind, uint32_t rank) {
    struct task_row t = {.task_id = id,
                         .kind = kind,
                         .rank = rank,
                         .attempt = 1,
                         .walk = 9,
                         .generation = 1,
                         .spec = text_blob("spec")};
    snprintf(t.flow, sizeof t.flow, "%s", FLOW_A);
    change_task_put(c, &t);
}

static void tasks_are_loaded_by_rank_and_listings_have_their_share(void **state) {
    struct database_world *w = *state;
    struct change *c = change_new();
    put_task(c, 1, 3, 2);
    put_task(c, 2, 3, 2);
    put_task(c, 3, 6, 0);
    put_task(c, 4, 1, 2);
    put_task(c, 5, 1, 2);
    change_lease_add(c, FLOW_A, 1, (struct epoch){1, 5}, "agent");
    database_world_commit(w, c);
    uint64_t skip[] = {3, 4};
    struct tasks_wanted wanted = {.n = 2, .n_list = 1, .skip = skip, .n_skip = 2};
    database_tasks_load(w->database, FLOW_A, &wanted, on_tasks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 2);
    assert_int_equal(w->first, 5);
    assert_int_equal(w->last, 1);
    assert_true(w->more);
    // Those of the older listing go, but for the one that was leased.
    c = change_new();
    change_tasks_drop(c, FLOW_A, 9, 2);
    database_world_commit(w, c);
    wanted = (struct tasks_wanted){.n = 10, .n_list = 10};
    database_tasks_load(w->database, FLOW_A, &wanted, on_tasks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    assert_int_equal(w->first, 1);
    assert_int_equal(w->order, 1);
    c = change_new();
    change_plan_abandon(c, FLOW_A);
    database_world_commit(w, c);
    assert_ok(w->result);
    database_tasks_load(w->database, FLOW_A, &(struct tasks_wanted){.n = 10, .max_stage = 2},
                        on_tasks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    c = change_new();
    change_plan_end(c, FLOW_A);
    database_world_commit(w, c);
    database_tasks_load(w->database, FLOW_A, &wanted, on_tasks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 0);
    assert_false(w->same);
}

static void on_walks(void *arg, enum err result, const struct walk_row *rows, size_t n,
                     uint64_t n_all) {
    struct database_world *w = arg;
    assert_ok(result);
    w->n_rows = n;
    w->first = n > 0 ? rows[0].id : 0;
    w->last = n_all;
    loop_stop(w->loop);
}
static void on_acks(void *arg, enum err result, const struct ack_row *rows, size_t n, bool more) {
    struct database_world *w = arg;
    assert_ok(result);
    w->n_rows = n;
    w->first = n > 0 ? rows[0].offset : 0;
    w->more = more;
    loop_stop(w->loop);
}

static void on_writers(void *arg, enum err result, const struct ack_row *rows, size_t n,
                       bool has_tasks) {
    assert_false(has_tasks);
    on_acks(arg, result, rows, n, false);
}
static void on_seen(void *arg, enum err result, const bool *seen, size_t n) {
    struct database_world *w = arg;
    assert_ok(result);
    w->n_rows = n;
    w->same = seen[0];
    w->more = seen[1];
    loop_stop(w->loop);
}

static void what_was_seen_is_known_until_it_is_dropped(void **state) {
    struct database_world *w = *state;
    uint8_t digests[2 * SEEN_BYTES] = {1};
    struct change *c = change_new();
    change_seen_add(c, FLOW_A, 4, digests);
    database_world_commit(w, c);
    database_seen_load(w->database, FLOW_A, 4, digests, 2, on_seen, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 2);
    assert_true(w->same);
    assert_false(w->more);
    c = change_new();
    change_seen_drop(c, FLOW_A, 4);
    database_world_commit(w, c);
    database_seen_load(w->database, FLOW_A, 4, digests, 2, on_seen, w);
    loop_run(w->loop);
    assert_false(w->same);
}

static void every_row_of_the_planner_comes_back(void **state) {
    struct database_world *w = *state;
    struct change *c = change_new();
    struct walk_row walk = {.id = 5, .depth = 1, .partial = true, .entry = text_blob("e")};
    memcpy(walk.flow, FLOW_A, sizeof walk.flow);
    change_walk_put(c, &walk);
    walk.id = 6;
    walk.depth = 2;
    change_walk_put(c, &walk);
    struct large_row large = {.object = 8, .size = 10, .entry = text_blob("e")};
    memcpy(large.flow, FLOW_A, sizeof large.flow);
    change_large_put(c, &large);
    struct ack_row ack = {
        .object = 8, .length = 5, .agent = "x", .boot_id = "b", .leaves = text_blob("l")};
    memcpy(ack.flow, FLOW_A, sizeof ack.flow);
    change_ack_add(c, &ack);
    ack.offset = 5;
    ack.agent = "y";
    change_ack_add(c, &ack);
    change_object_failed(c, FLOW_A, 3, 5, 1, text_blob("p"), text_blob("f"));
    change_outbox_add(c, FLOW_A, 1, false, "http://x", text_blob("b"));
    database_world_commit(w, c);
    assert_ok(w->result);
    database_walk_frontier(w->database, FLOW_A, 1, on_walks, w);
    loop_run(w->loop);
    assert_int_equal(w->first, 5);
    assert_int_equal(w->last, 2);
    database_walk_partials(w->database, FLOW_A, on_walks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 2);
    database_acks_load(w->database, FLOW_A, 8, "y", 0, 10, on_acks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    assert_int_equal(w->first, 5);
    database_writers_load(w->database, FLOW_A, 8, on_writers, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 2);
    c = change_new();
    change_acks_drop_unsynced(c, FLOW_A, 8, "x");
    change_acks_synced(c, FLOW_A, 8, "y", "b");
    change_walk_remove(c, FLOW_A, 5);
    change_failed_drop(c, FLOW_A, 5, 2);
    database_world_commit(w, c);
    database_acks_load(w->database, FLOW_A, 8, NULL, 0, 10, on_acks, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 1);
    database_writers_load(w->database, FLOW_A, 8, on_writers, w);
    loop_run(w->loop);
    assert_int_equal(w->n_rows, 0);
}

void database_world_unfinished(struct database_world *w) {
    database_flows_unfinished(w->database, "", 100, on_flows, w);
    loop_run(w->loop);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, database_world_set_up, database_world_tear_down)

int database_contract(const struct database_kind *k) {
    const struct CMUnitTest tests[] = {
        TEST(the_same_request_is_stored_once),
        TEST(flows_are_listed_newest_first_and_filtered),
        TEST(what_was_committed_survives_the_process),
        TEST(a_second_master_is_refused),
        TEST(answers_come_in_the_order_of_the_questions),
        TEST(a_change_without_memory_changes_nothing),
        TEST(tasks_are_loaded_by_rank_and_listings_have_their_share),
        TEST(what_was_seen_is_known_until_it_is_dropped),
        TEST(every_row_of_the_planner_comes_back),
    };
    database_world_kind(k);
    return cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
}
