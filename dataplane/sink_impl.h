// SPDX-License-Identifier: Apache-2.0
// What a sink must provide. Included only by dataplane/sink*.c and tests.
//
// Embed struct sink as the first member. sink.c checks the order of calls, arguments and the
// fence (before every operation that changes something) before it calls you.
// compare, drop, abort and destroy change nothing that anybody else sees and are not fenced.
#ifndef DATAPLANE_SINK_IMPL_H
#define DATAPLANE_SINK_IMPL_H

#include "dataplane/sink.h"

struct sink_ops {
    const char *kind; // "posix", "s3"

    // required
    enum err (*compare)(struct sink *s, const struct object_entry *e,
                        enum sink_identical *ret_result, struct failure *ret_failure);
    enum err (*begin)(struct sink *s, const struct object_entry *e, const char *temp,
                      struct failure *ret_failure);
    enum err (*write)(struct sink *s, uint64_t offset, const void *buf, size_t len,
                      struct failure *ret_failure);
    enum err (*write_hole)(struct sink *s, uint64_t offset, uint64_t len,
                           struct failure *ret_failure);
    enum err (*stage)(struct sink *s, uint32_t tag, struct failure *ret_failure);
    void (*drop)(struct sink *s);
    enum err (*finish_staged)(struct sink *s, enum durability durability,
                              void (*each)(void *user, uint32_t tag, enum err result,
                                           const struct failure *failure),
                              void *user, struct failure *ret_failure);
    enum err (*open_large)(struct sink *s, const struct object_entry *e, const char *temp,
                           struct receipt *ret_receipt, struct failure *ret_failure);
    enum err (*open_part)(struct sink *s, const struct object_entry *e, const char *temp,
                          const struct receipt *open, struct failure *ret_failure);
    enum err (*close_part)(struct sink *s, bool sync, struct receipt *ret_receipt,
                           struct failure *ret_failure);
    enum err (*sync_large)(struct sink *s, const struct object_entry *e, const char *temp,
                           const struct receipt *open, struct failure *ret_failure);
    enum err (*finish_large)(struct sink *s, const struct object_entry *e, const char *temp,
                             const struct receipt *open, const struct receipt_list *parts,
                             const char *fresh_temp, enum durability durability,
                             struct failure *ret_failure);
    enum err (*remove_temp)(struct sink *s, const struct object_entry *e, const char *temp,
                            struct failure *ret_failure);
    void (*abort)(struct sink *s);
    void (*destroy)(struct sink *s);

    // optional: a sink without directories or links leaves these NULL, and the wrapper answers
    // ERR_UNSUPPORTED_TYPE (directories and their metadata: success)
    enum err (*make_directory)(struct sink *s, const struct object_entry *e,
                               struct failure *ret_failure);
    enum err (*make_special)(struct sink *s, const struct object_entry *e, const char *temp,
                             struct failure *ret_failure);
    enum err (*set_directory_metadata)(struct sink *s, const struct object_entry *e,
                                       struct failure *ret_failure);
    enum err (*remove)(struct sink *s, const struct object_entry *e, struct failure *ret_failure);
    enum err (*make_link)(struct sink *s, const struct object_entry *e, const uint8_t *existing,
                          size_t existing_len, const char *temp, struct failure *ret_failure);
    enum err (*sync_directories)(struct sink *s, struct failure *ret_failure);
    int (*fd)(const struct sink *s);
    void *(*room)(struct sink *s, uint64_t offset, size_t *ret_cap);
    enum err (*settle)(struct sink *s, struct failure *ret_failure); // close_part settles, too
    void (*set_properties)(struct sink *s, const struct object_properties *p);
    void (*set_digest)(struct sink *s, enum hash_algorithm a, const struct digest *digest);
    enum err (*copy)(struct sink *s, const struct object_entry *e,
                     const struct object_origin *origin, uint32_t tag, struct failure *ret_failure);
    enum err (*copy_part)(struct sink *s, const struct object_entry *e,
                          const struct object_origin *origin, uint64_t offset, uint64_t length,
                          struct failure *ret_failure);
    uint64_t (*part_align)(const struct sink *s, const struct object_entry *e); // NULL: 1
    // NULL: as remove_temp
    enum err (*abort_large)(struct sink *s, const struct object_entry *e, const char *temp,
                            const struct receipt *open, struct failure *ret_failure);
};

struct sink {
    const struct sink_ops *ops;
    struct sink_capabilities capabilities;
    struct fence fence;
    bool is_begun;     // owned by sink.c
    uint32_t n_staged; // owned by sink.c
};

// For operations that change more than one name: ask again before each.
MUST_CHECK enum err sink_check_fence_for(const struct sink *s, const struct object_entry *e,
                                         struct failure *ret_failure);

#endif
