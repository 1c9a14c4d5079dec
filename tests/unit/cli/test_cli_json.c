// SPDX-License-Identifier: Apache-2.0
// What --json prints, and which exit code belongs to what.
#include "tests/lib/test.h"

#include "cli/agent_json.h"
#include "cli/byte_text.h"
#include "cli/flow_json.h"
#include "cli/report.h"

#include <string.h>

static const char *text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static void a_flow_has_the_promised_fields(void **state) {
    (void)state;
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    flow.id = (char *)"01JB4Q2M8N6W4T0R5C9VYXKZHD";
    flow.state = SLUICE__V1__FLOW_STATE__STARTED;
    flow.phase = SLUICE__V1__FLOW_PHASE__TRANSFERRING;
    flow.bytes_done = 5000000000;
    flow.bytes_total = 6000000000;
    flow.objects_done = 3;
    flow.objects_total = 4;
    flow.transport = (char *)"tcp";
    flow.eta_ms = -1;
    json_t *json = flow_to_json(&flow);
    assert_non_null(json);
    assert_string_equal(text(json, "id"), flow.id);
    assert_string_equal(text(json, "state"), "STARTED");
    assert_string_equal(text(json, "phase"), "transferring");
    assert_true(json_is_null(json_object_get(json, "outcome")));
    assert_true(json_is_null(json_object_get(json, "error")));
    assert_true(json_is_null(json_object_get(json, "eta_ms")));
    assert_string_equal(text(json, "transport"), "tcp");
    assert_int_equal(json_integer_value(json_object_get(json, "bytes_done")), 5000000000);
    static const char *const numbers[] = {"bytes_total", "bytes_resent", "objects_done",
                                          "objects_total", "objects_failed"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_true(json_is_integer(json_object_get(json, numbers[i])));
    }
    json_decref(json);
}

static void a_failed_flow_says_why_with_bytes_that_are_no_text(void **state) {
    (void)state;
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    Sluice__V1__Failure failure = SLUICE__V1__FAILURE__INIT;
    flow.state = SLUICE__V1__FLOW_STATE__TERMINATED;
    flow.outcome = SLUICE__V1__FLOW_OUTCOME__PARTIAL;
    flow.error = &failure;
    failure.code = (char *)"NO_SPACE";
    failure.errnum = 28;
    failure.object = (ProtobufCBinaryData){.data = (uint8_t *)"x\xFFy", .len = 3};
    failure.agent = (char *)"b-1";
    json_t *json = flow_to_json(&flow);
    assert_non_null(json);
    assert_string_equal(text(json, "outcome"), "partial");
    const json_t *error = json_object_get(json, "error");
    assert_string_equal(text(error, "code"), "NO_SPACE");
    assert_string_equal(text(error, "path"), "x\xEF\xBF\xBDy");
    assert_string_equal(text(error, "path_b64"), "eP95");
    assert_string_equal(text(error, "agent"), "b-1");
    json_decref(json);
}

static void locations_are_as_users_write_them(void **state) {
    (void)state;
    Sluice__V1__PosixLocation posix = SLUICE__V1__POSIX_LOCATION__INIT;
    Sluice__V1__Location from = SLUICE__V1__LOCATION__INIT;
    Sluice__V1__FlowSpec spec = SLUICE__V1__FLOW_SPEC__INIT;
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    posix.site = (char *)"a";
    posix.agent = (char *)"a-1";
    posix.path = (ProtobufCBinaryData){.data = (uint8_t *)"/d/\x80", .len = 4};
    from.kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    from.posix = &posix;
    spec.source = &from;
    flow.spec = &spec;
    json_t *json = flow_to_json(&flow);
    assert_non_null(json);
    assert_string_equal(text(json, "source"), "a/a-1:/d/\xEF\xBF\xBD");
    assert_string_equal(text(json, "source_b64"), "YS9hLTE6L2QvgA==");
    assert_string_equal(text(json, "destination"), "");
    assert_string_equal(text(json, "durability"), "object");
    assert_string_equal(text(json, "digest"), "xxh3");
    json_decref(json);
}

static void an_event_has_its_number_time_and_name(void **state) {
    (void)state;
    Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    event.seq = 9;
    event.at_ms = 1769860800123;
    event.event = (char *)"state_changed";
    event.flow = &flow;
    flow.state = SLUICE__V1__FLOW_STATE__COMPLETED;
    flow.outcome = SLUICE__V1__FLOW_OUTCOME__DELIVERED;
    json_t *json = flow_event_to_json(&event);
    assert_non_null(json);
    assert_int_equal(json_integer_value(json_object_get(json, "seq")), 9);
    assert_string_equal(text(json, "ts"), "2026-01-31T12:00:00.123Z");
    assert_string_equal(text(json, "event"), "state_changed");
    assert_string_equal(text(json, "outcome"), "delivered");
    json_decref(json);
}

static void a_failed_object_has_its_path_in_both_forms(void **state) {
    (void)state;
    Sluice__V1__FailedObject object = SLUICE__V1__FAILED_OBJECT__INIT;
    object.path = (ProtobufCBinaryData){.data = (uint8_t *)"a\0b", .len = 3};
    json_t *json = failed_object_to_json(&object);
    assert_non_null(json);
    assert_string_equal(text(json, "path"), "a\xEF\xBF\xBD"
                                            "b");
    assert_string_equal(text(json, "path_b64"), "YQBi");
    json_decref(json);
}

static void an_agent_shows_its_volumes(void **state) {
    (void)state;
    Sluice__V1__VolumeInfo volume = SLUICE__V1__VOLUME_INFO__INIT;
    Sluice__V1__VolumeInfo *volumes[] = {&volume};
    Sluice__V1__AgentInfo agent = SLUICE__V1__AGENT_INFO__INIT;
    volume.name = (char *)"data";
    volume.root = (ProtobufCBinaryData){.data = (uint8_t *)"/srv", .len = 4};
    volume.error = (char *)"gone: \xFF";
    agent.name = (char *)"a-1";
    agent.volumes = volumes;
    agent.n_volumes = 1;
    json_t *json = agent_to_json(&agent);
    assert_non_null(json);
    assert_string_equal(text(json, "name"), "a-1");
    const json_t *first = json_array_get(json_object_get(json, "volumes"), 0);
    assert_string_equal(text(first, "root"), "/srv");
    assert_string_equal(text(first, "error"), "gone: \xEF\xBF\xBD");
    json_decref(json);
}

static void exit_codes_follow_the_outcome(void **state) {
    (void)state;
    assert_int_equal(outcome_exit_code(OUTCOME_DELIVERED), 0);
    assert_int_equal(outcome_exit_code(OUTCOME_FAILED), 1);
    assert_int_equal(outcome_exit_code(OUTCOME_NONE), 1);
    assert_int_equal(outcome_exit_code(OUTCOME_PARTIAL), 3);
    assert_int_equal(outcome_exit_code(OUTCOME_CANCELLED), 6);
}

static void exit_codes_follow_the_failure(void **state) {
    (void)state;
    struct invocation inv = {0};
    static const struct {
        enum err err;
        int code;
    } cases[] = {{ERR_NOT_FOUND, 1}, {ERR_INVALID, 2},         {ERR_UNIMPLEMENTED, 2},
                 {ERR_CONFIG, 2},    {ERR_UNREACHABLE, 4},     {ERR_DENIED, 5},
                 {ERR_TIMEOUT, 1},   {ERR_UNAUTHENTICATED, 5}, {ERR_CANCELLED, 6}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct failure f;
        failure_set(&f, cases[i].err, "test", NULL, 0, NULL);
        assert_int_equal(report_failure(&inv, &f), cases[i].code);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_has_the_promised_fields),
        cmocka_unit_test(a_failed_flow_says_why_with_bytes_that_are_no_text),
        cmocka_unit_test(locations_are_as_users_write_them),
        cmocka_unit_test(an_event_has_its_number_time_and_name),
        cmocka_unit_test(a_failed_object_has_its_path_in_both_forms),
        cmocka_unit_test(an_agent_shows_its_volumes),
        cmocka_unit_test(exit_codes_follow_the_outcome),
        cmocka_unit_test(exit_codes_follow_the_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
