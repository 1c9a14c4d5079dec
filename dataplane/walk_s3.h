// SPDX-License-Identifier: Apache-2.0
// Lists a bucket like a tree: one level at a time, page by page, so that prefixes can be listed
// in parallel and memory stays constant. Blocking; one thread.
//
// "Directories" are the common prefixes up to the next '/'; they have no metadata. Keys that have
// no form as a path ("a//b", "dir/", "x/../y") are told as keys (struct object_entry), those below
// a prefix that is no path with the level at which that was found.
#ifndef DATAPLANE_WALK_S3_H
#define DATAPLANE_WALK_S3_H

#include "dataplane/s3_client.h"
#include "dataplane/walk.h"

struct walk_s3_options {
    struct s3_client *client; // borrowed
    const uint8_t *root;      // the place's: "BUCKET" or "BUCKET/PREFIX"
    size_t root_len;
    bool single;         // the root may be one object
    uint64_t look_bytes; // objects larger than this are asked for their metadata (HEAD); 0: all
};
// As walk_directory(). What is not asked for has the time of its last change in the store.
MUST_CHECK enum err walk_s3_directory(const struct walk_s3_options *o, const uint8_t *path,
                                      size_t path_len, const struct walk_sink *sink,
                                      struct failure *ret_failure);
// As walk_look(): an object of that key (the root itself only with single), or, if there are keys
// below it, a directory. ERR_NOT_FOUND: neither.
MUST_CHECK enum err walk_s3_look(const struct walk_s3_options *o, const uint8_t *path,
                                 size_t path_len, struct object_table_builder *b,
                                 struct failure *ret_failure);

#endif
