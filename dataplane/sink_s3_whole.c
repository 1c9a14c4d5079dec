// SPDX-License-Identifier: Apache-2.0
// Whole objects: held in memory and PUT, several at a time.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "dataplane/s3_encryption.h"
#include "dataplane/sink_s3_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { RUNNING_MAX = 16 };                    // PUTs of a task at a time
#define STAGED_MAX_BYTES ((uint64_t)32 << 20) // held for them

void sink_s3_put_free(struct s3_put *put) {
    if (put == NULL) {
        return;
    }
    s3_end(&put->call);
    if (put->upload != NULL) {
        s3_chunks_deinit(&put->chunks);
        free(put->upload);
    }
    object_properties_deinit(&put->properties);
    free(put->key);
    free(put->bytes);
    free(put->copy_source);
    free(put->copy_etag);
    free(put);
}

enum err sink_s3_put_new(struct sink_s3 *p, const struct object_entry *e, struct s3_put **ret_put,
                         struct failure *ret_failure) {
    struct s3_put *put = calloc(1, sizeof *put);
    if (put == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "s3", e->path, e->path_len, NULL);
    }
    enum err err = s3_place_key(&p->place, e, &put->key, &put->key_len, ret_failure);
    if (err == OK && put->key_len == 0) {
        err = failure_set(ret_failure, ERR_INVALID, "PutObject", p->place.bucket,
                          strlen(p->place.bucket), "an object needs a key");
    }
    if (err != OK) {
        sink_s3_put_free(put);
        return err;
    }
    *ret_put = put;
    return OK;
}

static enum err begin_upload(struct sink_s3 *p, struct s3_put *put, uint64_t size,
                             struct failure *ret_failure) {
    struct s3_upload *u = calloc(1, sizeof *u);
    if (u == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "s3", put->key, put->key_len, NULL);
    }
    *u = (struct s3_upload){
        .client = p->client,
        .bucket = p->place.bucket,
        .key = put->key,
        .key_len = put->key_len,
        .never_replaces = p->sink.capabilities.never_replaces,
    };
    enum err e = s3_upload_create(u, &put->properties, ret_failure);
    if (e != OK) {
        free(u);
        return e;
    }
    put->upload = u;
    s3_chunks_init(&put->chunks, u, size);
    return OK;
}

enum err sink_s3_begin(struct sink *s, const struct object_entry *e, const char *temp,
                       struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    uint64_t size = e->version.size;
    struct s3_put *put = NULL;
    (void)temp;
    enum err err = sink_s3_put_new(p, e, &put, ret_failure);
    if (err != OK) {
        return err;
    }
    assert(put != NULL);
    err = sink_s3_properties(p, e, size <= S3_WHOLE_MAX_BYTES, &put->properties, ret_failure);
    if (err == OK && size > S3_OBJECT_MAX_BYTES) {
        err = failure_set(ret_failure, ERR_TOO_LARGE, "PutObject", e->path, e->path_len,
                          "an object store takes 5 TiB");
    }
    if (err == OK && p->is_left_plain) {
        err = s3_say_not_encrypted("PutObject", p->encryption, e->path, e->path_len, ret_failure);
    }
    if (err == OK && p->drops_class) {
        err = sink_s3_say_dropped_class(p, "PutObject", put->key, put->key_len, ret_failure);
    }
    if (err == OK && size > S3_WHOLE_MAX_BYTES) {
        err = begin_upload(p, put, size, ret_failure);
    } else if (err == OK && size > 0) {
        put->cap = (size_t)size;
        put->bytes = malloc(put->cap);
        if (put->bytes == NULL) {
            err = failure_set(ret_failure, ERR_NO_MEMORY, "s3", e->path, e->path_len, NULL);
        }
    }
    if (err != OK) {
        sink_s3_put_free(put);
        return err;
    }
    p->begun = put;
    p->digest[0] = '\0';
    return OK;
}

enum err sink_s3_write_whole(struct sink_s3 *p, uint64_t offset, const void *buf, size_t len,
                             struct failure *ret_failure) {
    struct s3_put *put = p->begun;
    if (put->upload != NULL) {
        return s3_chunks_write(&put->chunks, offset, buf, len, ret_failure);
    }
    if (offset != put->len || len > put->cap - put->len) {
        return failure_set(ret_failure, ERR_STATE, "PutObject", put->key, put->key_len,
                           "writes must follow each other, up to the object's end");
    }
    if (len > 0 && buf != put->bytes + put->len) { // else it is there: sink_room()
        memcpy(put->bytes + put->len, buf, len);
    }
    put->len += len;
    return p->n_running > 0 ? s3_pump(p->client, ret_failure) : OK;
}

void *sink_s3_room_whole(struct sink_s3 *p, uint64_t offset, size_t *ret_cap) {
    struct s3_put *put = p->begun;
    if (put->upload != NULL) {
        return s3_chunks_room(&put->chunks, offset, ret_cap);
    }
    *ret_cap = put->cap - put->len;
    return offset == put->len && *ret_cap > 0 ? put->bytes + put->len : NULL;
}

// There is an object already. Is it the one that was put, by an attempt whose answer was lost?
static bool is_own(struct sink_s3 *p, const struct s3_put *put) {
    struct sink_s3_found found;
    char md5[S3_CHECKSUM_SIZE], crc[S3_CHECKSUM_SIZE], etag[S3_ETAG_MAX];
    if (put->bytes == NULL || sink_s3_look(p, put->key, put->key_len, &found, NULL) != OK ||
        found.entry.version.size != put->len || !found.is_encrypted) {
        return false;
    }
    if (found.crc_kind != S3_CHECKSUM_NONE) {
        s3_checksum_of(found.crc_kind, put->bytes, put->len, crc);
        return strcmp(crc, found.crc) == 0;
    }
    s3_checksum_of(S3_CHECKSUM_MD5, put->bytes, put->len, md5);
    return s3_checksum_as_etag(md5, etag) && strcmp(etag, found.etag) == 0;
}

// The first object tells for all. Who may put but not look at objects has to trust the store.
static enum err check_class(struct sink_s3 *p, struct s3_put *put) {
    struct sink_s3_found found;
    struct failure f = {0};
    if (p->keeps_class) {
        return OK;
    }
    enum err e = sink_s3_look(p, put->key, put->key_len, &found, &f);
    if (e == OK && !found.has_class) {
        p->drops_class = true;
        return sink_s3_say_dropped_class(p, put->call.operation, put->key, put->key_len,
                                         &put->failure);
    }
    p->keeps_class = e == OK || e == ERR_DENIED;
    if (p->keeps_class || e == ERR_NOT_FOUND) { // or somebody removed it meanwhile
        return OK;
    }
    put->failure = f;
    return e;
}

// Ends the call of a put that is under way.
static enum err settle(struct sink_s3 *p, struct s3_put *put) {
    if (!put->is_running) {
        return OK;
    }
    put->err = s3_await(&put->call, &put->failure);
    if (put->err == ERR_EXISTS && put->call.attempts > 1 && is_own(p, put)) {
        put->err = OK;
    } else if (put->err == OK) {
        put->err = s3_check_encryption(&put->call, &put->failure);
        p->is_left_plain |= put->err != OK && put->copy_source == NULL;
    }
    if (put->err == OK) {
        put->err = check_class(p, put);
    }
    put->is_running = false;
    p->n_running--;
    p->staged_bytes -= put->len;
    if (put->err == OK && put->copy_source != NULL) {
        put->err = sink_s3_ensure_tags(p, put->key, put->key_len, p->tagging, &put->failure);
    }
    s3_end(&put->call);
    free(put->bytes);
    put->bytes = NULL;
    return put->err == ERR_CANCELLED ? ERR_CANCELLED : OK;
}

enum err sink_s3_send(struct sink_s3 *p, struct s3_put *put, struct failure *ret_failure) {
    for (struct s3_put *old = p->staged; old != NULL; old = old->next) {
        if (p->n_running < RUNNING_MAX && p->staged_bytes + put->len <= STAGED_MAX_BYTES) {
            break;
        }
        if (settle(p, old) != OK) {
            if (ret_failure != NULL) {
                *ret_failure = old->failure;
            }
            return ERR_CANCELLED;
        }
    }
    enum err e = s3_begin(p->client, &put->call, ret_failure);
    if (e != OK) {
        return e;
    }
    put->is_running = true;
    p->n_running++;
    p->staged_bytes += put->len;
    *p->last = put;
    p->last = &put->next;
    return s3_pump(p->client, ret_failure) == ERR_CANCELLED ? ERR_CANCELLED : OK;
}

// An upload that this task alone has filled.
static enum err complete(struct sink_s3 *p, struct s3_put *put, struct failure *ret_failure) {
    enum err e = s3_chunks_flush(&put->chunks, ret_failure);
    struct sink_s3_made made = {0};
    uint64_t sent = 0;
    for (size_t i = 0; e == OK && i < put->chunks.sent.n; i++) {
        sent += put->chunks.sent.items[i].bytes;
    }
    if (e == OK && sent != put->chunks.object_bytes) {
        e = failure_set(ret_failure, ERR_STATE, "CompleteMultipartUpload", put->key, put->key_len,
                        "not all of the object was written");
    }
    if (e == OK) {
        e = sink_s3_complete(p, put->upload, put->chunks.object_bytes, &put->chunks.sent, &made,
                             ret_failure);
    }
    if (e == OK) {
        e = sink_s3_finish_tags(p, put->key, put->key_len,
                                object_properties_get(&put->properties, "x-amz-tagging"), &made,
                                ret_failure);
    }
    if (e == OK) {
        s3_chunks_deinit(&put->chunks);
        free(take_ptr(put->upload));
        *p->last = put;
        p->last = &put->next;
    }
    return e;
}

enum err sink_s3_stage(struct sink *s, uint32_t tag, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    struct s3_put *put = p->begun;
    put->tag = tag;
    if (put->upload != NULL) {
        enum err e = complete(p, put, ret_failure);
        if (e == OK) {
            p->begun = NULL;
        }
        return e;
    }
    put->call = (struct s3_call){
        .operation = "PutObject",
        .method = "PUT",
        .bucket = p->place.bucket,
        .key = put->key,
        .key_len = put->key_len,
        .body = put->bytes,
        .body_bytes = put->len,
        .body_kind = S3_BODY_OBJECT,
        .if_none_match = p->sink.capabilities.never_replaces,
    };
    if (p->digest[0] != '\0' &&
        object_properties_add(&put->properties, S3_DIGEST_HEADER, p->digest) == ERR_NO_MEMORY) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "PutObject", put->key, put->key_len, NULL);
    }
    sink_s3_put_properties(&put->call, &put->properties);
    enum err e = sink_s3_send(p, put, ret_failure);
    if (e == OK || put->is_running) {
        p->begun = NULL; // it is among those staged
    }
    return e;
}

void sink_s3_drop_whole(struct sink_s3 *p) {
    struct s3_put *put = take_ptr(p->begun);
    if (put != NULL && put->upload != NULL) {
        s3_end(&put->chunks.call);
        enum err given_up = s3_upload_abort(put->upload, NULL);
        (void)given_up;
    }
    sink_s3_put_free(put);
}

void sink_s3_forget_staged(struct sink_s3 *p) {
    while (p->staged != NULL) {
        struct s3_put *put = p->staged;
        p->staged = put->next;
        sink_s3_put_free(put);
    }
    p->last = &p->staged;
    p->n_running = 0;
    p->staged_bytes = 0;
}

// What was put is visible and durable already: that is what S3 promises with its answer.
enum err sink_s3_finish_staged(struct sink *s, enum durability durability,
                               void (*each)(void *user, uint32_t tag, enum err result,
                                            const struct failure *failure),
                               void *user, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    enum err e = OK;
    (void)durability;
    for (struct s3_put *put = p->staged; put != NULL; put = put->next) {
        (void)settle(p, put);
        if (put->err == ERR_CANCELLED && e == OK) {
            e = ERR_CANCELLED;
            if (ret_failure != NULL) {
                *ret_failure = put->failure;
            }
        }
        if (put->err != ERR_CANCELLED) {
            each(user, put->tag, put->err, &put->failure);
        }
    }
    sink_s3_forget_staged(p);
    return e;
}
