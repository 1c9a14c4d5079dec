// SPDX-License-Identifier: Apache-2.0
// WRAP: sql_schema_version
#include "tests/contract/master/database_contract.h"
#include "tests/lib/test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static void execute(const char *dir, const char *url, const char *statements) {
    char path[128];
    sqlite3 *db = NULL;
    (void)url;
    snprintf(path, sizeof path, "%s/sluice.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, statements, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

// A sum over the file's bytes.
static int64_t mark(const char *dir, const char *url) {
    char path[128];
    (void)url;
    snprintf(path, sizeof path, "%s/sluice.db", dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    uint64_t sum = 0;
    for (int c; (c = fgetc(file)) != EOF;) {
        sum = sum * 31 + (uint64_t)c;
    }
    fclose(file);
    return (int64_t)sum;
}

static void damage_is_refused_and_not_changed(void **state) {
    struct database_world *w = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/sluice.db", w->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++) {
        fputs("not a database ", file);
    }
    fclose(file);
    int64_t before = mark(w->dir, NULL);
    struct loop *loop = loop_new();
    const struct database_place place = database_world_place(w);
    struct failure f = {0};
    struct database *d = NULL;
    assert_err(database_open(&place, loop, &d, &f), ERR_DATABASE);
    assert_string_equal(f.message, "file is not a database");
    assert_non_null(strstr(f.remedy, "backup"));
    assert_err(database_check(&place, &f), ERR_DATABASE);
    loop_free(loop);
    assert_true(mark(w->dir, NULL) == before);
}

// Pages in the middle: what a start does not read, the check does.
static void damage_inside_is_found_by_the_check(void **state) {
    struct database_world *w = *state;
    database_world_open(w);
    for (int i = 0; i < 50; i++) {
        char id[27];
        char spec[2000];
        snprintf(id, sizeof id, "01HZZZZZZZZZZZZZZZZZZZZ%03d", i);
        memset(spec, 'x', sizeof spec);
        spec[sizeof spec - 1] = '\0';
        database_world_insert(w, id, "", spec);
    }
    database_world_close(w);
    char path[128];
    snprintf(path, sizeof path, "%s/sluice.db", w->dir);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    for (long at = size / 2; at < size - 4096; at += 64) {
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        fputs("damage", file);
    }
    fclose(file);
    const struct database_place place = database_world_place(w);
    struct failure f = {0};
    assert_err(database_check(&place, &f), ERR_DATABASE);
    assert_string_not_equal(f.message, "");
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, database_world_set_up_closed, database_world_tear_down)

int main(void) {
    const struct database_kind kind = {.name = "sqlite", .execute = execute, .mark = mark};
    const struct CMUnitTest tests[] = {
        TEST(damage_is_refused_and_not_changed),
        TEST(damage_inside_is_found_by_the_check),
    };
    int n_failed = database_contract(&kind) + schema_contract(&kind);
    return n_failed + cmocka_run_group_tests(tests, NULL, NULL);
}
