// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a task come from: a local directory, another agent, an object store.
//
// For callers. To write a new source read source_impl.h. A source serves one task: it is made
// for the task's object table and used by one stream thread; calls block. source_abort() may
// come from any thread and makes a blocked call return ERR_CANCELLED soon.
#ifndef DATAPLANE_SOURCE_H
#define DATAPLANE_SOURCE_H

#include "common/err.h"
#include "common/failure.h"
#include "common/hash.h"
#include "common/object_table.h"
#include "dataplane/object_properties.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct source;

struct source_capabilities {
    bool has_fd;           // source_fd() works: sendfile, copy_file_range are possible
    bool has_digests;      // source_close() gives the leaf digests that the other end computed
    bool is_remote;        // requests are worth announcing with source_expect()
    bool is_agent;         // another agent serves it (dataplane/source_agent.h)
    const char *transport; // "local", "tcp", … for the log
    // The object store that it reads, NULL: none. A sink that writes to the same one may copy
    // there without the bytes passing through here.
    const void *store;
};
const struct source_capabilities *source_capabilities(const struct source *s);

// A range of one object that will be read from start to end, soon.
#define SOURCE_TO_END UINT64_MAX
struct source_range {
    uint32_t index;          // in the task's object table
    bool accept_changed;     // open whatever version is there now (the second attempt at a file
                             // that is not what the table says any more); else only the table's
    uint64_t offset, length; // length SOURCE_TO_END: to the end of what is found at open
};

// What was found when an object was opened. Path and id are not set; the target of a symbolic
// link is, and belongs to the source until source_close().
struct source_found {
    struct object_entry entry;
    // What an object store knows beside that (content type, its user's metadata, …); belongs to
    // the source until source_close(). NULL: nothing.
    const struct object_properties *properties;
    // What the digest of the whole object should be, in the caller's algorithm.
    bool has_digest;
    struct digest digest;
};

// What the source knows at the end.
struct source_closed {
    struct object_version version; // at close; compare with the one at open
    const uint8_t *leaf_digests;   // of the range read; NULL without has_digests; belongs to
    size_t n_leaves;               // the source until the next call
};

// Announces ranges in the order in which they will be read; several calls add up. A remote
// source asks for them ahead. Each announced range must then be opened, read to its end (or
// closed early) and closed, in that order.
MUST_CHECK enum err source_expect(struct source *s, const struct source_range *ranges, size_t n,
                                  struct failure *ret_failure);
// Opens @range (as announced, if it was) and pins the version. ERR_SOURCE_CHANGED: it is not
// what the table says (size, mtime, inode) and @range does not accept that. One object at a time.
// An object that is not a regular file has no bytes: its range is empty.
MUST_CHECK enum err source_open(struct source *s, const struct source_range *range,
                                struct source_found *ret_found, struct failure *ret_failure);
// The next bytes of the open range: at least one, at most @cap; 0 at its end. A file that
// became shorter: ERR_SOURCE_CHANGED.
// *@ret_hole: that many zeros instead, nothing was stored in @buf.
MUST_CHECK enum err source_read(struct source *s, void *buf, size_t cap, size_t *ret_len,
                                uint64_t *ret_hole, struct failure *ret_failure);
// The same, but the bytes need not be moved: *@ret_bytes is where they are, in @buf or in memory of
// the source's own, which is good until the next call.
MUST_CHECK enum err source_read_in_place(struct source *s, void *buf, size_t cap,
                                         const void **ret_bytes, size_t *ret_len,
                                         uint64_t *ret_hole, struct failure *ret_failure);
// Ends the open range, also when this fails. If all was read, ERR_SOURCE_CHANGED if the version
// at close differs from the one at open. Closed early, has_digests may give those of the leaves
// that were read whole, or none.
MUST_CHECK enum err source_close(struct source *s, struct source_closed *ret_closed,
                                 struct failure *ret_failure);
int source_fd(const struct source *s); // of the open object; -1: none
void source_abort(struct source *s);   // any thread
void source_free(struct source *s);    // NULL is fine
// Where object @index is in the store (capabilities.store). ERR_UNIMPLEMENTED: it has none.
// Borrowed until the next call.
struct object_origin {
    const char *bucket;
    const uint8_t *key;
    size_t key_len;
    const char *etag; // "": unknown
};
MUST_CHECK enum err source_origin(struct source *s, uint32_t index,
                                  struct object_origin *ret_origin);
// The digest of object @index, of the version in the table, that whoever put it there kept with it.
// *@ret_has: false if there is none of this algorithm, or the source keeps none.
MUST_CHECK enum err source_kept_digest(struct source *s, uint32_t index, bool *ret_has,
                                       struct digest *ret_digest, struct failure *ret_failure);
// OK, or ERR_CORRUPT with both: @ours of what was read, @kept by the source.
MUST_CHECK enum err source_check_kept(enum hash_algorithm a, const struct object_entry *e,
                                      const struct digest *ours, const struct digest *kept,
                                      struct failure *ret_failure);
// What the other end spent for this source so far, in microseconds; zeros if it does not say.
struct source_spent {
    uint64_t cpu_us;  // processor time
    uint64_t read_us; // reading, hashing; the rest of its time it sent, or waited to be asked
    uint64_t hash_us;
};
struct source_spent source_remote_spent(const struct source *s);

#endif
