// SPDX-License-Identifier: Apache-2.0
#include "dataplane/beneath.h"
#include "dataplane/dir_set.h"
#include "tests/lib/tree.h"

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

static enum err open_it(const char *path, int flags, int *ret_fd) {
    return beneath_open(tree.fd, (const uint8_t *)path, strlen(path), flags, 0600, ret_fd, NULL);
}

static void a_path_is_opened_below_the_root(void **state) {
    (void)state;
    int fd;
    tree_mkdir(&tree, "a");
    tree_write(&tree, "a/f", "x", 1);
    assert_ok(open_it("a/f", O_RDONLY, &fd));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_ok(open_it("", O_RDONLY | O_DIRECTORY, &fd));
    close(fd);
    assert_err(open_it("a/none", O_RDONLY, &fd), ERR_NOT_FOUND);
    assert_err(open_it("a/f/g", O_RDONLY, &fd), ERR_NOT_DIRECTORY);
}

static void what_leads_out_is_refused(void **state) {
    (void)state;
    int fd;
    struct failure f = {0};
    tree_mkdir(&tree, "a");
    assert_int_equal(symlinkat("../..", tree.fd, "a/up"), 0);
    assert_int_equal(symlinkat("/etc", tree.fd, "etc"), 0);
    assert_int_equal(symlinkat("a", tree.fd, "inside"), 0);
    assert_err(open_it("a/up", O_RDONLY, &fd), ERR_OUTSIDE);
    assert_err(open_it("../x", O_RDONLY, &fd), ERR_OUTSIDE);
    assert_err(beneath_open(tree.fd, (const uint8_t *)"etc/passwd", 10, O_RDONLY, 0, &fd, &f),
               ERR_OUTSIDE);
    assert_int_equal(f.err, ERR_OUTSIDE);
    assert_true(strlen(f.remedy) > 0);
    assert_ok(open_it("inside", O_RDONLY | O_DIRECTORY, &fd));
    close(fd);
    // Nor are directories made there.
    assert_err(beneath_make_directories(tree.fd, (const uint8_t *)"a/up/x/y", 8, NULL, NULL, NULL),
               ERR_OUTSIDE);
}

static void missing_directories_are_made_and_counted(void **state) {
    (void)state;
    uint32_t n_made = 9;
    int fd = -1;
    tree_mkdir(&tree, "a");
    tree_mkdir(&tree, "a/b");
    assert_ok(
        beneath_make_directories(tree.fd, (const uint8_t *)"a/b/c/d/e", 9, &fd, &n_made, NULL));
    assert_int_equal(n_made, 3);
    close(fd);
    struct stat st;
    assert_int_equal(fstatat(tree.fd, "a/b/c/d/e", &st, 0), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_ok(
        beneath_make_directories(tree.fd, (const uint8_t *)"a/b/c/d/e", 9, NULL, &n_made, NULL));
    assert_int_equal(n_made, 0);
    tree_write(&tree, "a/f", "", 0);
    assert_err(beneath_make_directories(tree.fd, (const uint8_t *)"a/f/g", 5, NULL, NULL, NULL),
               ERR_NOT_DIRECTORY);
    assert_int_equal(symlinkat("nowhere", tree.fd, "a/dangling"), 0);
    assert_err(
        beneath_make_directories(tree.fd, (const uint8_t *)"a/dangling/g", 12, NULL, NULL, NULL),
        ERR_NOT_DIRECTORY);
}

static void a_path_longer_than_path_max_is_walked_in_steps(void **state) {
    (void)state;
    enum { LEVELS = 60, NAME = 200 };
    static uint8_t path[LEVELS * (NAME + 1)];
    size_t len = 0;
    for (int i = 0; i < LEVELS; i++) {
        if (i > 0) {
            path[len++] = '/';
        }
        memset(path + len, 'a' + i % 26, NAME);
        len += NAME;
    }
    uint32_t n_made;
    int fd;
    char name[256];
    assert_true(len > 10000);
    assert_ok(beneath_make_directories(tree.fd, path, len, NULL, &n_made, NULL));
    assert_int_equal(n_made, LEVELS);
    assert_ok(beneath_open_parent(tree.fd, path, len, &fd, name, NULL));
    assert_int_equal(strlen(name), NAME);
    close(fd);
    path[len - 1] = 'X';
    assert_err(beneath_open(tree.fd, path, len, O_RDONLY, 0, &fd, NULL), ERR_NOT_FOUND);
    assert_ok(beneath_make_directories(tree.fd, path, len, NULL, &n_made, NULL));
    assert_int_equal(n_made, 1);
}

static void the_parent_of_the_root_is_refused(void **state) {
    (void)state;
    int fd;
    char name[256], long_name[301];
    memset(long_name, 'n', sizeof(long_name));
    assert_err(beneath_open_parent(tree.fd, NULL, 0, &fd, name, NULL), ERR_INVALID);
    assert_err(beneath_open_parent(tree.fd, (uint8_t *)long_name, 300, &fd, name, NULL),
               ERR_NAME_TOO_LONG);
}

static void directories_in_use_stay_open_and_others_are_closed(void **state) {
    (void)state;
    struct dir_set set;
    struct dir *kept, *d;
    assert_ok(dir_set_init(&set, tree.fd, (const uint8_t *)"r", 1, true, NULL));
    assert_ok(dir_set_get(&set, (const uint8_t *)"r/kept", 6, true, &kept, NULL));
    assert_int_equal(kept->n_made_above, 2);
    kept->n_users++;
    for (int i = 0; i < 3 * DIR_SET_MAX_IDLE; i++) {
        char path[16];
        int n = snprintf(path, sizeof(path), "r/%d", i);
        assert_ok(dir_set_get(&set, (const uint8_t *)path, (size_t)n, true, &d, NULL));
        assert_ok(dir_set_sync(&set, NULL));
    }
    assert_true(set.n_dirs <= DIR_SET_MAX_IDLE + 2);
    assert_ok(dir_set_get(&set, (const uint8_t *)"r/kept", 6, true, &d, NULL));
    assert_ptr_equal(d, kept);
    assert_int_equal(kept->n_made_above, 0);
    dir_set_deinit(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_is_opened_below_the_root, setup, teardown),
        cmocka_unit_test_setup_teardown(what_leads_out_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_directories_are_made_and_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_longer_than_path_max_is_walked_in_steps, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_parent_of_the_root_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(directories_in_use_stay_open_and_others_are_closed, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
