// SPDX-License-Identifier: Apache-2.0
// WRAP: readdir
#include "common/ident.h"
#include "dataplane/walk.h"
#include "tests/lib/tree.h"

struct seen {
    int n_pages, n_objects, n_failed, n_done;
    uint32_t max_page;
    struct object_entry last;
    char last_path[256], last_target[256];
    const char *wanted; // remember only this
    enum err answer;
};

static enum err on_page(void *user, const uint8_t *bytes, size_t len, bool done) {
    struct seen *s = user;
    struct object_table t;
    assert_true(len <= OBJECT_TABLE_MAX_BYTES);
    assert_ok(object_table_open(bytes, len, &t));
    s->n_pages++;
    s->n_done += done;
    s->n_objects += (int)t.count;
    s->max_page = t.count > s->max_page ? t.count : s->max_page;
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        if (s->wanted &&
            (e.path_len != strlen(s->wanted) || memcmp(e.path, s->wanted, e.path_len) != 0)) {
            continue;
        }
        s->last = e;
        snprintf(s->last_path, sizeof(s->last_path), "%.*s", (int)e.path_len,
                 e.path_len ? (const char *)e.path : "");
        snprintf(s->last_target, sizeof(s->last_target), "%.*s", (int)e.target_len,
                 e.target_len ? (const char *)e.target : "");
    }
    object_table_close(&t);
    return s->answer;
}

static enum err on_failed(void *user, const struct failure *f) {
    assert_int_not_equal(f->err, OK);
    ((struct seen *)user)->n_failed++;
    return OK;
}

static struct tree tree;

static int setup(void **state) {
    (void)state;
    tree_new(&tree);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tree_free(&tree);
    return 0;
}

// A file system whose names may be longer than NAME_MAX.
static size_t long_name_len;
struct dirent *__real_readdir(DIR *d);
struct dirent *__wrap_readdir(DIR *d);
struct dirent *__wrap_readdir(DIR *d) {
    static _Alignas(struct dirent) char entry[offsetof(struct dirent, d_name) + 1024];
    if (long_name_len == 0) {
        return __real_readdir(d);
    }
    memset(entry + offsetof(struct dirent, d_name), 'n', long_name_len);
    entry[offsetof(struct dirent, d_name) + long_name_len] = '\0';
    long_name_len = 0;
    return (struct dirent *)(void *)entry;
}

static enum err walk(struct walk_options o, const char *root, const char *path, struct seen *s) {
    o.volume_fd = tree.fd;
    o.root = (const uint8_t *)root;
    o.root_len = strlen(root);
    struct walk_sink sink = {.page = on_page, .failed = on_failed, .user = s};
    return walk_directory(&o, (const uint8_t *)path, strlen(path), &sink, NULL);
}

static void each_kind_of_object_is_listed_as_it_is(void **state) {
    (void)state;
    tree_mkdir(&tree, "r");
    tree_mkdir(&tree, "r/d");
    tree_write(&tree, "r/d/f", "hello", 5);
    assert_int_equal(symlinkat("../no such\xff", tree.fd, "r/d/l"), 0);
    assert_int_equal(mknodat(tree.fd, "r/d/p", S_IFIFO | 0640, 0), 0);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = -5, .tv_nsec = 123456789}};
    assert_int_equal(utimensat(tree.fd, "r/d/f", t, 0), 0);

    struct seen s = {.wanted = "d/f"};
    assert_ok(walk((struct walk_options){0}, "r", "d", &s));
    assert_int_equal(s.n_objects, 3);
    assert_int_equal(s.n_done, 1);
    assert_int_equal(s.last.type, OBJECT_FILE);
    assert_int_equal(s.last.version.size, 5);
    assert_int_equal(s.last.mode, 0644);
    assert_true(s.last.version.mtime_ns == -5 * 1000000000ll + 123456789);
    s = (struct seen){.wanted = "d/l"};
    assert_ok(walk((struct walk_options){0}, "r", "d", &s));
    assert_int_equal(s.last.type, OBJECT_SYMLINK);
    assert_string_equal(s.last_target, "../no such\xff");
    s = (struct seen){.wanted = "d/p"};
    assert_ok(walk((struct walk_options){0}, "r", "d", &s));
    assert_int_equal(s.last.type, OBJECT_FIFO);
    s = (struct seen){.wanted = "d"};
    assert_ok(walk((struct walk_options){0}, "r", "", &s));
    assert_int_equal(s.last.type, OBJECT_DIRECTORY);
}

static void an_empty_directory_is_one_empty_page(void **state) {
    (void)state;
    struct seen s = {0};
    assert_ok(walk((struct walk_options){0}, "", "", &s));
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(s.n_done, 1);
    assert_int_equal(s.n_objects, 0);
}

static void a_large_directory_comes_in_pages(void **state) {
    (void)state;
    for (int i = 0; i < 2500; i++) {
        char name[32];
        snprintf(name, sizeof(name), "f%d", i);
        tree_write(&tree, name, "", 0);
    }
    struct seen s = {0};
    assert_ok(walk((struct walk_options){0}, "", "", &s));
    assert_int_equal(s.n_objects, 2500);
    assert_true(s.n_pages >= 3);
    assert_int_equal(s.n_done, 1);
    assert_true(s.max_page <= OBJECT_TABLE_MAX_OBJECTS);
    s = (struct seen){.answer = ERR_FENCED};
    assert_err(walk((struct walk_options){0}, "", "", &s), ERR_FENCED);
    assert_int_equal(s.n_pages, 1);
}

static void temporaries_are_left_out_only_on_demand(void **state) {
    (void)state;
    char temp[TEMP_NAME_SIZE];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 2, 3, temp);
    tree_write(&tree, temp, "", 0);
    tree_write(&tree, ".sluice-proof-xyz", "", 0);
    tree_write(&tree, ".sluice", "", 0);
    struct seen s = {0};
    assert_ok(walk((struct walk_options){0}, "", "", &s));
    assert_int_equal(s.n_objects, 3);
    s = (struct seen){0};
    assert_ok(walk((struct walk_options){.skip_temporaries = true}, "", "", &s));
    assert_int_equal(s.n_objects, 1);
    assert_string_equal(s.last_path, ".sluice");
}

static void a_single_file_is_a_page_with_an_empty_path(void **state) {
    (void)state;
    tree_write(&tree, "f", "abc", 3);
    tree_mkdir(&tree, "d");
    assert_int_equal(symlinkat("d", tree.fd, "l"), 0);
    struct seen s = {0};
    assert_ok(walk((struct walk_options){.single = true}, "f", "", &s));
    assert_int_equal(s.n_objects, 1);
    assert_string_equal(s.last_path, "");
    assert_int_equal(s.last.version.size, 3);
    assert_err(walk((struct walk_options){0}, "f", "", &s), ERR_NOT_DIRECTORY);
    s = (struct seen){0};
    assert_ok(walk((struct walk_options){.single = true}, "d", "", &s));
    assert_int_equal(s.n_objects, 0);
    s = (struct seen){0};
    assert_ok(walk((struct walk_options){.single = true}, "l", "", &s));
    assert_int_equal(s.last.type, OBJECT_SYMLINK);
    s = (struct seen){0};
    assert_ok(walk((struct walk_options){0}, "l", "", &s)); // "the contents of"
    assert_int_equal(s.n_objects, 0);
    assert_err(walk((struct walk_options){.single = true}, "none", "", &s), ERR_NOT_FOUND);
}

static void a_listed_directory_that_became_a_link_is_not_followed(void **state) {
    (void)state;
    tree_mkdir(&tree, "d");
    assert_int_equal(symlinkat("d", tree.fd, "l"), 0);
    struct seen s = {0};
    assert_int_not_equal(walk((struct walk_options){0}, "", "l", &s), OK);
    assert_int_equal(s.n_pages, 0);
}

static void a_name_that_no_call_takes_fails_alone(void **state) {
    (void)state;
    tree_mkdir(&tree, "d");
    tree_write(&tree, "d/f", "", 0);
    struct seen s = {0};
    long_name_len = 765;
    assert_ok(walk((struct walk_options){0}, "", "d", &s));
    assert_int_equal(s.n_failed, 1);
    assert_int_equal(s.n_objects, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_kind_of_object_is_listed_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_directory_is_one_empty_page, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_directory_comes_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(temporaries_are_left_out_only_on_demand, setup, teardown),
        cmocka_unit_test_setup_teardown(a_single_file_is_a_page_with_an_empty_path, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_listed_directory_that_became_a_link_is_not_followed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_that_no_call_takes_fails_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
