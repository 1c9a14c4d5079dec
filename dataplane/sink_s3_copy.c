// SPDX-License-Identifier: Apache-2.0
// Copies within an object store: it moves the bytes, nothing of them passes through here.
#include "common/cleanup.h"
#include "common/s3_limits.h"
#include "dataplane/s3_xml.h"
#include "dataplane/sink_s3_impl.h"
#include "dataplane/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNNING_MAX = 4 };                          // UploadPartCopy at a time
#define COPY_WHOLE_MAX_BYTES ((uint64_t)256 << 20) // larger ones are copied in parts of this

// "/bucket/key", encoded. NULL: out of memory.
static char *copy_source(const struct object_origin *o) {
    size_t bucket_len = strlen(o->bucket);
    char *text = malloc(3 * (bucket_len + o->key_len) + 3);
    if (text != NULL) {
        size_t n = 0;
        text[n++] = '/';
        n += s3_encode(o->bucket, bucket_len, 0, text + n);
        text[n++] = '/';
        (void)s3_encode(o->key, o->key_len, 1, text + n);
    }
    return text;
}

static enum err no_memory(const struct s3_put *put, struct failure *ret_failure) {
    return failure_set(ret_failure, ERR_NO_MEMORY, "CopyObject", put->key, put->key_len, NULL);
}

static enum err name_source(struct s3_put *put, const struct object_origin *o,
                            struct failure *ret_failure) {
    put->copy_source = copy_source(o);
    if (put->copy_source == NULL) {
        return no_memory(put, ret_failure);
    }
    if (o->etag[0] != '\0' && asprintf(&put->copy_etag, "\"%s\"", o->etag) < 0) {
        put->copy_etag = NULL;
        return no_memory(put, ret_failure);
    }
    return OK;
}

static void begin_call(struct sink_s3 *p, struct s3_put *put, const char *operation,
                       struct s3_call *ret_call) {
    *ret_call = (struct s3_call){
        .operation = operation,
        .method = "PUT",
        .bucket = p->place.bucket,
        .key = put->key,
        .key_len = put->key_len,
        .may_hide_errors = true,
    };
    s3_call_header(ret_call, "x-amz-copy-source", put->copy_source);
    s3_call_header(ret_call, "x-amz-copy-source-if-match", put->copy_etag);
}

// ---- in parts ----

struct part_copy {
    struct s3_call call;
    struct s3_part part;
    char range[64];
    char query[S3_PART_QUERY_MAX];
};

static enum err on_etag(void *user, const char *path, const char *text, size_t len) {
    (void)len;
    if (strcmp(path, "CopyPartResult/ETag") == 0) {
        return s3_etag_copy(text, user) ? OK : ERR_PROTOCOL;
    }
    return OK;
}

static enum err settle(struct part_copy *c, struct s3_parts *parts, struct failure *ret_failure) {
    size_t len = 0;
    enum err e = s3_await(&c->call, ret_failure);
    if (e == OK) {
        const char *body = s3_answer_body(&c->call, &len);
        e = s3_xml_parse(body, len, on_etag, c->part.etag);
        if (e == OK && c->part.etag[0] == '\0') {
            e = ERR_PROTOCOL;
        }
        if (e == OK) {
            e = s3_parts_put(parts, &c->part);
        }
        if (e != OK) {
            e = failure_set(ret_failure, e, "UploadPartCopy", c->call.key, c->call.key_len,
                            "the store's answer makes no sense");
        }
    }
    s3_end(&c->call);
    return e;
}

static enum err copy_parts(struct sink_s3 *p, struct s3_put *put, const struct s3_upload *u,
                           uint64_t size, struct s3_parts *parts, struct failure *ret_failure) {
    struct part_copy *slots = calloc(RUNNING_MAX, sizeof *slots);
    uint64_t chunk = s3_chunk_bytes(size);
    uint32_t n = 0;
    enum err e = OK;
    if (slots == NULL) {
        return no_memory(put, ret_failure);
    }
    chunk = chunk > COPY_WHOLE_MAX_BYTES ? chunk : COPY_WHOLE_MAX_BYTES;
    uint32_t n_parts = (uint32_t)((size + chunk - 1) / chunk);
    for (; e == OK && n < n_parts + RUNNING_MAX; n++) {
        struct part_copy *c = &slots[n % RUNNING_MAX];
        if (n >= RUNNING_MAX && n - RUNNING_MAX < n_parts) {
            e = settle(c, parts, ret_failure);
        }
        if (e != OK || n >= n_parts) {
            continue;
        }
        uint64_t start = n * chunk, end = start + chunk < size ? start + chunk : size;
        begin_call(p, put, "UploadPartCopy", &c->call);
        snprintf(c->range, sizeof c->range, "bytes=%" PRIu64 "-%" PRIu64, start, end - 1);
        s3_call_header(&c->call, "x-amz-copy-source-range", c->range);
        s3_part_query(u, n + 1, c->query);
        c->call.query = c->query;
        c->part = (struct s3_part){.number = n + 1, .bytes = end - start};
        e = s3_begin(p->client, &c->call, ret_failure);
    }
    for (size_t i = 0; i < RUNNING_MAX; i++) {
        s3_end(&slots[i].call);
    }
    free(slots);
    return e;
}

// Size and properties of the source, which must be the version that was listed.
static enum err look_at_source(struct sink_s3 *p, struct s3_put *put, const struct object_origin *o,
                               uint64_t size, bool first, struct failure *ret_failure) {
    struct object_entry found = {0};
    char etag[S3_ETAG_MAX];
    bool has_mtime;
    struct s3_call call = {.operation = "HeadObject",
                           .method = "HEAD",
                           .bucket = o->bucket,
                           .key = o->key,
                           .key_len = o->key_len};
    enum err e = s3_run(p->client, &call, ret_failure);
    if (e == OK) {
        e = s3_entry_from_answer(&call, &found, etag, &has_mtime, ret_failure);
    }
    bool is_same =
        e == OK && found.version.size == size && (o->etag[0] == '\0' || strcmp(o->etag, etag) == 0);
    if (e == OK && !is_same) {
        e = failure_set(ret_failure, ERR_SOURCE_CHANGED, "UploadPartCopy", o->key, o->key_len,
                        "it changed after it was listed");
    }
    if (e == OK && first && s3_properties_from_answer(&call, &put->properties) != OK) {
        e = no_memory(put, ret_failure);
    }
    s3_end(&call);
    return e;
}

static enum err copy_large(struct sink_s3 *p, struct s3_put *put, const struct object_origin *o,
                           uint64_t size, struct failure *ret_failure) {
    struct s3_upload u = {
        .client = p->client, .bucket = p->place.bucket, .key = put->key, .key_len = put->key_len};
    struct s3_parts parts = {0};
    enum err e = look_at_source(p, put, o, size, true, ret_failure);
    if (e != OK) {
        return e;
    }
    e = s3_upload_create(&u, &put->properties, ret_failure);
    if (e != OK) {
        return e;
    }
    e = copy_parts(p, put, &u, size, &parts, ret_failure);
    if (e == OK) { // not every store honours the condition on the source
        e = look_at_source(p, put, o, size, false, ret_failure);
    }
    if (e == OK) {
        e = s3_upload_complete(&u, &parts, ret_failure);
    }
    if (e != OK) {
        enum err given_up = s3_upload_abort(&u, NULL);
        (void)given_up;
    }
    s3_parts_deinit(&parts);
    return e;
}

enum err sink_s3_copy(struct sink *s, const struct object_entry *e,
                      const struct object_origin *origin, uint32_t tag,
                      struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    struct s3_put *put = NULL;
    p->properties = NULL;
    enum err err = sink_s3_put_new(p, e, &put, ret_failure);
    if (err != OK) {
        return err;
    }
    put->tag = tag;
    err = name_source(put, origin, ret_failure);
    if (err == OK && e->version.size > COPY_WHOLE_MAX_BYTES) {
        err = copy_large(p, put, origin, e->version.size, ret_failure);
        if (err == OK) {
            *p->last = put;
            p->last = &put->next;
            return OK;
        }
    } else if (err == OK) {
        begin_call(p, put, "CopyObject", &put->call);
        err = sink_s3_send(p, put, ret_failure);
        if (err == OK) {
            return OK;
        }
        if (put->is_running) { // it is among those staged
            return err;
        }
    }
    sink_s3_put_free(put);
    return err;
}
