// SPDX-License-Identifier: Apache-2.0
// WRAP: malloc calloc realloc aligned_alloc strdup strndup asprintf
// Every allocation of the journal fails once: a result that was taken is there after a restart.
#include "agent/journal.h"
#include "common/log.h"
#include "tests/lib/allocation.h"
#include "tests/unit/agent/scratch.h"

static struct scratch scratch;

static void on_written(void *user) {
    (void)user;
}

static enum err open_journal(struct journal **ret_journal) {
    const struct journal_options o = {.state_dir = scratch.path, .written = on_written};
    struct failure f = {0};
    enum err e = journal_open(&o, ret_journal, &f);
    if (e != OK) {
        assert_err(e, ERR_NO_MEMORY);
        assert_err(f.err, ERR_NO_MEMORY);
    }
    return e;
}

static int append(struct journal *j, uint64_t task) {
    Sluice__V1__TaskResult r = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = 1;
    lease.task_id = task;
    lease.epoch = &epoch;
    r.lease = &lease;
    enum err e = journal_append(j, &r);
    if (e != OK) {
        assert_err(e, ERR_NO_MEMORY);
    }
    return e == OK;
}

// How many results a restarted agent finds; they are committed then.
static int find_all(void) {
    struct journal *j = NULL;
    Sluice__V1__TaskResult *r = NULL;
    uint64_t after = 0;
    int n = 0;
    assert_ok(open_journal(&j));
    while (journal_next(j, after, &r) == OK) {
        after = r->number;
        n++;
        sluice__v1__task_result__free_unpacked(r, NULL);
    }
    journal_committed(j, after);
    journal_close(j);
    return n;
}

static void keep_results(void) {
    struct journal *j = NULL;
    int n_taken = 0;
    if (open_journal(&j) == OK) {
        journal_remember(j, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 7);
        for (uint64_t task = 1; task <= 3; task++) {
            n_taken += append(j, task);
        }
        journal_close(j);
    }
    atomic_store(&allocation.fail_at, 0);
    int n_found = find_all();
    // Where there is no memory at all for the file, the process was the last that knew.
    assert_true(n_found == n_taken || (n_found < n_taken && atomic_load(&allocation.for_ever)));
}

static void a_result_that_was_taken_is_kept(void **state) {
    (void)state;
    log_set_level(LOG_ERROR);
    scratch_begin(&scratch);
    allocation_torture(keep_results);
    scratch_end(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_that_was_taken_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
