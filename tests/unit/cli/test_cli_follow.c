// SPDX-License-Identifier: Apache-2.0
// cp, watch, log and show against a scripted master.
#include "tests/lib/test.h"
#include "tests/unit/cli/fake_master.h"

#include "cli/client.h"
#include "cli/command.h"
#include "cli/watch.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STARTED    SLUICE__V1__FLOW_STATE__STARTED
#define COMPLETED  SLUICE__V1__FLOW_STATE__COMPLETED
#define ENDED      SLUICE__V1__FLOW_STATE__TERMINATED
#define NO_OUTCOME SLUICE__V1__FLOW_OUTCOME__FLOW_OUTCOME_UNSPECIFIED
#define DELIVERED  SLUICE__V1__FLOW_OUTCOME__DELIVERED

static char output[1 << 20]; // of the last command, on stdout

// Runs a whole command line with stdout kept.
static int sluice(const struct fake_master *m, const char *const *line) {
    char *argv[16] = {(char *)(uintptr_t) "sluice"};
    int argc = 1;
    for (; line[argc - 1]; argc++) {
        argv[argc] = (char *)(uintptr_t)line[argc - 1];
    }
    argv[argc++] = (char *)(uintptr_t) "--master";
    argv[argc++] = (char *)(uintptr_t)m->address;
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    int code = sluice_main(argc, argv);
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    close(saved);
    ssize_t n = pread(fileno(file), output, sizeof(output) - 1, 0);
    output[n > 0 ? n : 0] = '\0';
    fclose(file);
    return code;
}
#define SLUICE(m, ...) sluice(m, (const char *const[]){__VA_ARGS__, NULL})

static int count_lines(void) {
    int n = 0;
    for (const char *p = output; (p = strchr(p, '\n')); p++) {
        n++;
    }
    return n;
}

static void a_watch_goes_on_after_the_last_event_seen(void **state) {
    (void)state;
    struct fake_master m = {
        .events = {{1, STARTED, NO_OUTCOME}, {4, STARTED, NO_OUTCOME}, {7, COMPLETED, DELIVERED}},
        .n_events = 3,
        .break_after = 2,
    };
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "watch", "F", "--json"), 0);
    assert_int_equal(atomic_load(&m.n_watches), 2);
    assert_int_equal(atomic_load(&m.last_from_seq), 5);
    assert_int_equal(count_lines(), 3);
    fake_master_stop(&m);
}

static void a_copy_ends_with_the_outcome_of_its_flow(void **state) {
    (void)state;
    static const struct {
        Sluice__V1__FlowState state;
        Sluice__V1__FlowOutcome outcome;
        int code;
    } cases[] = {
        {COMPLETED, DELIVERED, 0},
        {ENDED, SLUICE__V1__FLOW_OUTCOME__FAILED, 1},
        {ENDED, SLUICE__V1__FLOW_OUTCOME__PARTIAL, 3},
        {ENDED, SLUICE__V1__FLOW_OUTCOME__CANCELLED, 6},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_master m = {
            .events = {{1, STARTED, NO_OUTCOME}, {2, cases[i].state, cases[i].outcome}},
            .n_events = 2,
            .objects_failed = cases[i].code == 3,
        };
        fake_master_start(&m);
        assert_int_equal(SLUICE(&m, "cp", "a:/x", "b:/y"), cases[i].code);
        assert_int_equal(SLUICE(&m, "cp", "a:/x", "b:/y", "--json"), cases[i].code);
        json_t *flow = json_loads(output, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(flow, "id")), "F");
        json_decref(flow);
        fake_master_stop(&m);
    }
}

static void what_the_master_refuses_is_said_in_json_too(void **state) {
    (void)state;
    static const struct {
        enum err err;
        int code;
    } cases[] = {{ERR_DENIED, 5}, {ERR_UNIMPLEMENTED, 2}, {ERR_FULL, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_master m = {.submit_fails = cases[i].err};
        fake_master_start(&m);
        assert_int_equal(SLUICE(&m, "submit", "a:/x", "b:/y", "--json"), cases[i].code);
        json_t *json = json_loads(output, 0, NULL);
        const json_t *code = json_object_get(json_object_get(json, "error"), "code");
        assert_string_equal(json_string_value(code), err_name(cases[i].err));
        json_decref(json);
        fake_master_stop(&m);
    }
}

static void submit_prints_the_id_alone(void **state) {
    (void)state;
    struct fake_master m = {.n_events = 0};
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "submit", "a:/x", "b:/y"), 0);
    assert_string_equal(output, "F\n");
    assert_int_equal(SLUICE(&m, "submit", "a:/x", "b:/y", "--json", "--request-id", "again"), 0);
    assert_string_equal(output, "{\"id\":\"F\",\"existed\":true}\n");
    fake_master_stop(&m);
}

static void an_unknown_flow_ends_a_watch_at_once(void **state) {
    (void)state;
    struct fake_master m = {.events = {{1, STARTED, NO_OUTCOME}}, .n_events = 1, .hold = true};
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "watch", "G"), 1);
    assert_int_equal(SLUICE(&m, "log", "G"), 1);
    fake_master_stop(&m);
}

static void a_log_ends_though_its_flow_goes_on(void **state) {
    (void)state;
    struct fake_master m = {
        .events = {{1, STARTED, NO_OUTCOME}, {4, STARTED, NO_OUTCOME}},
        .n_events = 2,
        .hold = true,
    };
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "log", "F"), 0);
    assert_int_equal(count_lines(), 2);
    fake_master_stop(&m);
}

static void failed_objects_are_listed(void **state) {
    (void)state;
    struct fake_master m = {.n_events = 0};
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "show", "F", "--failed", "--json"), 0);
    assert_string_equal(output, "{\"path\":\"bad\",\"error\":null}\n");
    fake_master_stop(&m);
}

static void the_newest_flows_are_listed_or_as_many_as_one_asks_for(void **state) {
    (void)state;
    struct fake_master m = {.n_flows = 1203};
    fake_master_start(&m);
    assert_int_equal(SLUICE(&m, "ls", "--json"), 0);
    assert_int_equal(count_lines(), 100);
    assert_int_equal(SLUICE(&m, "ls", "--json", "--limit", "700"), 0);
    assert_int_equal(count_lines(), 700);
    assert_int_equal(SLUICE(&m, "ls", "--json", "--all"), 0);
    assert_int_equal(count_lines(), 1203);
    fake_master_stop(&m);
}

static void an_unreachable_master_has_an_exit_code_of_its_own(void **state) {
    (void)state;
    struct fake_master m = {.n_events = 0};
    fake_master_start(&m);
    fake_master_stop(&m);
    assert_int_equal(SLUICE(&m, "ls", "--json"), 4);
    assert_int_equal(SLUICE(&m, "cp", "a:/x", "b:/y"), 4);
    assert_int_equal(SLUICE(&m, "watch", "F"), 4);
}

static void cancel_at_first_event(const Sluice__V1__FlowEvent *event, void *user) {
    (void)event;
    watch_cancel_flow(user);
}

static void a_flow_cancelled_while_it_is_watched_ends_the_watch(void **state) {
    (void)state;
    struct fake_master m = {.events = {{1, STARTED, NO_OUTCOME}}, .n_events = 1, .hold = true};
    struct client client;
    struct failure f;
    fake_master_start(&m);
    assert_ok(client_open_address(m.address, &client, &f));
    struct watch *watch = watch_new(&client);
    assert_non_null(watch);
    struct watch_options options = {.flow_id = "F", .event = cancel_at_first_event, .user = watch};
    Sluice__V1__Flow *flow = NULL;
    assert_ok(watch_run(watch, &options, &flow, &f));
    assert_int_equal(flow->outcome, SLUICE__V1__FLOW_OUTCOME__CANCELLED);
    assert_int_equal(atomic_load(&m.n_terminates), 1);
    free_reply(&flow->base);
    watch_free(watch);
    client_close(&client);
    fake_master_stop(&m);
}

int main(void) {
    unsetenv("SLUICE_CONFIG");
    unsetenv("SLUICE_MASTER");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_watch_goes_on_after_the_last_event_seen),
        cmocka_unit_test(a_copy_ends_with_the_outcome_of_its_flow),
        cmocka_unit_test(what_the_master_refuses_is_said_in_json_too),
        cmocka_unit_test(submit_prints_the_id_alone),
        cmocka_unit_test(an_unknown_flow_ends_a_watch_at_once),
        cmocka_unit_test(a_log_ends_though_its_flow_goes_on),
        cmocka_unit_test(failed_objects_are_listed),
        cmocka_unit_test(the_newest_flows_are_listed_or_as_many_as_one_asks_for),
        cmocka_unit_test(an_unreachable_master_has_an_exit_code_of_its_own),
        cmocka_unit_test(a_flow_cancelled_while_it_is_watched_ends_the_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
