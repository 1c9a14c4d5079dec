// SPDX-License-Identifier: Apache-2.0
// What was moved under leases is known to the next incarnation, unless a result tells it.
// WRAP: posix_fallocate
#include "agent/under_way.h"

#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/scratch.h"

#include <errno.h>
#include <fcntl.h>

static struct scratch scratch;
static struct journal *journal;
static bool disk_is_full;

int __real_posix_fallocate(int fd, off_t offset, off_t len);
int __wrap_posix_fallocate(int fd, off_t offset, off_t len);
int __wrap_posix_fallocate(int fd, off_t offset, off_t len) {
    return disk_is_full ? ENOSPC : __real_posix_fallocate(fd, offset, len);
}

static void on_written(void *user) {
    (void)user;
}

static int setup(void **state) {
    (void)state;
    disk_is_full = false;
    scratch_begin(&scratch);
    struct journal_options o = {scratch.path, on_written, NULL};
    struct failure f = {0};
    assert_ok(journal_open(&o, &journal, &f));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    journal_close(journal);
    scratch_end(&scratch);
    return 0;
}

static struct under_way *open_file(void) {
    struct under_way *u = NULL;
    struct failure f = {0};
    assert_ok(under_way_open(scratch.path, journal, &u, &f));
    return u;
}

// Appends a result of lease (@task, 1, 7) and gives its number.
static uint64_t append_result(uint64_t task) {
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__TaskResult r = SLUICE__V1__TASK_RESULT__INIT;
    epoch.term = 1;
    epoch.counter = 7;
    ref.task_id = task;
    ref.epoch = &epoch;
    r.lease = &ref;
    assert_ok(journal_append(journal, &r));
    return r.number;
}

struct left {
    size_t n;
    uint64_t bytes, last_task;
};

static void add_left(void *user, uint64_t task_id, uint64_t term, uint64_t counter,
                     uint64_t bytes) {
    struct left *l = user;
    assert_int_equal(term, 1);
    assert_int_equal(counter, 7);
    l->n++;
    l->bytes += bytes;
    l->last_task = task_id;
}

static struct left left_of(struct under_way *u) {
    struct left l = {0};
    under_way_each_left(u, add_left, &l);
    return l;
}

static void what_ran_when_the_agent_died_is_told_by_the_next(void **state) {
    (void)state;
    struct under_way *u = open_file();
    _Atomic uint64_t *bytes = under_way_begin(u, 11, 1, 7);
    assert_non_null(bytes);
    atomic_fetch_add(bytes, 1000);
    assert_non_null(under_way_begin(u, 12, 1, 7)); // has moved nothing
    assert_int_equal(left_of(u).n, 0);
    under_way_close(u); // as a kill leaves it

    for (int told = 0; told < 2; told++) { // until it is known that the master heard it
        u = open_file();
        struct left l = left_of(u);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.bytes, 1000);
        assert_int_equal(l.last_task, 11);
        if (told == 1) {
            under_way_forget_left(u);
        }
        under_way_close(u);
    }
    u = open_file();
    assert_int_equal(left_of(u).n, 0);
    under_way_close(u);
}

static void what_a_result_tells_is_not_told_twice(void **state) {
    (void)state;
    struct under_way *u = open_file();
    _Atomic uint64_t *first = under_way_begin(u, 11, 1, 7);
    _Atomic uint64_t *second = under_way_begin(u, 12, 1, 7);
    atomic_fetch_add(first, 1000);
    atomic_fetch_add(second, 200);
    uint64_t number = append_result(11);
    under_way_end(u, first, number);
    under_way_end(u, second, number + 1); // the journal never had that one
    under_way_close(u);

    u = open_file(); // the first is in the journal, written or not
    struct left l = left_of(u);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.last_task, 12);
    under_way_forget_left(u);

    _Atomic uint64_t *third = under_way_begin(u, 13, 1, 7);
    atomic_fetch_add(third, 30);
    under_way_end(u, third, 9);
    under_way_written(u, 8);
    under_way_written(u, 9);
    under_way_close(u);
    u = open_file();
    assert_int_equal(left_of(u).n, 0);
    under_way_close(u);
}

static void a_lease_that_was_stopped_is_told_once(void **state) {
    (void)state;
    struct under_way *u = open_file();
    _Atomic uint64_t *bytes = under_way_begin(u, 11, 1, 7);
    atomic_fetch_add(bytes, 5);
    under_way_end(u, bytes, 0);
    assert_int_equal(under_way_take_left(u, 11, 1, 8), 0);
    assert_int_equal(under_way_take_left(u, 11, 1, 7), 5);
    assert_int_equal(under_way_take_left(u, 11, 1, 7), 0);

    bytes = under_way_begin(u, 12, 1, 7);
    atomic_fetch_add(bytes, 6);
    assert_int_equal(left_of(u).n, 0);
    under_way_end(u, bytes, 0);
    under_way_forget_left(u); // only what was given before
    assert_int_equal(left_of(u).bytes, 6);
    under_way_forget_left(u);
    assert_int_equal(left_of(u).n, 0);
    under_way_close(u);
}

static void more_leases_than_there_is_room_for_are_not_counted(void **state) {
    (void)state;
    struct under_way *u = open_file();
    _Atomic uint64_t *last = NULL;
    for (uint64_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        last = under_way_begin(u, i + 1, 1, 7);
        assert_non_null(last);
    }
    assert_null(under_way_begin(u, 5000, 1, 7));
    under_way_end(u, NULL, 3);
    under_way_end(u, last, 0); // it moved nothing: nothing to tell
    assert_non_null(under_way_begin(u, 5000, 1, 7));
    under_way_close(u);
}

static void a_full_disk_is_survived(void **state) {
    (void)state;
    disk_is_full = true;
    struct under_way *u = open_file();
    _Atomic uint64_t *bytes = under_way_begin(u, 11, 1, 7);
    atomic_fetch_add(bytes, 5);
    under_way_end(u, bytes, 0);
    assert_int_equal(under_way_take_left(u, 11, 1, 7), 5);
    under_way_close(u);
    disk_is_full = false;
    u = open_file();
    assert_int_equal(left_of(u).n, 0);
    under_way_close(u);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_ran_when_the_agent_died_is_told_by_the_next, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_result_tells_is_not_told_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lease_that_was_stopped_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(more_leases_than_there_is_room_for_are_not_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_survived, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
