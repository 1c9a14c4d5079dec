// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_sign.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "common/hmac.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DATE_LEN = 8, KEY_MAX_BYTES = 256 };

void s3_time(int64_t wall_ms, char ret_time[S3_TIME_SIZE]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm = {0};
    (void)gmtime_r(&seconds, &tm);
    if (strftime(ret_time, S3_TIME_SIZE, "%Y%m%dT%H%M%SZ", &tm) != S3_TIME_SIZE - 1) {
        memcpy(ret_time, "19700101T000000Z", S3_TIME_SIZE); // a clock after the year 9999
    }
}

size_t s3_encode(const void *bytes, size_t len, int keep_slash, char *ret_text) {
    static const char hex[] = "0123456789ABCDEF";
    const uint8_t *p = bytes;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash)) {
            ret_text[n++] = (char)c;
        } else {
            ret_text[n++] = '%';
            ret_text[n++] = hex[c >> 4];
            ret_text[n++] = hex[c & 15];
        }
    }
    ret_text[n] = '\0';
    return n;
}

static enum err names_of(const struct s3_signing *s, char *ret_names, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_headers; i++) {
        size_t len = strlen(s->headers[i].name);
        if (n + len + 2 > cap) {
            return ERR_FULL;
        }
        if (i > 0) {
            ret_names[n++] = ';';
        }
        memcpy(ret_names + n, s->headers[i].name, len);
        n += len;
    }
    ret_names[n] = '\0';
    return OK;
}

// A header's value without blanks around it, and with single ones inside.
static void put_value(FILE *out, const char *value) {
    bool blank = false, begun = false;
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == ' ' || *c == '\t') {
            blank = true;
            continue;
        }
        if (blank && begun) {
            putc(' ', out);
        }
        putc(*c, out);
        blank = false;
        begun = true;
    }
}

static enum err hash_request(const struct s3_signing *s, const char *names,
                             char ret_hex[S3_PAYLOAD_SIZE]) {
    AUTO(auto_free) char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return ERR_NO_MEMORY;
    }
    fprintf(out, "%s\n%s\n%s\n", s->method, s->path, s->query);
    for (size_t i = 0; i < s->n_headers; i++) {
        fprintf(out, "%s:", s->headers[i].name);
        put_value(out, s->headers[i].value);
        putc('\n', out);
    }
    fprintf(out, "\n%s\n%s", names, s->payload);
    if (fclose(out) != 0) {
        return ERR_NO_MEMORY;
    }
    uint8_t digest[HMAC_SHA256_BYTES];
    sha256(text, len, digest);
    hash_hex(digest, sizeof digest, ret_hex);
    return OK;
}

static enum err derive_key(const struct s3_signing *s, uint8_t ret_key[HMAC_SHA256_BYTES]) {
    char secret[KEY_MAX_BYTES + 5];
    int n = snprintf(secret, sizeof secret, "AWS4%s", s->secret_key);
    if (n < 0 || (size_t)n >= sizeof secret) {
        return ERR_FULL;
    }
    const char *const parts[] = {s->region, s->service, "aws4_request"};
    enum err e = hmac_sha256(secret, (size_t)n, s->time, DATE_LEN, ret_key);
    for (size_t i = 0; e == OK && i < ARRAY_LEN(parts); i++) {
        uint8_t next[HMAC_SHA256_BYTES];
        e = hmac_sha256(ret_key, HMAC_SHA256_BYTES, parts[i], strlen(parts[i]), next);
        memcpy(ret_key, next, sizeof next);
    }
    explicit_bzero(secret, sizeof secret);
    return e;
}

enum err s3_sign(const struct s3_signing *s, char ret_authorization[S3_AUTHORIZATION_SIZE]) {
    char names[1024], request[S3_PAYLOAD_SIZE], scope[256], text[512];
    uint8_t key[HMAC_SHA256_BYTES], mac[HMAC_SHA256_BYTES];
    if (s->n_headers > S3_SIGNED_HEADERS_MAX || strlen(s->time) < DATE_LEN) {
        return ERR_FULL;
    }
    enum err e = names_of(s, names, sizeof names);
    if (e == OK) {
        e = hash_request(s, names, request);
    }
    int n = snprintf(scope, sizeof scope, "%.*s/%s/%s/aws4_request", DATE_LEN, s->time, s->region,
                     s->service);
    if (e == OK && (n < 0 || (size_t)n >= sizeof scope)) {
        e = ERR_FULL;
    }
    if (e != OK) {
        return e;
    }
    n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", s->time, scope, request);
    e = derive_key(s, key);
    if (e == OK) {
        e = hmac_sha256(key, sizeof key, text, (size_t)n, mac);
    }
    explicit_bzero(key, sizeof key);
    if (e != OK) {
        return e;
    }
    char signature[2 * sizeof mac + 1];
    hash_hex(mac, sizeof mac, signature);
    n = snprintf(ret_authorization, S3_AUTHORIZATION_SIZE,
                 "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", s->access_key,
                 scope, names, signature);
    return n > 0 && n < S3_AUTHORIZATION_SIZE ? OK : ERR_FULL;
}
