// SPDX-License-Identifier: Apache-2.0
// WRAP: calloc realloc strndup
#include "tests/unit/master/scheduler_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long fails_at = -1; // allocations from now; -1: none fails
static bool failed;

static bool fails(void) {
    if (fails_at < 0 || fails_at-- > 0) {
        return false;
    }
    failed = true;
    return true;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) {
    return fails() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size) {
    return fails() ? NULL : __real_realloc(p, size);
}

char *__real_strndup(const char *text, size_t n);
char *__wrap_strndup(const char *text, size_t n);
char *__wrap_strndup(const char *text, size_t n) {
    return fails() ? NULL : __real_strndup(text, n);
}

static enum err up(const char *name, const char *site) {
    struct scheduler_volume v = {
        .name = "data", .readable = true, .writable = true, .shared = true};
    struct scheduler_agent a = {.slots = 2, .volumes = &v, .n_volumes = 1};
    snprintf(a.name, sizeof(a.name), "%s", name);
    snprintf(a.site, sizeof(a.site), "%s", site);
    snprintf(a.incarnation, sizeof(a.incarnation), "1");
    return scheduler_agent_up(s, &a, now_ms);
}

// Whatever fails is tried once more, as its callers do.
#define TWICE(call)                                                                                \
    do {                                                                                           \
        enum err once_ = (call);                                                                   \
        if (once_ != OK) {                                                                         \
            assert_true(failed);                                                                   \
            assert_err(once_, ERR_NO_MEMORY);                                                      \
            assert_ok(call);                                                                       \
        }                                                                                          \
    } while (0)

static void scenario(void) {
    struct scheduler_options o = {.term = 1,
                                  .hold_ms = HOLD_MS,
                                  .lost_after_ms = LOST_MS,
                                  .park_ms = PARK_MS,
                                  .window = 10,
                                  .max_tasks = 100};
    struct scheduler_flow f = flow_of(FLOW);
    TWICE(scheduler_new(&o, &s));
    TWICE(up("a1", "a"));
    TWICE(scheduler_flow_add(s, &f, now_ms));
    for (uint64_t i = 1; i <= 12; i++) {
        struct scheduler_task t = task_of(i);
        snprintf(t.avoid, sizeof(t.avoid), "b1");
        TWICE(scheduler_task_add(s, &t, now_ms));
    }
    TWICE(up("b1", "b"));
    TWICE(up("b2", "b"));
    size_t n = 0;
    for (int round = 0; round < 20; round++) {
        run();
        for (size_t i = 0; i < n_commands; i++) {
            if (commands[i].kind == SCHED_ASSIGN) {
                n++;
                done(&commands[i]);
            }
        }
    }
    assert_int_equal(n, 12);
    scheduler_free(s);
    s = NULL;
}

static void whichever_allocation_fails_nothing_is_lost(void **state) {
    (void)state;
    now_ms = 1000;
    for (long k = 0;; k++) {
        failed = false;
        fails_at = k;
        scenario();
        fails_at = -1;
        if (!failed) {
            assert_true(k > 20);
            return;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whichever_allocation_fails_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
