// SPDX-License-Identifier: Apache-2.0
// What a source must provide. Included only by dataplane/source*.c and tests.
//
// Embed struct source as the first member. source.c checks the order of calls and arguments.
#ifndef DATAPLANE_SOURCE_IMPL_H
#define DATAPLANE_SOURCE_IMPL_H

#include "dataplane/source.h"

struct source_ops {
    const char *kind; // "posix", "agent", "s3"

    // required
    enum err (*open)(struct source *s, const struct source_range *range,
                     struct source_found *ret_found, struct failure *ret_failure);
    enum err (*read)(struct source *s, void *buf, size_t cap, size_t *ret_len, uint64_t *ret_hole,
                     struct failure *ret_failure);
    enum err (*close)(struct source *s, struct source_closed *ret_closed,
                      struct failure *ret_failure);
    void (*abort)(struct source *s);
    void (*destroy)(struct source *s);

    // optional
    enum err (*expect)(struct source *s, const struct source_range *ranges, size_t n,
                       struct failure *ret_failure);
    // As read, but *@ret_bytes, which is @buf, may be set to where the bytes are already.
    enum err (*read_in_place)(struct source *s, void *buf, size_t cap, const void **ret_bytes,
                              size_t *ret_len, uint64_t *ret_hole, struct failure *ret_failure);
    int (*fd)(const struct source *s);
    struct source_spent (*remote_spent)(const struct source *s);
    enum err (*origin)(struct source *s, uint32_t index, struct object_origin *ret_origin);
    enum err (*kept_digest)(struct source *s, uint32_t index, bool *ret_has,
                            struct digest *ret_digest, struct failure *ret_failure);
};

struct source {
    const struct source_ops *ops;
    struct source_capabilities capabilities;
    bool is_open; // owned by source.c
};

#endif
