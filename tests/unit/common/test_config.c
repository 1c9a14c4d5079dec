// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/config.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config *parse(const char *text) {
    struct config *c = NULL;
    struct failure f;
    enum err err = config_parse("test.yaml", text, strlen(text), &c, &f);
    if (err != OK) {
        fail_msg("%s: %s", err_name(err), f.message);
    }
    return c;
}

// Parsing @text must fail, with all of @words in the message.
static void must_fail(const char *text, const char *line, const char *word) {
    struct config *c = NULL;
    struct failure f;
    assert_err(config_parse("test.yaml", text, strlen(text), &c, &f), ERR_CONFIG);
    assert_memory_equal(f.object, "test.yaml", 9);
    if (strstr(f.message, line) == NULL || strstr(f.message, word) == NULL) {
        fail_msg("'%s' does not name '%s' and '%s'", f.message, line, word);
    }
}

static void values_are_read(void **state) {
    struct config *c = parse("name: m1\nquoted: '~'\non: true\n"
                             "size: 64KiB\nwait: 30s\nbig: 18446744073709551615\n"
                             "tls: {key: /k}\nlist: [a, b]\nvolumes:\n - name: v1\n - name: v2\n");
    struct config_node *root = config_root(c), *tls = NULL, *item = NULL;
    struct failure f;
    const char *text = NULL;
    bool on = false;
    uint64_t n = 0;
    (void)state;
    assert_ok(config_string(root, "name", &text, &f));
    assert_string_equal(text, "m1");
    assert_ok(config_string(root, "quoted", &text, &f));
    assert_string_equal(text, "~");
    assert_ok(config_bool(root, "on", &on, &f));
    assert_true(on);
    assert_ok(config_u64(root, "size", 0, UINT64_MAX, &n, &f));
    assert_int_equal(n, 65536);
    assert_ok(config_u64(root, "wait", 0, UINT64_MAX, &n, &f));
    assert_int_equal(n, 30000);
    assert_ok(config_u64(root, "big", 0, UINT64_MAX, &n, &f));
    assert_true(n == UINT64_MAX);
    assert_ok(config_mapping(root, "tls", &tls, &f));
    assert_ok(config_string(tls, "key", &text, &f));
    assert_ok(config_item_string(root, "list", 1, &text, &f));
    assert_string_equal(text, "b");
    assert_err(config_item_string(root, "list", 2, &text, &f), ERR_NOT_FOUND);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(config_item(root, "volumes", i, &item, &f));
        assert_ok(config_string(item, "name", &text, &f));
    }
    assert_string_equal(text, "v2");
    assert_ok(config_check_unknown(c, &f));
    config_free(c);
}

static void an_absent_key_leaves_the_default(void **state) {
    struct config *c = parse("");
    struct config_node *node = config_root(c);
    struct failure f;
    const char *text = "default";
    uint64_t n = 7;
    (void)state;
    assert_ok(config_string(config_root(c), "name", &text, &f));
    assert_ok(config_u64(config_root(c), "n", 0, 9, &n, &f));
    assert_ok(config_mapping(config_root(c), "tls", &node, &f));
    assert_string_equal(text, "default");
    assert_int_equal(n, 7);
    assert_null(node);
    assert_err(config_require(config_root(c), "listen", &f), ERR_CONFIG);
    assert_non_null(strstr(f.message, "listen is missing"));
    config_free(c);
}

static void an_unknown_key_is_refused_with_its_line(void **state) {
    struct config *c = parse("name: m\nlisten: x\nlisten_adress: y\n");
    struct failure f;
    const char *text = NULL;
    (void)state;
    assert_ok(config_string(config_root(c), "name", &text, &f));
    assert_ok(config_string(config_root(c), "listen", &text, &f));
    assert_err(config_check_unknown(c, &f), ERR_CONFIG);
    assert_non_null(strstr(f.message, "line 3: listen_adress is not a known key"));
    assert_non_null(strstr(f.remedy, "name, listen"));
    config_free(c);
    c = parse("volumes:\n - name: v\n   mod: rw\n");
    struct config_node *item = NULL;
    assert_ok(config_item(config_root(c), "volumes", 0, &item, &f));
    assert_ok(config_string(item, "name", &text, &f));
    assert_err(config_check_unknown(c, &f), ERR_CONFIG);
    assert_non_null(strstr(f.message, "line 3: volumes[0].mod"));
    config_free(c);
}

static void values_of_the_wrong_kind_are_refused(void **state) {
    struct config *c = parse("a: [x]\nb: maybe\nc: 12parsec\nd: 99\ne:\nf: text\n"
                             "g: 99999999999999999999\nh: 17179869184TiB\ni: -1\n");
    struct config_node *root = config_root(c), *node = NULL;
    struct failure f;
    const char *text = NULL;
    bool on = false;
    uint64_t n = 5;
    (void)state;
    assert_err(config_string(root, "a", &text, &f), ERR_CONFIG);
    assert_non_null(strstr(f.message, "line 1: a must be a text"));
    assert_err(config_bool(root, "b", &on, &f), ERR_CONFIG);
    assert_err(config_u64(root, "c", 0, 100, &n, &f), ERR_CONFIG);
    assert_err(config_u64(root, "d", 1, 50, &n, &f), ERR_CONFIG);
    assert_non_null(strstr(f.message, "line 4: d is 99, must be from 1 to 50"));
    assert_err(config_string(root, "e", &text, &f), ERR_CONFIG);
    assert_err(config_mapping(root, "f", &node, &f), ERR_CONFIG);
    assert_err(config_item(root, "f", 0, &node, &f), ERR_CONFIG);
    assert_err(config_u64(root, "g", 0, UINT64_MAX, &n, &f), ERR_CONFIG);
    assert_err(config_u64(root, "h", 0, UINT64_MAX, &n, &f), ERR_CONFIG);
    assert_err(config_u64(root, "i", 0, UINT64_MAX, &n, &f), ERR_CONFIG);
    assert_int_equal(n, 5);
    assert_err(config_complain(root, "d", &f, "is %s", "odd"), ERR_CONFIG);
    assert_non_null(strstr(f.message, "line 4: d is odd"));
    config_free(c);
}

static void files_that_are_no_configuration_are_refused(void **state) {
    (void)state;
    must_fail("a: 1\nb: 2\na: 3\n", "line 3", "a is given twice");
    must_fail("a: [1\n", "line 2", "not YAML");
    must_fail("- a\n- b\n", "line 1", "mapping");
    must_fail("a: 1\n---\nb: 2\n", "line 3", "one document");
    must_fail("? [a]\n: 1\n", "line 1", "key");
    must_fail("a: \"x\\0y\"\n", "line 1", "NUL");
    must_fail("a: [[[[[[[[[[1]]]]]]]]]]\n", "line 1", "nested");
    // Each alias doubles what the one before stands for.
    must_fail("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
              "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
              "e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
              "line", "too large");
    must_fail("a: &a [*a]\n", "line", "nested");
}

static void any_bytes_are_survived(void **state) {
    (void)state;
    srand(7);
    for (int i = 0; i < 2000; i++) {
        static const char alphabet[] = "ab:-[]{},&*\n '\"#?!|>%@\\0\t\xff\xc3\xa9";
        char text[40];
        struct config *c = NULL;
        struct failure f;
        for (size_t k = 0; k < sizeof text; k++) {
            text[k] = alphabet[(size_t)rand() % (sizeof alphabet)];
        }
        if (config_parse("fuzz", text, sizeof text, &c, &f) == OK) {
            config_free(c);
        }
    }
}

static void a_missing_file_is_named(void **state) {
    struct config *c = NULL;
    struct failure f;
    (void)state;
    assert_err(config_load("/nowhere/master.yaml", &c, &f), ERR_NOT_FOUND);
    assert_memory_equal(f.object, "/nowhere/master.yaml", 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(an_absent_key_leaves_the_default),
        cmocka_unit_test(an_unknown_key_is_refused_with_its_line),
        cmocka_unit_test(values_of_the_wrong_kind_are_refused),
        cmocka_unit_test(files_that_are_no_configuration_are_refused),
        cmocka_unit_test(any_bytes_are_survived),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
