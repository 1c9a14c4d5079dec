// SPDX-License-Identifier: Apache-2.0
// An object's tags, as the header x-amz-tagging has them: "KEY=VALUE&…", percent-encoded.
#ifndef DATAPLANE_S3_TAGS_H
#define DATAPLANE_S3_TAGS_H

#include "dataplane/s3_object.h"

// Adds one to *@tagging (NULL: none yet), which is free()d by its owner. ERR_NO_MEMORY.
MUST_CHECK enum err s3_tags_add(char **tagging, const char *key, const char *value);

// Those of an object; *@ret_tagging: NULL if it has none, or the store knows no tags. free() it.
MUST_CHECK enum err s3_tags_fetch(struct s3_client *c, const char *bucket, const void *key,
                                  size_t key_len, char **ret_tagging, struct failure *ret_failure);

// The same, and apart from the others the digest that was kept as a tag (s3_digest_tag()); "":
// none.
MUST_CHECK enum err s3_tags_fetch_apart(struct s3_client *c, const char *bucket, const void *key,
                                        size_t key_len, char **ret_tagging,
                                        char ret_digest[S3_DIGEST_TAG_MAX],
                                        struct failure *ret_failure);
// Just that. Who may read an object need not be allowed to read its tags: then nothing is known.
MUST_CHECK enum err s3_tags_fetch_digest(struct s3_client *c, const char *bucket, const void *key,
                                         size_t key_len, char ret_digest[S3_DIGEST_TAG_MAX],
                                         struct failure *ret_failure);

// Gives the object just these tags, if it has others: not every store heeds those that come with
// an upload's beginning, or with a copy.
MUST_CHECK enum err s3_tags_ensure(struct s3_client *c, const char *bucket, const void *key,
                                   size_t key_len, const char *tagging,
                                   struct failure *ret_failure);
// Gives it just these, whatever it has.
MUST_CHECK enum err s3_tags_put(struct s3_client *c, const char *bucket, const void *key,
                                size_t key_len, const char *tagging, struct failure *ret_failure);
// Takes the tag @key out of @tagging (NULL: none). false: there is no such, or its value has more
// than @cap - 1 bytes.
bool s3_tags_take(char *tagging, const char *key, char *ret_value, size_t cap);
size_t s3_tags_count(const char *tagging); // NULL: 0

#endif
