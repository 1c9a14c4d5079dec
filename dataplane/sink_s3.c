// SPDX-License-Identifier: Apache-2.0
#include "dataplane/sink_s3.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dataplane/s3_encryption.h"
#include "dataplane/s3_tags.h"
#include "dataplane/sink_s3_impl.h"
#include "dataplane/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGED_MAX = 128, ZEROS_BYTES = 64 * 1024, TAGS_MAX = 10 };

enum err sink_s3_add_wanted(const struct sink_s3 *p, struct object_properties *properties) {
    const char *const wanted[][2] = {
        {"x-amz-tagging", p->tagging},
        {"x-amz-storage-class", p->storage_class},
        {"x-amz-server-side-encryption", p->encryption},
        {"x-amz-server-side-encryption-aws-kms-key-id", p->kms_key},
    };
    enum err e = OK;
    for (size_t i = 0; i < ARRAY_LEN(wanted) && e == OK; i++) {
        if (wanted[i][1] != NULL && wanted[i][1][0] != '\0') {
            e = object_properties_add(properties, wanted[i][0], wanted[i][1]);
        }
    }
    return e;
}

// Does another value take the place of this property of the source?
static bool is_replaced(const struct sink_s3 *p, const char *name, bool is_whole) {
    return (p->tagging != NULL && strcmp(name, "x-amz-tagging") == 0) ||
           (is_whole && strcmp(name, S3_DIGEST_HEADER) == 0);
}

enum err sink_s3_properties(struct sink_s3 *p, const struct object_entry *e, bool is_whole,
                            struct object_properties *ret_properties, struct failure *ret_failure) {
    const struct object_properties *given = p->properties;
    p->properties = NULL;
    enum err err = OK;
    if (given == NULL) {
        err = s3_properties_from_entry(e, ret_properties);
    }
    for (size_t i = 0; given != NULL && err == OK && i < given->n; i++) {
        const char *name, *value;
        object_properties_at(given, i, &name, &value);
        if (!is_replaced(p, name, is_whole)) {
            err = object_properties_add(ret_properties, name, value);
        }
    }
    if (err == OK) {
        err = sink_s3_add_wanted(p, ret_properties);
    }
    return err == OK ? OK : failure_set(ret_failure, err, "s3", e->path, e->path_len, NULL);
}

enum err sink_s3_ensure_tags(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                             const char *tagging, struct failure *ret_failure) {
    return tagging != NULL && tagging[0] != '\0'
               ? s3_tags_ensure(p->client, p->place.bucket, key, key_len, tagging, ret_failure)
               : OK;
}

// The tags that the object shall have, and its digest; free() them. NULL: it cannot be kept so.
static char *tags_with_digest(struct sink_s3 *p, const char *tagging,
                              const struct sink_s3_made *made) {
    char value[S3_DIGEST_TAG_MAX];
    if (p->digest[0] == '\0' || !made->is_proven || !s3_store_tags_digest(p->store) ||
        s3_tags_count(tagging) >= TAGS_MAX || !s3_digest_tag(p->digest, made->etag, value)) {
        return NULL;
    }
    char *all = strdup(tagging != NULL ? tagging : "");
    if (all != NULL && s3_tags_add(&all, S3_DIGEST_TAG, value) != OK) {
        free(take_ptr(all));
    }
    return all;
}

enum err sink_s3_finish_tags(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                             const char *tagging, const struct sink_s3_made *made,
                             struct failure *ret_failure) {
    AUTO(auto_free) char *all = tags_with_digest(p, tagging, made);
    p->digest[0] = '\0';
    if (all == NULL) {
        return sink_s3_ensure_tags(p, key, key_len, tagging, ret_failure);
    }
    struct failure f = {0};
    enum err e = s3_tags_put(p->client, p->place.bucket, key, key_len, all, &f);
    if (e == OK) {
        return OK;
    }
    if (e == ERR_UNIMPLEMENTED || e == ERR_INVALID) { // else another flow's keys may be allowed to
        s3_store_refuse_digest_tags(p->store, &f);
    } else {
        log_event(LOG_WARN, "s3_digest_not_kept", LOG_PATH("key", key, key_len), LOG_FAILURE(&f));
    }
    return sink_s3_ensure_tags(p, key, key_len, tagging, ret_failure);
}

void sink_s3_put_properties(struct s3_call *call, const struct object_properties *properties) {
    for (size_t i = 0; i < properties->n; i++) {
        const char *name, *value;
        object_properties_at(properties, i, &name, &value);
        s3_call_header(call, name, value);
    }
}

static bool is_to_be_told(const char *class) {
    return class != NULL && class[0] != '\0' && strcmp(class, "STANDARD") != 0;
}

// A store tells the class of what is not STANDARD; nothing else says what became of the one that
// was asked for.
static bool has_class(const struct sink_s3 *p, const struct s3_call *looked) {
    const char *told = s3_answer_header(looked, "x-amz-storage-class");
    return !is_to_be_told(p->storage_class) ||
           (told != NULL && strcmp(told, p->storage_class) == 0);
}

enum err sink_s3_say_dropped_class(const struct sink_s3 *p, const char *operation, const void *key,
                                   size_t key_len, struct failure *ret_failure) {
    char object[FAILURE_OBJECT_MAX];
    struct s3_call named = {.bucket = p->place.bucket, .key = key, .key_len = key_len};
    size_t n = s3_call_object(&named, object, sizeof object);
    (void)failure_set(ret_failure, ERR_UNIMPLEMENTED, operation, object, n,
                      "the store passed over the storage class %.40s, which was asked for",
                      p->storage_class);
    if (ret_failure != NULL) {
        failure_remedy(
            ret_failure,
            "ask for one that it has, or for none; objects that were sent are there without it");
    }
    return ERR_UNIMPLEMENTED;
}

enum err sink_s3_look(struct sink_s3 *p, const uint8_t *key, size_t key_len,
                      struct sink_s3_found *ret_found, struct failure *ret_failure) {
    struct sink_s3_found found = {.crc_kind = S3_CHECKSUM_NONE};
    const char *crc;
    struct s3_call call = {.operation = "HeadObject",
                           .method = "HEAD",
                           .bucket = p->place.bucket,
                           .key = key,
                           .key_len = key_len};
    s3_call_header(&call, "x-amz-checksum-mode", "ENABLED");
    enum err e = s3_run(p->client, &call, ret_failure);
    if (e == OK) {
        e = s3_entry_from_answer(&call, &found.entry, found.etag, &found.has_mtime, ret_failure);
    }
    if (e == OK) {
        found.etag_is_of_bytes = s3_etag_is_of_bytes(&call);
        found.is_encrypted = s3_is_encrypted_as(&call, p->encryption);
        found.has_class = has_class(p, &call);
        found.crc_kind = s3_answer_crc(&call, &crc);
        snprintf(found.crc, sizeof found.crc, "%s", found.crc_kind != S3_CHECKSUM_NONE ? crc : "");
        *ret_found = found;
    }
    s3_end(&call);
    return e;
}

// The same bytes? Size and ETag, or size and mtime; an object without an mtime of its own counts
// as the same if it is not older than its source. One that is to be encrypted has to be so.
static enum err sink_s3_compare(struct sink *s, const struct object_entry *e,
                                enum sink_identical *ret_result, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    AUTO(auto_free) uint8_t *key = NULL;
    size_t key_len = 0;
    struct sink_s3_found found;
    struct failure f = {0};
    if (e->type != OBJECT_FILE) {
        *ret_result = SINK_DIFFERS;
        return OK;
    }
    enum err err = s3_place_key(&p->place, e, &key, &key_len, ret_failure);
    if (err != OK) {
        return err;
    }
    err = sink_s3_look(p, key, key_len, &found, &f);
    if (err == ERR_NOT_FOUND) {
        *ret_result = SINK_ABSENT;
        return OK;
    }
    if (err != OK) {
        if (ret_failure != NULL) {
            *ret_failure = f;
        }
        return err;
    }
    bool from_store = e->target_len > 0;
    bool same_etag = from_store && strlen(found.etag) == e->target_len &&
                     memcmp(found.etag, e->target, e->target_len) == 0;
    int64_t mtime_ns = found.entry.version.mtime_ns;
    bool same_time = found.has_mtime ? mtime_ns == e->version.mtime_ns
                                     : from_store && mtime_ns >= e->version.mtime_ns;
    bool same_size = found.entry.version.size == e->version.size;
    *ret_result =
        same_size && (same_etag || same_time) && found.is_encrypted ? SINK_SAME : SINK_DIFFERS;
    return OK;
}

static enum err sink_s3_write(struct sink *s, uint64_t offset, const void *buf, size_t len,
                              struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    if (s3_client_is_aborted(p->client)) {
        return failure_set(ret_failure, ERR_CANCELLED, "write", NULL, 0, NULL);
    }
    return p->part_upload != NULL ? s3_chunks_write(&p->part, offset, buf, len, ret_failure)
                                  : sink_s3_write_whole(p, offset, buf, len, ret_failure);
}

static void *sink_s3_room(struct sink *s, uint64_t offset, size_t *ret_cap) {
    struct sink_s3 *p = sink_s3_of(s);
    return p->part_upload != NULL ? s3_chunks_room(&p->part, offset, ret_cap)
                                  : sink_s3_room_whole(p, offset, ret_cap);
}

static enum err sink_s3_write_hole(struct sink *s, uint64_t offset, uint64_t len,
                                   struct failure *ret_failure) {
    static const uint8_t zeros[ZEROS_BYTES];
    enum err e = OK;
    while (e == OK && len > 0) {
        size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;
        e = sink_s3_write(s, offset, zeros, n, ret_failure);
        offset += n;
        len -= n;
    }
    return e;
}

static void sink_s3_drop(struct sink *s) {
    struct sink_s3 *p = sink_s3_of(s);
    sink_s3_end_part(p); // its chunks stay at the store: another attempt recognises them
    sink_s3_drop_whole(p);
}

static enum err sink_s3_remove_temp(struct sink *s, const struct object_entry *e, const char *temp,
                                    struct failure *ret_failure) {
    (void)s;
    (void)e;
    (void)temp;
    (void)ret_failure;
    return OK; // an object store shows nothing that is not complete
}

static enum err sink_s3_remove(struct sink *s, const struct object_entry *e,
                               struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    AUTO(auto_free) uint8_t *key = NULL;
    size_t key_len = 0;
    struct failure f = {0};
    if (e->type == OBJECT_DIRECTORY) {
        return OK;
    }
    enum err err = s3_place_key(&p->place, e, &key, &key_len, ret_failure);
    if (err != OK) {
        return err;
    }
    struct s3_call call = {.operation = "DeleteObject",
                           .method = "DELETE",
                           .bucket = p->place.bucket,
                           .key = key,
                           .key_len = key_len};
    err = s3_run(p->client, &call, &f);
    s3_end(&call);
    if (err != OK && err != ERR_NOT_FOUND) {
        if (ret_failure != NULL) {
            *ret_failure = f;
        }
        return err;
    }
    return OK;
}

static void sink_s3_set_properties(struct sink *s, const struct object_properties *properties) {
    sink_s3_of(s)->properties = properties;
}

static void sink_s3_set_digest(struct sink *s, enum hash_algorithm a, const struct digest *digest) {
    struct sink_s3 *p = sink_s3_of(s);
    s3_digest_text(a, digest, p->digest);
}

static void sink_s3_abort(struct sink *s) {
    s3_client_abort(sink_s3_of(s)->client);
}

static void sink_s3_destroy(struct sink *s) {
    struct sink_s3 *p = sink_s3_of(s);
    sink_s3_drop(s);
    sink_s3_forget_staged(p);
    s3_client_free(p->client);
    free(p);
}

static const struct sink_ops ops = {
    .kind = "s3",
    .compare = sink_s3_compare,
    .begin = sink_s3_begin,
    .write = sink_s3_write,
    .room = sink_s3_room,
    .write_hole = sink_s3_write_hole,
    .stage = sink_s3_stage,
    .drop = sink_s3_drop,
    .finish_staged = sink_s3_finish_staged,
    .open_large = sink_s3_open_large,
    .open_part = sink_s3_open_part,
    .close_part = sink_s3_close_part,
    .sync_large = sink_s3_sync_large,
    .finish_large = sink_s3_finish_large,
    .remove_temp = sink_s3_remove_temp,
    .abort = sink_s3_abort,
    .destroy = sink_s3_destroy,
    .remove = sink_s3_remove,
    .set_properties = sink_s3_set_properties,
    .set_digest = sink_s3_set_digest,
    .copy = sink_s3_copy,
    .copy_part = sink_s3_copy_part,
    .part_align = sink_s3_part_align,
    .abort_large = sink_s3_abort_large,
};

enum err sink_s3_new(const struct sink_s3_options *o, struct sink **ret_sink,
                     struct failure *ret_failure) {
    struct sink_s3 *p = calloc(1, sizeof *p);
    if (p == NULL) {
        s3_client_free(o->take_client);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open sink", o->root, o->root_len, NULL);
    }
    enum err e = s3_place_init(o->root, o->root_len, &p->place, ret_failure);
    if (e != OK) {
        s3_client_free(o->take_client);
        free(p);
        return e;
    }
    p->client = o->take_client;
    p->store = s3_client_store(p->client);
    p->tagging = o->tagging;
    p->storage_class = o->storage_class;
    p->keeps_class = !is_to_be_told(o->storage_class);
    p->encryption = o->encryption;
    p->kms_key = o->kms_key;
    p->sink.ops = &ops;
    p->sink.fence = o->fence;
    p->sink.capabilities = (struct sink_capabilities){.holds_keys = true,
                                                      .never_replaces = o->never_replaces,
                                                      .shows_staged = true,
                                                      .store = p->store,
                                                      .max_staged = STAGED_MAX};
    p->last = &p->staged;
    *ret_sink = &p->sink;
    return OK;
}
