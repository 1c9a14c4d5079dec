// SPDX-License-Identifier: Apache-2.0
// The loop that carries bytes: read, hash, write, one buffer at a time. Used by the transfer
// of whole objects and by that of parts; not for others.
#ifndef DATAPLANE_TRANSFER_COPY_H
#define DATAPLANE_TRANSFER_COPY_H

#include "dataplane/pace.h"
#include "dataplane/path_choice.h"
#include "dataplane/transfer.h"

struct transfer_copy {
    const struct transfer_options *options; // borrowed
    struct leaf_hasher *hasher;             // of the bytes of the last range
    struct pace pace;
    struct path_choice choice;
};
MUST_CHECK enum err transfer_copy_init(struct transfer_copy *c, const struct transfer_options *o,
                                       struct failure *ret_failure);
void transfer_copy_deinit(struct transfer_copy *c);

// Moves the open range of the source, which starts at @offset (a leaf's boundary) and has
// @length bytes, to the open object of the sink. With @by_leaf it stops at the next leaf's end
// once yield is wanted. *@ret_moved is set also on failure. ERR_CANCELLED.
MUST_CHECK enum err transfer_copy_range(struct transfer_copy *c, uint64_t offset, uint64_t length,
                                        bool by_leaf, uint64_t *ret_moved,
                                        struct failure *ret_failure);
// The open range, which may go @to_end, becomes part of the open object of the sink without
// being read, if the file system can do that; *@ret_shared says so.
MUST_CHECK enum err transfer_copy_share(struct transfer_copy *c, uint64_t offset, uint64_t length,
                                        bool to_end, bool *ret_shared, struct failure *ret_failure);

// How many leaves, from the first on, have the same digest at both ends.
size_t transfer_same_leaves(enum hash_algorithm a, const uint8_t *ours, size_t n_ours,
                            const uint8_t *theirs, size_t n_theirs);
// ERR_CORRUPT with both digests of leaf @leaf, counted from the object's start.
enum err transfer_corrupt(const struct transfer_options *o, const struct object_entry *e,
                          uint64_t leaf, const uint8_t *ours, const uint8_t *theirs,
                          struct failure *ret_failure);
// Both ends are in one object store, which copies by itself.
bool transfer_is_within_store(const struct transfer_options *o);
bool transfer_is_cancelled(const struct transfer_options *o);
bool transfer_has_to_yield(const struct transfer_options *o);

#endif
