// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/failure_message.h"
#include "common/rpc/message_json.h"
#include "common/rpc/rpc.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "sluice/v1/task.pb-c.h"
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

static void assert_json(const ProtobufCMessage *m, const char *key, const char *expected) {
    json_t *j = message_to_json(m);
    assert_non_null(j);
    json_t *value = json_object_get(j, key);
    char *text = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("-");
    assert_string_equal(text, expected);
    free(text);
    json_decref(j);
}

static void values_look_like_their_types(void **state) {
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    Sluice__V1__SuspensionHolder holders[] = {SLUICE__V1__SUSPENSION_HOLDER__USER,
                                              SLUICE__V1__SUSPENSION_HOLDER__SPACE};
    Sluice__V1__FlowSpec spec = SLUICE__V1__FLOW_SPEC__INIT;
    (void)state;
    flow.id = (char *)(uintptr_t) "F\"1";
    flow.state = SLUICE__V1__FLOW_STATE__STARTED;
    flow.bytes_done = (uint64_t)1 << 60;
    flow.eta_ms = -1;
    flow.listing = 1;
    flow.bytes_per_s = 1.5;
    flow.n_suspended_by = 2;
    flow.suspended_by = holders;
    spec.namespace_ = (char *)(uintptr_t) "n";
    flow.spec = &spec;
    assert_json(&flow.base, "id", "\"F\\\"1\"");
    assert_json(&flow.base, "state", "\"started\"");
    assert_json(&flow.base, "phase", "\"unspecified\"");
    assert_json(&flow.base, "bytes_done", "1152921504606846976");
    assert_json(&flow.base, "bytes_total", "0");
    assert_json(&flow.base, "eta_ms", "-1");
    assert_json(&flow.base, "listing", "true");
    assert_json(&flow.base, "bytes_per_s", "1.5");
    assert_json(&flow.base, "suspended_by", "[\"user\",\"space\"]");
    assert_json(&flow.base, "agents", "[]");
    assert_json(&flow.base, "error", "null");
    json_t *j = message_to_json(&flow.base);
    assert_string_equal(json_string_value(json_object_get(json_object_get(j, "spec"), "namespace")),
                        "n");
    json_decref(j);
}

static void bytes_are_text_where_they_can_be(void **state) {
    Sluice__V1__Place place = SLUICE__V1__PLACE__INIT;
    (void)state;
    place.root = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)(uintptr_t) "a/b"};
    assert_json(&place.base, "root", "\"a/b\"");
    place.root = (ProtobufCBinaryData){.len = 2, .data = (uint8_t *)(uintptr_t) "\xff!"};
    assert_json(&place.base, "root", "{\"b64\":\"/yE=\"}");
    place.root = (ProtobufCBinaryData){0};
    assert_json(&place.base, "root", "\"\"");
    place.volume = (char *)(uintptr_t) "x\xff";
    assert_json(&place.base, "volume", "\"x\xef\xbf\xbd\"");
}

static void only_the_chosen_one_of_a_oneof_appears(void **state) {
    Sluice__V1__Location l = SLUICE__V1__LOCATION__INIT;
    Sluice__V1__HttpsLocation https = SLUICE__V1__HTTPS_LOCATION__INIT;
    (void)state;
    l.kind_case = SLUICE__V1__LOCATION__KIND_HTTPS;
    l.https = &https;
    assert_json(&l.base, "https", "{\"url\":\"\"}");
    assert_json(&l.base, "posix", "-");
}

static void a_failure_survives_its_message(void **state) {
    struct failure f, back;
    struct failure_message m;
    (void)state;
    failure_errno(&f, 28, "write", "/d/\xff", 4);
    failure_to_message(&f, "node1", &m);
    assert_string_equal(m.message.agent, "node1");
    assert_string_equal(m.message.code, "NO_SPACE");
    failure_from_message(&m.message, &back);
    assert_memory_equal(&f, &back, sizeof f);
}

static void a_status_is_a_failure_whatever_the_peer_says(void **state) {
    struct failure f = {0}, back;
    struct failure_message m;
    uint8_t packed[512];
    (void)state;
    failure_to_message(&f, NULL, &m); // "OK"
    struct rpc_status status = {.code = 14, .failure = packed};
    status.failure_len = sluice__v1__failure__pack(&m.message, packed);
    rpc_status_failure(&status, &back);
    assert_err(back.err, ERR_UNREACHABLE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_look_like_their_types),
        cmocka_unit_test(bytes_are_text_where_they_can_be),
        cmocka_unit_test(only_the_chosen_one_of_a_oneof_appears),
        cmocka_unit_test(a_failure_survives_its_message),
        cmocka_unit_test(a_status_is_a_failure_whatever_the_peer_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
