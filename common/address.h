// SPDX-License-Identifier: Apache-2.0
// "host:port" as configured: "127.0.0.1:7000", "node7:0", "[::1]:7000".
#ifndef COMMON_ADDRESS_H
#define COMMON_ADDRESS_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>

struct address {
    char host[256]; // without brackets
    int port;       // 0 to 65535
};

// ERR_INVALID, with a failure that says how to write it.
MUST_CHECK enum err address_parse(const char *text, struct address *ret_address,
                                  struct failure *ret_failure);
// Is this host the machine itself by definition: 127.0.0.0/8, ::1, or "localhost"?
bool address_is_loopback(const struct address *a);

// Without TLS only loopback is allowed. ERR_DENIED: @text leads elsewhere; ERR_INVALID.
MUST_CHECK enum err address_check_plaintext(const char *text, struct failure *ret_failure);

#endif
