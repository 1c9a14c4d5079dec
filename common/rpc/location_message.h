// SPDX-License-Identifier: Apache-2.0
// struct location to and from its message.
#ifndef COMMON_RPC_LOCATION_MESSAGE_H
#define COMMON_RPC_LOCATION_MESSAGE_H

#include "common/location.h"
#include "sluice/v1/types.pb-c.h"

// ERR_INVALID: absent, of no kind, or not valid, as the failure says. ERR_NO_MEMORY. The location
// owns its bytes: location_deinit().
MUST_CHECK enum err location_from_message(const Sluice__V1__Location *m,
                                          struct location *ret_location,
                                          struct failure *ret_failure);

// Storage of a message that borrows from the location: fill, pack or send, forget.
struct location_message {
    Sluice__V1__Location message;
    Sluice__V1__PosixLocation posix;
    Sluice__V1__S3Location s3;
    Sluice__V1__HttpsLocation https;
};
void location_to_message(const struct location *l, struct location_message *ret_m);

// The path or key of a location; of no bytes if it has none.
const ProtobufCBinaryData *location_message_path(const Sluice__V1__Location *l);

#endif
