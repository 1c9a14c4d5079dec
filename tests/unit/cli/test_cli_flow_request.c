// SPDX-License-Identifier: Apache-2.0
// What `cp` and `submit` send, from options and from files.
#include "tests/lib/test.h"

#include "cli/flow_request.h"
#include "common/ident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOW_MS = 1000 };

static enum err request(const char *const *line, Sluice__V1__SubmitFlowRequest **ret_request,
                        struct failure *f) {
    static char *argv[32];
    int argc = 0;
    argv[argc++] = (char *)"submit";
    for (; line[argc - 1]; argc++) {
        argv[argc] = (char *)(uintptr_t)line[argc - 1];
    }
    argv[argc] = NULL;
    static struct invocation inv;
    enum err e = invocation_parse(command_find("submit"), argc, argv, &inv, f);
    return e ? e : flow_request_new(&inv, NOW_MS, ret_request, f);
}
#define REQUEST(ret_request, f, ...)                                                               \
    request((const char *const[]){__VA_ARGS__, NULL}, ret_request, f)

static void write_file(const char *text, char path[32]) {
    memcpy(path, "/tmp/sluice-test-XXXXXX", sizeof("/tmp/sluice-test-XXXXXX"));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void locations_are_bytes(void **state) {
    (void)state;
    Sluice__V1__SubmitFlowRequest *r;
    struct failure f;
    assert_ok(REQUEST(&r, &f, "a:/data/\xFF/", "b/b-1://x/./y"));
    const Sluice__V1__PosixLocation *from = r->spec->source->posix;
    const Sluice__V1__PosixLocation *to = r->spec->destination->posix;
    assert_string_equal(from->site, "a");
    assert_string_equal(from->agent, "");
    assert_int_equal(from->path.len, 8);
    assert_memory_equal(from->path.data, "/data/\xFF/", 8);
    assert_string_equal(to->agent, "b-1");
    assert_int_equal(to->path.len, 4);
    assert_memory_equal(to->path.data, "/x/y", 4);
    assert_true(ident_is_valid(r->request_id));
    flow_request_free(r);
}

static void options_become_fields(void **state) {
    (void)state;
    Sluice__V1__SubmitFlowRequest *r;
    struct failure f;
    assert_ok(REQUEST(&r, &f, "a:/x", "b:/y", "--digest", "sha256", "--durability=task", "-p", "-3",
                      "--weight", "5", "-l", "run=7", "-l", "who=", "--retries", "9",
                      "--not-before", "+5s", "--deadline", "2026-01-31T12:00:00Z", "--request-id",
                      "mine", "--after", "F", "--after", "G"));
    const Sluice__V1__FlowSpec *s = r->spec;
    assert_int_equal(s->digest, SLUICE__V1__DIGEST_ALGORITHM__SHA_256);
    assert_int_equal(s->durability, SLUICE__V1__DURABILITY__TASK);
    assert_int_equal(s->priority, -3);
    assert_int_equal(s->weight, 5);
    assert_int_equal(s->limits->retries, 9);
    assert_int_equal(s->not_before_ms, NOW_MS + 5000);
    assert_int_equal(s->deadline_ms, 1769860800000);
    assert_int_equal(s->n_labels, 2);
    assert_string_equal(r->request_id, "mine");
    assert_int_equal(s->n_after, 2);
    assert_string_equal(s->after[1], "G");
    flow_request_free(r);
}

static void wrong_values_are_refused_by_name(void **state) {
    (void)state;
    static const char *const lines[][2] = {
        {"--digest", "md5"},    {"--durability", "perhaps"}, {"--priority", "high"},
        {"--label", "novalue"}, {"--label", "=x"},           {"--not-before", "soon"},
        {"--retries", "0"},     {"--request-id", "\xFF"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        Sluice__V1__SubmitFlowRequest *r;
        struct failure f;
        assert_err(REQUEST(&r, &f, "a:/x", "b:/y", lines[i][0], lines[i][1]), ERR_INVALID);
        assert_non_null(strstr(f.message, lines[i][0]));
    }
}

static void a_file_is_read_and_the_command_line_wins(void **state) {
    (void)state;
    Sluice__V1__SubmitFlowRequest *r;
    struct failure f;
    char path[32];
    write_file("{\"source\": \"a:/x\","
               " \"destination\": {\"posix\": {\"site\": \"b\", \"path\": {\"b64\": \"L/8=\"}}},"
               " \"labels\": {\"k\": \"v\", \"m\": \"n\"}, \"priority\": 4, \"weight\": 7,"
               " \"durability\": \"none\", \"limits\": {\"executors\": 3}, \"sync\": true,"
               " \"request_id\": \"from-file\", \"retry_of\": null}",
               path);
    assert_ok(REQUEST(&r, &f, "-f", path, "--priority", "5", "-l", "k=w", "--retries", "2"));
    unlink(path);
    const Sluice__V1__FlowSpec *s = r->spec;
    assert_string_equal(r->request_id, "from-file");
    assert_string_equal(s->source->posix->site, "a");
    assert_int_equal(s->destination->posix->path.len, 2);
    assert_memory_equal(s->destination->posix->path.data, "/\xFF", 2);
    assert_int_equal(s->priority, 5);
    assert_int_equal(s->weight, 7);
    assert_int_equal(s->durability, SLUICE__V1__DURABILITY__NONE);
    assert_int_equal(s->limits->executors, 3);
    assert_int_equal(s->limits->retries, 2);
    assert_true(s->sync);
    assert_int_equal(s->n_labels, 2);
    for (size_t i = 0; i < s->n_labels; i++) {
        if (strcmp(s->labels[i]->key, "k") == 0) {
            assert_string_equal(s->labels[i]->value, "w");
        }
    }
    flow_request_free(r);
}

static void wrong_files_are_refused_with_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"sauce\": 1}", "spec.sauce"},
        {"{\"priority\": \"high\"}", "spec.priority"},
        {"{\"priority\": 4294967296}", "spec.priority"},
        {"{\"weight\": -1}", "spec.weight"},
        {"{\"limits\": {\"streams\": 1.5}}", "spec.limits.streams"},
        {"{\"durability\": \"some\"}", "spec.durability"},
        {"{\"labels\": [{\"key\": \"k\", \"value\": 3}]}", "spec.labels[0].value"},
        {"{\"labels\": [{\"key\": \"k\"}, 5]}", "spec.labels[1]"},
        {"{\"after\": \"x\"}", "spec.after"},
        {"{\"source\": 5}", "spec.source"},
        {"{\"source\": {\"posix\": {}, \"https\": {}}}", "spec.source.https"},
        {"{\"source\": {\"posix\": {\"path\": {\"b64\": \"?\"}}}}", "spec.source.posix.path"},
        {"{\"sync\": 1}", "spec.sync"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Sluice__V1__SubmitFlowRequest *r;
        struct failure f;
        char path[32], object[FAILURE_OBJECT_MAX + 1];
        write_file(cases[i].text, path);
        assert_err(REQUEST(&r, &f, "-f", path), ERR_INVALID);
        unlink(path);
        memcpy(object, f.object, f.object_len);
        object[f.object_len] = '\0';
        assert_string_equal(object, cases[i].says);
    }
}

static void broken_json_is_refused_with_the_line(void **state) {
    (void)state;
    static const char *const texts[] = {"{\n\"a\": \n}", "[]", "", "{\"a\": 1, \"a\": 2}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        Sluice__V1__SubmitFlowRequest *r;
        struct failure f;
        char path[32];
        write_file(texts[i], path);
        assert_err(REQUEST(&r, &f, "-f", path), ERR_INVALID);
        unlink(path);
    }
    Sluice__V1__SubmitFlowRequest *r;
    struct failure f;
    assert_err(REQUEST(&r, &f, "-f", "/nonexistent/flow.json"), ERR_NOT_FOUND);
}

static void two_locations_or_a_file_are_needed(void **state) {
    (void)state;
    Sluice__V1__SubmitFlowRequest *r;
    struct failure f;
    assert_err(REQUEST(&r, &f, "a:/x"), ERR_INVALID);
    assert_err(REQUEST(&r, &f, "a:/x", "/y"), ERR_INVALID);
    assert_err(REQUEST(&r, &f, "-f", "/dev/null", "a:/x"), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locations_are_bytes),
        cmocka_unit_test(options_become_fields),
        cmocka_unit_test(wrong_values_are_refused_by_name),
        cmocka_unit_test(a_file_is_read_and_the_command_line_wins),
        cmocka_unit_test(wrong_files_are_refused_with_the_place),
        cmocka_unit_test(broken_json_is_refused_with_the_line),
        cmocka_unit_test(two_locations_or_a_file_are_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
