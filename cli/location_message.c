// SPDX-License-Identifier: Apache-2.0
#include "cli/location_message.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCATION_MAX_BYTES = 64 * 1024 };

static enum err complain(struct failure *f, const void *text, size_t len, const char *why) {
    enum err e = failure_set(f, ERR_INVALID, "use location", text, len, "%s", why);
    failure_remedy(f, "write it as in SITE:/path, SITE/AGENT:/path, s3://BUCKET/KEY or https://…");
    return e;
}

static bool is_name(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !(i > 0 && (c == '-' || c == '_' || c == '.'))) {
            return false;
        }
    }
    return len > 0;
}

// Drops doubled slashes and "." components, keeps a trailing slash. false: a ".." component.
static bool normalise(const char *path, size_t len, uint8_t *out, size_t *ret_len) {
    size_t n = 0;
    bool dir = false; // must it end with a slash?
    for (size_t at = 0; at < len;) {
        const char *slash = memchr(path + at, '/', len - at);
        size_t part = slash ? (size_t)(slash - (path + at)) : len - at;
        bool here = part == 1 && path[at] == '.';
        if (part == 2 && path[at] == '.' && path[at + 1] == '.') {
            return false;
        }
        if (part > 0 && !here) {
            out[n++] = '/';
            memcpy(out + n, path + at, part);
            n += part;
        }
        dir = slash || here;
        at += part + (slash ? 1 : 0);
    }
    if (n == 0 || dir) {
        out[n++] = '/';
    }
    *ret_len = n;
    return true;
}

static enum err parse_posix(const char *text, size_t len, Sluice__V1__Location *l,
                            struct failure *f) {
    const char *colon = memchr(text, ':', len);
    if (!colon) {
        return complain(f, text, len, "it names no site");
    }
    size_t place = (size_t)(colon - text);
    const char *slash = memchr(text, '/', place);
    size_t site = slash ? (size_t)(slash - text) : place;
    size_t agent = slash ? place - site - 1 : 0;
    if (!is_name(text, site) || (slash && !is_name(slash + 1, agent))) {
        return complain(f, text, len, "what stands before the colon is no name of a site");
    }
    const char *path = colon + 1;
    size_t path_len = len - place - 1;
    if (path_len == 0 || *path != '/') {
        return complain(f, text, len, "the path does not begin with '/'");
    }
    if (memchr(path, '\0', path_len)) {
        return complain(f, text, len, "there is a NUL in the path");
    }
    Sluice__V1__PosixLocation *posix = malloc(sizeof(*posix));
    if (!posix) {
        return failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    sluice__v1__posix_location__init(posix);
    l->posix = posix;
    l->kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    posix->site = strndup(text, site);
    posix->agent = strndup(slash ? slash + 1 : "", agent);
    posix->path.data = malloc(path_len + 1);
    if (!posix->site || !posix->agent || !posix->path.data) {
        return failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    if (!normalise(path, path_len, posix->path.data, &posix->path.len)) {
        return complain(f, text, len, "the path has a '..' in it");
    }
    return OK;
}

static enum err parse_s3(const char *text, size_t len, Sluice__V1__Location *l, struct failure *f) {
    const char *bucket = text + strlen("s3://");
    size_t left = len - strlen("s3://");
    const char *slash = memchr(bucket, '/', left);
    size_t bucket_len = slash ? (size_t)(slash - bucket) : left;
    size_t key_len = slash ? left - bucket_len - 1 : 0;
    if (!is_name(bucket, bucket_len)) {
        return complain(f, text, len, "it names no bucket");
    }
    Sluice__V1__S3Location *s3 = malloc(sizeof(*s3));
    if (!s3) {
        return failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    sluice__v1__s3_location__init(s3);
    l->s3 = s3;
    l->kind_case = SLUICE__V1__LOCATION__KIND_S3;
    s3->bucket = strndup(bucket, bucket_len);
    s3->key.data = malloc(key_len + 1);
    if (!s3->bucket || !s3->key.data) {
        return failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    memcpy(s3->key.data, slash ? slash + 1 : "", key_len);
    s3->key.len = key_len;
    return OK;
}

static enum err parse_https(const char *text, size_t len, Sluice__V1__Location *l,
                            struct failure *f) {
    Sluice__V1__HttpsLocation *https = malloc(sizeof(*https));
    if (!https) {
        return failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    sluice__v1__https_location__init(https);
    l->https = https;
    l->kind_case = SLUICE__V1__LOCATION__KIND_HTTPS;
    https->url = strndup(text, len);
    return https->url ? OK : failure_set(f, ERR_NO_MEMORY, "use location", text, len, NULL);
}

static bool begins(const char *text, size_t len, const char *with) {
    return len >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

enum err location_message_parse(const void *text, size_t len, Sluice__V1__Location **ret_location,
                                struct failure *ret_failure) {
    if (len > LOCATION_MAX_BYTES) {
        return complain(ret_failure, text, len, "it is too long");
    }
    Sluice__V1__Location *l = malloc(sizeof(*l));
    if (!l) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "use location", text, len, NULL);
    }
    sluice__v1__location__init(l);
    enum err e = begins(text, len, "s3://")      ? parse_s3(text, len, l, ret_failure)
                 : begins(text, len, "https://") ? parse_https(text, len, l, ret_failure)
                                                 : parse_posix(text, len, l, ret_failure);
    if (e) {
        sluice__v1__location__free_unpacked(l, NULL);
        return e;
    }
    *ret_location = l;
    return OK;
}

// @before, then @len bytes.
static char *join(const char *before, const void *bytes, size_t len, size_t *ret_len) {
    size_t n = strlen(before);
    char *text = malloc(n + len + 1);
    if (!text) {
        return NULL;
    }
    memcpy(text, before, n);
    if (len > 0) {
        memcpy(text + n, bytes, len);
    }
    text[n + len] = '\0';
    *ret_len = n + len;
    return text;
}

char *location_message_text(const Sluice__V1__Location *location, size_t *ret_len) {
    char *before = NULL, *text = NULL;
    if (location && location->kind_case == SLUICE__V1__LOCATION__KIND_POSIX) {
        const Sluice__V1__PosixLocation *p = location->posix;
        if (asprintf(&before, "%s%s%s:", p->site, *p->agent ? "/" : "", p->agent) >= 0) {
            text = join(before, p->path.data, p->path.len, ret_len);
            free(before);
        }
        return text;
    }
    if (location && location->kind_case == SLUICE__V1__LOCATION__KIND_S3) {
        const Sluice__V1__S3Location *s3 = location->s3;
        if (asprintf(&before, "s3://%s/", s3->bucket) >= 0) {
            text = join(before, s3->key.data, s3->key.len, ret_len);
            free(before);
        }
        return text;
    }
    bool https = location && location->kind_case == SLUICE__V1__LOCATION__KIND_HTTPS;
    return join(https ? location->https->url : "", NULL, 0, ret_len);
}
