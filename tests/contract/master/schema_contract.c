// SPDX-License-Identifier: Apache-2.0
// Every earlier version of the schema is brought up to date, and a later one is refused.
#include "tests/contract/master/database_contract.h"

#include "master/database_sql_impl.h"
#include "tests/lib/test.h"

#include <string.h>

static int pretended; // 0: the version that this program has

int __real_sql_schema_version(void);
int __wrap_sql_schema_version(void);
int __wrap_sql_schema_version(void) {
    return pretended > 0 ? pretended : __real_sql_schema_version();
}

// A flow in the words that all versions understand.
#define A_FLOW(blob)                                                                               \
    "INSERT INTO flow (id, owner, request_id, spec, created_ms, state, phase, outcome, holders,"   \
    " cancel_wanted, cleanup_pending, started_ms, ended_ms, last_seq, error, places, tally)"       \
    " VALUES ('01HZZZZZZZZZZZZZZZZZZZZZZA', 'me', 'r1', " blob                                     \
    ", 7, 4, 1, 0, 0, 0, 0, 0, 0, 1, " blob ", " blob ", " blob ")"

static void open_and_close(struct database_world *w) {
    database_world_open(w);
    database_world_close(w);
}

static void every_earlier_version_is_brought_up_to_date(void **state) {
    (void)state;
    const struct database_kind *k = database_world_kind_now();
    for (int version = 1; version <= __real_sql_schema_version(); version++) {
        void *fresh = NULL;
        assert_int_equal(database_world_set_up_closed(&fresh), 0);
        struct database_world *w = fresh;
        pretended = version;
        open_and_close(w);
        k->execute(w->dir, w->url, k->make == NULL ? A_FLOW("x''") : A_FLOW("''"));
        pretended = 0;
        database_world_open(w);
        uint64_t term = 0;
        char cluster[27];
        struct failure f = {0};
        assert_ok(database_raise_term(w->database, &term, cluster, &f));
        database_world_insert(w, "01HZZZZZZZZZZZZZZZZZZZZZZB", "r2", "spec");
        assert_ok(w->result);
        database_world_unfinished(w);
        assert_int_equal(w->n_rows, 2);
        assert_int_equal(database_world_tear_down(&fresh), 0);
    }
}

static void a_newer_version_is_refused_and_not_changed(void **state) {
    struct database_world *w = *state;
    const struct database_kind *k = database_world_kind_now();
    open_and_close(w);
    int64_t before = k->mark(w->dir, w->url);
    pretended = __real_sql_schema_version() - 1;
    const struct database_place place = database_world_place(w);
    struct loop *loop = loop_new();
    struct failure f = {0};
    struct database *d = NULL;
    assert_err(database_open(&place, loop, &d, &f), ERR_DATABASE);
    assert_non_null(strstr(f.message, "newer version of Sluice"));
    assert_string_not_equal(f.remedy, "");
    f = (struct failure){0};
    assert_err(database_check(&place, &f), ERR_DATABASE);
    assert_non_null(strstr(f.message, "newer version of Sluice"));
    pretended = 0;
    loop_free(loop);
    assert_true(k->mark(w->dir, w->url) == before);
    open_and_close(w); // who knows it can still use it
}

static void what_is_whole_is_found_whole(void **state) {
    struct database_world *w = *state;
    open_and_close(w);
    const struct database_place place = database_world_place(w);
    struct failure f = {0};
    assert_ok(database_check(&place, &f));
}

static void what_is_not_ours_is_refused_and_not_changed(void **state) {
    struct database_world *w = *state;
    const struct database_kind *k = database_world_kind_now();
    k->execute(w->dir, w->url, "CREATE TABLE somebody (else_s INTEGER)");
    int64_t before = k->mark(w->dir, w->url);
    const struct database_place place = database_world_place(w);
    struct loop *loop = loop_new();
    struct failure f = {0};
    struct database *d = NULL;
    assert_err(database_open(&place, loop, &d, &f), ERR_DATABASE);
    assert_non_null(strstr(f.message, "not a database of Sluice"));
    loop_free(loop);
    assert_true(k->mark(w->dir, w->url) == before);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, database_world_set_up_closed, database_world_tear_down)

int schema_contract(const struct database_kind *k) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_earlier_version_is_brought_up_to_date),
        TEST(a_newer_version_is_refused_and_not_changed),
        TEST(what_is_whole_is_found_whole),
        TEST(what_is_not_ours_is_refused_and_not_changed),
    };
    database_world_kind(k);
    return cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
}
