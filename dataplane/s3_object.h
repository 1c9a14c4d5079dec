// SPDX-License-Identifier: Apache-2.0
// How objects of a task stand for keys of a bucket, and their metadata for headers.
//
// A place's root is "BUCKET" or "BUCKET/PREFIX". The key of an entry is its path after
// "PREFIX/"; of the root itself it is PREFIX. POSIX metadata is kept as rclone keeps it:
// x-amz-meta-mtime (seconds since 1970, as a decimal fraction), -mode (octal, with the type),
// -uid and -gid.
#ifndef DATAPLANE_S3_OBJECT_H
#define DATAPLANE_S3_OBJECT_H

#include "common/failure.h"
#include "common/hash.h"
#include "common/object_table.h"
#include "dataplane/object_properties.h"
#include "dataplane/s3_client.h"

enum { S3_BUCKET_SIZE = 256, S3_KEY_MAX = 1024, S3_ETAG_MAX = 128 };

struct s3_place {
    char bucket[S3_BUCKET_SIZE];
    bool has_prefix;
    const uint8_t *prefix; // borrowed, without the '/' after it
    size_t prefix_len;
};
// @root is borrowed. ERR_INVALID: no bucket.
MUST_CHECK enum err s3_place_init(const uint8_t *root, size_t root_len, struct s3_place *ret_place,
                                  struct failure *ret_failure);
// The key of the object; free() it. It is never NULL on success, though it may have no bytes.
// ERR_NAME_TOO_LONG: S3 takes 1,024 bytes.
MUST_CHECK enum err s3_place_key(const struct s3_place *p, const struct object_entry *e,
                                 uint8_t **ret_key, size_t *ret_len, struct failure *ret_failure);

// An ETag without its quotes. false: longer than any that makes sense.
bool s3_etag_copy(const char *text, char ret_etag[S3_ETAG_MAX]);
// 32 hexadecimal digits: the MD5 of what was put, unless it was encrypted.
bool s3_etag_is_md5(const char *etag);
// A number that stands for the version, as the inode does for a file.
uint64_t s3_etag_number(const char *etag);

// How an object's digest (common/hash.h) is kept: "xxh3-128:HEX" or "sha256:HEX".
#define S3_DIGEST_HEADER "x-amz-meta-sluice-digest"
enum { S3_DIGEST_TEXT_MAX = 96, S3_DIGEST_TAG_MAX = S3_DIGEST_TEXT_MAX + S3_ETAG_MAX };
void s3_digest_text(enum hash_algorithm a, const struct digest *digest,
                    char ret_text[S3_DIGEST_TEXT_MAX]);
// Of objects whose metadata had to be sent before it was known, as a tag, with the ETag of the
// object that it is of, as both may be replaced by somebody else: "xxh3-128:HEX/ETAG".
#define S3_DIGEST_TAG "sluice-digest"
// false: the ETag has characters that are not allowed in a tag.
bool s3_digest_tag(const char *digest_text, const char *etag, char ret_value[S3_DIGEST_TAG_MAX]);
// false: none of this algorithm, or of another object.
bool s3_digest_from_tag(enum hash_algorithm a, const char *value, const char *etag,
                        struct digest *ret_digest);
// false: none of this algorithm.
bool s3_digest_from_text(enum hash_algorithm a, const char *text, struct digest *ret_digest);

// What an answer's headers tell of the object: size (of the whole, also for a range), version,
// mode, owner, times. The entry's id, path and key are left alone. ERR_PROTOCOL: no size.
MUST_CHECK enum err s3_entry_from_answer(const struct s3_call *call, struct object_entry *entry,
                                         char ret_etag[S3_ETAG_MAX], bool *ret_has_mtime,
                                         struct failure *ret_failure);
// What has no metadata: as if this process had made it.
void s3_entry_defaults(struct object_entry *e);
// The properties in an answer's headers that a copy should have.
MUST_CHECK enum err s3_properties_from_answer(const struct s3_call *call,
                                              struct object_properties *ret_properties);
// The entry's mode, owner and mtime as properties.
MUST_CHECK enum err s3_properties_from_entry(const struct object_entry *e,
                                             struct object_properties *ret_properties);

#endif
