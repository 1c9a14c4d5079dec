// SPDX-License-Identifier: Apache-2.0
// A source that reads objects of a bucket.
#ifndef DATAPLANE_SOURCE_S3_H
#define DATAPLANE_SOURCE_S3_H

#include "dataplane/source.h"

struct s3_client;

// Takes the client, also if it fails. @root: "BUCKET" or "BUCKET/PREFIX". It is borrowed, as the
// table is, and they must outlive the source. Entries of the
// table carry the ETag to expect as their target; without one the size must be the same.
MUST_CHECK enum err source_s3_new(struct s3_client *take_client, const uint8_t *root,
                                  size_t root_len, const struct object_table *table,
                                  struct source **ret_source, struct failure *ret_failure);

#endif
