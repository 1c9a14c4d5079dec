// SPDX-License-Identifier: Apache-2.0
// The promises of dataplane/source.h, checked against every source that can be made here.
#include "common/cleanup.h"
#include "dataplane/object_stat.h"
#include "dataplane/sink_s3.h"
#include "dataplane/source_posix.h"
#include "dataplane/source_s3.h"
#include "tests/contract/dataplane/served_source.h"
#include "tests/lib/scripted_store.h"
#include "tests/lib/tree.h"

#define BIG_BYTES ((size_t)(LEAF_BYTES + LEAF_BYTES / 2))

// Add a source: a name, how to make it for a table whose objects are below @t, and what to end
// after it was freed (NULL: nothing). A source that does not read @t itself is told when something
// changed there (NULL: it need not be).
struct kind {
    const char *name;
    struct source *(*make)(const struct tree *t, struct tree_table *l);
    void (*end)(void);
    void (*changed)(const struct tree *t);
};

static struct source *make_posix(const struct tree *t, struct tree_table *l) {
    struct source *s;
    assert_ok(source_posix_new(t->fd, NULL, 0, &l->table, &s, NULL));
    return s;
}

// A bucket that has the tree's files.
static struct scripted_store scripted;

static struct s3_client *new_client(void) {
    struct s3_client *c;
    assert_ok(s3_client_new(scripted.store, NULL, &c, NULL));
    return c;
}

static void on_each(void *user, uint32_t tag, enum err result, const struct failure *f) {
    (void)user;
    (void)tag;
    (void)f;
    assert_ok(result);
}

static void mirror_one(const struct tree *t, struct sink *s, const char *path) {
    struct stat st;
    char temp[TEMP_NAME_SIZE];
    struct object_entry e = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    if (fstatat(t->fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        e.type = OBJECT_FILE;
        assert_ok(sink_remove(s, &e, NULL));
        return;
    }
    size_t n = (size_t)st.st_size;
    AUTO(auto_free) uint8_t *bytes = malloc(n + 1);
    int fd = openat(t->fd, path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, bytes, n, 0), n);
    close(fd);
    assert_ok(object_from_stat(&st, &e));
    e.path = (const uint8_t *)path;
    e.path_len = strlen(path);
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 1, 1, temp);
    assert_ok(sink_begin(s, &e, temp, NULL));
    assert_ok(sink_write(s, 0, bytes, n, NULL));
    assert_ok(sink_stage(s, 1, NULL));
    assert_ok(sink_finish_staged(s, DURABILITY_OBJECT, on_each, NULL, NULL));
}

static void mirror(const struct tree *t) {
    static const char *const names[] = {"small", "empty", "big"};
    struct sink_s3_options o = {
        .take_client = new_client(), .root = (const uint8_t *)"b", .root_len = 1};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        mirror_one(t, s, names[i]);
    }
    sink_free(s);
}

static struct source *make_s3(const struct tree *t, struct tree_table *l) {
    struct source_s3_options o = {.take_client = new_client(),
                                  .root = (const uint8_t *)"b",
                                  .root_len = 1,
                                  .table = &l->table,
                                  .digest = HASH_XXH3_128};
    struct source *s;
    mirror(t);
    assert_ok(source_s3_new(&o, &s, NULL));
    return s;
}

static const struct kind kinds[] = {
    {"posix", make_posix, NULL, NULL},
    {"agent", served_source_new, served_source_end, NULL},
    {"s3", make_s3, NULL, mirror},
};

static const struct kind *kind;
static struct tree tree;
static struct tree_table list;
static struct source *source;
static uint8_t *big;
static uint8_t buffer[100000];

enum { SMALL, EMPTY, BIG, LINK };

static int setup(void **state) {
    (void)state;
    tree_new(&tree);
    big = tree_pattern(BIG_BYTES, 2);
    tree_write(&tree, "small", "small", 5);
    tree_write(&tree, "empty", "", 0);
    tree_write(&tree, "big", big, BIG_BYTES);
    assert_int_equal(symlinkat("nowhere", tree.fd, "link"), 0);
    tree_table_new(&list, &tree, (const char *[]){"small", "empty", "big", "link", NULL});
    source = kind->make(&tree, &list);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    source_free(source);
    if (kind->end) {
        kind->end();
    }
    tree_table_free(&list);
    tree_free(&tree);
    free(big);
    return 0;
}

static void changed(void) {
    if (kind->changed) {
        kind->changed(&tree);
    }
}

static struct source_range range(uint32_t index, uint64_t offset, uint64_t length) {
    return (struct source_range){.index = index, .offset = offset, .length = length};
}

// Reads the open range to its end, by both ways in turn, and compares.
static void assert_reads(const uint8_t *want, uint64_t n) {
    uint64_t done = 0;
    for (bool in_place = true;; in_place = !in_place) {
        const void *bytes = buffer;
        size_t len;
        uint64_t hole;
        if (in_place) {
            assert_ok(
                source_read_in_place(source, buffer, sizeof(buffer), &bytes, &len, &hole, NULL));
        } else {
            assert_ok(source_read(source, buffer, sizeof(buffer), &len, &hole, NULL));
        }
        if (len == 0 && hole == 0) {
            break;
        }
        assert_true(done + len + hole <= n);
        assert_memory_equal(bytes, want + done, len);
        done += len + hole;
    }
    assert_int_equal(done, n);
}

static void a_range_has_its_bytes_and_no_more(void **state) {
    (void)state;
    const struct source_range ranges[] = {
        range(BIG, 0, LEAF_BYTES),
        range(BIG, LEAF_BYTES, BIG_BYTES - LEAF_BYTES),
        range(SMALL, 0, 5),
        range(EMPTY, 0, 0),
    };
    const uint8_t *const bytes[] = {big, big + LEAF_BYTES, (const uint8_t *)"small", big};
    assert_ok(source_expect(source, ranges, ARRAY_LEN(ranges), NULL));
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct source_found found;
        struct source_closed closed;
        assert_ok(source_open(source, &ranges[i], &found, NULL));
        struct object_entry listed = tree_table_entry(&list, ranges[i].index);
        assert_int_equal(found.entry.type, OBJECT_FILE);
        assert_int_equal(found.entry.mode, listed.mode);
        assert_int_equal(found.entry.version.size, listed.version.size);
        assert_true(found.entry.version.mtime_ns == listed.version.mtime_ns);
        assert_reads(bytes[i], ranges[i].length);
        assert_ok(source_close(source, &closed, NULL));
        assert_true(object_version_equal(&closed.version, &found.entry.version));
        if (source_capabilities(source)->has_digests) {
            assert_int_equal(closed.n_leaves, ranges[i].length > 0);
        }
    }
}

static void what_was_not_announced_can_be_read_all_the_same(void **state) {
    (void)state;
    struct source_range r = range(SMALL, 0, SOURCE_TO_END);
    struct source_found found;
    struct source_closed closed;
    assert_ok(source_open(source, &r, &found, NULL));
    assert_reads((const uint8_t *)"small", 5);
    assert_ok(source_close(source, &closed, NULL));
}

static void a_range_may_be_left_early(void **state) {
    (void)state;
    const struct source_range ranges[] = {range(BIG, 0, BIG_BYTES), range(SMALL, 0, 5)};
    struct source_found found;
    struct source_closed closed;
    size_t len;
    uint64_t hole;
    assert_ok(source_expect(source, ranges, ARRAY_LEN(ranges), NULL));
    assert_ok(source_open(source, &ranges[0], &found, NULL));
    assert_ok(source_read(source, buffer, 100, &len, &hole, NULL));
    assert_memory_equal(buffer, big, len);
    assert_ok(source_close(source, &closed, NULL));
    assert_ok(source_open(source, &ranges[1], &found, NULL));
    assert_reads((const uint8_t *)"small", 5);
    assert_ok(source_close(source, &closed, NULL));
}

static void a_change_since_the_listing_is_seen_and_may_be_accepted(void **state) {
    (void)state;
    struct source_range r = range(SMALL, 0, 5);
    struct source_found found;
    struct source_closed closed;
    struct failure f = {0};
    tree_write(&tree, "small", "now longer", 10);
    changed();
    assert_ok(source_expect(source, &r, 1, NULL));
    assert_err(source_open(source, &r, &found, &f), ERR_SOURCE_CHANGED);
    assert_int_equal(f.err, ERR_SOURCE_CHANGED);
    r.accept_changed = true;
    r.length = SOURCE_TO_END;
    assert_ok(source_expect(source, &r, 1, NULL));
    assert_ok(source_open(source, &r, &found, NULL));
    assert_int_equal(found.entry.version.size, 10);
    assert_reads((const uint8_t *)"now longer", 10);
    assert_ok(source_close(source, &closed, NULL));
}

static void an_object_that_is_gone_is_not_found(void **state) {
    (void)state;
    const struct source_range ranges[] = {range(SMALL, 0, 5), range(EMPTY, 0, 0)};
    struct source_found found;
    struct source_closed closed;
    assert_int_equal(unlinkat(tree.fd, "small", 0), 0);
    changed();
    assert_ok(source_expect(source, ranges, 2, NULL));
    assert_err(source_open(source, &ranges[0], &found, NULL), ERR_NOT_FOUND);
    assert_ok(source_open(source, &ranges[1], &found, NULL)); // the source still works
    assert_reads(big, 0);
    assert_ok(source_close(source, &closed, NULL));
}

static void holes_are_told_or_read_as_zeros(void **state) {
    (void)state;
    int fd = openat(tree.fd, "small", O_RDWR);
    assert_int_equal(ftruncate(fd, 3 << 20), 0);
    assert_int_equal(pwrite(fd, "end", 3, (3 << 20) - 3), 3);
    close(fd);
    changed();
    uint8_t *want = calloc(1, 3 << 20);
    memcpy(want, "small", 5);
    memcpy(want + (3 << 20) - 3, "end", 3);
    struct source_range r = {.index = SMALL, .accept_changed = true, .length = SOURCE_TO_END};
    struct source_found found;
    struct source_closed closed;
    assert_ok(source_open(source, &r, &found, NULL));
    assert_reads(want, 3 << 20);
    assert_ok(source_close(source, &closed, NULL));
    free(want);
}

static void calls_in_the_wrong_order_are_refused(void **state) {
    (void)state;
    struct source_range r = range(SMALL, 0, 5);
    struct source_found found;
    struct source_closed closed;
    const void *bytes;
    size_t len;
    uint64_t hole;
    assert_err(source_read(source, buffer, 1, &len, &hole, NULL), ERR_STATE);
    assert_err(source_read_in_place(source, buffer, 1, &bytes, &len, &hole, NULL), ERR_STATE);
    assert_err(source_close(source, &closed, NULL), ERR_STATE);
    assert_int_equal(source_fd(source), -1);
    assert_ok(source_open(source, &r, &found, NULL));
    assert_err(source_open(source, &r, &found, NULL), ERR_STATE);
    assert_ok(source_close(source, &closed, NULL));
    r.offset = 10;
    r.length = UINT64_MAX - 5;
    assert_err(source_open(source, &r, &found, NULL), ERR_INVALID);
}

static void an_aborted_source_says_cancelled(void **state) {
    (void)state;
    struct source_range r = range(BIG, 0, BIG_BYTES);
    struct source_found found;
    size_t len;
    uint64_t hole;
    assert_ok(source_open(source, &r, &found, NULL));
    source_abort(source);
    enum err e = OK; // what had arrived before may still be given
    for (size_t i = 0; i < BIG_BYTES && e == OK; i += len) {
        e = source_read(source, buffer, sizeof(buffer), &len, &hole, NULL);
    }
    assert_err(e, ERR_CANCELLED);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_range_has_its_bytes_and_no_more),
        TEST(what_was_not_announced_can_be_read_all_the_same),
        TEST(a_range_may_be_left_early),
        TEST(a_change_since_the_listing_is_seen_and_may_be_accepted),
        TEST(an_object_that_is_gone_is_not_found),
        TEST(holes_are_told_or_read_as_zeros),
        TEST(calls_in_the_wrong_order_are_refused),
        TEST(an_aborted_source_says_cancelled),
    };
    int n_failed = 0;
    scripted_store_start(&scripted);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        kind = &kinds[i];
        n_failed += cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
    }
    scripted_store_stop(&scripted);
    return n_failed;
}
