// SPDX-License-Identifier: Apache-2.0
// WRAP: pwrite
#include "agent/journal.h"

#include "agent/task_result.h"
#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/scratch.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct scratch scratch;
static struct tally *written;
static _Atomic bool disk_is_full;

ssize_t __real_pwrite(int fd, const void *buf, size_t n, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t off) {
    if (atomic_load(&disk_is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return __real_pwrite(fd, buf, n > 100 ? 100 : n, off); // short: exercises the loop
}

static int setup(void **state) {
    (void)state;
    scratch_begin(&scratch);
    written = tally_new();
    atomic_store(&disk_is_full, false);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tally_free(written);
    scratch_end(&scratch);
    return 0;
}

static void on_written(void *user) {
    tally_add(user, 1);
}

static struct journal *open_journal(void) {
    struct journal_options o = {scratch.path, on_written, written};
    struct journal *j = NULL;
    struct failure f = {0};
    assert_ok(journal_open(&o, &j, &f));
    return j;
}

// Appends a result of lease (@task, 1, @task) and gives its number.
static uint64_t append(struct journal *j, uint64_t task) {
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__TaskSpec spec = SLUICE__V1__TASK_SPEC__INIT;
    Sluice__V1__Lease lease = SLUICE__V1__LEASE__INIT;
    epoch.term = 1;
    epoch.counter = task;
    spec.task_id = task;
    lease.epoch = &epoch;
    lease.spec = &spec;
    Sluice__V1__TaskResult *r = task_result_new(&lease);
    assert_non_null(r);
    r->bytes_moved = task * 100;
    assert_ok(journal_append(j, r));
    uint64_t number = r->number;
    task_result_free(r);
    return number;
}

static uint64_t next_task(struct journal *j, uint64_t after) {
    Sluice__V1__TaskResult *r = NULL;
    enum err e = journal_next(j, after, &r);
    if (e == ERR_NOT_FOUND) {
        return 0;
    }
    assert_ok(e);
    uint64_t task = r->lease->task_id;
    assert_int_equal(r->bytes_moved, task * 100);
    task_result_free(r);
    return task;
}

static void what_is_not_committed_is_there_after_a_restart(void **state) {
    (void)state;
    struct journal *j = open_journal();
    uint64_t a = append(j, 11), b = append(j, 12), c = append(j, 13);
    assert_true(a < b && b < c);
    journal_close(j);
    j = open_journal();
    assert_int_equal(next_task(j, 0), 11);
    assert_int_equal(next_task(j, a), 12);
    assert_int_equal(next_task(j, c), 0);
    journal_committed(j, b);
    assert_int_equal(next_task(j, 0), 13);
    assert_true(journal_holds(j, 13, 1, 13));
    assert_false(journal_holds(j, 12, 1, 12));
    assert_false(journal_is_empty(j));
    journal_committed(j, c);
    assert_true(journal_is_empty(j));
    journal_close(j);
}

static void numbers_rise_over_restarts_also_when_all_is_committed(void **state) {
    (void)state;
    struct journal *j = open_journal();
    uint64_t a = append(j, 1);
    tally_wait(written, 1);
    journal_committed(j, a);
    journal_close(j);
    j = open_journal();
    assert_true(journal_is_empty(j));
    uint64_t b = append(j, 2);
    assert_true(b > a);
    journal_committed(j, 500); // the master knows of numbers that this journal has lost
    assert_int_equal(append(j, 3), 501);
    journal_close(j);
}

static void a_torn_tail_is_cut_off(void **state) {
    (void)state;
    struct journal *j = open_journal();
    append(j, 21);
    uint64_t whole = append(j, 22);
    journal_close(j);
    size_t len = 0;
    char *bytes = scratch_read(&scratch, "journal", &len);
    for (size_t cut = 1; cut < 30; cut += 4) { // within the last record
        scratch_write(&scratch, "journal", bytes, len - cut);
        j = open_journal();
        assert_int_equal(next_task(j, 0), 21);
        assert_int_equal(next_task(j, whole - 1), 0);
        journal_close(j);
    }
    // A byte that is wrong, too, and what follows is written over it.
    bytes[len - 1] = (char)~bytes[len - 1];
    scratch_write(&scratch, "journal", bytes, len);
    j = open_journal();
    assert_int_equal(next_task(j, whole - 1), 0);
    uint64_t again = append(j, 23);
    journal_close(j);
    j = open_journal();
    assert_int_equal(next_task(j, again - 1), 23);
    journal_close(j);
    free(bytes);
}

static void what_is_no_journal_is_begun_anew(void **state) {
    (void)state;
    scratch_write(&scratch, "journal", "what is this?", 13);
    struct journal *j = open_journal();
    assert_true(journal_is_empty(j));
    assert_int_equal(append(j, 1), 1);
    journal_close(j);
}

static void the_cluster_and_its_term_are_remembered(void **state) {
    (void)state;
    char cluster[IDENT_SIZE];
    uint64_t term = 0;
    struct journal *j = open_journal();
    journal_recall(j, cluster, &term);
    assert_string_equal(cluster, "");
    append(j, 5);
    journal_remember(j, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 4);
    assert_int_equal(append(j, 6), 2);
    journal_close(j);
    j = open_journal();
    journal_recall(j, cluster, &term);
    assert_string_equal(cluster, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_int_equal(term, 4);
    assert_int_equal(next_task(j, 0), 5);
    journal_remember(j, "01ARZ3NDEKTSV4RRFFQ69G5FAW", 1); // another: of no use to it
    assert_true(journal_is_empty(j));
    assert_int_equal(append(j, 7), 3);
    journal_close(j);
}

static void a_full_disk_keeps_no_result_from_being_sent(void **state) {
    (void)state;
    struct journal *j = open_journal();
    append(j, 31);
    tally_wait(written, 1);
    atomic_store(&disk_is_full, true);
    append(j, 32);
    tally_wait(written, 2);
    assert_int_equal(next_task(j, 1), 32);
    append(j, 33);
    tally_wait(written, 3);
    atomic_store(&disk_is_full, false); // space again: all is written after all
    append(j, 34);
    tally_wait(written, 4);
    journal_close(j);
    j = open_journal();
    for (uint64_t n = 0; n < 4; n++) {
        assert_int_equal(next_task(j, n), 31 + n);
    }
    journal_close(j);
}

static void a_long_journal_is_cut_when_all_is_committed(void **state) {
    (void)state;
    struct journal *j = open_journal();
    uint64_t last = 0;
    for (uint64_t i = 1; i <= 3000; i++) {
        last = append(j, i);
    }
    size_t len = 0;
    journal_committed(j, last);
    journal_close(j);
    char *bytes = scratch_read(&scratch, "journal", &len);
    assert_int_equal(len, 64);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_not_committed_is_there_after_a_restart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(numbers_rise_over_restarts_also_when_all_is_committed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_tail_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_journal_is_begun_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cluster_and_its_term_are_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_keeps_no_result_from_being_sent, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_long_journal_is_cut_when_all_is_committed, setup,
                                        teardown),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
