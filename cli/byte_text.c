// SPDX-License-Identifier: Apache-2.0
#include "cli/byte_text.h"

#include "common/base64.h"
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

char *byte_text_lossy(const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    char *text = malloc(3 * len + 1);
    if (!text) {
        return NULL;
    }
    size_t out = 0;
    for (size_t i = 0; i < len;) {
        size_t n = p[i] == '\0' ? 0 : utf8_char_bytes(p + i, len - i);
        if (n == 0) {
            memcpy(text + out, "\xEF\xBF\xBD", 3);
            out += 3;
            i++;
        } else {
            memcpy(text + out, p + i, n);
            out += n;
            i += n;
        }
    }
    text[out] = '\0';
    return text;
}

char *byte_text_printable(const void *bytes, size_t len) {
    char *text = malloc(4 * len + 1);
    if (text) {
        utf8_print(bytes, len, text, 4 * len + 1);
    }
    return text;
}

enum err byte_text_to_json(json_t *object, const char *key, const char *key_b64, const void *bytes,
                           size_t len) {
    char *text = byte_text_lossy(bytes, len);
    int failed = !text || json_object_set_new(object, key, json_string(text));
    bool lossy = !utf8_is_valid(bytes, len) || (len > 0 && memchr(bytes, '\0', len));
    free(text);
    if (!failed && lossy) {
        char *b64 = malloc(BASE64_LEN(len) + 1);
        if (b64) {
            base64_encode(bytes, len, b64);
        }
        failed = !b64 || json_object_set_new(object, key_b64, json_string(b64));
        free(b64);
    }
    return failed ? ERR_NO_MEMORY : OK;
}
