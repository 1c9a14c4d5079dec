// SPDX-License-Identifier: Apache-2.0
#include "common/utf8.h"

#include <stdio.h>
#include <string.h>

size_t utf8_char_bytes(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    size_t len;
    uint32_t code, least;
    if (p[0] < 0x80) {
        return 1;
    } else if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2, code = p[0] & 0x1fU, least = 0x80;
    } else if ((p[0] & 0xf0) == 0xe0) {
        len = 3, code = p[0] & 0x0fU, least = 0x800;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4, code = p[0] & 0x07U, least = 0x10000;
    } else {
        return 0;
    }
    if (n < len) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3fU);
    }
    return code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : len;
}

bool utf8_is_valid(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_char_bytes(p + i, n - i);
        if (len == 0) {
            return false;
        }
    }
    return true;
}

size_t utf8_json_char(const void *bytes, size_t n, char ret_text[UTF8_JSON_MAX], size_t *ret_len) {
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    size_t len = utf8_char_bytes(p, n);
    if (len == 0) {
        memcpy(ret_text, "\xef\xbf\xbd", 3);
        *ret_len = 3;
        return 1;
    }
    if (len > 1 || (p[0] >= 0x20 && p[0] != '"' && p[0] != '\\' && p[0] != 0x7f)) {
        memcpy(ret_text, p, len);
        *ret_len = len;
        return len;
    }
    const char *named = p[0] == '\n' ? "\\n" : p[0] == '\t' ? "\\t" : NULL;
    if (named != NULL || p[0] == '"' || p[0] == '\\') {
        ret_text[0] = '\\';
        ret_text[1] = named != NULL ? named[1] : (char)p[0];
        *ret_len = 2;
        return 1;
    }
    memcpy(ret_text, "\\u00", 4);
    ret_text[4] = hex[p[0] >> 4];
    ret_text[5] = hex[p[0] & 15];
    *ret_len = 6;
    return 1;
}

size_t utf8_print(const void *bytes, size_t n, char *ret_text, size_t cap) {
    const uint8_t *p = bytes;
    size_t used = 0;
    if (cap == 0) {
        return 0;
    }
    for (size_t i = 0; i < n;) {
        char piece[8];
        size_t len = utf8_char_bytes(p + i, n - i), took = len == 0 ? 1 : len, wide;
        // U+0080 to U+009F are control characters to a terminal.
        bool control = len == 0 || (len == 1 && (p[i] < 0x20 || p[i] == 0x7f)) ||
                       (len == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0);
        if (control) {
            took = 1;
            wide = (size_t)snprintf(piece, sizeof piece, "\\x%02x", p[i]);
        } else if (p[i] == '\\') {
            memcpy(piece, "\\\\", 2);
            wide = 2;
        } else {
            memcpy(piece, p + i, len);
            wide = len;
        }
        if (used + wide >= cap) {
            break;
        }
        memcpy(ret_text + used, piece, wide);
        used += wide;
        i += took;
    }
    ret_text[used] = '\0';
    return used;
}
