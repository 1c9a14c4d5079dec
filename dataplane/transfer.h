// SPDX-License-Identifier: Apache-2.0
// Moves the objects of a task from a source to a sink: the one place where bytes are copied,
// digests compared and source changes retried. Blocking, on the caller's stream thread.
#ifndef DATAPLANE_TRANSFER_H
#define DATAPLANE_TRANSFER_H

#include "common/failure.h"
#include "common/hash.h"
#include "dataplane/sink.h"
#include "dataplane/source.h"

#include <stdatomic.h>

// Where the time went, in microseconds.
struct transfer_times {
    uint64_t walk_us, read_us, hash_us, send_us, receive_us, write_us, sync_us, wait_us;
};

// Shared with other threads while a transfer runs.
struct transfer_control {
    _Atomic bool cancelled; // stop soon, with ERR_CANCELLED
    _Atomic bool yield;     // begin no more objects (or leaves, in a part)
    _Atomic uint64_t bytes; // payload moved so far; only grows
    _Atomic uint64_t *kept; // the same, where it outlives the process; NULL: nowhere
    _Atomic uint64_t objects;
    // The stream thread's.
    const char *path;    // which way bytes took last, for the log; NULL: none
    const char *no_path; // how objects came that no byte was read of; NULL: there were none
};

struct transfer_options {
    struct source *source;
    struct sink *sink;
    const struct object_table *table;
    enum hash_algorithm digest;
    enum durability durability;
    const char *flow;      // for names of temporaries
    uint64_t major, minor; // whole objects: the epoch; large: 0 and the generation
    bool skip_identical;   // a sync, or a later attempt: compare first
    uint64_t bytes_per_s;  // 0: no limit
    void *buffer;          // scratch, page-aligned
    size_t buffer_bytes;   // at least 64 KiB; 256 KiB to 1 MiB are usual
    struct transfer_control *control;
    struct transfer_times *times; // added to
};

enum transfer_outcome {
    TRANSFER_UNSTARTED,
    TRANSFER_DELIVERED,
    TRANSFER_IDENTICAL,
    TRANSFER_FAILED,
};
struct transfer_object {
    enum transfer_outcome outcome;
    uint64_t bytes;
    bool has_digest;        // DELIVERED, a regular file whose bytes passed through here
    struct digest digest;   // of the object as a whole
    struct failure failure; // FAILED
};

// Whole objects. @results has table->count items, all UNSTARTED before; each is set once.
// Failures of single objects do not end the task: the return value is OK. Anything else
// (ERR_FENCED, ERR_CANCELLED, the source is lost, no space) leaves the rest UNSTARTED.
MUST_CHECK enum err transfer_batch(const struct transfer_options *o,
                                   struct transfer_object *results, struct failure *ret_failure);

struct transfer_part {
    uint64_t done_bytes;   // from the offset on, whole leaves (or to the object's end)
    uint8_t *leaf_digests; // owned by the caller: free(); NULL: no byte passed through here
    size_t n_leaves;       // 0 then
    struct receipt receipt;
    bool synced;
};
// One range of object 0 of the table, which starts at a leaf. On failure, what was written and
// checked before it is in *@ret_part all the same (done_bytes may be 0).
MUST_CHECK enum err transfer_part(const struct transfer_options *o, uint64_t offset,
                                  uint64_t length, const struct receipt *open,
                                  struct transfer_part *ret_part, struct failure *ret_failure);

#endif
