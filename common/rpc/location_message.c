// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/location_message.h"

#include <string.h>

enum err location_from_message(const Sluice__V1__Location *m, struct location *ret_location,
                               struct failure *ret_failure) {
    if (m != NULL && m->kind_case == SLUICE__V1__LOCATION__KIND_POSIX) {
        const Sluice__V1__PosixLocation *p = m->posix;
        return location_posix(p->site, p->agent, p->path.data, p->path.len, ret_location,
                              ret_failure);
    }
    if (m != NULL && m->kind_case == SLUICE__V1__LOCATION__KIND_S3) {
        const Sluice__V1__S3Location *s3 = m->s3;
        return location_s3(s3->store, s3->bucket, s3->key.data, s3->key.len, ret_location,
                           ret_failure);
    }
    if (m != NULL && m->kind_case == SLUICE__V1__LOCATION__KIND_HTTPS) {
        return location_https(m->https->url, strlen(m->https->url), ret_location, ret_failure);
    }
    enum err err = failure_set(ret_failure, ERR_INVALID, "use the location", NULL, 0,
                               m == NULL ? "there is none" : "it is of no kind that is known");
    failure_remedy(ret_failure, "set one of posix, s3 and https");
    return err;
}

void location_to_message(const struct location *l, struct location_message *ret_m) {
    Sluice__V1__Location *m = &ret_m->message;
    sluice__v1__location__init(m);
    switch (l->kind) {
    case LOCATION_POSIX:
        sluice__v1__posix_location__init(&ret_m->posix);
        ret_m->posix.site = (char *)(uintptr_t)l->site;
        ret_m->posix.agent = (char *)(uintptr_t)l->agent;
        ret_m->posix.path = (ProtobufCBinaryData){.len = l->len, .data = l->bytes};
        m->kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
        m->posix = &ret_m->posix;
        return;
    case LOCATION_S3:
        sluice__v1__s3_location__init(&ret_m->s3);
        ret_m->s3.store = (char *)(uintptr_t)l->store;
        ret_m->s3.bucket = (char *)(uintptr_t)l->bucket;
        ret_m->s3.key = (ProtobufCBinaryData){.len = l->len, .data = l->bytes};
        m->kind_case = SLUICE__V1__LOCATION__KIND_S3;
        m->s3 = &ret_m->s3;
        return;
    case LOCATION_HTTPS:
        sluice__v1__https_location__init(&ret_m->https);
        ret_m->https.url = (char *)l->bytes;
        m->kind_case = SLUICE__V1__LOCATION__KIND_HTTPS;
        m->https = &ret_m->https;
        return;
    }
}

const ProtobufCBinaryData *location_message_path(const Sluice__V1__Location *l) {
    static const ProtobufCBinaryData none;
    switch (l->kind_case) {
    case SLUICE__V1__LOCATION__KIND_POSIX: return &l->posix->path;
    case SLUICE__V1__LOCATION__KIND_S3: return &l->s3->key;
    case SLUICE__V1__LOCATION__KIND_HTTPS:
    case SLUICE__V1__LOCATION__KIND__NOT_SET:
    case _SLUICE__V1__LOCATION__KIND__CASE_IS_INT_SIZE:
    default: return &none;
    }
}
