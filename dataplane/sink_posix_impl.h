// SPDX-License-Identifier: Apache-2.0
// What the files sink_posix*.c share: the POSIX sink, cut by what it works on (whole objects in
// batches, parts of large ones, names).
#ifndef DATAPLANE_SINK_POSIX_IMPL_H
#define DATAPLANE_SINK_POSIX_IMPL_H

#include "dataplane/dir_set.h"
#include "dataplane/direct_io.h"
#include "dataplane/sink_impl.h"
#include "dataplane/write_queue.h"

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

// A complete object that waits for finish_staged(). Its file stays open: the sync needs it, and
// syncfs() reports only what failed since then.
struct sink_posix_staged {
    int fd;
    struct dir *dir; // counted as a user
    char name[256];
    char temp[TEMP_NAME_SIZE];
    uint32_t tag;
    dev_t device;
    bool is_empty;
    bool is_synced;
    bool is_renamed;
    enum err result;
    struct failure *failure; // owned; NULL while the result is OK
};

struct sink_posix {
    struct sink sink; // first member
    struct dir_set dirs;
    char *boot_id;
    bool is_root;
    uid_t uid;
    gid_t gid;
    struct write_queues *queues; // borrowed
    uint64_t direct_from_bytes;  // 0: never
    atomic_bool aborted;

    struct { // what is being written; fd -1: nothing
        int fd;
        struct dir *dir; // counted as a user
        char name[256];
        char temp[TEMP_NAME_SIZE];
        struct object_entry meta; // without path
        uint64_t end;             // of what was written so far
        bool is_part;
        struct direct_io direct;
        uint64_t kicked_from, kicked_to; // written since writeback was started last
        struct queue_writer *writer; // of a part's file; NULL: writes need not wait for each other
        // Why the writer failed; set by the thread that wrote, before the writer says so.
        enum err err;
        int errnum;
        bool is_told; // to the caller
    } open;

    struct sink_posix_staged *staged; // capabilities.max_staged of them
    uint32_t n_staged;
};

static inline struct sink_posix *sink_posix_of(struct sink *s) {
    return (struct sink_posix *)s; // the first member
}

// Failures name the object by its path from the volume's root.
enum err sink_posix_fail(struct sink_posix *p, const struct object_entry *e, enum err err,
                         const char *operation, const char *message, struct failure *ret_failure);
enum err sink_posix_errno(struct sink_posix *p, const struct object_entry *e, int errnum,
                          const char *operation, struct failure *ret_failure);
// The same for a name in a directory.
enum err sink_posix_name_errno(const struct dir *d, const char *name, int errnum,
                               const char *operation, struct failure *ret_failure);

// The directory that holds @e, and its name there.
MUST_CHECK enum err sink_posix_parent(struct sink_posix *p, const struct object_entry *e, bool make,
                                      struct dir **ret_dir, char ret_name[256],
                                      struct failure *ret_failure);
// Makes @temp for @e, replacing one that is there: a new file of mode 0600, open for reading and
// writing. *@ret_dir is not counted as used.
MUST_CHECK enum err sink_posix_create(struct sink_posix *p, const struct object_entry *e,
                                      const char *temp, struct dir **ret_dir, char ret_name[256],
                                      int *ret_fd, struct failure *ret_failure);
// Owner (as root only), then permissions, then times. @now: whose it is; NULL: not known. 0 or an
// errno.
int sink_posix_set_metadata(const struct sink_posix *p, int fd, const struct stat *now,
                            const struct object_entry *e);
// The permissions that @e gets: without root's rights, not a set-user-ID or set-group-ID bit
// that would name somebody else than at the source.
mode_t sink_posix_mode(const struct sink_posix *p, const struct object_entry *e);
// Names in @d were changed. Syncs early when very many wait for it.
MUST_CHECK enum err sink_posix_changed(struct sink_posix *p, struct dir *d,
                                       struct failure *ret_failure);
// @temp gets its @name, in place of what has it, if that may be replaced. 0 or an errno.
int sink_posix_rename(const struct sink_posix *p, const struct dir *dir, const char *temp,
                      const char *name);
enum err sink_posix_rename_failed(struct sink_posix *p, const struct object_entry *e, int errnum,
                                  struct failure *ret_failure);
bool sink_posix_is_aborted(const struct sink_posix *p);
// How to write @e's bytes: past the page cache, or through it.
struct direct_io sink_posix_direct(const struct sink_posix *p, const struct object_entry *e);

// ---- the operations, by file ----
// sink_posix_write.c
enum err sink_posix_write(struct sink *s, uint64_t offset, const void *buf, size_t len,
                          struct failure *ret_failure);
enum err sink_posix_write_hole(struct sink *s, uint64_t offset, uint64_t len,
                               struct failure *ret_failure);
void *sink_posix_room(struct sink *s, uint64_t offset, size_t *ret_cap);
enum err sink_posix_settle(struct sink *s, struct failure *ret_failure);
bool sink_posix_write_queued(void *sink, uint64_t offset, const void *bytes, size_t len);
// sink_posix_batch.c
enum err sink_posix_begin(struct sink *s, const struct object_entry *e, const char *temp,
                          struct failure *ret_failure);
enum err sink_posix_stage(struct sink *s, uint32_t tag, struct failure *ret_failure);
void sink_posix_drop(struct sink *s);
void sink_posix_drop_staged(struct sink_posix *p);
enum err sink_posix_finish_staged(struct sink *s, enum durability durability,
                                  void (*each)(void *user, uint32_t tag, enum err result,
                                               const struct failure *failure),
                                  void *user, struct failure *ret_failure);
// sink_posix_large.c
enum err sink_posix_open_large(struct sink *s, const struct object_entry *e, const char *temp,
                               struct receipt *ret_receipt, struct failure *ret_failure);
enum err sink_posix_open_part(struct sink *s, const struct object_entry *e, const char *temp,
                              const struct receipt *open, struct failure *ret_failure);
enum err sink_posix_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                               struct failure *ret_failure);
enum err sink_posix_sync_large(struct sink *s, const struct object_entry *e, const char *temp,
                               const struct receipt *open, struct failure *ret_failure);
enum err sink_posix_finish_large(struct sink *s, const struct object_entry *e, const char *temp,
                                 const struct receipt *open, const struct receipt_list *parts,
                                 const char *fresh_temp, enum durability durability,
                                 struct failure *ret_failure);
// sink_posix_name.c
enum err sink_posix_compare(struct sink *s, const struct object_entry *e,
                            enum sink_identical *ret_result, struct failure *ret_failure);
enum err sink_posix_remove_temp(struct sink *s, const struct object_entry *e, const char *temp,
                                struct failure *ret_failure);
enum err sink_posix_make_directory(struct sink *s, const struct object_entry *e,
                                   struct failure *ret_failure);
enum err sink_posix_make_special(struct sink *s, const struct object_entry *e, const char *temp,
                                 struct failure *ret_failure);
enum err sink_posix_set_directory_metadata(struct sink *s, const struct object_entry *e,
                                           struct failure *ret_failure);
enum err sink_posix_remove(struct sink *s, const struct object_entry *e,
                           struct failure *ret_failure);
enum err sink_posix_make_link(struct sink *s, const struct object_entry *e, const uint8_t *existing,
                              size_t existing_len, const char *temp, struct failure *ret_failure);
enum err sink_posix_sync_directories(struct sink *s, struct failure *ret_failure);

#endif
