// SPDX-License-Identifier: Apache-2.0
#include "master/callback_signature.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "common/hmac.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err callback_secret_read(const char *path, struct callback_secret *ret_secret,
                              struct failure *ret_failure) {
    char text[CALLBACK_SECRET_MAX + 3]; // a line break may follow
    size_t len = 0;
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "open", path, strlen(path));
    }
    while (len < sizeof text) {
        ssize_t n = read(fd, text + len, sizeof text - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return failure_errno(ret_failure, errno, "read", path, strlen(path));
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    if (len < CALLBACK_SECRET_MIN || len > CALLBACK_SECRET_MAX) {
        enum err e = failure_set(ret_failure, ERR_CONFIG, "read", path, strlen(path),
                                 "the secret must have %d to %d bytes", CALLBACK_SECRET_MIN,
                                 CALLBACK_SECRET_MAX);
        failure_remedy(ret_failure, "make one with: openssl rand -hex 32");
        return e;
    }
    ret_secret->len = len;
    memcpy(ret_secret->bytes, text, len);
    return OK;
}

enum err callback_sign(const struct callback_secret *s, int64_t unix_s, const void *body,
                       size_t len, char ret_text[CALLBACK_SIGNATURE_SIZE]) {
    char hex[2 * HMAC_SHA256_BYTES + 1];
    uint8_t mac[HMAC_SHA256_BYTES];
    AUTO(auto_free) char *signed_text = malloc(len + 24);
    if (signed_text == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t n = (size_t)snprintf(signed_text, 24, "%" PRId64 ".", unix_s);
    memcpy(signed_text + n, body, len);
    enum err e = hmac_sha256(s->bytes, s->len, signed_text, n + len, mac);
    if (e == OK) {
        hash_hex(mac, sizeof mac, hex);
        snprintf(ret_text, CALLBACK_SIGNATURE_SIZE, "t=%" PRId64 ",v1=%s", unix_s, hex);
    }
    return e;
}
