// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a task go: a local directory, an object store.
//
// For callers. To write a new sink read sink_impl.h. A sink serves one task on one stream
// thread; calls block. Nothing is visible under an object's name before it is finished (with
// shows_staged: before it is staged).
//
// Whole objects: begin, write…, stage; then sink_finish_staged() makes all staged objects
// durable and visible together, so that small files do not pay one fsync each.
// Large ones: open in one task, write parts in others (each ends with a receipt), finish or
// abort in a last one.
#ifndef DATAPLANE_SINK_H
#define DATAPLANE_SINK_H

#include "common/err.h"
#include "common/failure.h"
#include "common/hash.h"
#include "common/ident.h"
#include "common/object_table.h"
#include "dataplane/object_properties.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct object_origin;
struct sink;

enum durability { DURABILITY_NONE = 1, DURABILITY_OBJECT = 2, DURABILITY_TASK = 3 };

struct sink_capabilities {
    bool has_fd;          // sink_fd() works: splice, copy_file_range are possible
    bool writes_anywhere; // any offset; else ranges must follow each other
    bool holds_keys;      // any name, not only such as paths are made of
    bool never_replaces;  // what is there already: ERR_EXISTS instead
    bool shows_staged;    // an object may be there, whole, from sink_stage() on
    const void *store;    // as in struct source_capabilities
    uint32_t max_staged;  // objects that may wait for sink_finish_staged()
};
const struct sink_capabilities *sink_capabilities(const struct sink *s);

// Asked before each write and each change of a name: false: the lease is not held any more,
// and the call ends with ERR_FENCED. Must be quick; any thread.
struct fence {
    bool (*may_act)(void *user);
    void *user;
};

// OK, or ERR_FENCED: for callers that write through sink_fd() themselves, before each write.
MUST_CHECK enum err sink_check_fence(struct sink *s, struct failure *ret_failure);

// What a sink returns for a temporary or a part; the master stores it and gives it back.
enum { RECEIPT_MAX_BYTES = 4096 };
struct receipt {
    uint8_t bytes[RECEIPT_MAX_BYTES];
    size_t len;
};

struct receipt_list {
    const struct receipt *items;
    size_t n;
};

enum sink_identical { SINK_ABSENT, SINK_DIFFERS, SINK_SAME };
// Is something there already, and does it have the entry's size, mtime (to the ns) and type?
// If so it and its directory count as touched: who made it may have ended before the sync, and
// sink_sync_directories() takes care of both.
MUST_CHECK enum err sink_compare(struct sink *s, const struct object_entry *e,
                                 enum sink_identical *ret_result, struct failure *ret_failure);

// For a sink that never replaces, before anything is moved: ERR_EXISTS if @found is another
// object. What comes after that is refused when the name is made.
MUST_CHECK enum err sink_check_replaced(const struct sink *s, const struct object_entry *e,
                                        enum sink_identical found, struct failure *ret_failure);
// The failure, and what it says.
enum err sink_exists(const struct object_entry *e, const char *operation,
                     struct failure *ret_failure);
void sink_say_exists(struct failure *f); // NULL is fine

// ---- whole objects ----
// What an object store should know beside the entry, of what is begun or opened next; borrowed
// until then. NULL: nothing, and the entry's mode, owner and mtime are kept instead.
void sink_set_properties(struct sink *s, const struct object_properties *p);
// Makes the temporary @temp beside the name of @e, and the directories above. @e as the source
// found it at open, with the path of the table.
MUST_CHECK enum err sink_begin(struct sink *s, const struct object_entry *e,
                               const char temp[TEMP_NAME_SIZE], struct failure *ret_failure);
MUST_CHECK enum err sink_write(struct sink *s, uint64_t offset, const void *buf, size_t len,
                               struct failure *ret_failure);
// Zeros at @offset: a hole where the sink has such, else zeros are written.
MUST_CHECK enum err sink_write_hole(struct sink *s, uint64_t offset, uint64_t len,
                                    struct failure *ret_failure);
// Where the sink gathers what comes at @offset, for at most *@ret_cap bytes: what is put there and
// then written from there is not copied, and may be written after sink_write() returned. Until the
// next call on the sink. NULL: nowhere.
void *sink_room(struct sink *s, uint64_t offset, size_t *ret_cap);
// Waits for what is still to be written of that. What fails shows here or in a later sink_write(),
// and in sink_close_part() only if neither has told it: what was settled before can be kept.
MUST_CHECK enum err sink_settle(struct sink *s, struct failure *ret_failure);
int sink_fd(const struct sink *s); // of what is being written; -1: none
// The digest of what was begun, before it is staged, or of a large object before it is finished:
// for sinks that keep it with the object.
void sink_set_digest(struct sink *s, enum hash_algorithm a, const struct digest *digest);
// The object is complete: it waits with its metadata for sink_finish_staged(). @tag comes back.
MUST_CHECK enum err sink_stage(struct sink *s, uint32_t tag, struct failure *ret_failure);
// Instead of begin, write and stage: the store copies the object by itself. ERR_UNIMPLEMENTED, here
// or when it is finished: not so as was asked; it has to be streamed.
MUST_CHECK enum err sink_copy(struct sink *s, const struct object_entry *e,
                              const struct object_origin *origin, uint32_t tag,
                              struct failure *ret_failure);
// Drops what was begun and not staged, with its temporary. Harmless if nothing was.
void sink_drop(struct sink *s);
// Metadata, data synced, rename, parent directories synced (as @durability asks; with
// DURABILITY_TASK the directories wait for sink_sync_directories()). @each is called once for
// each staged object with its tag and how it ended; not for those whose turn had not come when
// the call ended with ERR_FENCED.
MUST_CHECK enum err sink_finish_staged(struct sink *s, enum durability durability,
                                       void (*each)(void *user, uint32_t tag, enum err result,
                                                    const struct failure *failure),
                                       void *user, struct failure *ret_failure);

// ---- one large object in parts ----
// Parts of @e start at multiples of this, and end there or at the object's end.
uint64_t sink_part_align(const struct sink *s, const struct object_entry *e);
// Makes the temporary with its final size (existing one of the same name: replaced).
MUST_CHECK enum err sink_open_large(struct sink *s, const struct object_entry *e,
                                    const char temp[TEMP_NAME_SIZE], struct receipt *ret_receipt,
                                    struct failure *ret_failure);
// For writing a part with sink_write()/sink_write_hole(). @open is the receipt of
// sink_open_large(): ERR_DEST_CHANGED if the temporary is not the one it stands for.
MUST_CHECK enum err sink_open_part(struct sink *s, const struct object_entry *e,
                                   const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                                   struct failure *ret_failure);
// Instead of writes: the store copies these bytes of the origin, of which @e is the entry, by
// itself.
MUST_CHECK enum err sink_copy_part(struct sink *s, const struct object_entry *e,
                                   const struct object_origin *origin, uint64_t offset,
                                   uint64_t length, struct failure *ret_failure);
// Ends the part; what was written after the last multiple of sink_part_align() does not count,
// unless the object ends there. With @sync its data is on stable storage when this returns.
MUST_CHECK enum err sink_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                                    struct failure *ret_failure);
// fsync of the temporary by this agent.
MUST_CHECK enum err sink_sync_large(struct sink *s, const struct object_entry *e,
                                    const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                                    struct failure *ret_failure);
// Metadata, sync, rename, parent. Recognises its own work: if the final name has the inode in
// @open already, that is success. @fresh: copy to a new inode first (reflink or
// copy_file_range) under @fresh_temp, so that a lost writer cannot touch the result.
// @parts: the receipts of all parts in the order of their offsets, or none: a sink that needs them
// asks the store instead.
MUST_CHECK enum err sink_finish_large(struct sink *s, const struct object_entry *e,
                                      const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                                      const struct receipt_list *parts, const char *fresh_temp,
                                      enum durability durability, struct failure *ret_failure);

// Gives up what sink_open_large() made; not there is success.
MUST_CHECK enum err sink_abort_large(struct sink *s, const struct object_entry *e,
                                     const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                                     struct failure *ret_failure);

// ---- names ----
// Removes a temporary beside @e's name; not there is success.
MUST_CHECK enum err sink_remove_temp(struct sink *s, const struct object_entry *e,
                                     const char temp[TEMP_NAME_SIZE], struct failure *ret_failure);
MUST_CHECK enum err sink_make_directory(struct sink *s, const struct object_entry *e,
                                        struct failure *ret_failure);
// Symbolic link (or fifo, device): made under @temp and renamed, metadata set.
MUST_CHECK enum err sink_make_special(struct sink *s, const struct object_entry *e,
                                      const char temp[TEMP_NAME_SIZE], struct failure *ret_failure);
MUST_CHECK enum err sink_set_directory_metadata(struct sink *s, const struct object_entry *e,
                                                struct failure *ret_failure);
// Removes the object, a directory only if it is empty; not there is success. ERR_NOT_EMPTY.
MUST_CHECK enum err sink_remove(struct sink *s, const struct object_entry *e,
                                struct failure *ret_failure);
// Makes @e's name one more hard link to the object @existing (a path like those of the table),
// which is at the sink already; made under @temp and renamed.
MUST_CHECK enum err sink_make_link(struct sink *s, const struct object_entry *e,
                                   const uint8_t *existing, size_t existing_len,
                                   const char temp[TEMP_NAME_SIZE], struct failure *ret_failure);
// fsync of the directories touched since the last call, and of files that were found the same.
MUST_CHECK enum err sink_sync_directories(struct sink *s, struct failure *ret_failure);

void sink_abort(struct sink *s); // any thread
void sink_free(struct sink *s);  // NULL is fine; drops what was begun or staged

#endif
