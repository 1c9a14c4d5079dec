// SPDX-License-Identifier: Apache-2.0
// WRAP: pwrite fsync syncfs renameat
// Moving whole objects from a local directory to another.
#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/lib/fault.h"
#include "tests/unit/dataplane/transfer_fixture.h"

FAULT_WRAP(int, fsync, (int fd), (fd))
FAULT_WRAP(int, syncfs, (int fd), (fd))
FAULT_WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))

static struct fault pwrite_fault;
static size_t pwrite_at_most;
ssize_t __real_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset) {
    if (fault_hits(&pwrite_fault)) {
        return -1;
    }
    if (pwrite_at_most > 0 && n > pwrite_at_most) {
        n = pwrite_at_most;
    }
    return __real_pwrite(fd, buf, n, offset);
}

static int setup(void **state) {
    (void)state;
    fsync_fault = syncfs_fault = renameat_fault = pwrite_fault = (struct fault){0};
    pwrite_at_most = 0;
    world_set_up();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fsync_fault = syncfs_fault = renameat_fault = pwrite_fault = (struct fault){0};
    world_tear_down();
    return 0;
}

static void bytes_and_metadata_arrive_exactly(void **state) {
    (void)state;
    size_t n = 5 * 1000 * 1000 + 3;
    uint8_t *big = tree_pattern(n, 1);
    tree_mkdir(&world.from, "d");
    tree_mkdir(&world.from, "d/e");
    tree_write(&world.from, "d/e/big", big, n);
    tree_write(&world.from, "d/empty", "", 0);
    tree_write(&world.from, "d/\xff\n\t?", "x", 1);
    assert_int_equal(fchmodat(world.from.fd, "d/e/big", 0751, 0), 0);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 86400, .tv_nsec = 987654321}};
    assert_int_equal(utimensat(world.from.fd, "d/e/big", t, 0), 0);

    const enum durability all[] = {DURABILITY_NONE, DURABILITY_OBJECT, DURABILITY_TASK};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct tree_table l;
        tree_table_new(&l, &world.from,
                       (const char *[]){"d/e/big", "d/empty", "d/\xff\n\t?", NULL});
        assert_ok(run_batch(&l, all[i], false, NULL));
        for (int k = 0; k < 3; k++) {
            assert_int_equal(world.results[k].outcome, TRANSFER_DELIVERED);
        }
        assert_int_equal(world.results[0].bytes, n);
        assert_file_is(&world.to, "out/d/e/big", big, n);
        assert_file_is(&world.to, "out/d/empty", "", 0);
        assert_file_is(&world.to, "out/d/\xff\n\t?", "x", 1);
        assert_int_equal(tree_count(&world.to, "out/d"), 3); // no temporary is left
        struct stat st;
        assert_int_equal(fstatat(world.to.fd, "out/d/e/big", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0751);
        assert_int_equal(st.st_mtim.tv_sec, 86400);
        assert_int_equal(st.st_mtim.tv_nsec, 987654321);

        size_t n_leaves;
        struct digest want;
        uint8_t *leaves = leaf_digests_of(big, n, &n_leaves);
        assert_int_equal(n_leaves, 2);
        tree_digest(HASH_XXH3_128, n, leaves, n_leaves, &want);
        assert_memory_equal(want.bytes, world.results[0].digest.bytes, 16);
        free(leaves);
        tree_table_free(&l);
    }
    assert_int_equal(atomic_load(&world.control.objects), 9);
    free(big);
}

static void holes_stay_holes(void **state) {
    (void)state;
    int fd = openat(world.from.fd, "sparse", O_RDWR | O_CREAT, 0644);
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    assert_int_equal(pwrite(fd, "data", 4, 20 << 20), 4);
    close(fd);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"sparse", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_DELIVERED);
    struct stat st;
    assert_int_equal(fstatat(world.to.fd, "out/sparse", &st, 0), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
    char got[4];
    fd = openat(world.to.fd, "out/sparse", O_RDONLY);
    assert_int_equal(pread(fd, got, 4, 20 << 20), 4);
    assert_memory_equal(got, "data", 4);
    close(fd);
    tree_table_free(&l);
}

static void a_failed_write_leaves_nothing_behind(void **state) {
    (void)state;
    tree_write(&world.from, "a", "aaaa", 4);
    tree_write(&world.from, "b", "bbbb", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", NULL});
    pwrite_fault = (struct fault){.fail_at = 3, .errnum = EIO}; // two were written by tree_write
    atomic_store(&pwrite_fault.calls, 2);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(world.results[0].failure.err, ERR_IO);
    assert_int_equal(world.results[0].failure.errnum, EIO);
    assert_memory_equal(world.results[0].failure.object, "out/a", 5);
    assert_int_equal(world.results[1].outcome, TRANSFER_DELIVERED);
    assert_int_equal(tree_count(&world.to, "out"), 1);
    tree_table_free(&l);
}

static void no_space_fails_the_object_and_ends_the_task(void **state) {
    (void)state;
    tree_write(&world.from, "a", "aaaa", 4);
    tree_write(&world.from, "b", "bbbb", 4);
    tree_write(&world.from, "c", "cccc", 4);
    struct tree_table l;
    struct failure f = {0};
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", "c", NULL});
    atomic_store(&pwrite_fault.calls, 0);
    pwrite_fault.fail_at = 2;
    pwrite_fault.errnum = ENOSPC;
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, &f), ERR_NO_SPACE);
    assert_int_equal(f.err, ERR_NO_SPACE);
    assert_int_equal(world.results[0].outcome, TRANSFER_DELIVERED); // complete: not thrown away
    assert_int_equal(world.results[1].outcome, TRANSFER_FAILED);
    assert_int_equal(world.results[2].outcome, TRANSFER_UNSTARTED);
    assert_int_equal(tree_count(&world.to, "out"), 1);
    tree_table_free(&l);
}

static void short_writes_are_completed(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(100000, 3);
    tree_write(&world.from, "a", bytes, 100000);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    pwrite_at_most = 777;
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_file_is(&world.to, "out/a", bytes, 100000);
    tree_table_free(&l);
    free(bytes);
}

static void a_failed_sync_fails_its_object_only(void **state) {
    (void)state;
    tree_write(&world.from, "a", "aaaa", 4);
    tree_write(&world.from, "b", "bbbb", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", NULL});
    fsync_fault = (struct fault){.fail_at = 1, .errnum = EIO};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(world.results[1].outcome, TRANSFER_DELIVERED);
    assert_int_equal(tree_count(&world.to, "out"), 1);
    tree_table_free(&l);
}

static void an_unsynced_directory_means_not_delivered(void **state) {
    (void)state;
    tree_write(&world.from, "a", "aaaa", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    fsync_fault = (struct fault){.fail_at = 2, .fail_more = 9, .errnum = EIO};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_FAILED);
    assert_string_equal(world.results[0].failure.operation, "sync directory");
    tree_table_free(&l);
}

static void nothing_is_synced_that_need_not_be(void **state) {
    (void)state;
    tree_write(&world.from, "a", "aaaa", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    assert_ok(run_batch(&l, DURABILITY_NONE, false, NULL));
    assert_int_equal(atomic_load(&fsync_fault.calls) + atomic_load(&syncfs_fault.calls), 0);
    tree_table_free(&l);
}

static void a_failed_rename_leaves_the_old_object(void **state) {
    (void)state;
    tree_mkdir(&world.to, "out");
    tree_write(&world.to, "out/a", "old", 3);
    tree_write(&world.from, "a", "newer", 5);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    renameat_fault = (struct fault){.fail_at = 1, .errnum = EACCES};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].failure.err, ERR_DENIED);
    assert_file_is(&world.to, "out/a", "old", 3);
    assert_int_equal(tree_count(&world.to, "out"), 1);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_file_is(&world.to, "out/a", "newer", 5);
    tree_table_free(&l);
}

static void many_small_files_share_one_sync(void **state) {
    (void)state;
    enum { N = 600 };
    struct tree_table l;
    object_table_init(&l.builder);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof(name), "f%d", i);
        tree_write(&world.from, name, name, strlen(name));
        tree_table_add(&l, &world.from, name);
    }
    tree_table_done(&l);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    for (int i = 0; i < N; i++) {
        assert_int_equal(world.results[i].outcome, TRANSFER_DELIVERED);
    }
    assert_int_equal(tree_count(&world.to, "out"), N);
    assert_true(atomic_load(&syncfs_fault.calls) >= 1);
    assert_true(atomic_load(&fsync_fault.calls) < N / 4);
    assert_file_is(&world.to, "out/f599", "f599", 4);

    // A failed syncfs is not believed: each file is asked.
    syncfs_fault = (struct fault){.fail_at = 1, .fail_more = 99, .errnum = EIO};
    int before = atomic_load(&fsync_fault.calls);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_true(atomic_load(&fsync_fault.calls) - before >= N);
    assert_int_equal(world.results[N - 1].outcome, TRANSFER_DELIVERED);

    // All the same by now; who wrote them may not have synced them.
    syncfs_fault = (struct fault){0};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, true, NULL));
    assert_int_equal(atomic_load(&syncfs_fault.calls), 1);
    assert_int_equal(world.results[0].outcome, TRANSFER_IDENTICAL);
    assert_int_equal(world.results[N - 1].outcome, TRANSFER_IDENTICAL);
    tree_table_free(&l);
}

static void links_and_fifos_in_a_batch_are_made(void **state) {
    (void)state;
    assert_int_equal(symlinkat("target\xfe", world.from.fd, "l"), 0);
    assert_int_equal(mknodat(world.from.fd, "p", S_IFIFO | 0600, 0), 0);
    tree_mkdir(&world.from, "d");
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"l", "p", "d", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world.results[i].outcome, TRANSFER_DELIVERED);
    }
    char target[32] = {0};
    assert_int_equal(readlinkat(world.to.fd, "out/l", target, sizeof(target)), 7);
    assert_string_equal(target, "target\xfe");
    struct stat st;
    assert_int_equal(fstatat(world.to.fd, "out/p", &st, 0), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(fstatat(world.to.fd, "out/d", &st, 0), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, true, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_IDENTICAL);
    tree_table_free(&l);
}

static void a_source_that_changed_is_read_anew(void **state) {
    (void)state;
    tree_write(&world.from, "a", "old", 3);
    tree_write(&world.from, "b", "b", 1);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", NULL});
    tree_write(&world.from, "a", "much newer", 10);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_DELIVERED);
    assert_int_equal(world.results[0].bytes, 10);
    assert_int_equal(world.results[1].outcome, TRANSFER_DELIVERED);
    assert_file_is(&world.to, "out/a", "much newer", 10);
    struct stat was, is;
    assert_int_equal(fstatat(world.from.fd, "a", &was, 0), 0);
    assert_int_equal(fstatat(world.to.fd, "out/a", &is, 0), 0);
    assert_memory_equal(&was.st_mtim, &is.st_mtim, sizeof(is.st_mtim));
    tree_table_free(&l);
}

static void a_source_that_is_gone_fails_alone(void **state) {
    (void)state;
    tree_write(&world.from, "a", "a", 1);
    tree_write(&world.from, "b", "b", 1);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", NULL});
    assert_int_equal(unlinkat(world.from.fd, "a", 0), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].failure.err, ERR_NOT_FOUND);
    assert_int_equal(world.results[1].outcome, TRANSFER_DELIVERED);
    tree_table_free(&l);
}

static void what_is_in_the_way_is_named(void **state) {
    (void)state;
    tree_mkdir(&world.from, "d");
    tree_write(&world.from, "a", "a", 1);
    tree_write(&world.from, "d/b", "b", 1);
    tree_write(&world.from, "c", "c", 1);
    tree_mkdir(&world.to, "out");
    tree_mkdir(&world.to, "out/a");
    tree_write(&world.to, "out/d", "file", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "d/b", "c", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].failure.err, ERR_IS_DIRECTORY);
    assert_int_equal(world.results[1].failure.err, ERR_NOT_DIRECTORY);
    assert_int_equal(world.results[2].outcome, TRANSFER_DELIVERED);
    assert_int_equal(unlinkat(world.to.fd, "out/d", 0), 0);
    assert_int_equal(symlinkat("../..", world.to.fd, "out/d"), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[1].failure.err, ERR_OUTSIDE);
    tree_table_free(&l);
}

static void a_lost_lease_changes_no_name(void **state) {
    (void)state;
    tree_write(&world.from, "a", "a", 1);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    world.fence_open = false;
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, NULL), ERR_FENCED);
    assert_int_equal(world.results[0].outcome, TRANSFER_UNSTARTED);
    assert_int_equal(faccessat(world.to.fd, "out", F_OK, 0), -1);
    tree_table_free(&l);
}

static void cancelled_and_yielded_tasks_stop(void **state) {
    (void)state;
    tree_write(&world.from, "a", "a", 1);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    atomic_store(&world.control.yield, true);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_UNSTARTED);
    atomic_store(&world.control.cancelled, true);
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, NULL), ERR_CANCELLED);
    assert_int_equal(world.results[0].outcome, TRANSFER_UNSTARTED);
    tree_table_free(&l);
}

static void a_rate_limit_spreads_the_bytes(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(500000, 9);
    tree_write(&world.from, "a", bytes, 500000);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    struct source *source = new_source(&l);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, &l);
    o.bytes_per_s = 2000000;
    memset(world.results, 0, sizeof(world.results));
    uint64_t start_us = clock_mono_us();
    assert_ok(transfer_batch(&o, world.results, NULL));
    // A quarter of a second, less the burst; what a slow machine took for the bytes is not waited
    // for.
    assert_true(clock_mono_us() - start_us > 50000);
    sink_free(sink);
    source_free(source);
    tree_table_free(&l);
    free(bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(bytes_and_metadata_arrive_exactly),
        TEST(holes_stay_holes),
        TEST(a_failed_write_leaves_nothing_behind),
        TEST(no_space_fails_the_object_and_ends_the_task),
        TEST(short_writes_are_completed),
        TEST(a_failed_sync_fails_its_object_only),
        TEST(an_unsynced_directory_means_not_delivered),
        TEST(nothing_is_synced_that_need_not_be),
        TEST(a_failed_rename_leaves_the_old_object),
        TEST(many_small_files_share_one_sync),
        TEST(links_and_fifos_in_a_batch_are_made),
        TEST(a_source_that_changed_is_read_anew),
        TEST(a_source_that_is_gone_fails_alone),
        TEST(what_is_in_the_way_is_named),
        TEST(a_lost_lease_changes_no_name),
        TEST(cancelled_and_yielded_tasks_stop),
        TEST(a_rate_limit_spreads_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
