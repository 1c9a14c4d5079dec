// SPDX-License-Identifier: Apache-2.0
#include "master/submit.h"

#include "tests/lib/test.h"

#include <string.h>

enum { NOW_MS = 1000000 };

static struct {
    Sluice__V1__FlowSpec spec;
    Sluice__V1__Location source, destination;
    Sluice__V1__PosixLocation from, to;
    Sluice__V1__FlowLimits limits;
} w; // a spec, fresh for each test

static void set_path(Sluice__V1__PosixLocation *p, const char *path) {
    p->path = (ProtobufCBinaryData){strlen(path), (uint8_t *)(uintptr_t)path};
}

static void add(Sluice__V1__Location *l, Sluice__V1__PosixLocation *p, char *site,
                const char *path) {
    sluice__v1__location__init(l);
    sluice__v1__posix_location__init(p);
    p->site = site;
    set_path(p, path);
    l->kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    l->posix = p;
}

static int setup(void **state) {
    static char a[] = "a", b[] = "b";
    (void)state;
    sluice__v1__flow_spec__init(&w.spec);
    sluice__v1__flow_limits__init(&w.limits);
    add(&w.source, &w.from, a, "/data/x");
    add(&w.destination, &w.to, b, "/data/y/");
    w.spec.source = &w.source;
    w.spec.destination = &w.destination;
    return 0;
}

static void refused(enum err want, const char *word) {
    struct failure f = {0};
    char text[2048];
    assert_err(submit_check(&w.spec, NOW_MS, &f), want);
    assert_err(f.err, want);
    failure_format(&f, text, sizeof text);
    if (strstr(text, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, text);
    }
    assert_true(f.remedy[0] != '\0');
}

static void a_plain_spec_is_accepted(void **state) {
    (void)state;
    struct failure f = {0};
    assert_ok(submit_check(&w.spec, NOW_MS, &f));
}

static void a_missing_location_is_named(void **state) {
    (void)state;
    struct failure f = {0};
    w.spec.destination = NULL;
    refused(ERR_INVALID, "destination");
    w.spec.source = NULL;
    refused(ERR_INVALID, "source");
    assert_err(submit_check(NULL, NOW_MS, &f), ERR_INVALID);
}

static void paths_must_be_absolute_and_without_dots(void **state) {
    (void)state;
    set_path(&w.from, "relative");
    refused(ERR_INVALID, "relative");
    set_path(&w.from, "/data/../etc");
    refused(ERR_INVALID, "..");
    set_path(&w.from, "");
    refused(ERR_INVALID, "SITE:/");
}

static void what_is_not_built_is_refused_by_name(void **state) {
    (void)state;
    static char text[] = "somebody";
    char *one[] = {text};
    w.spec.run_as = text;
    refused(ERR_UNIMPLEMENTED, "run_as");
    setup(NULL);
    w.spec.after = one;
    w.spec.n_after = 1;
    refused(ERR_INVALID, "after");
    setup(NULL);
    w.spec.dry_run = 1;
    refused(ERR_UNIMPLEMENTED, "dry_run");
    setup(NULL);
    w.limits.bytes_per_s = 1;
    w.spec.limits = &w.limits;
    refused(ERR_UNIMPLEMENTED, "limits.bytes_per_s");
    setup(NULL);
    w.source.kind_case = SLUICE__V1__LOCATION__KIND_HTTPS;
    refused(ERR_UNIMPLEMENTED, "source");
}

static void a_deadline_in_the_past_is_refused(void **state) {
    (void)state;
    struct failure f = {0};
    w.spec.deadline_ms = NOW_MS - 1;
    refused(ERR_INVALID, "deadline_ms");
    w.spec.deadline_ms = NOW_MS + 1;
    assert_ok(submit_check(&w.spec, NOW_MS, &f));
    w.spec.not_before_ms = NOW_MS + 1;
    refused(ERR_INVALID, "deadline_ms");
}

static void texts_are_bounded_and_utf8(void **state) {
    (void)state;
    static char longer[300];
    static char bad[] = "\xff";
    memset(longer, 'x', sizeof longer - 1);
    w.spec.owner = longer;
    refused(ERR_INVALID, "owner");
    setup(NULL);
    w.spec.namespace_ = bad;
    refused(ERR_INVALID, "namespace");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_plain_spec_is_accepted, setup),
        cmocka_unit_test_setup(a_missing_location_is_named, setup),
        cmocka_unit_test_setup(paths_must_be_absolute_and_without_dots, setup),
        cmocka_unit_test_setup(what_is_not_built_is_refused_by_name, setup),
        cmocka_unit_test_setup(a_deadline_in_the_past_is_refused, setup),
        cmocka_unit_test_setup(texts_are_bounded_and_utf8, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
