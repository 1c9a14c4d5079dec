// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_read_proof.h"

#include "common/hash.h"
#include "common/hmac.h"
#include "dataplane/s3_encryption.h"

#include <string.h>

bool s3_read_proof_init(struct s3_read_proof *p) {
    *p = (struct s3_read_proof){.md5 = md5_sum_new()};
    return p->md5 != NULL;
}

void s3_read_proof_deinit(struct s3_read_proof *p) {
    md5_sum_free(p->md5);
    p->md5 = NULL;
}

void s3_read_proof_drop(struct s3_read_proof *p) {
    p->kind = S3_READ_UNPROVEN;
}

void s3_read_proof_begin(struct s3_read_proof *p, const struct s3_call *call, const char *etag,
                         bool use_md5) {
    const char *text = NULL;
    p->crc = (struct s3_crc){.kind = s3_answer_crc(call, &text)};
    s3_read_proof_drop(p);
    if (p->crc.kind != S3_CHECKSUM_NONE && strlen(text) < sizeof p->told) {
        p->kind = S3_READ_CRC;
        memcpy(p->told, text, strlen(text) + 1);
    } else if (use_md5 && s3_etag_is_of_bytes(call) && s3_etag_is_md5(etag)) {
        p->kind = S3_READ_MD5;
        memcpy(p->told, etag, strlen(etag) + 1);
        md5_sum_reset(p->md5);
    }
}

void s3_read_proof_add(struct s3_read_proof *p, const void *bytes, size_t len) {
    if (p->kind == S3_READ_MD5) {
        md5_sum_update(p->md5, bytes, len);
    } else if (p->kind == S3_READ_CRC) {
        s3_crc_add(&p->crc, bytes, len);
    }
}

enum err s3_read_proof_check(struct s3_read_proof *p, const struct s3_call *call,
                             struct failure *ret_failure) {
    uint8_t digest[MD5_BYTES];
    char found[2 * MD5_BYTES + S3_CHECKSUM_SIZE], object[FAILURE_OBJECT_MAX];
    if (p->kind == S3_READ_CRC) {
        s3_crc_text(&p->crc, found);
    } else if (p->kind == S3_READ_MD5 && md5_sum_final(p->md5, digest)) {
        hash_hex(digest, sizeof digest, found);
    } else {
        return OK;
    }
    if (strcmp(found, p->told) == 0) {
        return OK;
    }
    size_t n = s3_call_object(call, object, sizeof object);
    return failure_set(ret_failure, ERR_CORRUPT, "GetObject", object, n,
                       "its bytes have %s %s, the store says %.64s",
                       p->kind == S3_READ_CRC ? s3_checksum_name(p->crc.kind) : "MD5", found,
                       p->told);
}
