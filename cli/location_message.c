// SPDX-License-Identifier: Apache-2.0
#include "cli/location_message.h"

#include "common/location.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What the message takes from @l: its bytes, and copies of its names. The message is all
// zeros but for `base`, so that freeing a half-built one is fine.
static bool fill(struct location *l, Sluice__V1__Location *m) {
    switch (l->kind) {
    case LOCATION_POSIX: {
        Sluice__V1__PosixLocation *posix = malloc(sizeof(*posix));
        if (!posix) {
            return false;
        }
        sluice__v1__posix_location__init(posix);
        m->kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
        m->posix = posix;
        posix->path = (ProtobufCBinaryData){.data = l->bytes, .len = l->len};
        l->bytes = NULL;
        posix->site = strdup(l->site);
        posix->agent = strdup(l->agent);
        return posix->site && posix->agent;
    }
    case LOCATION_S3: {
        Sluice__V1__S3Location *s3 = malloc(sizeof(*s3));
        if (!s3) {
            return false;
        }
        sluice__v1__s3_location__init(s3);
        m->kind_case = SLUICE__V1__LOCATION__KIND_S3;
        m->s3 = s3;
        s3->key = (ProtobufCBinaryData){.data = l->bytes, .len = l->len};
        l->bytes = NULL;
        s3->store = strdup(l->store);
        s3->bucket = strdup(l->bucket);
        return s3->store && s3->bucket;
    }
    case LOCATION_HTTPS: {
        Sluice__V1__HttpsLocation *https = malloc(sizeof(*https));
        if (!https) {
            return false;
        }
        sluice__v1__https_location__init(https);
        m->kind_case = SLUICE__V1__LOCATION__KIND_HTTPS;
        m->https = https;
        https->url = (char *)l->bytes;
        l->bytes = NULL;
        return true;
    }
    }
    return false;
}

enum err location_message_parse(const void *text, size_t len, Sluice__V1__Location **ret_location,
                                struct failure *ret_failure) {
    struct location l;
    enum err e = location_parse(text, len, &l, ret_failure);
    if (e) {
        return e;
    }
    Sluice__V1__Location *m = malloc(sizeof(*m));
    if (m) {
        sluice__v1__location__init(m);
    }
    if (!m || !fill(&l, m)) {
        if (m) {
            sluice__v1__location__free_unpacked(m, NULL);
        }
        e = failure_set(ret_failure, ERR_NO_MEMORY, "use the location", text, len, NULL);
    } else {
        *ret_location = m;
    }
    location_deinit(&l);
    return e;
}

char *location_message_text(const Sluice__V1__Location *location, size_t *ret_len) {
    struct location l = {0}; // borrows its bytes
    switch (location ? location->kind_case : SLUICE__V1__LOCATION__KIND__NOT_SET) {
    case SLUICE__V1__LOCATION__KIND_POSIX:
        l.kind = LOCATION_POSIX;
        snprintf(l.site, sizeof(l.site), "%s", location->posix->site);
        snprintf(l.agent, sizeof(l.agent), "%s", location->posix->agent);
        l.bytes = location->posix->path.data;
        l.len = location->posix->path.len;
        break;
    case SLUICE__V1__LOCATION__KIND_S3:
        l.kind = LOCATION_S3;
        snprintf(l.store, sizeof(l.store), "%s", location->s3->store);
        snprintf(l.bucket, sizeof(l.bucket), "%s", location->s3->bucket);
        l.bytes = location->s3->key.data;
        l.len = location->s3->key.len;
        break;
    case SLUICE__V1__LOCATION__KIND_HTTPS:
        l.kind = LOCATION_HTTPS;
        l.bytes = (uint8_t *)location->https->url;
        l.len = strlen(location->https->url);
        break;
    case SLUICE__V1__LOCATION__KIND__NOT_SET:
    case _SLUICE__V1__LOCATION__KIND__CASE_IS_INT_SIZE: break;
    }
    return location_text(&l, ret_len);
}
