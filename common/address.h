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

// The next of some that are joined by commas ("a:1,b:2"): copies it, and moves *@rest behind it.
// False: there are no more, or it does not fit.
enum { ADDRESS_TEXT_SIZE = 300 };
bool address_next(const char **rest, char ret_text[ADDRESS_TEXT_SIZE]);

// Without TLS only loopback is allowed. ERR_DENIED: @text leads elsewhere; ERR_INVALID.
MUST_CHECK enum err address_check_plaintext(const char *text, struct failure *ret_failure);

#endif
