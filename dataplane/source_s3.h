// SPDX-License-Identifier: Apache-2.0
// A source that reads objects of a bucket.
#ifndef DATAPLANE_SOURCE_S3_H
#define DATAPLANE_SOURCE_S3_H

#include "dataplane/source.h"

struct s3_client;

// Entries of the table carry the ETag to expect as their target; without one the size must be the
// same.
struct source_s3_options {
    struct s3_client *take_client; // also if it fails
    const uint8_t *root;           // "BUCKET" or "BUCKET/PREFIX", borrowed
    size_t root_len;
    const struct object_table *table; // borrowed
    enum hash_algorithm digest;       // of the digests that the caller takes of what it reads
    bool reads_tags;                  // among the properties of what is opened
};
MUST_CHECK enum err source_s3_new(const struct source_s3_options *o, struct source **ret_source,
                                  struct failure *ret_failure);

#endif
