// SPDX-License-Identifier: Apache-2.0
// Any protobuf message as JSON (jansson), from its descriptor: field names as in the .proto
// file, enums by name in lower case without prefix, 64-bit numbers as numbers, bytes that are
// UTF-8 as text and others as {"b64": "..."}. Absent fields of proto3 appear with their zero.
#ifndef COMMON_RPC_MESSAGE_JSON_H
#define COMMON_RPC_MESSAGE_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

json_t *message_to_json(const ProtobufCMessage *m); // NULL: out of memory

#endif
