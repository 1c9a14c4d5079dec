// SPDX-License-Identifier: Apache-2.0
// Names of files are arbitrary bytes; terminals and JSON want text. Pure functions.
#ifndef CLI_BYTE_TEXT_H
#define CLI_BYTE_TEXT_H

#include "common/err.h"

#include <jansson.h>
#include <stddef.h>

// For JSON: bytes that are not UTF-8, and NUL, become U+FFFD. free() it; NULL: out of memory.
char *byte_text_lossy(const void *bytes, size_t len);
// For a terminal: what cannot be printed as \xNN. free() it; NULL likewise.
char *byte_text_printable(const void *bytes, size_t len);

// Sets @key to the lossy text and, if that loses something, @key_b64 beside it.
MUST_CHECK enum err byte_text_to_json(json_t *object, const char *key, const char *key_b64,
                                      const void *bytes, size_t len);

#endif
