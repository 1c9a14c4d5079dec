// SPDX-License-Identifier: Apache-2.0
// What proves that an object that is read as a whole is what the store has: a CRC that the store
// keeps of it, or its ETag where that is its MD5.
#ifndef DATAPLANE_S3_READ_PROOF_H
#define DATAPLANE_S3_READ_PROOF_H

#include "dataplane/s3_checksum.h"
#include "dataplane/s3_client.h"
#include "dataplane/s3_object.h"

struct md5_sum;

enum s3_read_kind { S3_READ_UNPROVEN, S3_READ_MD5, S3_READ_CRC };

struct s3_read_proof {
    enum s3_read_kind kind;
    struct md5_sum *md5; // owned
    struct s3_crc crc;
    char told[S3_ETAG_MAX]; // by the store
};

bool s3_read_proof_init(struct s3_read_proof *p); // false: out of memory
void s3_read_proof_deinit(struct s3_read_proof *p);
// @call answers with a whole object of that ETag. @use_md5: it may take its time.
void s3_read_proof_begin(struct s3_read_proof *p, const struct s3_call *call, const char *etag,
                         bool use_md5);
void s3_read_proof_drop(struct s3_read_proof *p); // nothing is to be proven
void s3_read_proof_add(struct s3_read_proof *p, const void *bytes, size_t len);
// All bytes were added. ERR_CORRUPT.
MUST_CHECK enum err s3_read_proof_check(struct s3_read_proof *p, const struct s3_call *call,
                                        struct failure *ret_failure);

#endif
