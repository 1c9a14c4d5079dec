// SPDX-License-Identifier: Apache-2.0
// WRAP: fsync fdatasync syncfs renameat copy_file_range fallocate
// What the contract test cannot see: metadata, links, long paths, kernel calls that fail.
#include "dataplane/object_stat.h"
#include "dataplane/sink_posix.h"
#include "tests/lib/fault.h"
#include "tests/lib/tree.h"

#include <sys/sysmacros.h>

FAULT_WRAP(int, fsync, (int fd), (fd))
FAULT_WRAP(int, fdatasync, (int fd), (fd))
FAULT_WRAP(int, syncfs, (int fd), (fd))
FAULT_WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
FAULT_WRAP(ssize_t, copy_file_range, (int a, off_t *b, int c, off_t *d, size_t e, unsigned f),
           (a, b, c, d, e, f))
FAULT_WRAP(int, fallocate, (int a, int b, off_t c, off_t d), (a, b, c, d))

static struct tree tree;
static struct sink *sink;

static void reset_faults(void) {
    fsync_fault = fdatasync_fault = syncfs_fault = renameat_fault = copy_file_range_fault =
        fallocate_fault = (struct fault){0};
}

static int setup(void **state) {
    (void)state;
    reset_faults();
    tree_new(&tree);
    struct sink_posix_options o = {.volume_fd = tree.fd, .boot_id = "boot-1"};
    assert_ok(sink_posix_new(&o, &sink, NULL));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    reset_faults();
    sink_free(sink);
    tree_free(&tree);
    return 0;
}

static struct object_entry entry(enum object_type type, const char *path) {
    return (struct object_entry){
        .id = 1,
        .type = type,
        .mode = 0640,
        .uid = geteuid(),
        .gid = getegid(),
        .version = {.mtime_ns = -1234567890123456789},
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
    };
}

static const char *temp(uint64_t n) {
    static char names[8][TEMP_NAME_SIZE];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", n, 1, 1, names[n % 8]);
    return names[n % 8];
}

static void on_each(void *user, uint32_t tag, enum err result, const struct failure *failure) {
    (void)tag;
    (void)failure;
    *(enum err *)user = result;
}

static enum err put(const struct object_entry *e, const char *text) {
    struct object_entry sized = *e;
    sized.version.size = strlen(text);
    enum err result = ERR_INTERNAL;
    enum err err = sink_begin(sink, &sized, temp(1), NULL);
    if (err != OK) {
        return err;
    }
    assert_ok(sink_write(sink, 0, text, strlen(text), NULL));
    err = sink_stage(sink, 0, NULL);
    if (err != OK) {
        sink_drop(sink);
        return err;
    }
    assert_ok(sink_finish_staged(sink, DURABILITY_OBJECT, on_each, &result, NULL));
    return result;
}

static struct stat look(const char *path) {
    struct stat st;
    if (fstatat(tree.fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        fail_msg("%s: %s", path, strerror(errno));
    }
    return st;
}

static void assert_time(const struct stat *st) {
    assert_int_equal(st->st_mtim.tv_sec, -1234567891);
    assert_int_equal(st->st_mtim.tv_nsec, 876543211);
}

static void owner_mode_and_times_are_those_of_the_entry(void **state) {
    (void)state;
    struct object_entry e = entry(OBJECT_FILE, "f");
    bool is_root = geteuid() == 0;
    e.mode = 06751;
    e.uid = is_root ? 12345 : e.uid;
    e.gid = is_root ? 54321 : e.gid;
    assert_ok(put(&e, "text"));
    struct stat st = look("f");
    assert_int_equal(st.st_mode & 07777, 06751);
    assert_int_equal(st.st_uid, e.uid);
    assert_int_equal(st.st_gid, e.gid);
    assert_time(&st);
    if (!is_root) { // set-user-ID would name somebody else
        e.uid++;
        assert_ok(put(&e, "text"));
        assert_int_equal(look("f").st_mode & 07777, 02751);
    }
}

static void an_existing_link_is_replaced_and_not_followed(void **state) {
    (void)state;
    tree_write(&tree, "victim", "victim", 6);
    assert_int_equal(symlinkat("victim", tree.fd, "f"), 0);
    struct object_entry e = entry(OBJECT_FILE, "f");
    assert_ok(put(&e, "text"));
    assert_file_is(&tree, "victim", "victim", 6);
    assert_file_is(&tree, "f", "text", 4);
}

static void the_temporary_of_a_broken_attempt_is_replaced(void **state) {
    (void)state;
    tree_write(&tree, temp(1), "left over and longer", 20);
    struct object_entry e = entry(OBJECT_FILE, "f");
    assert_ok(put(&e, "text"));
    assert_file_is(&tree, "f", "text", 4);
    assert_int_equal(tree_count(&tree, "."), 1);
}

static void a_directory_removed_meanwhile_is_made_again(void **state) {
    (void)state;
    struct object_entry e = entry(OBJECT_FILE, "d/f");
    assert_ok(put(&e, "text"));
    assert_int_equal(unlinkat(tree.fd, "d/f", 0), 0);
    assert_int_equal(unlinkat(tree.fd, "d", AT_REMOVEDIR), 0);
    assert_ok(put(&e, "text"));
    assert_file_is(&tree, "d/f", "text", 4);
}

static void directories_get_their_metadata_last(void **state) {
    (void)state;
    struct object_entry d = entry(OBJECT_DIRECTORY, "a/d"), f = entry(OBJECT_FILE, "a/d/f");
    d.mode = 0111; // not even readable
    assert_ok(sink_make_directory(sink, &d, NULL));
    assert_int_equal(look("a/d").st_mode & 077, 0);
    assert_ok(put(&f, "text"));
    assert_ok(sink_set_directory_metadata(sink, &d, NULL));
    assert_ok(sink_sync_directories(sink, NULL));
    struct stat st = look("a/d");
    assert_int_equal(st.st_mode & 07777, 0111);
    assert_time(&st);
    // Once more from the start, as in a later sync.
    sink_free(sink);
    struct sink_posix_options o = {.volume_fd = tree.fd, .boot_id = "boot-1"};
    assert_ok(sink_posix_new(&o, &sink, NULL));
    assert_ok(sink_make_directory(sink, &d, NULL));
    assert_ok(put(&f, "text 2"));
    assert_ok(sink_set_directory_metadata(sink, &d, NULL));
    assert_int_equal(look("a/d").st_mode & 07777, 0111);
    tree_write(&tree, "file", "", 0);
    d = entry(OBJECT_DIRECTORY, "file");
    assert_err(sink_make_directory(sink, &d, NULL), ERR_NOT_DIRECTORY);
    d = entry(OBJECT_DIRECTORY, "");
    d.mode = 0700;
    assert_ok(sink_make_directory(sink, &d, NULL));
    assert_ok(sink_set_directory_metadata(sink, &d, NULL));
}

static void links_fifos_and_devices_are_made_as_they_are(void **state) {
    (void)state;
    struct object_entry l = entry(OBJECT_SYMLINK, "x/l"), p = entry(OBJECT_FIFO, "x/p"),
                        s = entry(OBJECT_SOCKET, "x/s"), c = entry(OBJECT_CHAR_DEVICE, "x/c");
    l.target = (const uint8_t *)"/absolute/\xff";
    l.target_len = 11;
    c.rdev = (uint32_t)makedev(1, 3);
    tree_mkdir(&tree, "x");
    tree_write(&tree, temp(1), "", 0);
    assert_ok(sink_make_special(sink, &l, temp(1), NULL));
    assert_ok(sink_make_special(sink, &l, temp(1), NULL));
    assert_ok(sink_make_special(sink, &p, temp(2), NULL));
    assert_ok(sink_make_special(sink, &s, temp(3), NULL));
    struct stat st = look("x/l");
    assert_time(&st);
    char target[32] = {0};
    assert_int_equal(readlinkat(tree.fd, "x/l", target, sizeof(target)), 11);
    assert_string_equal(target, "/absolute/\xff");
    st = look("x/p");
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_time(&st);
    struct failure f = {0};
    enum err e = sink_make_special(sink, &c, temp(4), &f);
    if (e == OK) {
        st = look("x/c");
        assert_true(S_ISCHR(st.st_mode));
        assert_int_equal(st.st_rdev, makedev(1, 3));
    } else {
        assert_int_equal(e, ERR_DENIED);
        assert_int_equal(f.err, ERR_DENIED);
    }
    tree_mkdir(&tree, "x/dir");
    l = entry(OBJECT_SYMLINK, "x/dir");
    l.target = (const uint8_t *)"t";
    l.target_len = 1;
    assert_err(sink_make_special(sink, &l, temp(5), NULL), ERR_IS_DIRECTORY);
    assert_int_equal(tree_count(&tree, "x"), e == OK ? 5 : 4);
}

static void hard_links_share_their_inode(void **state) {
    (void)state;
    struct object_entry f = entry(OBJECT_FILE, "a/f"), l = entry(OBJECT_FILE, "b/l");
    assert_ok(put(&f, "text"));
    for (int i = 0; i < 2; i++) {
        assert_ok(sink_make_link(sink, &l, (const uint8_t *)"a/f", 3, temp(2), NULL));
        assert_int_equal(look("b/l").st_ino, look("a/f").st_ino);
        assert_int_equal(tree_count(&tree, "b"), 1);
    }
    assert_err(sink_make_link(sink, &l, (const uint8_t *)"none", 4, temp(2), NULL), ERR_NOT_FOUND);
    assert_err(sink_make_link(sink, &l, (const uint8_t *)"../x", 4, temp(2), NULL), ERR_INVALID);
}

static void removing_what_is_not_there_is_success(void **state) {
    (void)state;
    struct object_entry f = entry(OBJECT_FILE, "d/f"), d = entry(OBJECT_DIRECTORY, "d");
    assert_ok(sink_remove(sink, &f, NULL));
    assert_ok(put(&f, "text"));
    assert_err(sink_remove(sink, &d, NULL), ERR_NOT_EMPTY);
    assert_ok(sink_remove(sink, &f, NULL));
    assert_ok(sink_remove(sink, &d, NULL));
    assert_ok(sink_remove(sink, &d, NULL));
    assert_ok(sink_sync_directories(sink, NULL));
    assert_int_equal(tree_count(&tree, "."), 0);
    // Who removed it may have ended before the sync.
    int n_synced = atomic_load(&fsync_fault.calls);
    assert_ok(sink_remove(sink, &d, NULL));
    assert_ok(sink_sync_directories(sink, NULL));
    assert_int_equal(atomic_load(&fsync_fault.calls), n_synced + 1);
}

static void a_directory_whose_sync_failed_is_never_called_synced(void **state) {
    (void)state;
    struct object_entry d = entry(OBJECT_DIRECTORY, "d"), f = entry(OBJECT_FILE, "f");
    struct failure failure = {0};
    assert_ok(sink_make_directory(sink, &d, NULL));
    // The syncs of the file and of its own directory go well.
    fsync_fault = (struct fault){.fail_at = 3, .errnum = EIO};
    assert_ok(put(&f, "text"));
    assert_err(sink_sync_directories(sink, &failure), ERR_IO);
    assert_string_equal(failure.operation, "sync directory");
    assert_memory_equal(failure.object, "d", failure.object_len);
}

static void a_path_longer_than_path_max_is_written(void **state) {
    (void)state;
    enum { LEVELS = 30, NAME = 200 };
    static uint8_t path[LEVELS * (NAME + 1)];
    memset(path, 'p', sizeof(path));
    for (int i = 1; i < LEVELS; i++) {
        path[i * (NAME + 1)] = '/';
    }
    struct object_entry e = entry(OBJECT_FILE, "");
    e.path = path;
    e.path_len = sizeof(path);
    enum sink_identical same;
    assert_ok(put(&e, "deep"));
    e.version.size = 4;
    assert_ok(sink_compare(sink, &e, &same, NULL));
    assert_int_equal(same, SINK_SAME);
    struct receipt r;
    assert_ok(sink_open_large(sink, &e, temp(2), &r, NULL));
    assert_ok(sink_remove_temp(sink, &e, temp(2), NULL));
}

// ---- large objects ----

static void write_large(const struct object_entry *e, struct receipt *ret_open,
                        const uint8_t *bytes) {
    struct receipt part;
    assert_ok(sink_open_large(sink, e, temp(1), ret_open, NULL));
    assert_ok(sink_open_part(sink, e, temp(1), ret_open, NULL));
    assert_ok(sink_write(sink, 0, bytes, 1 << 20, NULL));
    assert_ok(sink_write_hole(sink, 1 << 20, 7 << 20, NULL));
    assert_ok(sink_close_part(sink, true, &part, NULL));
    assert_non_null(memmem(part.bytes, part.len, "boot-1", 6));
}

static void a_hole_takes_away_what_an_earlier_attempt_wrote(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(8 << 20, 1), *want = calloc(1, 8 << 20);
    struct object_entry e = entry(OBJECT_FILE, "large");
    struct receipt open, part;
    e.version.size = 8 << 20;
    for (int has_punch = 0; has_punch < 2; has_punch++) {
        assert_ok(sink_open_large(sink, &e, temp(1), &open, NULL));
        assert_ok(sink_open_part(sink, &e, temp(1), &open, NULL));
        assert_ok(sink_write(sink, 0, bytes, 8 << 20, NULL));
        fallocate_fault = (struct fault){.fail_at = has_punch ? 0 : 1, .errnum = EOPNOTSUPP};
        assert_ok(sink_write_hole(sink, 1 << 20, 7 << 20, NULL));
        assert_ok(sink_close_part(sink, false, &part, NULL));
        assert_ok(sink_finish_large(sink, &e, temp(1), &open, NULL, NULL, DURABILITY_OBJECT, NULL));
        memcpy(want, bytes, 1 << 20);
        assert_file_is(&tree, "large", want, 8 << 20);
        struct stat st = look("large");
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_time(&st);
    }
    free(bytes);
    free(want);
}

static void a_failed_sync_of_a_part_is_no_receipt(void **state) {
    (void)state;
    struct object_entry e = entry(OBJECT_FILE, "large");
    struct receipt open, part;
    e.version.size = 4;
    assert_ok(sink_open_large(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_open_part(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_write(sink, 0, "text", 4, NULL));
    fdatasync_fault = (struct fault){.fail_at = 1, .errnum = ENOSPC};
    assert_err(sink_close_part(sink, true, &part, NULL), ERR_NO_SPACE);
    fsync_fault = (struct fault){.fail_at = 1, .errnum = EIO};
    assert_err(sink_sync_large(sink, &e, temp(1), &open, NULL), ERR_IO);
    atomic_store(&fsync_fault.calls, 0);
    assert_err(sink_finish_large(sink, &e, temp(1), &open, NULL, NULL, DURABILITY_OBJECT, NULL),
               ERR_IO);
    assert_int_equal(faccessat(tree.fd, "large", F_OK, 0), -1);
    assert_ok(sink_open_part(sink, &e, temp(1), &open, NULL)); // it is all still there
    sink_drop(sink);
}

static void a_fresh_copy_has_the_same_bytes_and_holes(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(1 << 20, 2), *want = calloc(1, 8 << 20);
    memcpy(want, bytes, 1 << 20);
    struct object_entry e = entry(OBJECT_FILE, "large");
    struct receipt open;
    e.version.size = 8 << 20;
    for (int by_kernel = 0; by_kernel < 2; by_kernel++) {
        write_large(&e, &open, bytes);
        ino_t inode = look(temp(1)).st_ino;
        copy_file_range_fault =
            (struct fault){.fail_at = by_kernel ? 0 : 1, .fail_more = 999, .errnum = EXDEV};
        // The first finish breaks off at the rename; the next starts again.
        renameat_fault = (struct fault){.fail_at = 1, .errnum = EACCES};
        assert_err(
            sink_finish_large(sink, &e, temp(1), &open, NULL, temp(2), DURABILITY_OBJECT, NULL),
            ERR_DENIED);
        assert_ok(
            sink_finish_large(sink, &e, temp(1), &open, NULL, temp(2), DURABILITY_OBJECT, NULL));
        assert_file_is(&tree, "large", want, 8 << 20);
        assert_true(look("large").st_blocks * 512 < 2 << 20);
        assert_int_not_equal(look("large").st_ino, inode);
        assert_int_equal(tree_count(&tree, "."), 1);
    }
    free(bytes);
    free(want);
}

static void a_directory_in_the_way_is_told_before_the_bytes_come(void **state) {
    (void)state;
    struct object_entry e = entry(OBJECT_FILE, "large");
    struct receipt open;
    tree_mkdir(&tree, "large");
    assert_err(sink_open_large(sink, &e, temp(1), &open, NULL), ERR_IS_DIRECTORY);
    assert_int_equal(tree_count(&tree, "."), 1);
}

static void what_was_there_before_is_synced_with_its_directory(void **state) {
    (void)state;
    struct object_entry e = entry(OBJECT_FILE, "there");
    enum sink_identical same = SINK_DIFFERS;
    struct failure f = {0};
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      object_timespec_from_ns(e.version.mtime_ns)};
    int fd = openat(tree.fd, "there", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    assert_ok(sink_sync_directories(sink, &f));
    assert_int_equal(atomic_load(&syncfs_fault.calls), 0);
    assert_ok(sink_compare(sink, &e, &same, &f));
    assert_int_equal(same, SINK_SAME);
    assert_ok(sink_sync_directories(sink, &f));
    assert_int_equal(atomic_load(&syncfs_fault.calls), 1);
    assert_ok(sink_sync_directories(sink, &f));
    assert_int_equal(atomic_load(&syncfs_fault.calls), 1);
    assert_ok(sink_compare(sink, &e, &same, &f));
    syncfs_fault = (struct fault){.fail_at = 1, .errnum = EIO};
    assert_err(sink_sync_directories(sink, &f), ERR_IO);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(owner_mode_and_times_are_those_of_the_entry),
        TEST(an_existing_link_is_replaced_and_not_followed),
        TEST(the_temporary_of_a_broken_attempt_is_replaced),
        TEST(a_directory_removed_meanwhile_is_made_again),
        TEST(directories_get_their_metadata_last),
        TEST(links_fifos_and_devices_are_made_as_they_are),
        TEST(hard_links_share_their_inode),
        TEST(removing_what_is_not_there_is_success),
        TEST(a_directory_whose_sync_failed_is_never_called_synced),
        TEST(what_was_there_before_is_synced_with_its_directory),
        TEST(a_path_longer_than_path_max_is_written),
        TEST(a_hole_takes_away_what_an_earlier_attempt_wrote),
        TEST(a_failed_sync_of_a_part_is_no_receipt),
        TEST(a_fresh_copy_has_the_same_bytes_and_holes),
        TEST(a_directory_in_the_way_is_told_before_the_bytes_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
