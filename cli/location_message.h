// SPDX-License-Identifier: Apache-2.0
// Locations between the text that users write and their message.
#ifndef CLI_LOCATION_MESSAGE_H
#define CLI_LOCATION_MESSAGE_H

#include "common/err.h"
#include "common/failure.h"
#include "sluice/v1/types.pb-c.h"

#include <stddef.h>

// @text is bytes: "SITE:/abs/path", "SITE/AGENT:/abs/path", "s3://BUCKET/KEY", "https://…".
// ERR_INVALID: the failure says what is wrong with it. ERR_NO_MEMORY. The caller frees
// *@ret_location with sluice__v1__location__free_unpacked().
MUST_CHECK enum err location_message_parse(const void *text, size_t len,
                                           Sluice__V1__Location **ret_location,
                                           struct failure *ret_failure);

// The text again, *@ret_len bytes and a NUL; free() it. NULL: out of memory. A location that
// is absent or unknown gives "".
char *location_message_text(const Sluice__V1__Location *location, size_t *ret_len);

#endif
