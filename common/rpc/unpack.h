// SPDX-License-Identifier: Apache-2.0
// Unpacking of messages from the network with a bound on the memory that they take.
#ifndef COMMON_RPC_UNPACK_H
#define COMMON_RPC_UNPACK_H

#include "common/err.h"

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

// ERR_INVALID: malformed; ERR_TOO_LARGE: would take more than @max_bytes of memory;
// ERR_NO_MEMORY. The message is freed with protobuf_c_message_free_unpacked(m, NULL).
MUST_CHECK enum err message_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *bytes,
                                   size_t len, size_t max_bytes, ProtobufCMessage **ret_message);

#endif
