// SPDX-License-Identifier: Apache-2.0
// UTF-8 as RFC 3629 defines it (no surrogates, no overlong forms), and its escapes in JSON.
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How many bytes (1 to 4) the character at @p takes; 0: it is not valid UTF-8. @n at least 1.
size_t utf8_char_bytes(const void *p, size_t n);
bool utf8_is_valid(const void *p, size_t n);

enum { UTF8_JSON_MAX = 6 }; // "\u001f"

// The next character of @p, as it stands between the quotes of a JSON string: escaped if it
// must be, U+FFFD for a byte that is no UTF-8. Returns how many bytes of @p that took.
size_t utf8_json_char(const void *p, size_t n, char ret_text[UTF8_JSON_MAX], size_t *ret_len);

// For people: bytes that cannot be printed as \xNN, and "\\" for a backslash. Always
// terminated; cut at a character's boundary if @cap is too small. Returns its length.
size_t utf8_print(const void *p, size_t n, char *ret_text, size_t cap);

#endif
