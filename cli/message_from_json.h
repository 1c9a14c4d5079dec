// SPDX-License-Identifier: Apache-2.0
// A protobuf message from JSON, by its descriptor: the counterpart of
// common/rpc/message_json.h. Strict: an unknown key, a number out of range or a text in place
// of a number is refused with its place, as in "spec.limits.streams".
//
// Forms: enums by name in any case; bytes as text or {"b64": "…"}; a Location also as the
// text that the command line takes; a list of Label also as {"key": "value"}.
#ifndef CLI_MESSAGE_FROM_JSON_H
#define CLI_MESSAGE_FROM_JSON_H

#include "common/err.h"
#include "common/failure.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

// The caller frees *@ret_message with protobuf_c_message_free_unpacked(). ERR_INVALID,
// ERR_NO_MEMORY. @place stands before the names of keys in messages; may be "".
MUST_CHECK enum err message_from_json(const json_t *json,
                                      const ProtobufCMessageDescriptor *descriptor,
                                      const char *place, ProtobufCMessage **ret_message,
                                      struct failure *ret_failure);

#endif
