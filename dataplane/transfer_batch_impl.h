// SPDX-License-Identifier: Apache-2.0
// What the files of the transfer of whole objects share; not for others.
#ifndef DATAPLANE_TRANSFER_BATCH_IMPL_H
#define DATAPLANE_TRANSFER_BATCH_IMPL_H

#include "dataplane/transfer_copy.h"

enum { BATCH_ATTEMPTS_MAX = 2 };

enum progress {
    PROGRESS_NONE,
    PROGRESS_STAGED,    // waits for the sink to finish it
    PROGRESS_MADE,      // has its name, and waits for the sync of its directory
    PROGRESS_IDENTICAL, // the same; its directory may still have to be synced
};

struct batch_object {
    uint8_t progress; // enum progress
    uint8_t attempts;
    bool accept_changed;
    bool is_streamed; // though both ends are in one store: it cannot copy it as was asked
    uint64_t bytes;
    bool has_digest;
    struct digest digest;
};

struct batch {
    const struct transfer_options *options;
    struct transfer_object *results;
    struct transfer_copy copy;
    struct batch_object *objects; // as many as the table has
    uint32_t n_looked_at;         // of the table
    uint32_t *queue;              // of indices; what is tried again comes again at the end
    uint32_t head, n_announced, tail;
    uint32_t n_staged, n_made;
    enum err sink_full; // no space: seen while staged objects were synced
    struct failure sink_full_failure;
};

// ---- transfer_batch_end.c ----
// An object failed. OK: the task goes on with the next.
MUST_CHECK enum err batch_object_failed(struct batch *b, uint32_t index, enum err e,
                                        struct failure *failure, struct failure *ret_failure);
bool batch_is_copied(const struct batch *b, uint32_t index); // is it for the store to copy?
void batch_stream_instead(struct batch *b, uint32_t index, const struct failure *why);
// Makes what is staged visible.
MUST_CHECK enum err batch_finish_staged(struct batch *b, struct failure *ret_failure);
// The rest of what is done but not reported.
MUST_CHECK enum err batch_finish_all(struct batch *b, struct failure *ret_failure);

#endif
