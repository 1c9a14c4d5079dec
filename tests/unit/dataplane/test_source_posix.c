// SPDX-License-Identifier: Apache-2.0
// WRAP: pread
// What the contract test cannot see: holes, short reads, races, long paths, other kinds.
#include "dataplane/source_posix.h"
#include "tests/lib/fault.h"
#include "tests/lib/tree.h"

static struct fault pread_fault;
static size_t pread_at_most;
static int truncate_fd = -1; // cut to nothing before the next read
ssize_t __real_pread(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t offset) {
    if (fault_hits(&pread_fault)) {
        return -1;
    }
    if (truncate_fd >= 0) {
        assert_int_equal(ftruncate(truncate_fd, 0), 0);
        close(truncate_fd);
        truncate_fd = -1;
    }
    return __real_pread(fd, buf, pread_at_most > 0 && n > pread_at_most ? pread_at_most : n,
                        offset);
}

static struct tree tree;
static struct tree_table list;
static struct source *source;
static uint8_t buffer[1 << 20];

static int setup(void **state) {
    (void)state;
    pread_fault = (struct fault){0};
    pread_at_most = 0;
    tree_new(&tree);
    source = NULL;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (source) {
        source_free(source);
        tree_table_free(&list);
    }
    pread_fault = (struct fault){0};
    tree_free(&tree);
    return 0;
}

static void serve(const char *const *paths) {
    tree_table_new(&list, &tree, paths);
    assert_ok(source_posix_new(tree.fd, NULL, 0, &list.table, &source, NULL));
}

static struct source_found open_whole(uint32_t index) {
    struct source_range r = {.index = index, .length = SOURCE_TO_END};
    struct source_found found;
    assert_ok(source_open(source, &r, &found, NULL));
    return found;
}

static void holes_are_told_without_reading_them(void **state) {
    (void)state;
    int fd = openat(tree.fd, "sparse", O_RDWR | O_CREAT, 0644);
    assert_int_equal(ftruncate(fd, 32 << 20), 0);
    assert_int_equal(pwrite(fd, "x", 1, 8 << 20), 1);
    close(fd);
    serve((const char *[]){"sparse", NULL});
    open_whole(0);
    uint64_t total = 0, holes = 0;
    for (;;) {
        size_t len;
        uint64_t hole;
        assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
        if (len == 0 && hole == 0) {
            break;
        }
        total += len + hole;
        holes += hole;
    }
    assert_int_equal(total, 32 << 20);
    assert_true(holes > 30 << 20);
    struct source_closed closed;
    assert_ok(source_close(source, &closed, NULL));
}

static void short_reads_are_not_the_end(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(10000, 1);
    tree_write(&tree, "f", bytes, 10000);
    serve((const char *[]){"f", NULL});
    open_whole(0);
    pread_at_most = 999;
    size_t done = 0;
    for (;;) {
        size_t len;
        uint64_t hole;
        assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
        if (len == 0) {
            break;
        }
        assert_true(len <= 999);
        assert_memory_equal(buffer, bytes + done, len);
        done += len;
    }
    assert_int_equal(done, 10000);
    free(bytes);
}

static void a_failed_read_names_the_object(void **state) {
    (void)state;
    tree_write(&tree, "f", "text", 4);
    serve((const char *[]){"f", NULL});
    open_whole(0);
    pread_fault = (struct fault){.fail_at = 1, .errnum = EIO};
    struct failure f = {0};
    size_t len;
    uint64_t hole;
    assert_err(source_read(source, buffer, sizeof(buffer), &len, &hole, &f), ERR_IO);
    assert_int_equal(f.errnum, EIO);
    assert_int_equal(f.object_len, 1);
    assert_string_equal(f.operation, "read");
}

static void a_file_that_shrinks_is_a_changed_source(void **state) {
    (void)state;
    tree_write(&tree, "f", "text", 4);
    serve((const char *[]){"f", NULL});
    open_whole(0);
    truncate_fd = openat(tree.fd, "f", O_RDWR);
    size_t len;
    uint64_t hole;
    assert_err(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL), ERR_SOURCE_CHANGED);
}

static void a_file_written_to_while_it_is_read_is_a_changed_source(void **state) {
    (void)state;
    tree_write(&tree, "f", "text", 4);
    serve((const char *[]){"f", NULL});
    open_whole(0);
    size_t len;
    uint64_t hole;
    assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
    tree_write(&tree, "f", "longer text", 11);
    struct source_closed closed;
    assert_err(source_close(source, &closed, NULL), ERR_SOURCE_CHANGED);
}

static void links_are_found_and_not_followed(void **state) {
    (void)state;
    tree_write(&tree, "f", "text", 4);
    assert_int_equal(symlinkat("f", tree.fd, "l"), 0);
    assert_int_equal(mknodat(tree.fd, "p", S_IFIFO | 0600, 0), 0);
    serve((const char *[]){"l", "f", "p", NULL});
    struct source_found found = open_whole(0);
    assert_int_equal(found.entry.type, OBJECT_SYMLINK);
    assert_int_equal(found.entry.target_len, 1);
    assert_memory_equal(found.entry.target, "f", 1);
    size_t len;
    uint64_t hole;
    assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
    assert_int_equal(len, 0);
    struct source_closed closed;
    assert_ok(source_close(source, &closed, NULL));
    assert_int_equal(open_whole(2).entry.type, OBJECT_FIFO); // and nobody waits for a writer
    assert_ok(source_close(source, &closed, NULL));

    // A file that became a link, or a fifo.
    assert_int_equal(unlinkat(tree.fd, "f", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", tree.fd, "f"), 0);
    struct source_range r = {.index = 1, .accept_changed = true, .length = SOURCE_TO_END};
    assert_err(source_open(source, &r, &found, NULL), ERR_SOURCE_CHANGED);
    assert_int_equal(unlinkat(tree.fd, "f", 0), 0);
    assert_int_equal(mknodat(tree.fd, "f", S_IFIFO | 0600, 0), 0);
    assert_err(source_open(source, &r, &found, NULL), ERR_SOURCE_CHANGED);
}

static void a_directory_made_anew_is_found_again(void **state) {
    (void)state;
    tree_mkdir(&tree, "d");
    tree_write(&tree, "d/a", "a", 1);
    tree_write(&tree, "d/b", "b", 1);
    serve((const char *[]){"d/a", "d/b", NULL});
    open_whole(0);
    struct source_closed closed;
    assert_ok(source_close(source, &closed, NULL));
    assert_int_equal(renameat(tree.fd, "d", tree.fd, "e"), 0);
    tree_mkdir(&tree, "d");
    assert_int_equal(renameat(tree.fd, "e/b", tree.fd, "d/b"), 0);
    open_whole(1);
    assert_ok(source_close(source, &closed, NULL));
}

static void a_root_is_put_before_each_path(void **state) {
    (void)state;
    tree_mkdir(&tree, "d");
    tree_write(&tree, "d/f", "text", 4);
    tree_table_new(&list, &tree, (const char *[]){"d/f", NULL});
    struct object_entry e = tree_table_entry(&list, 0);
    struct tree_table single;
    object_table_init(&single.builder);
    e.path_len = 0; // the root is the file itself
    assert_ok(object_table_add(&single.builder, &e));
    tree_table_done(&single);
    assert_ok(source_posix_new(tree.fd, (const uint8_t *)"d/f", 3, &single.table, &source, NULL));
    open_whole(0);
    size_t len;
    uint64_t hole;
    assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
    assert_memory_equal(buffer, "text", 4);
    source_free(source);
    tree_table_free(&single);
    assert_err(source_posix_new(tree.fd, (const uint8_t *)"d/../..", 7, &list.table, &source, NULL),
               ERR_INVALID);
    assert_err(source_posix_new(tree.fd, (const uint8_t *)"/d", 2, &list.table, &source, NULL),
               ERR_INVALID);
    assert_ok(source_posix_new(tree.fd, NULL, 0, &list.table, &source, NULL));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(holes_are_told_without_reading_them),
        TEST(short_reads_are_not_the_end),
        TEST(a_failed_read_names_the_object),
        TEST(a_file_that_shrinks_is_a_changed_source),
        TEST(a_file_written_to_while_it_is_read_is_a_changed_source),
        TEST(links_are_found_and_not_followed),
        TEST(a_directory_made_anew_is_found_again),
        TEST(a_root_is_put_before_each_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
