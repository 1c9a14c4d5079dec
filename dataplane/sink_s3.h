// SPDX-License-Identifier: Apache-2.0
// A sink that writes objects of a bucket.
//
// Whole objects are PUT from memory, several at a time; what is larger than memory should hold,
// and large objects, in multipart uploads. An object store has no directories: making one and its
// metadata succeed and do nothing; links and devices are refused.
#ifndef DATAPLANE_SINK_S3_H
#define DATAPLANE_SINK_S3_H

#include "dataplane/sink.h"

struct s3_client;

struct sink_s3_options {
    struct s3_client *take_client; // also if it fails
    const uint8_t *root;           // "BUCKET" or "BUCKET/PREFIX", borrowed
    size_t root_len;
    struct fence fence;
    bool never_replaces;
    // Of all objects; borrowed. NULL: the store's own, and the tags of the source.
    const char *tagging; // as s3_tags_add() makes it
    const char *storage_class, *encryption, *kms_key;
};
MUST_CHECK enum err sink_s3_new(const struct sink_s3_options *o, struct sink **ret_sink,
                                struct failure *ret_failure);

#endif
