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

enum { RUNNING_MAX = 8 }; // UploadPartCopy at a time

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
        .if_none_match =
            p->sink.capabilities.never_replaces && strcmp(operation, "CopyObject") == 0,
    };
    s3_call_header(ret_call, "x-amz-copy-source", put->copy_source);
    s3_call_header(ret_call, "x-amz-copy-source-if-match", put->copy_etag);
}

// ---- in parts ----

struct part_copy {
    struct s3_call call;
    struct s3_part part;
    enum s3_checksum checksum; // of the upload
    char range[64];
    char query[S3_PART_QUERY_MAX];
};

static enum err on_result(void *user, const char *path, const char *text, size_t len) {
    static const char top[] = "CopyPartResult/";
    struct part_copy *c = user;
    if (strncmp(path, top, sizeof top - 1) != 0) {
        return OK;
    }
    const char *name = path + sizeof top - 1, *checksum = s3_checksum_element(c->checksum);
    if (strcmp(name, "ETag") == 0) {
        return s3_etag_copy(text, c->part.etag) ? OK : ERR_PROTOCOL;
    }
    if (checksum != NULL && strcmp(name, checksum) == 0 && len < sizeof c->part.checksum) {
        memcpy(c->part.checksum, text, len + 1);
    }
    return OK;
}

static enum err settle(struct part_copy *c, struct s3_parts *parts, struct failure *ret_failure) {
    size_t len = 0;
    enum err e = s3_await(&c->call, ret_failure);
    if (e == OK) {
        const char *body = s3_answer_body(&c->call, &len);
        e = s3_xml_parse(body, len, on_result, c);
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

// Chunk @number of the object's, counted from 1.
static enum err begin_part(struct sink_s3 *p, struct s3_put *put, struct part_copy *c,
                           uint32_t number, uint64_t size, struct failure *ret_failure) {
    uint64_t chunk = s3_chunk_bytes(size), start = (number - 1) * chunk;
    uint64_t end = start + chunk < size ? start + chunk : size;
    begin_call(p, put, "UploadPartCopy", &c->call);
    snprintf(c->range, sizeof c->range, "bytes=%" PRIu64 "-%" PRIu64, start, end - 1);
    s3_call_header(&c->call, "x-amz-copy-source-range", c->range);
    s3_part_query(p->part_upload, number, c->query);
    c->call.query = c->query;
    c->part = (struct s3_part){.number = number, .bytes = end - start};
    c->checksum = p->part_upload->checksum;
    return s3_begin(p->client, &c->call, ret_failure);
}

// Chunks @first to @last, into the part that is open.
static enum err copy_parts(struct sink_s3 *p, struct s3_put *put, uint32_t first, uint32_t last,
                           uint64_t size, struct failure *ret_failure) {
    struct part_copy *slots = calloc(RUNNING_MAX, sizeof *slots);
    enum err e = OK;
    if (slots == NULL) {
        return no_memory(put, ret_failure);
    }
    for (uint32_t n = first; e == OK && n <= last + RUNNING_MAX; n++) {
        struct part_copy *c = &slots[n % RUNNING_MAX];
        if (n >= first + RUNNING_MAX && n - RUNNING_MAX <= last) {
            e = settle(c, &p->part.sent, ret_failure);
        }
        if (e == OK && n <= last) {
            e = begin_part(p, put, c, n, size, ret_failure);
        }
    }
    for (size_t i = 0; i < RUNNING_MAX; i++) {
        s3_end(&slots[i].call);
    }
    free(slots);
    return e;
}

// Is the source still the version that was listed? Not every store honours the condition.
static enum err look_at_source(struct sink_s3 *p, const struct object_origin *o, uint64_t size,
                               struct failure *ret_failure) {
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
    s3_end(&call);
    bool is_same =
        e == OK && found.version.size == size && (o->etag[0] == '\0' || strcmp(o->etag, etag) == 0);
    return e != OK || is_same ? e
                              : failure_set(ret_failure, ERR_SOURCE_CHANGED, "UploadPartCopy",
                                            o->key, o->key_len, "it changed after it was listed");
}

enum err sink_s3_copy_part(struct sink *s, const struct object_entry *e,
                           const struct object_origin *origin, uint64_t offset, uint64_t length,
                           struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    struct s3_put *put = NULL;
    uint64_t chunk = s3_chunk_bytes(e->version.size);
    enum err err = sink_s3_put_new(p, e, &put, ret_failure);
    if (err != OK) {
        return err;
    }
    err = name_source(put, origin, ret_failure);
    if (err == OK) {
        err =
            copy_parts(p, put, (uint32_t)(offset / chunk) + 1,
                       (uint32_t)((offset + length - 1) / chunk) + 1, e->version.size, ret_failure);
    }
    if (err == OK) {
        err = look_at_source(p, origin, e->version.size, ret_failure);
    }
    sink_s3_put_free(put);
    return err;
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
    if (err == OK && p->encryption != NULL && p->encryption[0] != '\0' &&
        p->sink.capabilities.never_replaces) {
        // If it were left plain, it would be in the way of what comes instead.
        err = failure_set(ret_failure, ERR_UNIMPLEMENTED, "CopyObject", put->key, put->key_len,
                          "copies may be left plain, and could not be replaced");
    }
    if (err == OK) {
        begin_call(p, put, "CopyObject", &put->call);
        if (sink_s3_add_wanted(p, &put->properties) != OK) {
            err = no_memory(put, ret_failure);
        }
    }
    if (err == OK) {
        sink_s3_put_properties(&put->call, &put->properties);
        s3_call_header(&put->call, "x-amz-tagging-directive",
                       p->tagging != NULL ? "REPLACE" : NULL);
        err = sink_s3_send(p, put, ret_failure);
        if (err == OK || put->is_running) { // it is among those staged
            return err;
        }
    }
    sink_s3_put_free(put);
    return err;
}
