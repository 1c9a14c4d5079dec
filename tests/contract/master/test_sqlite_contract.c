// SPDX-License-Identifier: Apache-2.0
// WRAP: sql_schema_version
#include "tests/contract/master/database_contract.h"
#include "tests/lib/test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
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
    assert_non_null(strstr(f.remedy, "nothing was changed"));
    assert_non_null(strstr(f.remedy, "backup"));
    assert_err(database_check(&place, &f), ERR_DATABASE);
    loop_free(loop);
    assert_true(mark(w->dir, NULL) == before);
}

// ---- a log that a master left ----
enum { HASHES_SIZE = 4096 };

static void shell(const struct database_world *w, const char *command) {
    char line[512];
    snprintf(line, sizeof line, "cd %s && %s", w->dir, command);
    assert_int_equal(system(line), 0);
}

// Of the files that @names matches.
static void hash(const struct database_world *w, const char *names, char ret_hashes[HASHES_SIZE]) {
    char line[512];
    snprintf(line, sizeof line, "cd %s && sha256sum -- $(ls -A | grep '%s')", w->dir, names);
    FILE *out = popen(line, "r");
    assert_non_null(out);
    ret_hashes[fread(ret_hashes, 1, HASHES_SIZE - 1, out)] = '\0';
    assert_int_equal(pclose(out), 0);
}

// As kill -9 leaves it: what was committed last is in the log only.
static void leave_a_log(struct database_world *w, const char *last_statement) {
    database_world_open(w);
    database_world_insert(w, "01HZZZZZZZZZZZZZZZZZZZZZZZ", "", "spec");
    assert_ok(w->result);
    execute(w->dir, NULL, last_statement);
    shell(w, "mkdir left && cp sluice.db sluice.db-wal sluice.db-shm left");
    database_world_close(w);
    shell(w, "rm -f sluice.db* && mv left/* . && rmdir left && test -s sluice.db-wal");
}

static void is_refused(const struct database_world *w, const char *message, const char *remedy) {
    const struct database_place place = database_world_place(w);
    struct failure f = {0};
    struct database *d = NULL;
    assert_err(database_check(&place, &f), ERR_DATABASE);
    assert_non_null(strstr(f.message, message));
    assert_non_null(strstr(f.remedy, remedy));
    struct loop *loop = loop_new();
    memset(&f, 0, sizeof f);
    assert_err(database_open(&place, loop, &d, &f), ERR_DATABASE);
    loop_free(loop);
    assert_non_null(strstr(f.message, message));
    assert_non_null(strstr(f.remedy, remedy));
}

static void a_log_of_a_file_that_is_none_is_not_touched(void **state) {
    static const struct {
        const char *damage, *message;
    } cases[] = {
        {"printf 'something else!!' | dd of=sluice.db conv=notrunc status=none",
         "file is not a database"},
        {"head -c 8192 /dev/zero >sluice.db", "file is not a database"},
        {"truncate -s 0 sluice.db", "is empty or missing"},
        {"rm sluice.db", "is empty or missing"},
    };
    struct database_world *w = *state;
    char before[HASHES_SIZE], after[HASHES_SIZE];
    leave_a_log(w, "SELECT 1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shell(w, cases[i].damage);
        hash(w, ".", before);
        is_refused(w, cases[i].message, "nothing was changed");
        hash(w, ".", after);
        assert_string_equal(after, before);
    }
}

// Its index (-shm) is SQLite's own and made anew.
static void a_log_of_a_file_that_is_refused_stays(void **state) {
    struct database_world *w = *state;
    char before[HASHES_SIZE], after[HASHES_SIZE];
    leave_a_log(w, "PRAGMA application_id = 7");
    hash(w, "db$\\|-wal$", before);
    assert_non_null(strstr(before, "sluice.db-wal"));
    is_refused(w, "not a database of Sluice", "another database");
    hash(w, "db$\\|-wal$", after);
    assert_string_equal(after, before);
}

static void a_log_that_was_left_is_taken(void **state) {
    struct database_world *w = *state;
    leave_a_log(w, "SELECT 1");
    database_world_open(w);
    database_world_unfinished(w);
    assert_int_equal(w->n_rows, 1);
    database_world_close(w);
    shell(w, "test ! -e sluice.db-wal"); // in the file, by a clean end
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
        TEST(a_log_of_a_file_that_is_none_is_not_touched),
        TEST(a_log_of_a_file_that_is_refused_stays),
        TEST(a_log_that_was_left_is_taken),
    };
    int n_failed = database_contract(&kind) + schema_contract(&kind) + event_contract(&kind);
    return n_failed + cmocka_run_group_tests(tests, NULL, NULL);
}
