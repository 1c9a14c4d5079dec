// SPDX-License-Identifier: Apache-2.0
#include "common/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t n, char *ret_text) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? (uint32_t)p[i + 2] : 0;
        *ret_text++ = digits[v >> 18];
        *ret_text++ = digits[v >> 12 & 63];
        *ret_text++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *ret_text++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *ret_text = '\0';
}

enum err base64_decode(const char *text, size_t len, uint8_t *ret_bytes, size_t *ret_n) {
    size_t n = 0;
    if (len % 4 != 0) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < len; i += 4) {
        uint32_t v = 0;
        size_t pad = 0;
        for (size_t j = 0; j < 4; j++) {
            const char *digit = text[i + j] != '\0' ? strchr(digits, text[i + j]) : NULL;
            bool is_pad = text[i + j] == '=' && i + 4 == len && j >= 2;
            if ((digit == NULL && !is_pad) || (digit != NULL && pad > 0)) {
                return ERR_INVALID;
            }
            pad += is_pad;
            v = v << 6 | (digit != NULL ? (uint32_t)(digit - digits) : 0);
        }
        ret_bytes[n++] = (uint8_t)(v >> 16);
        if (pad < 2) {
            ret_bytes[n++] = (uint8_t)(v >> 8);
        }
        if (pad < 1) {
            ret_bytes[n++] = (uint8_t)v;
        }
    }
    *ret_n = n;
    return OK;
}
