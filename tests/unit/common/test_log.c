// SPDX-License-Identifier: Apache-2.0
// Each line must be one JSON object, whatever bytes are logged.
#include "common/base64.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "tests/lib/test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct place {
    char dir[64], path[96], moved[96];
};

static int set_up(void **state) {
    struct place *p = calloc(1, sizeof *p);
    struct failure f;
    strcpy(p->dir, "/tmp/sluice-log-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->path, sizeof p->path, "%s/log", p->dir);
    snprintf(p->moved, sizeof p->moved, "%s/log.1", p->dir);
    assert_ok(log_open(p->path, "sluice-test", "t1", &f));
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    struct place *p = *state;
    struct failure f;
    assert_ok(log_open(NULL, NULL, NULL, &f));
    unlink(p->path);
    unlink(p->moved);
    rmdir(p->dir);
    free(p);
    return 0;
}

// Line @index of a file, parsed.
static json_t *line(const char *path, int index) {
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t cap = 0;
    assert_non_null(f);
    for (int i = 0; i <= index; i++) {
        if (getline(&text, &cap, f) < 0) {
            fail_msg("no line %d", index);
        }
    }
    json_error_t e;
    json_t *j = json_loads(text, JSON_ALLOW_NUL, &e);
    if (j == NULL) {
        fail_msg("not JSON (%s): %s", e.text, text);
    }
    free(text);
    fclose(f);
    return j;
}

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text != NULL ? text : "(absent)";
}

static void a_line_has_its_fields(void **state) {
    struct place *p = *state;
    struct failure f;
    failure_set(&f, ERR_NO_SPACE, "write", "/d/\xff", 4, "no space \"left\"");
    log_event(LOG_WARN, "object_failed", LOG_STR("flow", "F1"), LOG_STR("absent", NULL),
              LOG_U64("n", UINT64_MAX / 2), LOG_I64("i", -5), LOG_F64("x", NAN),
              LOG_BOOL("b", true), LOG_FAILURE(&f));
    json_t *j = line(p->path, 0), *e = json_object_get(j, "error");
    assert_string_equal(text_of(j, "event"), "object_failed");
    assert_string_equal(text_of(j, "level"), "warn");
    assert_string_equal(text_of(j, "service"), "sluice-test");
    assert_string_equal(text_of(j, "name"), "t1");
    assert_int_equal(strlen(text_of(j, "ts")), strlen("2026-01-02T03:04:05.000006Z"));
    assert_null(json_object_get(j, "absent"));
    assert_true(json_is_null(json_object_get(j, "x")));
    assert_true(json_is_true(json_object_get(j, "b")));
    assert_int_equal(json_integer_value(json_object_get(j, "i")), -5);
    assert_string_equal(text_of(e, "code"), "NO_SPACE");
    assert_string_equal(text_of(e, "reason"), "no space \"left\"");
    assert_string_equal(text_of(e, "path"), "/d/\xef\xbf\xbd");
    assert_string_equal(text_of(e, "path_b64"), "L2Qv/w==");
    json_decref(j);
}

static void any_bytes_give_valid_json(void **state) {
    struct place *p = *state;
    enum { N = 300 };
    srand(3);
    for (int i = 0; i < N; i++) {
        char bytes[64];
        for (size_t k = 0; k < sizeof bytes - 1; k++) {
            bytes[k] = (char)(i < 256 && k % 2 == 0 ? i : rand() % 255 + 1);
        }
        bytes[sizeof bytes - 1] = '\0';
        log_event(LOG_INFO, "bytes", LOG_STR("text", bytes), LOG_PATH("path", bytes, sizeof bytes));
    }
    for (int i = 0; i < N; i++) {
        json_decref(line(p->path, i));
    }
}

static void a_long_line_is_written_whole(void **state) {
    struct place *p = *state;
    AUTO(auto_free) char *path = malloc(64 * 1024);
    memset(path, 0xff, 64 * 1024);
    log_event(LOG_INFO, "long", LOG_PATH("path", path, 64 * 1024));
    json_t *j = line(p->path, 0);
    assert_int_equal(strlen(text_of(j, "path_b64")), BASE64_LEN(64 * 1024));
    json_decref(j);
}

static void a_moved_file_is_reopened(void **state) {
    struct place *p = *state;
    log_event(LOG_INFO, "before", LOG_BOOL("b", true));
    assert_int_equal(rename(p->path, p->moved), 0);
    log_reopen();
    log_event(LOG_INFO, "after", LOG_BOOL("b", true));
    json_t *before = line(p->moved, 0), *after = line(p->path, 0);
    assert_string_equal(text_of(before, "event"), "before");
    assert_string_equal(text_of(after, "event"), "after");
    json_decref(before);
    json_decref(after);
}

static void levels_hide_what_is_below(void **state) {
    struct place *p = *state;
    enum log_level level;
    assert_ok(log_level_from_name("error", &level));
    assert_err(log_level_from_name("loud", &level), ERR_INVALID);
    log_set_level(level);
    log_event(LOG_INFO, "hidden", LOG_BOOL("b", true));
    log_event(LOG_ERROR, "seen", LOG_BOOL("b", true));
    log_set_level(LOG_INFO);
    json_t *j = line(p->path, 0);
    assert_string_equal(text_of(j, "event"), "seen");
    json_decref(j);
}

static void lines_without_a_reader_are_counted_not_waited_for(void **state) {
    struct place *p = *state;
    struct failure f;
    int saved = dup(STDERR_FILENO), fds[2];
    char block[4096];
    assert_int_equal(pipe(fds), 0);
    assert_ok(log_open(NULL, "sluice-test", NULL, &f)); // stderr
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    for (int i = 0; i < 2000; i++) { // more than a pipe holds
        log_event(LOG_INFO, "nobody_reads", LOG_I64("i", i));
    }
    assert_true(read(fds[0], block, sizeof block) > 0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[0]);
    assert_ok(log_open(p->path, "sluice-test", NULL, &f));
    log_event(LOG_INFO, "again", LOG_BOOL("b", true));
    json_t *j = line(p->path, 0);
    assert_true(json_integer_value(json_object_get(j, "lines_dropped")) > 0);
    json_decref(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_its_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_bytes_give_valid_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_is_written_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_moved_file_is_reopened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(levels_hide_what_is_below, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_without_a_reader_are_counted_not_waited_for, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
