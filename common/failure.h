// SPDX-License-Identifier: Apache-2.0
// What went wrong, as its first observer saw it: enough for a user to act on.
//
// The caller owns it; the first observer fills it; it travels unchanged to the user.
// Plain value, no pointers: copy it freely.
#ifndef COMMON_FAILURE_H
#define COMMON_FAILURE_H

#include "common/err.h"

#include <stddef.h>

enum {
    FAILURE_OBJECT_MAX = 512, // longer names keep their last bytes
    FAILURE_TEXT_MAX = 256,
};

struct failure {
    enum err err; // OK: nothing was filled in
    int errnum;   // 0: no system call was involved
    char operation[32];
    unsigned char object[FAILURE_OBJECT_MAX]; // any bytes; not terminated
    size_t object_len;
    char message[FAILURE_TEXT_MAX]; // one sentence, no full stop
    char remedy[FAILURE_TEXT_MAX];
};

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

// Fills @f (NULL: does nothing) and returns @e. @object may be NULL if @object_len is 0.
// The message defaults to err_text(@e) if @fmt is NULL; the remedy to a usual one for @e.
enum err failure_set(struct failure *f, enum err e, const char *operation, const void *object,
                     size_t object_len, const char *fmt, ...) PRINTF_LIKE(6, 7);

// From errno: message is strerror, code err_from_errno, remedy the usual one.
enum err failure_errno(struct failure *f, int errnum, const char *operation, const void *object,
                       size_t object_len);

void failure_remedy(struct failure *f, const char *fmt, ...) PRINTF_LIKE(2, 3);

// "cannot openat2 '/data/x': permission denied; make it readable for the agent" for people,
// with bytes that are not printable escaped. Always terminated.
void failure_format(const struct failure *f, char *buf, size_t cap);

#endif
