// SPDX-License-Identifier: Apache-2.0
// Where callbacks may go: http and https, to hosts that the configuration lists. Pure.
#ifndef MASTER_CALLBACK_TARGET_H
#define MASTER_CALLBACK_TARGET_H

#include "common/failure.h"

#include <stdbool.h>

struct callback_options;

enum { CALLBACK_URL_MAX = 2048 };

// "name", "name:port", "[address]" or "[address]:port".
bool callback_host_is_valid(const char *host);
// May @url be called? ERR_UNIMPLEMENTED: callbacks are off here; ERR_INVALID: no address that
// could be called; ERR_DENIED: its host is not listed. An entry without a port allows any.
MUST_CHECK enum err callback_target_check(const char *url, const struct callback_options *o,
                                          struct failure *ret_failure);

#endif
