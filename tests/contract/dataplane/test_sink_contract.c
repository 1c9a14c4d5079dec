// SPDX-License-Identifier: Apache-2.0
// The promises of dataplane/sink.h, checked against every sink that can be made here.
#include "common/cleanup.h"
#include "dataplane/sink_posix.h"
#include "dataplane/sink_s3.h"
#include "tests/lib/scripted_store.h"
#include "tests/lib/tree.h"

// Add a sink: how to make one below @t, and how to see what is there under a name.
struct kind {
    const char *name;
    bool has_temporaries; // files, which others may replace
    struct sink *(*make)(const struct tree *t, struct fence fence, bool never_replaces);
    void (*assert_has)(const struct tree *t, const char *path, const void *bytes, size_t len);
    bool (*is_there)(const struct tree *t, const char *path);
};

static struct sink *make_posix(const struct tree *t, struct fence fence, bool never_replaces) {
    struct sink_posix_options o = {
        .volume_fd = t->fd, .fence = fence, .boot_id = "boot-1", .never_replaces = never_replaces};
    struct sink *s;
    assert_ok(sink_posix_new(&o, &s, NULL));
    return s;
}

static bool is_there_posix(const struct tree *t, const char *path) {
    return faccessat(t->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

// Below a prefix of the tree's name, so that each test has one of its own.
static struct scripted_store scripted;

static void root_of(const struct tree *t, char ret_root[300]) {
    snprintf(ret_root, 300, "b/%s", strrchr(t->path, '/') + 1);
}

static struct sink *make_s3(const struct tree *t, struct fence fence, bool never_replaces) {
    static char root[300]; // borrowed by the sink
    struct s3_client *client;
    root_of(t, root);
    assert_ok(s3_client_new(scripted.store, NULL, &client, NULL));
    struct sink_s3_options o = {.take_client = client,
                                .root = (const uint8_t *)root,
                                .root_len = strlen(root),
                                .fence = fence,
                                .never_replaces = never_replaces};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

static uint8_t *get_s3(const struct tree *t, const char *path, size_t *ret_len) {
    char root[300], key[600];
    root_of(t, root);
    snprintf(key, sizeof key, "%s/%s", root + strlen("b/"), path);
    return scripted_store_get(&scripted, key, ret_len);
}

static void assert_has_s3(const struct tree *t, const char *path, const void *bytes, size_t len) {
    size_t n;
    AUTO(auto_free) uint8_t *got = get_s3(t, path, &n);
    assert_non_null(got);
    assert_int_equal(n, len);
    assert_memory_equal(got, bytes, len);
}

static bool is_there_s3(const struct tree *t, const char *path) {
    size_t n;
    AUTO(auto_free) uint8_t *got = get_s3(t, path, &n);
    return got != NULL;
}

static const struct kind kinds[] = {
    {"posix", true, make_posix, assert_file_is, is_there_posix},
    {"s3", false, make_s3, assert_has_s3, is_there_s3},
};

static const struct kind *kind;
static struct tree tree;
static struct sink *sink;
static bool may;
static int n_asked;

static bool may_act(void *user) {
    (void)user;
    n_asked++;
    return may;
}

static int setup(void **state) {
    (void)state;
    may = true;
    n_asked = 0;
    tree_new(&tree);
    sink = kind->make(&tree, (struct fence){.may_act = may_act}, false);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sink_free(sink);
    tree_free(&tree);
    return 0;
}

static struct object_entry file(const char *path, uint64_t size) {
    return (struct object_entry){
        .id = 1,
        .type = OBJECT_FILE,
        .mode = 0640,
        .uid = geteuid(),
        .gid = getegid(),
        .version = {.size = size, .mtime_ns = 1234567890123456789},
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
    };
}

static const char *temp(uint64_t n) {
    static char names[8][TEMP_NAME_SIZE];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", n, 1, 1, names[n % 8]);
    return names[n % 8];
}

static int n_finished;
static enum err results[16];

static void on_each(void *user, uint32_t tag, enum err result, const struct failure *failure) {
    (void)user;
    (void)failure;
    n_finished++;
    results[tag] = result;
}

static enum err finish(enum durability durability) {
    n_finished = 0;
    return sink_finish_staged(sink, durability, on_each, NULL, NULL);
}

static void put(const char *path, const char *text, uint32_t tag) {
    struct object_entry e = file(path, strlen(text));
    assert_ok(sink_begin(sink, &e, temp(tag), NULL));
    assert_ok(sink_write(sink, 0, text, strlen(text), NULL));
    assert_ok(sink_stage(sink, tag, NULL));
}

static bool shows_staged(void) {
    return sink_capabilities(sink)->shows_staged;
}

static void staged_objects_appear_when_they_are_finished(void **state) {
    (void)state;
    put("a/one", "one", 1);
    put("a/b/two", "two!", 2);
    put("three", "", 3);
    assert_true(shows_staged() || !kind->is_there(&tree, "a/one"));
    assert_ok(finish(DURABILITY_OBJECT));
    assert_int_equal(n_finished, 3);
    kind->assert_has(&tree, "a/one", "one", 3);
    kind->assert_has(&tree, "a/b/two", "two!", 4);
    kind->assert_has(&tree, "three", "", 0);
    assert_ok(finish(DURABILITY_OBJECT)); // nothing staged any more
    assert_int_equal(n_finished, 0);
}

static void an_object_replaces_the_old_one_at_once(void **state) {
    (void)state;
    put("f", "old", 1);
    assert_ok(finish(DURABILITY_NONE));
    put("f", "newer", 2);
    if (!shows_staged()) {
        kind->assert_has(&tree, "f", "old", 3);
    }
    assert_ok(finish(DURABILITY_TASK));
    kind->assert_has(&tree, "f", "newer", 5);
    assert_ok(sink_sync_directories(sink, NULL));
}

static void what_is_there_already_is_recognised(void **state) {
    (void)state;
    struct object_entry e = file("x/f", 4);
    enum sink_identical r;
    assert_ok(sink_compare(sink, &e, &r, NULL));
    assert_int_equal(r, SINK_ABSENT);
    put("x/f", "text", 1);
    assert_ok(finish(DURABILITY_NONE));
    assert_ok(sink_compare(sink, &e, &r, NULL));
    assert_int_equal(r, SINK_SAME);
    e.version.mtime_ns++;
    assert_ok(sink_compare(sink, &e, &r, NULL));
    assert_int_equal(r, SINK_DIFFERS);
    e.version.mtime_ns--;
    e.version.size++;
    assert_ok(sink_compare(sink, &e, &r, NULL));
    assert_int_equal(r, SINK_DIFFERS);
}

static void a_careful_sink_replaces_nothing(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(1000, 8);
    struct object_entry e = file("f", 5), large = file("f", 1000);
    struct receipt open, part;
    put("f", "old", 1);
    assert_ok(finish(DURABILITY_OBJECT));
    assert_ok(sink_check_replaced(sink, &e, SINK_DIFFERS, NULL));
    sink_free(sink);
    sink = kind->make(&tree, (struct fence){.may_act = may_act}, true);
    assert_true(sink_capabilities(sink)->never_replaces);
    assert_err(sink_check_replaced(sink, &e, SINK_DIFFERS, NULL), ERR_EXISTS);
    assert_ok(sink_check_replaced(sink, &e, SINK_SAME, NULL));
    assert_ok(sink_check_replaced(sink, &e, SINK_ABSENT, NULL));
    put("f", "newer", 2);
    put("g", "new", 3);
    assert_ok(finish(DURABILITY_OBJECT));
    assert_int_equal(n_finished, 2);
    assert_err(results[2], ERR_EXISTS);
    assert_ok(results[3]);
    kind->assert_has(&tree, "f", "old", 3);
    kind->assert_has(&tree, "g", "new", 3);
    assert_false(kind->is_there(&tree, temp(2)));
    assert_ok(sink_open_large(sink, &large, temp(4), &open, NULL));
    assert_ok(sink_open_part(sink, &large, temp(4), &open, NULL));
    assert_ok(sink_write(sink, 0, bytes, 1000, NULL));
    assert_ok(sink_close_part(sink, true, &part, NULL));
    assert_err(sink_finish_large(sink, &large, temp(4), &open, NULL, NULL, DURABILITY_OBJECT, NULL),
               ERR_EXISTS);
    assert_ok(sink_abort_large(sink, &large, temp(4), &open, NULL));
    kind->assert_has(&tree, "f", "old", 3);
    assert_false(kind->is_there(&tree, temp(4)));
    free(bytes);
}

static void a_dropped_object_leaves_nothing(void **state) {
    (void)state;
    struct object_entry e = file("f", 4);
    assert_ok(sink_begin(sink, &e, temp(1), NULL));
    assert_ok(sink_write(sink, 0, "text", 4, NULL));
    sink_drop(sink);
    sink_drop(sink);
    assert_false(kind->is_there(&tree, "f"));
    assert_false(kind->is_there(&tree, temp(1)));
    put("g", "g", 2); // staged and never finished
    bool is_shown = shows_staged();
    sink_free(sink);
    assert_true(is_shown || !kind->is_there(&tree, "g"));
    assert_false(kind->is_there(&tree, temp(2)));
    sink = kind->make(&tree, (struct fence){.may_act = may_act}, false);
}

static void holes_read_as_zeros(void **state) {
    (void)state;
    struct object_entry e = file("f", 300000);
    uint8_t *want = calloc(1, 300000);
    memcpy(want, "start", 5);
    memcpy(want + 200000, "middle", 6);
    assert_ok(sink_begin(sink, &e, temp(1), NULL));
    assert_ok(sink_write(sink, 0, "start", 5, NULL));
    assert_ok(sink_write_hole(sink, 5, 199995, NULL));
    assert_ok(sink_write(sink, 200000, "middle", 6, NULL));
    assert_ok(sink_write_hole(sink, 200006, 99994, NULL));
    assert_ok(sink_stage(sink, 1, NULL));
    assert_ok(finish(DURABILITY_OBJECT));
    kind->assert_has(&tree, "f", want, 300000);
    free(want);
}

static void bytes_may_be_put_where_the_sink_gathers_them(void **state) {
    (void)state;
    enum { BYTES = 200000 };
    uint8_t *bytes = tree_pattern(BYTES, 5);
    struct object_entry e = file("f", BYTES);
    assert_ok(sink_begin(sink, &e, temp(1), NULL));
    for (size_t at = 0, n; at < BYTES; at += n) {
        size_t cap = 0;
        uint8_t *room = sink_room(sink, at, &cap);
        n = room && cap < 70000 ? cap : 70000;
        n = n < BYTES - at ? n : BYTES - at;
        if (room) {
            memcpy(room, bytes + at, n);
        }
        assert_ok(sink_write(sink, at, room ? room : bytes + at, n, NULL));
    }
    assert_ok(sink_stage(sink, 1, NULL));
    assert_ok(finish(DURABILITY_NONE));
    kind->assert_has(&tree, "f", bytes, BYTES);
    free(bytes);
}

static void without_a_lease_nothing_is_changed(void **state) {
    (void)state;
    struct object_entry e = file("f", 4), d = file("d", 0);
    d.type = OBJECT_DIRECTORY;
    struct receipt receipt;
    put("staged", "text", 1);
    assert_ok(sink_begin(sink, &e, temp(2), NULL));
    may = false;
    assert_err(sink_check_fence(sink, NULL), ERR_FENCED);
    assert_err(sink_write(sink, 0, "text", 4, NULL), ERR_FENCED);
    assert_err(sink_write_hole(sink, 0, 4, NULL), ERR_FENCED);
    assert_err(sink_stage(sink, 2, NULL), ERR_FENCED);
    sink_drop(sink);
    assert_err(finish(DURABILITY_OBJECT), ERR_FENCED);
    assert_int_equal(n_finished, 0);
    assert_true(shows_staged() || !kind->is_there(&tree, "staged"));
    assert_err(sink_begin(sink, &e, temp(3), NULL), ERR_FENCED);
    assert_err(sink_open_large(sink, &e, temp(3), &receipt, NULL), ERR_FENCED);
    // A sink without directories changes nothing.
    enum err made = sink_make_directory(sink, &d, NULL);
    assert_true(made == ERR_FENCED || made == OK);
    made = sink_set_directory_metadata(sink, &d, NULL);
    assert_true(made == ERR_FENCED || made == OK);
    assert_err(sink_remove_temp(sink, &e, temp(1), NULL), ERR_FENCED);
    assert_err(sink_remove(sink, &e, NULL), ERR_FENCED);
    assert_false(kind->is_there(&tree, "d"));
}

static void a_lease_lost_in_the_middle_stops_the_renames(void **state) {
    (void)state;
    put("a", "a", 1);
    put("b", "b", 2);
    assert_true(n_asked >= 6); // begin, write, stage
    n_asked = 0;
    assert_ok(finish(DURABILITY_OBJECT));
    assert_true(n_asked >= (shows_staged() ? 1 : 3)); // before the whole, and before each name
}

static void calls_in_the_wrong_order_are_refused(void **state) {
    (void)state;
    struct object_entry e = file("f", 4);
    struct receipt r = {0};
    assert_err(sink_write(sink, 0, "x", 1, NULL), ERR_STATE);
    assert_err(sink_stage(sink, 0, NULL), ERR_STATE);
    assert_err(sink_close_part(sink, true, &r, NULL), ERR_STATE);
    assert_int_equal(sink_fd(sink), -1);
    assert_err(sink_begin(sink, &e, "not-a-temporary-but-of-35-chars---", NULL), ERR_INVALID);
    assert_ok(sink_begin(sink, &e, temp(1), NULL));
    assert_err(sink_begin(sink, &e, temp(2), NULL), ERR_STATE);
    assert_err(finish(DURABILITY_OBJECT), ERR_STATE);
    sink_drop(sink);
    assert_err(sink_open_part(sink, &e, temp(1), &r, NULL), ERR_INVALID);
}

static void a_large_object_is_written_in_any_order(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(1 << 20, 8);
    struct object_entry e = file("sub/large", 1 << 20);
    struct receipt open, part;
    assert_ok(sink_open_large(sink, &e, temp(1), &open, NULL));
    assert_true(open.len > 0 && open.len <= RECEIPT_MAX_BYTES);
    bool in_halves = (1 << 19) % sink_part_align(sink, &e) == 0;
    for (int i = in_halves; i >= 0; i--) {
        size_t at = (size_t)i << 19;
        assert_ok(sink_open_part(sink, &e, temp(1), &open, NULL));
        assert_ok(sink_write(sink, at, bytes + at, (size_t)1 << (in_halves ? 19 : 20), NULL));
        assert_ok(sink_close_part(sink, i == 1, &part, NULL));
        assert_true(part.len > 0);
    }
    assert_false(kind->is_there(&tree, "sub/large"));
    assert_ok(sink_sync_large(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_finish_large(sink, &e, temp(1), &open, NULL, NULL, DURABILITY_OBJECT, NULL));
    kind->assert_has(&tree, "sub/large", bytes, 1 << 20);
    // Once more, as after a crash before the acknowledgement.
    assert_ok(sink_finish_large(sink, &e, temp(1), &open, NULL, NULL, DURABILITY_OBJECT, NULL));
    assert_ok(sink_sync_large(sink, &e, temp(1), &open, NULL));
    assert_false(kind->is_there(&tree, "sub/.sluice-"));
    free(bytes);
}

static void a_replaced_temporary_is_refused(void **state) {
    (void)state;
    struct object_entry e = file("large", 1000);
    struct receipt first, second;
    if (!kind->has_temporaries) {
        return; // each upload is one of its own, and none replaces another
    }
    assert_ok(sink_open_large(sink, &e, temp(1), &first, NULL));
    assert_ok(sink_open_large(sink, &e, temp(1), &second, NULL));
    assert_err(sink_open_part(sink, &e, temp(1), &first, NULL), ERR_DEST_CHANGED);
    assert_ok(sink_open_part(sink, &e, temp(1), &second, NULL));
    sink_drop(sink);
    assert_ok(sink_remove_temp(sink, &e, temp(1), NULL));
    assert_ok(sink_remove_temp(sink, &e, temp(1), NULL));
    assert_err(sink_open_part(sink, &e, temp(1), &second, NULL), ERR_DEST_CHANGED);
    assert_err(sink_finish_large(sink, &e, temp(1), &second, NULL, NULL, DURABILITY_NONE, NULL),
               ERR_DEST_CHANGED);
    assert_false(kind->is_there(&tree, "large"));
}

static void a_fresh_copy_takes_the_place_of_a_shared_temporary(void **state) {
    (void)state;
    uint8_t *bytes = tree_pattern(100001, 4);
    struct object_entry e = file("large", 100001);
    struct receipt open, part;
    assert_ok(sink_open_large(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_open_part(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_write(sink, 0, bytes, 100001, NULL));
    assert_ok(sink_close_part(sink, true, &part, NULL));
    assert_ok(sink_finish_large(sink, &e, temp(1), &open, NULL, temp(2), DURABILITY_OBJECT, NULL));
    kind->assert_has(&tree, "large", bytes, 100001);
    assert_false(kind->is_there(&tree, temp(1)));
    assert_false(kind->is_there(&tree, temp(2)));
    assert_ok(sink_finish_large(sink, &e, temp(1), &open, NULL, temp(2), DURABILITY_OBJECT, NULL));
    free(bytes);
}

static void what_is_given_up_cannot_be_finished(void **state) {
    (void)state;
    struct object_entry e = file("large", 1000);
    struct receipt open;
    enum err err;
    assert_ok(sink_open_large(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_abort_large(sink, &e, temp(1), &open, NULL));
    assert_ok(sink_abort_large(sink, &e, temp(1), &open, NULL)); // not there is success
    err = sink_open_part(sink, &e, temp(1), &open, NULL);
    if (err == OK) { // seen at the first write, at the latest
        err = sink_write(sink, 0, "x", 1, NULL);
        sink_drop(sink);
    }
    assert_err(err, ERR_DEST_CHANGED);
    assert_err(sink_finish_large(sink, &e, temp(1), &open, NULL, NULL, DURABILITY_NONE, NULL),
               ERR_DEST_CHANGED);
    assert_false(kind->is_there(&tree, "large"));
}

static void an_aborted_sink_says_cancelled(void **state) {
    (void)state;
    struct object_entry e = file("f", 4);
    assert_ok(sink_begin(sink, &e, temp(1), NULL));
    sink_abort(sink);
    assert_err(sink_write(sink, 0, "text", 4, NULL), ERR_CANCELLED);
    sink_drop(sink);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(staged_objects_appear_when_they_are_finished),
        TEST(an_object_replaces_the_old_one_at_once),
        TEST(what_is_there_already_is_recognised),
        TEST(a_careful_sink_replaces_nothing),
        TEST(a_dropped_object_leaves_nothing),
        TEST(holes_read_as_zeros),
        TEST(bytes_may_be_put_where_the_sink_gathers_them),
        TEST(without_a_lease_nothing_is_changed),
        TEST(a_lease_lost_in_the_middle_stops_the_renames),
        TEST(calls_in_the_wrong_order_are_refused),
        TEST(a_large_object_is_written_in_any_order),
        TEST(a_replaced_temporary_is_refused),
        TEST(a_fresh_copy_takes_the_place_of_a_shared_temporary),
        TEST(what_is_given_up_cannot_be_finished),
        TEST(an_aborted_sink_says_cancelled),
    };
    int n_failed = 0;
    scripted_store_start(&scripted);
    scripted_store_settings(&scripted, "{\"conditions\":true}");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        kind = &kinds[i];
        n_failed += cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
    }
    scripted_store_stop(&scripted);
    return n_failed;
}
