// SPDX-License-Identifier: Apache-2.0
// A multipart upload: made, filled chunk by chunk, completed or given up. Blocking calls; the
// client's thread.
#ifndef DATAPLANE_S3_UPLOAD_H
#define DATAPLANE_S3_UPLOAD_H

#include "dataplane/object_properties.h"
#include "dataplane/s3_client.h"
#include "dataplane/s3_object.h"

enum { S3_UPLOAD_ID_MAX = 1024 };

// Which upload. Borrowed texts.
struct s3_upload {
    struct s3_client *client;
    const char *bucket;
    const uint8_t *key;
    size_t key_len;
    char id[S3_UPLOAD_ID_MAX];
    enum s3_checksum checksum; // of its parts; S3_CHECKSUM_NONE: the store knows of none
    bool never_replaces;       // completing it is ERR_EXISTS where there is an object
    bool has_whole;            // the CRCs of the parts become one of the object
};

struct s3_part {
    uint32_t number;
    uint64_t bytes;
    char etag[S3_ETAG_MAX];
    char checksum[S3_CHECKSUM_SIZE]; // of the upload's kind; "": not known
};
// In the order of their numbers, each once. Zeroed: none.
struct s3_parts {
    struct s3_part *items;
    size_t n, cap;
};
void s3_parts_deinit(struct s3_parts *p);
// Takes the place of one with that number. ERR_NO_MEMORY.
MUST_CHECK enum err s3_parts_put(struct s3_parts *p, const struct s3_part *part);
const struct s3_part *s3_parts_find(const struct s3_parts *p, uint32_t number); // NULL: none

// Fills u->id, and which checksum the store takes of its parts.
MUST_CHECK enum err s3_upload_create(struct s3_upload *u,
                                     const struct object_properties *properties,
                                     struct failure *ret_failure);
// What is there of parts @from to @to. ERR_NOT_FOUND: there is no such upload (any more).
MUST_CHECK enum err s3_upload_list(const struct s3_upload *u, uint32_t from, uint32_t to,
                                   struct s3_parts *ret_parts, struct failure *ret_failure);
// ERR_NOT_FOUND: there is no such upload: it may be complete already.
MUST_CHECK enum err s3_upload_complete(const struct s3_upload *u, const struct s3_parts *parts,
                                       struct failure *ret_failure);
// Not there is success.
MUST_CHECK enum err s3_upload_abort(const struct s3_upload *u, struct failure *ret_failure);
// The ETag that the object will have. false: not foreseeable (a part's ETag is no MD5).
bool s3_upload_etag(const struct s3_parts *parts, char ret_etag[S3_ETAG_MAX]);

// The object's checksum, from those of its parts. false: not known of all, or they do not join.
bool s3_upload_crc(const struct s3_upload *u, const struct s3_parts *parts,
                   char ret_text[S3_CHECKSUM_SIZE]);

// The query "partNumber=N&uploadId=ID".
enum { S3_PART_QUERY_MAX = 3 * S3_UPLOAD_ID_MAX + 64 };
void s3_part_query(const struct s3_upload *u, uint32_t number, char ret_query[S3_PART_QUERY_MAX]);

#endif
