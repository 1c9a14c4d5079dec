// SPDX-License-Identifier: Apache-2.0
// WRAP: pwrite ioctl
// Large objects in parts, blocks that are shared, and sources that lie.
#include "tests/lib/fault.h"
#include "tests/unit/dataplane/transfer_fixture.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

FAULT_WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at))

// A file system that can share blocks, played with copies.
static bool can_reflink;
static int n_reflinks;
int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument) {
    if (request != FICLONERANGE) {
        return __real_ioctl(fd, request, argument);
    }
    const struct file_clone_range *r = argument;
    off_t in = (off_t)r->src_offset, out = (off_t)r->dest_offset;
    size_t left = r->src_length > 0 ? r->src_length : SIZE_MAX >> 2;
    if (!can_reflink) {
        errno = EOPNOTSUPP;
        return -1;
    }
    n_reflinks++;
    for (ssize_t n = 1; n > 0 && left > 0; left -= (size_t)n) {
        n = copy_file_range((int)r->src_fd, &in, fd, &out, left, 0);
        assert_true(n >= 0);
    }
    return 0;
}

static int setup(void **state) {
    (void)state;
    pwrite_fault = (struct fault){0};
    can_reflink = false;
    n_reflinks = 0;
    world_set_up();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    pwrite_fault = (struct fault){0};
    world_tear_down();
    return 0;
}

static void a_byte_that_changed_on_the_way_is_sent_again(void **state) {
    (void)state;
    tree_write(&world.from, "a", "some bytes", 10);
    tree_write(&world.from, "b", "more", 4);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", "b", NULL});
    for (int lies = 1; lies <= 2; lies++) {
        struct source *source = new_lying(&l, lies);
        assert_ok(run_batch_from(source, &l));
        // Two lies hit a and b once each: both second attempts succeed.
        assert_int_equal(world.results[0].outcome, TRANSFER_DELIVERED);
        assert_int_equal(world.results[1].outcome, TRANSFER_DELIVERED);
        assert_file_is(&world.to, "out/a", "some bytes", 10);
        source_free(source);
    }
    struct source *source = new_lying(&l, 4);
    assert_int_equal(unlinkat(world.to.fd, "out/a", 0), 0);
    assert_ok(run_batch_from(source, &l));
    assert_int_equal(world.results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(world.results[0].failure.err, ERR_CORRUPT);
    assert_non_null(strstr(world.results[0].failure.message, "at the source and"));
    assert_int_equal(tree_count(&world.to, "out"), 1); // b of before
    source_free(source);
    tree_table_free(&l);
}

static void more_objects_than_the_window_come_in_order(void **state) {
    (void)state;
    enum { N = 250 };
    struct tree_table l;
    object_table_init(&l.builder);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof(name), "f%d", i);
        tree_write(&world.from, name, name, strlen(name));
        tree_table_add(&l, &world.from, name);
    }
    tree_table_done(&l);
    struct source *source = new_lying(&l, 3);
    assert_ok(run_batch_from(source, &l));
    for (int i = 0; i < N; i++) {
        assert_int_equal(world.results[i].outcome, TRANSFER_DELIVERED);
    }
    assert_int_equal(lying(source)->n_opened, N + 3);
    source_free(source);
    tree_table_free(&l);
}

// ---- large objects ----

static void a_large_object_arrives_in_parts(void **state) {
    (void)state;
    size_t n = 70 * 1000 * 1000 + 11;
    uint8_t *big = tree_pattern(n, 5);
    tree_write(&world.from, "big", big, n);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"big", NULL});
    struct large_world x;
    large_open(&x, &l);

    const uint64_t part = 9 * LEAF_BYTES; // more than a step
    uint8_t *leaves = NULL;
    size_t n_leaves = 0;
    for (uint64_t at = 0; at < n; at += part) {
        bool lie = at > 0; // from a source whose first bytes change on the way
        struct source *source = lie ? new_lying(&l, 1) : new_source(&l);
        struct transfer_part done;
        uint64_t len = n - at < part ? n - at : part;
        assert_ok(large_part(&x, source, at, len, &done));
        assert_int_equal(done.done_bytes, len);
        assert_true(done.synced);
        leaves = realloc(leaves, (n_leaves + done.n_leaves) * 16);
        memcpy(leaves + n_leaves * 16, done.leaf_digests, done.n_leaves * 16);
        n_leaves += done.n_leaves;
        free(done.leaf_digests);
        source_free(source);
    }
    size_t n_want;
    uint8_t *want = leaf_digests_of(big, n, &n_want);
    assert_int_equal(n_want, n_leaves);
    assert_memory_equal(want, leaves, n_want * 16);
    free(want);
    free(leaves);

    large_finish(&x);
    assert_file_is(&world.to, "out/big", big, n);
    large_finish(&x);
    assert_int_equal(tree_count(&world.to, "out"), 1);
    large_close(&x);
    tree_table_free(&l);
    free(big);
}

static void a_part_that_yields_reports_whole_leaves(void **state) {
    (void)state;
    size_t n = 3 * LEAF_BYTES + 5;
    uint8_t *big = tree_pattern(n, 6);
    tree_write(&world.from, "big", big, n);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"big", NULL});
    struct large_world x;
    large_open(&x, &l);
    struct source *source = new_lying(&l, 0);
    lying(source)->yield_after = LEAF_BYTES / TRANSFER_BUFFER_BYTES + 3; // inside the second leaf
    struct transfer_part done;
    assert_ok(large_part(&x, source, 0, n, &done));
    assert_int_equal(done.done_bytes, 2 * LEAF_BYTES);
    assert_int_equal(done.n_leaves, 2);
    free(done.leaf_digests);
    source_free(source);

    // A failure later on, even at a leaf's last bytes, keeps what was there before it.
    atomic_store(&world.control.yield, false);
    for (int at = 2; at <= (int)(LEAF_BYTES / TRANSFER_BUFFER_BYTES); at *= 2) {
        source = new_source(&l);
        pwrite_fault = (struct fault){.fail_at = (int)(LEAF_BYTES / TRANSFER_BUFFER_BYTES) + at,
                                      .errnum = EIO};
        assert_err(large_part(&x, source, 0, n, &done), ERR_IO);
        assert_int_equal(done.done_bytes, LEAF_BYTES);
        free(done.leaf_digests);
        source_free(source);
    }
    large_close(&x);
    tree_table_free(&l);
    free(big);
}

static void shared_blocks_are_not_read_and_the_copy_is_exact(void **state) {
    (void)state;
    size_t n = 2 * LEAF_BYTES + 12345;
    uint8_t *bytes = tree_pattern(n, 11);
    tree_write(&world.from, "a", bytes, n);
    struct tree_table l;
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(n_reflinks, 0);
    assert_true(world.results[0].has_digest);
    can_reflink = true;
    int n_writes = atomic_load(&pwrite_fault.calls);
    uint64_t hash_us = world.times.hash_us;
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(n_reflinks, 1);
    assert_int_equal(atomic_load(&pwrite_fault.calls), n_writes);
    assert_false(world.results[0].has_digest);
    assert_int_equal(world.results[0].bytes, n);
    assert_int_equal(world.times.hash_us, hash_us);
    assert_file_is(&world.to, "out/a", bytes, n);

    struct large_world x;
    struct source *source = new_source(&l);
    struct transfer_part part;
    large_open(&x, &l);
    assert_ok(large_part(&x, source, LEAF_BYTES, n - LEAF_BYTES, &part));
    assert_int_equal(part.done_bytes, n - LEAF_BYTES);
    assert_null(part.leaf_digests);
    assert_ok(large_part(&x, source, 0, LEAF_BYTES, &part));
    assert_null(part.leaf_digests);
    large_finish(&x);
    assert_int_equal(n_reflinks, 3);
    assert_int_equal(atomic_load(&pwrite_fault.calls), n_writes);
    assert_file_is(&world.to, "out/a", bytes, n);
    large_close(&x);
    source_free(source);
    tree_table_free(&l);
    free(bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_byte_that_changed_on_the_way_is_sent_again),
        TEST(more_objects_than_the_window_come_in_order),
        TEST(a_large_object_arrives_in_parts),
        TEST(a_part_that_yields_reports_whole_leaves),
        TEST(shared_blocks_are_not_read_and_the_copy_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
