// SPDX-License-Identifier: Apache-2.0
// What the files of the S3 sink share; not for others.
#ifndef DATAPLANE_SINK_S3_IMPL_H
#define DATAPLANE_SINK_S3_IMPL_H

#include "common/cleanup.h"
#include "dataplane/s3_chunks.h"
#include "dataplane/s3_object.h"
#include "dataplane/sink_impl.h"

// A whole object on its way, from begin (or copy) to finish.
struct s3_put {
    struct s3_put *next;
    uint32_t tag;
    uint8_t *key;
    size_t key_len;
    struct object_properties properties;
    uint8_t *bytes;
    size_t len, cap;
    struct s3_call call;
    bool is_running;               // the call is under way
    char *copy_source, *copy_etag; // of a copy within the store
    // How it ended.
    enum err err;
    struct failure failure;
    // Instead of one PUT, if the object is too large to be held.
    struct s3_upload *upload;
    struct s3_chunks chunks;
};

struct sink_s3 {
    struct sink sink; // first member
    struct s3_store *store;
    struct s3_client *client;
    struct s3_place place;
    const char *tagging, *storage_class, *encryption, *kms_key; // borrowed; NULL: none
    char digest[S3_DIGEST_TEXT_MAX];                            // of the object that is begun
    const struct object_properties *properties;                 // for the next object; borrowed
    // whole objects
    struct s3_put *begun;
    struct s3_put *staged, **last; // in the order of staging
    uint64_t staged_bytes;         // in memory
    unsigned n_running;
    bool is_left_plain; // the store passed over the encryption of one that was sent
    // The storage class that was asked for: the store was seen to keep it, or to pass over it.
    bool keeps_class, drops_class;
    // a part
    uint8_t *part_key;
    struct s3_upload *part_upload;
    struct s3_chunks part;
};

static inline struct sink_s3 *sink_s3_of(struct sink *s) {
    return CONTAINER_OF(s, struct sink_s3, sink);
}

// What the object shall have as properties: those of its source, or those of its entry, and what
// was asked for. @is_whole: its digest is told before it is sent.
MUST_CHECK enum err sink_s3_properties(struct sink_s3 *p, const struct object_entry *e,
                                       bool is_whole, struct object_properties *ret_properties,
                                       struct failure *ret_failure);
// Just what was asked for.
MUST_CHECK enum err sink_s3_add_wanted(const struct sink_s3 *p,
                                       struct object_properties *properties);
void sink_s3_put_properties(struct s3_call *call, const struct object_properties *properties);
// After what a store may have passed over: @tagging (NULL, "": none).
MUST_CHECK enum err sink_s3_ensure_tags(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                                        const char *tagging, struct failure *ret_failure);
// What an upload has made.
struct sink_s3_made {
    bool is_proven; // its checksum says that it is this upload's, or its ETag
    char etag[S3_ETAG_MAX];
};
// After an upload: the tags @tagging, as above, and the object's digest as one more, if that is
// known. An object without it is no failure.
MUST_CHECK enum err sink_s3_finish_tags(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                                        const char *tagging, const struct sink_s3_made *made,
                                        struct failure *ret_failure);
struct sink_s3_found {
    struct object_entry entry;
    char etag[S3_ETAG_MAX];
    bool has_mtime;            // of its own
    bool etag_is_of_bytes;     // see s3_encryption.h
    bool is_encrypted;         // as was asked for, if it was
    bool has_class;            // that was asked for, if it was
    enum s3_checksum crc_kind; // of the whole object; NONE: not told
    char crc[S3_CHECKSUM_SIZE];
};
// HEAD. ERR_NOT_FOUND: no such object.
MUST_CHECK enum err sink_s3_look(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                                 struct sink_s3_found *ret_found, struct failure *ret_failure);

// The store passes over the storage class that was asked for. ERR_UNIMPLEMENTED.
enum err sink_s3_say_dropped_class(const struct sink_s3 *p, const char *operation, const void *key,
                                   size_t key_len, struct failure *ret_failure);

// ---- sink_s3_whole.c ----
enum err sink_s3_begin(struct sink *s, const struct object_entry *e, const char *temp,
                       struct failure *ret_failure);
enum err sink_s3_write_whole(struct sink_s3 *p, uint64_t offset, const void *buf, size_t len,
                             struct failure *ret_failure);
void *sink_s3_room_whole(struct sink_s3 *p, uint64_t offset, size_t *ret_cap);
enum err sink_s3_stage(struct sink *s, uint32_t tag, struct failure *ret_failure);
void sink_s3_drop_whole(struct sink_s3 *p);
enum err sink_s3_finish_staged(struct sink *s, enum durability durability,
                               void (*each)(void *user, uint32_t tag, enum err result,
                                            const struct failure *failure),
                               void *user, struct failure *ret_failure);
// Makes room for one more request under way, and adds the put to those staged.
MUST_CHECK enum err sink_s3_send(struct sink_s3 *p, struct s3_put *take_put,
                                 struct failure *ret_failure);
MUST_CHECK enum err sink_s3_put_new(struct sink_s3 *p, const struct object_entry *e,
                                    struct s3_put **ret_put, struct failure *ret_failure);
void sink_s3_put_free(struct s3_put *put);
void sink_s3_forget_staged(struct sink_s3 *p);

// ---- sink_s3_copy.c ----
enum err sink_s3_copy(struct sink *s, const struct object_entry *e,
                      const struct object_origin *origin, uint32_t tag,
                      struct failure *ret_failure);

enum err sink_s3_copy_part(struct sink *s, const struct object_entry *e,
                           const struct object_origin *origin, uint64_t offset, uint64_t length,
                           struct failure *ret_failure);

// ---- sink_s3_large.c ----
uint64_t sink_s3_part_align(const struct sink *s, const struct object_entry *e);
enum err sink_s3_open_large(struct sink *s, const struct object_entry *e, const char *temp,
                            struct receipt *ret_receipt, struct failure *ret_failure);
enum err sink_s3_open_part(struct sink *s, const struct object_entry *e, const char *temp,
                           const struct receipt *open, struct failure *ret_failure);
enum err sink_s3_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                            struct failure *ret_failure);
enum err sink_s3_sync_large(struct sink *s, const struct object_entry *e, const char *temp,
                            const struct receipt *open, struct failure *ret_failure);
enum err sink_s3_finish_large(struct sink *s, const struct object_entry *e, const char *temp,
                              const struct receipt *open, const struct receipt_list *parts,
                              const char *fresh_temp, enum durability durability,
                              struct failure *ret_failure);
enum err sink_s3_abort_large(struct sink *s, const struct object_entry *e, const char *temp,
                             const struct receipt *open, struct failure *ret_failure);
void sink_s3_end_part(struct sink_s3 *p);
// Completes the upload. Recognises its own work, if the answer of an earlier attempt was lost.
MUST_CHECK enum err sink_s3_complete(struct sink_s3 *p, const struct s3_upload *u, uint64_t size,
                                     const struct s3_parts *parts, struct sink_s3_made *ret_made,
                                     struct failure *ret_failure);
// Is the object there, as this upload would have made it? @parts as far as they are known.
// ERR_DEST_CHANGED: it is not.
MUST_CHECK enum err sink_s3_check_object(struct sink_s3 *p, const struct s3_upload *u,
                                         uint64_t size, const struct s3_parts *parts,
                                         struct sink_s3_made *ret_made,
                                         struct failure *ret_failure);

#endif
