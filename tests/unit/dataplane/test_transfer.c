// SPDX-License-Identifier: Apache-2.0
// WRAP: pwrite fsync syncfs renameat ioctl
// Moving objects from a local directory to another, and from sources that misbehave.
#include "common/cleanup.h"
#include "dataplane/sink_posix.h"
#include "dataplane/source_impl.h"
#include "dataplane/source_posix.h"
#include "dataplane/transfer.h"
#include "tests/lib/fault.h"
#include "tests/lib/tree.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

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

static const char flow[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
static struct tree from, to;
static char buffer[64 << 10] __attribute__((aligned(4096)));
static struct transfer_control control;
static struct transfer_times times;
static bool fence_open;

static int setup(void **state) {
    (void)state;
    fsync_fault = syncfs_fault = renameat_fault = pwrite_fault = (struct fault){0};
    pwrite_at_most = 0;
    can_reflink = false;
    n_reflinks = 0;
    fence_open = true;
    memset(&control, 0, sizeof(control));
    memset(&times, 0, sizeof(times));
    tree_new(&from);
    tree_new(&to);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fsync_fault = syncfs_fault = renameat_fault = pwrite_fault = (struct fault){0};
    tree_free(&from);
    tree_free(&to);
    return 0;
}

static bool may_act(void *user) {
    (void)user;
    return fence_open;
}

static struct sink *new_sink(void) {
    struct sink *sink;
    struct sink_posix_options o = {
        .volume_fd = to.fd,
        .root = (const uint8_t *)"out",
        .root_len = 3,
        .boot_id = "boot",
        .fence = {.may_act = may_act},
    };
    assert_ok(sink_posix_new(&o, &sink, NULL));
    return sink;
}

static struct source *new_source(const struct tree_table *l) {
    struct source *source;
    assert_ok(source_posix_new(from.fd, NULL, 0, &l->table, &source, NULL));
    return source;
}

static struct transfer_options options_of(struct source *source, struct sink *sink,
                                          const struct tree_table *l) {
    return (struct transfer_options){
        .source = source,
        .sink = sink,
        .table = &l->table,
        .digest = HASH_XXH3_128,
        .durability = DURABILITY_OBJECT,
        .flow = flow,
        .major = 1,
        .minor = 7,
        .buffer = buffer,
        .buffer_bytes = sizeof(buffer),
        .control = &control,
        .times = &times,
    };
}

static struct transfer_object results[OBJECT_TABLE_MAX_OBJECTS];

// One batch with a source and a sink of its own.
static enum err run_batch(const struct tree_table *l, enum durability durability, bool skip,
                          struct failure *ret_failure) {
    struct source *source = new_source(l);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, l);
    o.durability = durability;
    o.skip_identical = skip;
    memset(results, 0, sizeof(results));
    enum err e = transfer_batch(&o, results, ret_failure);
    sink_free(sink);
    source_free(source);
    return e;
}

static void bytes_and_metadata_arrive_exactly(void **state) {
    (void)state;
    size_t n = 5 * 1000 * 1000 + 3;
    uint8_t *big = tree_pattern(n, 1);
    tree_mkdir(&from, "d");
    tree_mkdir(&from, "d/e");
    tree_write(&from, "d/e/big", big, n);
    tree_write(&from, "d/empty", "", 0);
    tree_write(&from, "d/\xff\n\t?", "x", 1);
    assert_int_equal(fchmodat(from.fd, "d/e/big", 0751, 0), 0);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 86400, .tv_nsec = 987654321}};
    assert_int_equal(utimensat(from.fd, "d/e/big", t, 0), 0);

    const enum durability all[] = {DURABILITY_NONE, DURABILITY_OBJECT, DURABILITY_TASK};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct tree_table l;
        tree_table_new(&l, &from, (const char *[]){"d/e/big", "d/empty", "d/\xff\n\t?", NULL});
        assert_ok(run_batch(&l, all[i], false, NULL));
        for (int k = 0; k < 3; k++) {
            assert_int_equal(results[k].outcome, TRANSFER_DELIVERED);
        }
        assert_int_equal(results[0].bytes, n);
        assert_file_is(&to, "out/d/e/big", big, n);
        assert_file_is(&to, "out/d/empty", "", 0);
        assert_file_is(&to, "out/d/\xff\n\t?", "x", 1);
        assert_int_equal(tree_count(&to, "out/d"), 3); // no temporary is left
        struct stat st;
        assert_int_equal(fstatat(to.fd, "out/d/e/big", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0751);
        assert_int_equal(st.st_mtim.tv_sec, 86400);
        assert_int_equal(st.st_mtim.tv_nsec, 987654321);

        struct leaf_hasher *h = leaf_hasher_new(HASH_XXH3_128);
        const uint8_t *leaves;
        size_t n_leaves;
        struct digest want;
        assert_ok(leaf_hasher_update(h, big, n));
        assert_ok(leaf_hasher_finish(h, &leaves, &n_leaves));
        assert_int_equal(n_leaves, 2);
        tree_digest(HASH_XXH3_128, n, leaves, n_leaves, &want);
        assert_memory_equal(want.bytes, results[0].digest.bytes, 16);
        leaf_hasher_free(h);
        tree_table_free(&l);
    }
    assert_int_equal(atomic_load(&control.objects), 9);
    free(big);
}

static void holes_stay_holes(void **state) {
    (void)state;
    int fd = openat(from.fd, "sparse", O_RDWR | O_CREAT, 0644);
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    assert_int_equal(pwrite(fd, "data", 4, 20 << 20), 4);
    close(fd);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"sparse", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_DELIVERED);
    struct stat st;
    assert_int_equal(fstatat(to.fd, "out/sparse", &st, 0), 0);
    assert_int_equal(st.st_size, 64 << 20);
    assert_true(st.st_blocks * 512 < 1 << 20);
    char got[4];
    fd = openat(to.fd, "out/sparse", O_RDONLY);
    assert_int_equal(pread(fd, got, 4, 20 << 20), 4);
    assert_memory_equal(got, "data", 4);
    close(fd);
    tree_table_free(&l);
}

static void a_failed_write_leaves_nothing_behind(void **state) {
    (void)state;
    tree_write(&from, "a", "aaaa", 4);
    tree_write(&from, "b", "bbbb", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "b", NULL});
    pwrite_fault = (struct fault){.fail_at = 3, .errnum = EIO}; // two were written by tree_write
    atomic_store(&pwrite_fault.calls, 2);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(results[0].failure.err, ERR_IO);
    assert_int_equal(results[0].failure.errnum, EIO);
    assert_memory_equal(results[0].failure.object, "out/a", 5);
    assert_int_equal(results[1].outcome, TRANSFER_DELIVERED);
    assert_int_equal(tree_count(&to, "out"), 1);
    tree_table_free(&l);
}

static void no_space_fails_the_object_and_ends_the_task(void **state) {
    (void)state;
    tree_write(&from, "a", "aaaa", 4);
    tree_write(&from, "b", "bbbb", 4);
    tree_write(&from, "c", "cccc", 4);
    struct tree_table l;
    struct failure f = {0};
    tree_table_new(&l, &from, (const char *[]){"a", "b", "c", NULL});
    atomic_store(&pwrite_fault.calls, 0);
    pwrite_fault.fail_at = 2;
    pwrite_fault.errnum = ENOSPC;
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, &f), ERR_NO_SPACE);
    assert_int_equal(f.err, ERR_NO_SPACE);
    assert_int_equal(results[0].outcome, TRANSFER_DELIVERED); // complete: not thrown away
    assert_int_equal(results[1].outcome, TRANSFER_FAILED);
    assert_int_equal(results[2].outcome, TRANSFER_UNSTARTED);
    assert_int_equal(tree_count(&to, "out"), 1);
    tree_table_free(&l);
}

static void short_writes_are_completed(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(100000, 3);
    tree_write(&from, "a", bytes, 100000);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    pwrite_at_most = 777;
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_file_is(&to, "out/a", bytes, 100000);
    tree_table_free(&l);
    free(bytes);
}

static void a_failed_sync_fails_its_object_only(void **state) {
    (void)state;
    tree_write(&from, "a", "aaaa", 4);
    tree_write(&from, "b", "bbbb", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "b", NULL});
    fsync_fault = (struct fault){.fail_at = 1, .errnum = EIO};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(results[1].outcome, TRANSFER_DELIVERED);
    assert_int_equal(tree_count(&to, "out"), 1);
    tree_table_free(&l);
}

static void an_unsynced_directory_means_not_delivered(void **state) {
    (void)state;
    tree_write(&from, "a", "aaaa", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    fsync_fault = (struct fault){.fail_at = 2, .fail_more = 9, .errnum = EIO};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_FAILED);
    assert_string_equal(results[0].failure.operation, "sync directory");
    tree_table_free(&l);
}

static void nothing_is_synced_that_need_not_be(void **state) {
    (void)state;
    tree_write(&from, "a", "aaaa", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    assert_ok(run_batch(&l, DURABILITY_NONE, false, NULL));
    assert_int_equal(atomic_load(&fsync_fault.calls) + atomic_load(&syncfs_fault.calls), 0);
    tree_table_free(&l);
}

static void a_failed_rename_leaves_the_old_object(void **state) {
    (void)state;
    tree_mkdir(&to, "out");
    tree_write(&to, "out/a", "old", 3);
    tree_write(&from, "a", "newer", 5);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    renameat_fault = (struct fault){.fail_at = 1, .errnum = EACCES};
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].failure.err, ERR_DENIED);
    assert_file_is(&to, "out/a", "old", 3);
    assert_int_equal(tree_count(&to, "out"), 1);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_file_is(&to, "out/a", "newer", 5);
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
        tree_write(&from, name, name, strlen(name));
        tree_table_add(&l, &from, name);
    }
    tree_table_done(&l);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    for (int i = 0; i < N; i++) {
        assert_int_equal(results[i].outcome, TRANSFER_DELIVERED);
    }
    assert_int_equal(tree_count(&to, "out"), N);
    assert_true(atomic_load(&syncfs_fault.calls) >= 1);
    assert_true(atomic_load(&fsync_fault.calls) < N / 4);
    assert_file_is(&to, "out/f599", "f599", 4);

    // A failed syncfs is not believed: each file is asked.
    syncfs_fault = (struct fault){.fail_at = 1, .fail_more = 99, .errnum = EIO};
    int before = atomic_load(&fsync_fault.calls);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_true(atomic_load(&fsync_fault.calls) - before >= N);
    assert_int_equal(results[N - 1].outcome, TRANSFER_DELIVERED);

    // All the same by now.
    assert_ok(run_batch(&l, DURABILITY_OBJECT, true, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_IDENTICAL);
    assert_int_equal(results[N - 1].outcome, TRANSFER_IDENTICAL);
    tree_table_free(&l);
}

static void links_and_fifos_in_a_batch_are_made(void **state) {
    (void)state;
    assert_int_equal(symlinkat("target\xfe", from.fd, "l"), 0);
    assert_int_equal(mknodat(from.fd, "p", S_IFIFO | 0600, 0), 0);
    tree_mkdir(&from, "d");
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"l", "p", "d", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(results[i].outcome, TRANSFER_DELIVERED);
    }
    char target[32] = {0};
    assert_int_equal(readlinkat(to.fd, "out/l", target, sizeof(target)), 7);
    assert_string_equal(target, "target\xfe");
    struct stat st;
    assert_int_equal(fstatat(to.fd, "out/p", &st, 0), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(fstatat(to.fd, "out/d", &st, 0), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, true, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_IDENTICAL);
    tree_table_free(&l);
}

static void a_source_that_changed_is_read_anew(void **state) {
    (void)state;
    tree_write(&from, "a", "old", 3);
    tree_write(&from, "b", "b", 1);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "b", NULL});
    tree_write(&from, "a", "much newer", 10);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_DELIVERED);
    assert_int_equal(results[0].bytes, 10);
    assert_int_equal(results[1].outcome, TRANSFER_DELIVERED);
    assert_file_is(&to, "out/a", "much newer", 10);
    struct stat was, is;
    assert_int_equal(fstatat(from.fd, "a", &was, 0), 0);
    assert_int_equal(fstatat(to.fd, "out/a", &is, 0), 0);
    assert_memory_equal(&was.st_mtim, &is.st_mtim, sizeof(is.st_mtim));
    tree_table_free(&l);
}

static void a_source_that_is_gone_fails_alone(void **state) {
    (void)state;
    tree_write(&from, "a", "a", 1);
    tree_write(&from, "b", "b", 1);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "b", NULL});
    assert_int_equal(unlinkat(from.fd, "a", 0), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].failure.err, ERR_NOT_FOUND);
    assert_int_equal(results[1].outcome, TRANSFER_DELIVERED);
    tree_table_free(&l);
}

static void what_is_in_the_way_is_named(void **state) {
    (void)state;
    tree_mkdir(&from, "d");
    tree_write(&from, "a", "a", 1);
    tree_write(&from, "d/b", "b", 1);
    tree_write(&from, "c", "c", 1);
    tree_mkdir(&to, "out");
    tree_mkdir(&to, "out/a");
    tree_write(&to, "out/d", "file", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "d/b", "c", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].failure.err, ERR_IS_DIRECTORY);
    assert_int_equal(results[1].failure.err, ERR_NOT_DIRECTORY);
    assert_int_equal(results[2].outcome, TRANSFER_DELIVERED);
    assert_int_equal(unlinkat(to.fd, "out/d", 0), 0);
    assert_int_equal(symlinkat("../..", to.fd, "out/d"), 0);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[1].failure.err, ERR_OUTSIDE);
    tree_table_free(&l);
}

static void a_lost_lease_changes_no_name(void **state) {
    (void)state;
    tree_write(&from, "a", "a", 1);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    fence_open = false;
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, NULL), ERR_FENCED);
    assert_int_equal(results[0].outcome, TRANSFER_UNSTARTED);
    assert_int_equal(faccessat(to.fd, "out", F_OK, 0), -1);
    tree_table_free(&l);
}

static void cancelled_and_yielded_tasks_stop(void **state) {
    (void)state;
    tree_write(&from, "a", "a", 1);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    atomic_store(&control.yield, true);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_UNSTARTED);
    atomic_store(&control.cancelled, true);
    assert_err(run_batch(&l, DURABILITY_OBJECT, false, NULL), ERR_CANCELLED);
    assert_int_equal(results[0].outcome, TRANSFER_UNSTARTED);
    tree_table_free(&l);
}

// ---- a source that gives digests, and can lie ----

struct lying_source {
    struct source source;
    struct source *inner;
    enum hash_algorithm digest;
    struct leaf_hasher *hasher;
    int lies; // so many times a byte is changed on the way
    uint64_t read_in_range;
    int n_announced, n_opened;
    struct source_range announced[256];
    int yield_after; // reads
};

static struct lying_source *lying(struct source *s) {
    return (struct lying_source *)s;
}

static enum err lying_expect(struct source *s, const struct source_range *r, size_t n,
                             struct failure *f) {
    (void)f;
    for (size_t i = 0; i < n; i++) {
        lying(s)->announced[lying(s)->n_announced++] = r[i];
    }
    return OK;
}

static enum err lying_open(struct source *s, const struct source_range *r,
                           struct source_found *found, struct failure *f) {
    // In the order in which they were announced.
    assert_true(lying(s)->n_opened < lying(s)->n_announced);
    const struct source_range *want = &lying(s)->announced[lying(s)->n_opened++];
    assert_int_equal(want->index, r->index);
    assert_true(want->offset == r->offset && want->length == r->length);
    leaf_hasher_reset(lying(s)->hasher);
    return source_open(lying(s)->inner, r, found, f);
}

static enum err lying_read(struct source *s, void *buf, size_t cap, size_t *len, uint64_t *hole,
                           struct failure *f) {
    enum err e = source_read(lying(s)->inner, buf, cap, len, hole, f);
    if (e != OK) {
        return e;
    }
    if (*hole > 0) {
        assert_ok(leaf_hasher_update_zeros(lying(s)->hasher, *hole));
    } else {
        assert_ok(leaf_hasher_update(lying(s)->hasher, buf, *len));
    }
    if (*len > 0 && lying(s)->lies > 0) {
        lying(s)->lies--;
        ((uint8_t *)buf)[*len / 2] ^= 1;
    }
    if (lying(s)->yield_after > 0 && --lying(s)->yield_after == 0) {
        atomic_store(&control.yield, true);
    }
    return OK;
}

static enum err lying_close(struct source *s, struct source_closed *closed, struct failure *f) {
    enum err e = source_close(lying(s)->inner, closed, f);
    if (e == OK) {
        assert_ok(leaf_hasher_finish(lying(s)->hasher, &closed->leaf_digests, &closed->n_leaves));
    }
    return e;
}

static void lying_abort(struct source *s) {
    (void)s;
}

static void lying_destroy(struct source *s) {
    source_free(lying(s)->inner);
    leaf_hasher_free(lying(s)->hasher);
    free(s);
}

static struct source *new_lying(const struct tree_table *l, int lies) {
    static const struct source_ops ops = {
        .kind = "lying",
        .open = lying_open,
        .read = lying_read,
        .close = lying_close,
        .abort = lying_abort,
        .destroy = lying_destroy,
        .expect = lying_expect,
    };
    struct lying_source *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->source.ops = &ops;
    s->source.capabilities = (struct source_capabilities){.has_digests = true, .is_remote = true};
    s->inner = new_source(l);
    s->hasher = leaf_hasher_new(HASH_XXH3_128);
    s->lies = lies;
    return &s->source;
}

static void a_byte_that_changed_on_the_way_is_sent_again(void **state) {
    (void)state;
    tree_write(&from, "a", "some bytes", 10);
    tree_write(&from, "b", "more", 4);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", "b", NULL});
    for (int lies = 1; lies <= 2; lies++) {
        struct source *source = new_lying(&l, lies);
        struct sink *sink = new_sink();
        struct transfer_options o = options_of(source, sink, &l);
        memset(results, 0, sizeof(results));
        assert_ok(transfer_batch(&o, results, NULL));
        // Two lies hit a and b once each: both second attempts succeed.
        assert_int_equal(results[0].outcome, TRANSFER_DELIVERED);
        assert_int_equal(results[1].outcome, TRANSFER_DELIVERED);
        assert_file_is(&to, "out/a", "some bytes", 10);
        sink_free(sink);
        source_free(source);
    }
    struct source *source = new_lying(&l, 4);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, &l);
    memset(results, 0, sizeof(results));
    assert_int_equal(unlinkat(to.fd, "out/a", 0), 0);
    assert_ok(transfer_batch(&o, results, NULL));
    assert_int_equal(results[0].outcome, TRANSFER_FAILED);
    assert_int_equal(results[0].failure.err, ERR_CORRUPT);
    assert_non_null(strstr(results[0].failure.message, "at the source and"));
    assert_int_equal(tree_count(&to, "out"), 1); // b of before
    sink_free(sink);
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
        tree_write(&from, name, name, strlen(name));
        tree_table_add(&l, &from, name);
    }
    tree_table_done(&l);
    struct source *source = new_lying(&l, 3);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, &l);
    memset(results, 0, sizeof(results));
    assert_ok(transfer_batch(&o, results, NULL));
    for (int i = 0; i < N; i++) {
        assert_int_equal(results[i].outcome, TRANSFER_DELIVERED);
    }
    assert_int_equal(lying(source)->n_opened, N + 3);
    sink_free(sink);
    source_free(source);
    tree_table_free(&l);
}

// ---- large objects ----

static void a_large_object_arrives_in_parts(void **state) {
    (void)state;
    size_t n = 70 * 1000 * 1000 + 11;
    uint8_t *big = tree_pattern(n, 5);
    tree_write(&from, "big", big, n);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"big", NULL});
    struct object_entry e = tree_table_entry(&l, 0);
    char temp[TEMP_NAME_SIZE];
    temp_name(flow, e.id, 0, 1, temp);
    struct receipt receipt;
    struct sink *sink = new_sink();
    assert_ok(sink_open_large(sink, &e, temp, &receipt, NULL));

    const uint64_t part = 9 * LEAF_BYTES; // more than a step
    uint8_t *leaves = NULL;
    size_t n_leaves = 0;
    for (uint64_t at = 0; at < n; at += part) {
        bool lie = at > 0; // from a source whose first bytes change on the way
        struct source *source = lie ? new_lying(&l, 1) : new_source(&l);
        struct transfer_options o = options_of(source, sink, &l);
        o.major = 0;
        o.minor = 1;
        struct transfer_part done;
        uint64_t len = n - at < part ? n - at : part;
        assert_ok(transfer_part(&o, at, len, &receipt, &done, NULL));
        assert_int_equal(done.done_bytes, len);
        assert_true(done.synced);
        leaves = realloc(leaves, (n_leaves + done.n_leaves) * 16);
        memcpy(leaves + n_leaves * 16, done.leaf_digests, done.n_leaves * 16);
        n_leaves += done.n_leaves;
        free(done.leaf_digests);
        source_free(source);
    }
    struct leaf_hasher *h = leaf_hasher_new(HASH_XXH3_128);
    const uint8_t *want;
    size_t n_want;
    assert_ok(leaf_hasher_update(h, big, n));
    assert_ok(leaf_hasher_finish(h, &want, &n_want));
    assert_int_equal(n_want, n_leaves);
    assert_memory_equal(want, leaves, n_want * 16);
    leaf_hasher_free(h);
    free(leaves);

    assert_ok(sink_finish_large(sink, &e, temp, &receipt, NULL, NULL, DURABILITY_OBJECT, NULL));
    assert_file_is(&to, "out/big", big, n);
    assert_ok(
        sink_finish_large(sink, &e, temp, &receipt, NULL, NULL, DURABILITY_OBJECT, NULL)); // again
    assert_int_equal(tree_count(&to, "out"), 1);
    sink_free(sink);
    tree_table_free(&l);
    free(big);
}

static void a_part_that_yields_reports_whole_leaves(void **state) {
    (void)state;
    size_t n = 3 * LEAF_BYTES + 5;
    uint8_t *big = tree_pattern(n, 6);
    tree_write(&from, "big", big, n);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"big", NULL});
    struct object_entry e = tree_table_entry(&l, 0);
    char temp[TEMP_NAME_SIZE];
    temp_name(flow, e.id, 0, 1, temp);
    struct receipt receipt;
    struct sink *sink = new_sink();
    assert_ok(sink_open_large(sink, &e, temp, &receipt, NULL));
    struct source *source = new_lying(&l, 0);
    lying(source)->yield_after = LEAF_BYTES / sizeof(buffer) + 3; // inside the second leaf
    struct transfer_options o = options_of(source, sink, &l);
    o.major = 0;
    o.minor = 1;
    struct transfer_part done;
    assert_ok(transfer_part(&o, 0, n, &receipt, &done, NULL));
    assert_int_equal(done.done_bytes, 2 * LEAF_BYTES);
    assert_int_equal(done.n_leaves, 2);
    free(done.leaf_digests);
    source_free(source);

    // A failure later on, even at a leaf's last bytes, keeps what was there before it.
    atomic_store(&control.yield, false);
    for (int at = 2; at <= (int)(LEAF_BYTES / sizeof(buffer)); at *= 2) {
        o.source = new_source(&l);
        pwrite_fault =
            (struct fault){.fail_at = (int)(LEAF_BYTES / sizeof(buffer)) + at, .errnum = EIO};
        assert_err(transfer_part(&o, 0, n, &receipt, &done, NULL), ERR_IO);
        assert_int_equal(done.done_bytes, LEAF_BYTES);
        free(done.leaf_digests);
        source_free(o.source);
    }
    sink_free(sink);
    tree_table_free(&l);
    free(big);
}

static void shared_blocks_give_the_same_result_as_plain_copying(void **state) {
    (void)state;
    size_t n = 2 * LEAF_BYTES + 12345;
    uint8_t *bytes = tree_pattern(n, 11);
    tree_write(&from, "a", bytes, n);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(n_reflinks, 0);
    struct digest plain = results[0].digest;
    can_reflink = true;
    int n_writes = atomic_load(&pwrite_fault.calls);
    assert_ok(run_batch(&l, DURABILITY_OBJECT, false, NULL));
    assert_int_equal(n_reflinks, 1);
    assert_int_equal(atomic_load(&pwrite_fault.calls), n_writes);
    assert_memory_equal(plain.bytes, results[0].digest.bytes, 16);
    assert_file_is(&to, "out/a", bytes, n);

    struct object_entry e = tree_table_entry(&l, 0);
    char temp[TEMP_NAME_SIZE];
    temp_name(flow, e.id, 0, 1, temp);
    struct receipt receipt;
    struct sink *sink = new_sink();
    struct source *source = new_source(&l);
    struct transfer_options o = options_of(source, sink, &l);
    struct transfer_part part;
    o.major = 0;
    o.minor = 1;
    assert_ok(sink_open_large(sink, &e, temp, &receipt, NULL));
    assert_ok(transfer_part(&o, LEAF_BYTES, n - LEAF_BYTES, &receipt, &part, NULL));
    free(part.leaf_digests);
    assert_ok(transfer_part(&o, 0, LEAF_BYTES, &receipt, &part, NULL));
    free(part.leaf_digests);
    assert_ok(sink_finish_large(sink, &e, temp, &receipt, NULL, NULL, DURABILITY_OBJECT, NULL));
    assert_int_equal(n_reflinks, 3);
    assert_int_equal(atomic_load(&pwrite_fault.calls), n_writes);
    assert_file_is(&to, "out/a", bytes, n);
    sink_free(sink);
    source_free(source);
    tree_table_free(&l);
    free(bytes);
}

static void a_rate_limit_spreads_the_bytes(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(500000, 9);
    tree_write(&from, "a", bytes, 500000);
    struct tree_table l;
    tree_table_new(&l, &from, (const char *[]){"a", NULL});
    struct source *source = new_source(&l);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, &l);
    o.bytes_per_s = 2000000;
    memset(results, 0, sizeof(results));
    assert_ok(transfer_batch(&o, results, NULL));
    assert_true(times.wait_us > 50000); // a quarter of a second, less the burst
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
        TEST(a_byte_that_changed_on_the_way_is_sent_again),
        TEST(more_objects_than_the_window_come_in_order),
        TEST(a_large_object_arrives_in_parts),
        TEST(a_part_that_yields_reports_whole_leaves),
        TEST(shared_blocks_give_the_same_result_as_plain_copying),
        TEST(a_rate_limit_spreads_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
