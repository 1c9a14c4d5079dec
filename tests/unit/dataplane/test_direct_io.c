// SPDX-License-Identifier: Apache-2.0
// WRAP: pread pwrite
// What goes past the page cache, and what does not: on a file system that can, and on one that
// takes the flag and then refuses.
#include "tests/unit/dataplane/transfer_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { STEPS = 48, TAIL_BYTES = 100, FILE_BYTES = STEPS * TRANSFER_BUFFER_BYTES + TAIL_BYTES };

static struct calls { // by how their descriptors were set
    int direct, cached;
} reads, writes;
static bool refuses;

static bool is_direct(int fd) {
    return (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
}

ssize_t __real_pread(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t offset) {
    *(is_direct(fd) ? &reads.direct : &reads.cached) += 1;
    if (refuses && is_direct(fd)) {
        errno = EINVAL;
        return -1;
    }
    return __real_pread(fd, buf, n, offset);
}

ssize_t __real_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t offset) {
    *(is_direct(fd) ? &writes.direct : &writes.cached) += 1;
    if (refuses && is_direct(fd)) {
        errno = EINVAL;
        return -1;
    }
    return __real_pwrite(fd, buf, n, offset);
}

static int setup(void **state) {
    (void)state;
    world_set_up();
    refuses = false;
    memset(&reads, 0, sizeof(reads));
    memset(&writes, 0, sizeof(writes));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    world_tear_down();
    return 0;
}

static void move_and_compare(uint64_t direct_from_bytes) {
    uint8_t *bytes = tree_pattern(FILE_BYTES, 3);
    struct tree_table l;
    tree_write(&world.from, "a", bytes, FILE_BYTES);
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    world.direct_from_bytes = direct_from_bytes;
    memset(&reads, 0, sizeof(reads));
    memset(&writes, 0, sizeof(writes));
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(world.results[0].outcome, TRANSFER_DELIVERED);
    const struct calls before = reads;
    assert_file_is(&world.to, "out/a", bytes, FILE_BYTES);
    reads = before;
    tree_table_free(&l);
    free(bytes);
}

static void all_but_the_unaligned_end_goes_past_the_cache(void **state) {
    (void)state;
    move_and_compare(FILE_BYTES);
    assert_int_equal(reads.direct, STEPS);
    assert_int_equal(reads.cached, 1);
    assert_int_equal(writes.direct, STEPS);
    assert_int_equal(writes.cached, 1);
}

static void smaller_files_go_through_it(void **state) {
    (void)state;
    move_and_compare(FILE_BYTES + 1);
    assert_int_equal(reads.direct + writes.direct, 0);
    move_and_compare(0);
    assert_int_equal(reads.direct + writes.direct, 0);
}

static void a_file_system_that_refuses_is_asked_once(void **state) {
    (void)state;
    refuses = true;
    move_and_compare(1);
    assert_int_equal(reads.direct, 1);
    assert_int_equal(reads.cached, STEPS + 1);
    assert_int_equal(writes.direct, 1);
    assert_int_equal(writes.cached, STEPS + 1);
}

static void a_part_is_written_past_the_cache(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(FILE_BYTES, 4);
    struct tree_table l;
    tree_write(&world.from, "a", bytes, FILE_BYTES);
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    world.direct_from_bytes = 1;
    struct large_world x;
    struct source *source = new_source(&l);
    struct transfer_part part;
    large_open(&x, &l);
    assert_ok(large_part(&x, source, 0, FILE_BYTES, &part));
    free(part.leaf_digests);
    assert_int_equal(writes.direct, STEPS);
    large_finish(&x);
    assert_file_is(&world.to, "out/a", bytes, FILE_BYTES);
    large_close(&x);
    source_free(source);
    tree_table_free(&l);
    free(bytes);
}

static void memory_that_is_not_aligned_goes_through_the_cache(void **state) {
    (void)state;
    enum { N = 64 << 10 };
    static uint8_t in[N + 1] __attribute__((aligned(4096)));
    uint8_t *bytes = tree_pattern(N, 5);
    struct tree_table l;
    tree_write(&world.from, "a", bytes, N);
    tree_table_new(&l, &world.from, (const char *[]){"a", NULL});
    world.direct_from_bytes = 1;
    struct source *source = new_source(&l);
    struct source_range range = {.length = SOURCE_TO_END};
    struct source_found found;
    struct source_closed closed;
    size_t len;
    uint64_t hole;
    assert_ok(source_open(source, &range, &found, NULL));
    assert_ok(source_read(source, in + 1, 8192, &len, &hole, NULL));
    assert_int_equal(len, 8192);
    assert_memory_equal(in + 1, bytes, 8192);
    assert_int_equal(reads.direct, 0);
    assert_ok(source_read(source, in, 8192, &len, &hole, NULL)); // and the next one past it
    assert_memory_equal(in, bytes + 8192, 8192);
    assert_int_equal(reads.direct, 1);
    assert_ok(source_close(source, &closed, NULL));
    source_free(source);
    tree_table_free(&l);
    free(bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(all_but_the_unaligned_end_goes_past_the_cache),
        TEST(smaller_files_go_through_it),
        TEST(a_file_system_that_refuses_is_asked_once),
        TEST(a_part_is_written_past_the_cache),
        TEST(memory_that_is_not_aligned_goes_through_the_cache),
    };
    struct tree t;
    tree_new(&t);
    tree_write(&t, "probe", "x", 1);
    int fd = openat(t.fd, "probe", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
    }
    tree_free(&t);
    if (fd < 0) {
        fprintf(stderr, "skipped: the file system of $TMPDIR (/tmp) has no O_DIRECT\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
