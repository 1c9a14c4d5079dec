// SPDX-License-Identifier: Apache-2.0
#include "common/ident.h"
#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/executor_fixture.h"
#include "tests/unit/agent/task_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_holds(const char *name, const char *text) {
    size_t len = 0;
    char *got = scratch_read(&fixture.scratch, name, &len);
    assert_non_null(got);
    assert_string_equal(got, text);
    free(got);
}

static void a_batch_delivers_its_objects_with_their_digests(void **state) {
    (void)state;
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    scratch_write(&fixture.scratch, "from/b", "", 0);
    assert_int_equal(chmod(scratch_path(&fixture.scratch, "from/a"), 0640), 0);
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_add(&t, "a", scratch_path(&fixture.scratch, "from/a"));
    task_add(&t, "b", scratch_path(&fixture.scratch, "from/b"));
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, "from", "to"));
    assert_true(r->done);
    assert_int_equal(r->n_objects, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(r->objects[i]->index, i);
        assert_int_equal(r->objects[i]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED);
        assert_int_equal(r->objects[i]->digest.len, 16);
    }
    assert_int_equal(r->bytes_moved, 5);
    assert_string_equal(r->transport, "local");
    assert_holds("to/a", "alpha");
    assert_holds("to/b", "");
    struct stat st;
    assert_int_equal(stat(scratch_path(&fixture.scratch, "to/a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    task_result_free(r);
    task_end(&t);
}

static void a_failed_object_is_named_and_the_others_are_delivered(void **state) {
    (void)state;
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    scratch_write(&fixture.scratch, "from/gone", "x", 1);
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_add(&t, "gone", scratch_path(&fixture.scratch, "from/gone"));
    task_add(&t, "a", scratch_path(&fixture.scratch, "from/a"));
    assert_int_equal(unlink(scratch_path(&fixture.scratch, "from/gone")), 0);
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, "from", "to"));
    assert_true(r->done);
    assert_int_equal(r->objects[0]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED);
    assert_string_equal(r->objects[0]->failure->code, "NOT_FOUND");
    assert_string_equal(r->objects[0]->failure->agent, "a1");
    assert_int_equal(r->objects[1]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED);
    task_result_free(r);
    task_end(&t);
}

static void names_are_made_and_removed(void **state) {
    (void)state;
    struct task_message t;
    struct stat st;
    assert_int_equal(mkdir(scratch_path(&fixture.scratch, "to"), 0755), 0);
    task_begin(&t, SLUICE__V1__TASK_KIND__MKDIR, 1);
    task_add_entry(&t, "d", OBJECT_DIRECTORY, NULL);
    task_add_entry(&t, "d/e", OBJECT_DIRECTORY, NULL);
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, NULL, "to"));
    assert_true(r->done);
    task_result_free(r);
    t.spec.kind = SLUICE__V1__TASK_KIND__DIRMETA;
    r = run_lease(&t.lease);
    assert_true(r->done);
    assert_int_equal(stat(scratch_path(&fixture.scratch, "to/d"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_mtim.tv_sec, 1500000000);
    assert_int_equal(st.st_mtim.tv_nsec, 123456789);
    task_result_free(r);
    task_end(&t);

    task_begin(&t, SLUICE__V1__TASK_KIND__LINK, 2);
    task_add_entry(&t, "d/l", OBJECT_SYMLINK, "../elsewhere");
    r = run_lease(task_lease(&t, NULL, "to"));
    assert_true(r->done);
    char target[64] = "";
    assert_int_equal(readlink(scratch_path(&fixture.scratch, "to/d/l"), target, sizeof target), 12);
    assert_string_equal(target, "../elsewhere");
    task_result_free(r);
    task_end(&t);

    task_begin(&t, SLUICE__V1__TASK_KIND__DELETE, 3);
    task_add_entry(&t, "d/l", OBJECT_SYMLINK, "x");
    task_add_entry(&t, "d/e", OBJECT_DIRECTORY, NULL);
    task_add_entry(&t, "d", OBJECT_DIRECTORY, NULL);
    task_add_entry(&t, "never", OBJECT_FILE, NULL);
    r = run_lease(task_lease(&t, NULL, "to"));
    assert_true(r->done);
    assert_int_equal(r->objects[3]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED);
    assert_int_equal(access(scratch_path(&fixture.scratch, "to/d"), F_OK), -1);
    task_result_free(r);
    task_end(&t);
}

// Keeps the receipt of a result in the next task.
static void keep_receipt(struct task_message *t, const Sluice__V1__TaskResult *r, uint8_t *buf) {
    memcpy(buf, r->receipt->opaque.data, r->receipt->opaque.len);
    t->receipt.opaque = (ProtobufCBinaryData){r->receipt->opaque.len, buf};
    t->spec.n_receipts = 1;
    t->spec.receipts = t->receipts;
}

static void a_large_object_goes_open_parts_sync_finish(void **state) {
    (void)state;
    enum { BYTES = (4 << 20) + 1000 };
    struct task_message t;
    uint8_t receipt[RECEIPT_MAX_BYTES];
    char *bytes = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (char)(i * 7 + i / 4096);
    }
    scratch_write(&fixture.scratch, "from/big", bytes, BYTES);
    task_begin(&t, SLUICE__V1__TASK_KIND__OPEN, 1);
    task_add(&t, "big", scratch_path(&fixture.scratch, "from/big"));
    task_lease(&t, "from", "to");
    t.spec.generation = 1;
    Sluice__V1__TaskResult *r = run_lease(&t.lease);
    assert_true(r->done);
    assert_non_null(r->receipt);
    assert_string_equal(r->boot_id, "boot");
    keep_receipt(&t, r, receipt);
    task_result_free(r);
    for (uint64_t offset = 0; offset < BYTES; offset += 4 << 20) {
        t.spec.kind = SLUICE__V1__TASK_KIND__PART;
        t.spec.task_id++;
        t.spec.offset = offset;
        t.spec.length = BYTES - offset < 4 << 20 ? BYTES - offset : 4 << 20;
        r = run_lease(&t.lease);
        assert_true(r->done);
        assert_int_equal(r->done_bytes, t.spec.length);
        assert_int_equal(r->leaf_digests.len, 16);
        task_result_free(r);
    }
    t.spec.kind = SLUICE__V1__TASK_KIND__SYNC;
    r = run_lease(&t.lease);
    assert_true(r->done && r->synced);
    task_result_free(r);
    uint8_t digest[16] = {1, 2, 3};
    t.spec.kind = SLUICE__V1__TASK_KIND__FINISH;
    t.spec.has_digest = true;
    t.spec.object_digest = (ProtobufCBinaryData){16, digest};
    for (int again = 0; again < 2; again++) { // it recognises its own work
        r = run_lease(&t.lease);
        assert_true(r->done);
        assert_memory_equal(r->object_digest.data, digest, 16);
        task_result_free(r);
    }
    FILE *f = fopen(scratch_path(&fixture.scratch, "to/big"), "re");
    char *got = malloc(BYTES + 1);
    assert_int_equal(fread(got, 1, BYTES + 1, f), BYTES);
    assert_memory_equal(got, bytes, BYTES);
    (void)fclose(f);
    free(got);
    free(bytes);
    task_end(&t);
}

static void temporaries_are_removed_by_abort_and_cleanup(void **state) {
    (void)state;
    struct task_message t;
    char large[TEMP_NAME_SIZE], whole[TEMP_NAME_SIZE], path[128];
    assert_int_equal(mkdir(scratch_path(&fixture.scratch, "to"), 0755), 0);
    temp_name(TEST_FLOW, 1, 0, 3, large);
    temp_name(TEST_FLOW, 1, 1, 44, whole);
    (void)snprintf(path, sizeof path, "to/%s", large);
    scratch_write(&fixture.scratch, path, "x", 1);
    task_begin(&t, SLUICE__V1__TASK_KIND__ABORT, 1);
    task_add_entry(&t, "big", OBJECT_FILE, NULL);
    task_lease(&t, NULL, "to");
    t.spec.generation = 3;
    Sluice__V1__TaskResult *r = run_lease(&t.lease);
    assert_true(r->done);
    assert_int_equal(access(scratch_path(&fixture.scratch, path), F_OK), -1);
    task_result_free(r);

    (void)snprintf(path, sizeof path, "to/%s", whole);
    scratch_write(&fixture.scratch, path, "x", 1);
    Sluice__V1__Epoch stale = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__Epoch *stales[] = {&stale};
    stale.term = 1;
    stale.counter = 44;
    t.spec.kind = SLUICE__V1__TASK_KIND__CLEANUP;
    t.spec.n_stale = 1;
    t.spec.stale = stales;
    r = run_lease(&t.lease);
    assert_true(r->done);
    assert_int_equal(access(scratch_path(&fixture.scratch, path), F_OK), -1);
    task_result_free(r);
    task_end(&t);
}

static void stat_tells_what_is_there(void **state) {
    (void)state;
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    task_begin(&t, SLUICE__V1__TASK_KIND__STAT, 1);
    task_add_entry(&t, "a", OBJECT_FILE, NULL);
    task_add_entry(&t, "missing", OBJECT_FILE, NULL);
    task_add_entry(&t, "a/below", OBJECT_FILE, NULL);
    task_add_entry(&t, "", OBJECT_DIRECTORY, NULL);
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, "from", NULL));
    struct object_table found;
    struct object_entry e;
    assert_true(r->done);
    assert_ok(object_table_open(r->found.data, r->found.len, &found));
    assert_int_equal(found.count, 2);
    object_table_get(&found, 0, &e);
    assert_memory_equal(e.path, "a", 1);
    assert_int_equal(e.version.size, 5);
    object_table_get(&found, 1, &e);
    assert_int_equal(e.type, OBJECT_DIRECTORY);
    object_table_close(&found);
    task_result_free(r);
    task_end(&t);
}

static void verify_gives_the_digest_that_the_batch_gave(void **state) {
    (void)state;
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_add(&t, "a", scratch_path(&fixture.scratch, "from/a"));
    Sluice__V1__TaskResult *moved = run_lease(task_lease(&t, "from", "to"));
    t.spec.kind = SLUICE__V1__TASK_KIND__VERIFY;
    Sluice__V1__TaskResult *r = run_lease(&t.lease);
    assert_true(r->done);
    assert_memory_equal(r->objects[0]->digest.data, moved->objects[0]->digest.data, 16);
    task_result_free(r);
    scratch_write(&fixture.scratch, "to/a", "alph", 4);
    r = run_lease(&t.lease);
    assert_string_equal(r->objects[0]->failure->code, "CORRUPT");
    task_result_free(r);
    task_result_free(moved);
    task_end(&t);
}

static void a_later_attempt_finds_what_an_earlier_one_did(void **state) {
    (void)state;
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_add(&t, "a", scratch_path(&fixture.scratch, "from/a"));
    task_lease(&t, "from", "to");
    task_result_free(run_lease(&t.lease));
    t.lease.attempt = 2;
    t.epoch.counter = 50;
    Sluice__V1__TaskResult *r = run_lease(&t.lease);
    assert_true(r->done);
    assert_int_equal(r->objects[0]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL);
    assert_int_equal(r->bytes_moved, 0);
    task_result_free(r);
    task_end(&t);
}

// Runs it in this thread, after @before was done to the lease.
static Sluice__V1__TaskResult *run_here(const Sluice__V1__Lease *m, void (*before)(struct lease *l),
                                        enum run_end want) {
    static _Alignas(4096) uint8_t buffer[64 << 10];
    struct lease *l = NULL;
    Sluice__V1__TaskResult *r = NULL;
    assert_ok(lease_new(m, &fixture.hold, &l));
    before(l);
    assert_int_equal(run_task(&fixture.tools, l, buffer, sizeof buffer, &r), want);
    lease_free(l);
    return r;
}

static void revoke_lease(struct lease *l) {
    lease_stop(l, LEASE_REVOKED);
}

static void what_has_not_begun_comes_back_when_asked(void **state) {
    (void)state;
    static const Sluice__V1__TaskKind kinds[] = {
        SLUICE__V1__TASK_KIND__BATCH, SLUICE__V1__TASK_KIND__VERIFY, SLUICE__V1__TASK_KIND__LINK};
    struct task_message t;
    scratch_write(&fixture.scratch, "from/a", "alpha", 5);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        task_begin(&t, kinds[i], 1);
        task_add(&t, "a", scratch_path(&fixture.scratch, "from/a"));
        Sluice__V1__TaskResult *r = run_here(task_lease(&t, "from", "to"), lease_yield, RUN_RESULT);
        assert_false(r->done);
        assert_null(r->failure);
        assert_int_equal(r->objects[0]->outcome, SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED);
        task_result_free(r);
        assert_null(run_here(&t.lease, revoke_lease, RUN_STOPPED));
        task_end(&t);
    }
    assert_int_equal(access(scratch_path(&fixture.scratch, "to/a"), F_OK), -1);
}

static void the_failures_of_a_thousand_objects_fit_into_one_message(void **state) {
    (void)state;
    struct task_message t;
    char name[200];
    task_begin(&t, SLUICE__V1__TASK_KIND__VERIFY, 1);
    for (int i = 0; i < OBJECT_TABLE_MAX_OBJECTS; i++) {
        (void)snprintf(name, sizeof name, "%0120d", i);
        task_add_entry(&t, name, OBJECT_FILE, NULL);
    }
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, NULL, "to"));
    assert_true(r->done);
    assert_int_equal(r->n_objects, OBJECT_TABLE_MAX_OBJECTS);
    assert_true(sluice__v1__task_result__get_packed_size(r) < JOURNAL_RESULT_MAX_BYTES);
    assert_string_equal(r->objects[999]->failure->code, "NOT_FOUND");
    task_result_free(r);
    task_end(&t);
}

static void what_cannot_begin_fails_with_its_reason(void **state) {
    (void)state;
    struct task_message t;
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_lease(&t, "from", "to");
    t.sink.volume = (char *)"nowhere";
    Sluice__V1__TaskResult *r = run_lease(&t.lease);
    assert_false(r->done);
    assert_string_equal(r->failure->code, "NO_VOLUME");
    task_result_free(r);
    t.spec.kind = (Sluice__V1__TaskKind)77;
    r = run_lease(&t.lease);
    assert_string_equal(r->failure->code, "UNIMPLEMENTED");
    task_result_free(r);
    t.spec.objects = (ProtobufCBinaryData){3, (uint8_t *)"bad"};
    r = run_lease(&t.lease);
    assert_string_equal(r->failure->code, "INVALID");
    task_result_free(r);
    task_end(&t);
}

static void a_lease_that_lapsed_changes_nothing(void **state) {
    (void)state;
    struct task_message t;
    clock_fake_advance(&fixture.now, 30001);
    task_begin(&t, SLUICE__V1__TASK_KIND__MKDIR, 1);
    task_add_entry(&t, "d", OBJECT_DIRECTORY, NULL);
    Sluice__V1__TaskResult *r = run_lease(task_lease(&t, NULL, "to"));
    assert_false(r->done);
    assert_true(r->released && r->retryable);
    assert_string_equal(r->failure->code, "FENCED");
    assert_int_equal(access(scratch_path(&fixture.scratch, "to"), F_OK), -1);
    task_result_free(r);
    task_end(&t);
}

static void a_revoked_lease_is_told_as_stopped(void **state) {
    (void)state;
    struct task_message t;
    task_begin(&t, SLUICE__V1__TASK_KIND__MKDIR, 1);
    task_add_entry(&t, "d", OBJECT_DIRECTORY, NULL);
    task_lease(&t, NULL, "to");
    assert_ok(executor_assign(fixture.executor, &t.lease));
    bool was_held = executor_revoke(fixture.executor, 1, 1, 1, LEASE_REVOKED);
    tally_wait(fixture.idle, 1);
    assert_false(executor_revoke(fixture.executor, 1, 1, 1, LEASE_REVOKED));
    assert_int_equal(executor_held(fixture.executor), 0);
    Sluice__V1__TaskResult *r = NULL;
    if (was_held && !journal_holds(fixture.journal, 1, 1, 1)) { // else it was just done
        tally_wait(fixture.stopped, 1);
        assert_int_equal(fixture.last_stopped, 1);
        assert_err(journal_next(fixture.journal, 0, &r), ERR_NOT_FOUND);
    }
    task_end(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_delivers_its_objects_with_their_digests,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(a_failed_object_is_named_and_the_others_are_delivered,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(names_are_made_and_removed, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(a_large_object_goes_open_parts_sync_finish, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(temporaries_are_removed_by_abort_and_cleanup,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(stat_tells_what_is_there, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(verify_gives_the_digest_that_the_batch_gave,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(a_later_attempt_finds_what_an_earlier_one_did,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(what_has_not_begun_comes_back_when_asked, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(the_failures_of_a_thousand_objects_fit_into_one_message,
                                        executor_set_up, executor_tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_begin_fails_with_its_reason, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(a_lease_that_lapsed_changes_nothing, executor_set_up,
                                        executor_tear_down),
        cmocka_unit_test_setup_teardown(a_revoked_lease_is_told_as_stopped, executor_set_up,
                                        executor_tear_down),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
