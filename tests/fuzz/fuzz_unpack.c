// SPDX-License-Identifier: Apache-2.0
// The first byte says which message the others are. Unpacking takes no more memory than was
// allowed, and what was unpacked can be packed, printed and taken apart.
#include "common/rpc/failure_message.h"
#include "common/rpc/location_message.h"
#include "common/rpc/message_json.h"
#include "common/rpc/unpack.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "sluice/v1/task.pb-c.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const kinds[] = {
    &sluice__v1__submit_flow_request__descriptor,
    &sluice__v1__location__descriptor,
    &sluice__v1__failure__descriptor,
    &sluice__v1__task_spec__descriptor,
    &sluice__v1__task_result__descriptor,
    &sluice__v1__agent_message__descriptor,
    &sluice__v1__master_message__descriptor,
    &sluice__v1__flow__descriptor,
};

enum { MAX_BYTES = 64 << 10 };

static void take_apart(const ProtobufCMessage *m) {
    struct failure f;
    struct location l;
    if (m->descriptor == &sluice__v1__failure__descriptor) {
        failure_from_message((const Sluice__V1__Failure *)m, &f);
        MUST(f.object_len <= sizeof f.object);
    }
    if (m->descriptor == &sluice__v1__location__descriptor &&
        location_from_message((const Sluice__V1__Location *)m, &l, &f) == OK) {
        location_deinit(&l);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    ProtobufCMessage *m = NULL;
    if (len == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *d = kinds[data[0] % (sizeof kinds / sizeof kinds[0])];
    enum err e = message_unpack(d, data + 1, len - 1, MAX_BYTES, &m);
    MUST(e == OK || e == ERR_INVALID || e == ERR_TOO_LARGE);
    if (e != OK) {
        return 0;
    }
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = malloc(n + 1);
    MUST(packed != NULL && protobuf_c_message_pack(m, packed) == n);
    json_t *json = message_to_json(m);
    MUST(json != NULL);
    json_decref(json);
    take_apart(m);
    protobuf_c_message_free_unpacked(m, NULL);
    free(packed);
    return 0;
}
