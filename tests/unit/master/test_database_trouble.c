// SPDX-License-Identifier: Apache-2.0
// A disk that fails: writes wait, users are told, and nothing is lost or done twice.
// WRAP: sqlite3_step
#include "common/log.h"
#include "master/database.h"
#include "master/database_plan.h"
#include "tests/lib/test.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FLOW[] = "01HZZZZZZZZZZZZZZZZZZZZZZA";
static atomic_int fails_after = -1; // so many good steps, then the disk is full; -1: never
static atomic_int fails_left;
static atomic_int fails_with = SQLITE_FULL;

int __real_sqlite3_step(sqlite3_stmt *st);
int __wrap_sqlite3_step(sqlite3_stmt *st);
int __wrap_sqlite3_step(sqlite3_stmt *st) {
    if (atomic_load(&fails_after) == 0 && atomic_load(&fails_left) > 0) {
        atomic_fetch_sub(&fails_left, 1);
        return atomic_load(&fails_with);
    }
    if (atomic_load(&fails_after) > 0) {
        atomic_fetch_sub(&fails_after, 1);
    }
    return __real_sqlite3_step(st);
}

struct world {
    char dir[64];
    struct loop *loop;
    struct database *database;
    int begins, ends, committed;
    uint64_t number;
};

static int set_up(void **state) {
    struct world *w = calloc(1, sizeof *w);
    struct failure f = {0};
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/sluice-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->loop = loop_new();
    assert_ok(
        database_open(&(struct database_place){.state_dir = w->dir}, w->loop, &w->database, &f));
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    struct world *w = *state;
    atomic_store(&fails_after, -1);
    database_close(w->database);
    loop_free(w->loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static void on_trouble(void *arg, const struct failure *f) {
    struct world *w = arg;
    if (f != NULL) {
        assert_err(f->err, ERR_DATABASE);
        assert_string_not_equal(f->remedy, "");
        w->begins++;
    } else {
        w->ends++;
    }
    if (w->committed == 2 && w->ends == w->begins) {
        loop_stop(w->loop);
    }
}

static void on_committed(void *arg, enum err result) {
    struct world *w = arg;
    assert_ok(result);
    w->committed++;
    if (w->committed == 2 && w->ends == w->begins) {
        loop_stop(w->loop);
    }
}

static void on_failed(void *arg, enum err result, const struct failed_object_row *rows, size_t n,
                      bool more) {
    struct world *w = arg;
    (void)rows;
    (void)more;
    assert_ok(result);
    w->number = n;
    loop_stop(w->loop);
}

static void add(struct world *w, uint64_t number) {
    struct change *c = change_new();
    const struct blob b = {(const uint8_t *)"x", 1};
    change_object_failed(c, FLOW, number, 0, 0, b, b);
    change_outbox_add(c, FLOW, number, false, "t", b);
    database_commit(w->database, c, on_committed, w);
}

static void a_full_disk_delays_writes_and_says_so(void **state) {
    struct world *w = *state;
    database_on_trouble(w->database, on_trouble, w);
    for (int at = 0; at < 3; at++) {
        w->begins = w->ends = w->committed = 0;
        atomic_store(&fails_left, 1);
        atomic_store(&fails_after, at * 2);
        add(w, (uint64_t)(2 * at + 1));
        add(w, (uint64_t)(2 * at + 2));
        loop_run(w->loop);
        assert_int_equal(w->begins, 1);
        assert_int_equal(w->committed, 2);
        assert_int_equal(database_queued(w->database), 0);
    }
    atomic_store(&fails_after, -1);
    database_failed_objects(w->database, FLOW, 0, 100, on_failed, w);
    loop_run(w->loop);
    assert_int_equal(w->number, 6);
}

static void on_given_up(void *arg, enum err result) {
    struct world *w = arg;
    assert_err(result, ERR_CANCELLED);
    loop_stop(w->loop);
}

// On the writer's thread.
static void on_lost(void *arg, const struct failure *f) {
    atomic_int *n = arg;
    assert_err(f->err, ERR_CORRUPT);
    atomic_fetch_add(n, 1);
}

static void a_damaged_file_is_not_waited_for(void **state) {
    struct world *w = *state;
    static atomic_int n_lost;
    database_on_lost(w->database, on_lost, &n_lost);
    atomic_store(&fails_with, SQLITE_CORRUPT);
    atomic_store(&fails_left, 1);
    atomic_store(&fails_after, 1);
    struct change *c = change_new();
    const struct blob b = {(const uint8_t *)"x", 1};
    change_outbox_add(c, FLOW, 1, false, "t", b);
    database_commit(w->database, c, on_given_up, w);
    loop_run(w->loop);
    assert_int_equal(atomic_load(&n_lost), 1);
    atomic_store(&fails_with, SQLITE_FULL);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_disk_delays_writes_and_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_not_waited_for, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
