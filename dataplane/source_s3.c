// SPDX-License-Identifier: Apache-2.0
// Ranged GETs, pinned to a version by If-Match. Ranges that were announced are asked for ahead:
// many small ones at a time, of large ones the next. A body that breaks off is gone on with where
// it broke off.
#include "dataplane/source_s3.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/s3_limits.h"
#include "dataplane/s3_object.h"
#include "dataplane/s3_read_proof.h"
#include "dataplane/s3_tags.h"
#include "dataplane/source_impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AHEAD_SMALL = 16, // GETs at a time of ranges up to SMALL_BYTES
    AHEAD_LARGE = 2,
    SMALL_BYTES = 256 * 1024, // fits into what a stream keeps
    RESUMES_MAX = 20,         // of one range
};

// One range, from the announcement on.
struct fetch {
    struct fetch *next;
    struct source_range range;
    bool is_begun;
    struct s3_call call;
    uint8_t *key;
    char range_text[64], etag_text[S3_ETAG_MAX + 2];
};

struct source_s3 {
    struct source source; // first member
    struct s3_client *client;
    struct s3_place place;
    const struct object_table *table; // borrowed
    bool reads_tags;
    struct fetch *first, **last; // announced, not opened yet
    struct fetch *open;
    char etag[S3_ETAG_MAX]; // of the open one
    struct object_version version;
    uint64_t pos, end;
    uint32_t n_resumes;
    struct s3_read_proof proof;
    enum hash_algorithm digest;
    bool *distrusted; // by index: its digest was told, and did not hold
    struct object_properties properties;
    uint8_t *origin_key;
    char origin_etag[S3_ETAG_MAX];
};

static struct source_s3 *impl(struct source *s) {
    return CONTAINER_OF(s, struct source_s3, source);
}

static void fetch_free(struct fetch *f) {
    if (f != NULL) {
        s3_end(&f->call);
        free(f->key);
        free(f);
    }
}

static enum err fetch_new(struct source_s3 *p, const struct source_range *range,
                          struct fetch **ret_fetch, struct failure *ret_failure) {
    struct object_entry e;
    if (range->index >= p->table->count) {
        return failure_set(ret_failure, ERR_INVALID, "open", NULL, 0, "no such object in the task");
    }
    object_table_get(p->table, range->index, &e);
    struct fetch *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", e.path, e.path_len, NULL);
    }
    f->range = *range;
    enum err err = s3_place_key(&p->place, &e, &f->key, &f->call.key_len, ret_failure);
    if (err != OK) {
        fetch_free(f);
        return err;
    }
    f->call.key = f->key;
    *ret_fetch = f;
    return OK;
}

static void put_etag(struct fetch *f, const char *etag, size_t len) {
    snprintf(f->etag_text, sizeof f->etag_text, "\"%.*s\"", (int)len, etag);
    s3_call_header(&f->call, "if-match", f->etag_text);
}

// The request for [@from, the range's end) of the object. Nothing of a range that is empty, and
// does not begin the object, has to be sent: then only its metadata is asked for.
static void prepare(struct source_s3 *p, struct fetch *f, uint64_t from, const char *etag) {
    struct s3_call *c = &f->call;
    struct object_entry e;
    object_table_get(p->table, f->range.index, &e);
    const struct source_range *r = &f->range;
    bool to_end = r->length == SOURCE_TO_END;
    uint64_t end = to_end ? UINT64_MAX : r->offset + r->length;
    bool is_all = from == 0 && (to_end || end >= e.version.size);
    bool is_empty = !to_end && from >= end && !(from == 0 && e.version.size == 0);
    *c = (struct s3_call){
        .operation = is_empty ? "HeadObject" : "GetObject",
        .method = is_empty ? "HEAD" : "GET",
        .bucket = p->place.bucket,
        .key = f->key,
        .key_len = c->key_len,
        .is_stream = !is_empty,
    };
    if (etag != NULL) {
        put_etag(f, etag, strlen(etag));
    } else if (!r->accept_changed && e.target_len > 0 && e.target_len < S3_ETAG_MAX) {
        put_etag(f, (const char *)e.target, e.target_len);
    }
    if (is_all) {
        s3_call_header(c, "x-amz-checksum-mode", "ENABLED");
    } else if (!is_empty) {
        if (to_end) {
            snprintf(f->range_text, sizeof f->range_text, "bytes=%" PRIu64 "-", from);
        } else {
            snprintf(f->range_text, sizeof f->range_text, "bytes=%" PRIu64 "-%" PRIu64, from,
                     end - 1);
        }
        s3_call_header(c, "range", f->range_text);
    }
}

static enum err begin(struct source_s3 *p, struct fetch *f, struct failure *ret_failure) {
    prepare(p, f, f->range.offset, NULL);
    f->is_begun = true;
    return s3_begin(p->client, &f->call, ret_failure);
}

static enum err look_ahead(struct source_s3 *p, struct failure *ret_failure) {
    unsigned n = 0;
    for (struct fetch *f = p->first; f != NULL; f = f->next) {
        n += f->range.length <= SMALL_BYTES ? 1 : AHEAD_SMALL / AHEAD_LARGE;
        if (n > AHEAD_SMALL) {
            break;
        }
        if (!f->is_begun) {
            enum err e = begin(p, f, ret_failure);
            if (e != OK) {
                return e;
            }
        }
    }
    return OK;
}

static enum err source_s3_expect(struct source *s, const struct source_range *ranges, size_t n,
                                 struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    for (size_t i = 0; i < n; i++) {
        struct fetch *f = NULL;
        enum err e = fetch_new(p, &ranges[i], &f, ret_failure);
        if (e == ERR_NAME_TOO_LONG) {
            continue; // it is told when it is opened
        }
        if (e != OK) {
            return e;
        }
        assert(f != NULL);
        *p->last = f;
        p->last = &f->next;
    }
    return look_ahead(p, ret_failure);
}

static bool is_range(const struct source_range *a, const struct source_range *b) {
    return a->index == b->index && a->offset == b->offset && a->length == b->length &&
           a->accept_changed == b->accept_changed;
}

// The announced fetch if it is this range's turn, else a new one.
static enum err take(struct source_s3 *p, const struct source_range *range,
                     struct fetch **ret_fetch, struct failure *ret_failure) {
    struct fetch *f = p->first;
    enum err e = OK;
    if (f != NULL && is_range(&f->range, range)) {
        p->first = f->next;
        if (p->first == NULL) {
            p->last = &p->first;
        }
        f->next = NULL;
    } else {
        e = fetch_new(p, range, &f, ret_failure);
    }
    assert(e != OK || f != NULL);
    if (e == OK && !f->is_begun) {
        e = begin(p, f, ret_failure);
        if (e != OK) {
            fetch_free(f);
        }
    }
    if (e == OK) {
        *ret_fetch = f;
    }
    return e;
}

// Does the answer hold what was asked for?
static enum err check_answer(const struct source_s3 *p, const struct fetch *f, uint64_t from,
                             struct failure *ret_failure) {
    const char *range = s3_answer_header(&f->call, "content-range");
    unsigned long long start = 0;
    bool is_partial = f->call.status == 206;
    if (is_partial && (range == NULL || sscanf(range, "bytes %llu-", &start) != 1)) {
        start = UINT64_MAX;
    }
    if (f->call.is_stream && start != from) {
        return failure_set(ret_failure, ERR_PROTOCOL, "GetObject", f->key, f->call.key_len,
                           "the store sent another range of bucket %.100s than it was asked for",
                           p->place.bucket);
    }
    return OK;
}

static enum err found_changed(const struct fetch *f, const struct source_s3 *p,
                              struct failure *ret_failure) {
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(&f->call, object, sizeof object);
    (void)p;
    return failure_set(ret_failure, ERR_SOURCE_CHANGED, "GetObject", object, n,
                       "it changed after it was listed");
}

// A GET says whether there are any; a HEAD need not. @ret_digest as in s3_tags.h.
static enum err read_tags(struct source_s3 *p, const struct fetch *f, uint64_t size,
                          char ret_digest[S3_DIGEST_TAG_MAX], struct failure *ret_failure) {
    const char *count = s3_answer_header(&f->call, "x-amz-tagging-count");
    AUTO(auto_free) char *tagging = NULL;
    bool may_have = count != NULL ? strcmp(count, "0") != 0 : !f->call.is_stream;
    bool is_all = f->range.offset == 0 && f->range.length >= size;
    ret_digest[0] = '\0';
    if (!may_have || (!p->reads_tags && !(is_all && size > S3_WHOLE_MAX_BYTES))) {
        return OK;
    }
    if (!p->reads_tags) {
        return s3_tags_fetch_digest(p->client, p->place.bucket, f->key, f->call.key_len, ret_digest,
                                    ret_failure);
    }
    enum err e = s3_tags_fetch_apart(p->client, p->place.bucket, f->key, f->call.key_len, &tagging,
                                     ret_digest, ret_failure);
    return e == OK && tagging != NULL && tagging[0] != '\0'
               ? object_properties_add(&p->properties, "x-amz-tagging", tagging)
               : e;
}

// The digest that whoever put the object kept with it. The caller compares it with that of what it
// read, which costs nothing more. Metadata may be older than the bytes: read once more, the object
// is believed to be what its ETag says. A tag says which ETag it belongs to.
static void find_digest(struct source_s3 *p, uint32_t index, const char *tag,
                        struct source_found *found) {
    const char *text = object_properties_get(&p->properties, S3_DIGEST_HEADER);
    found->has_digest = !p->distrusted[index] && text != NULL &&
                        s3_digest_from_text(p->digest, text, &found->digest);
    p->distrusted[index] = found->has_digest;
    if (text == NULL) {
        found->has_digest = s3_digest_from_tag(p->digest, tag, p->etag, &found->digest);
    }
}

static enum err see(struct source_s3 *p, struct fetch *f, struct source_found *ret_found,
                    struct failure *ret_failure) {
    struct source_found found = {0};
    struct object_entry want;
    char digest_tag[S3_DIGEST_TAG_MAX] = "";
    bool has_mtime = false;
    object_table_get(p->table, f->range.index, &want);
    enum err e = check_answer(p, f, f->range.offset, ret_failure);
    if (e == OK) {
        e = s3_entry_from_answer(&f->call, &found.entry, p->etag, &has_mtime, ret_failure);
    }
    if (e == OK && !f->range.accept_changed && found.entry.version.size != want.version.size) {
        e = found_changed(f, p, ret_failure);
    }
    if (e == OK && s3_properties_from_answer(&f->call, &p->properties) == ERR_NO_MEMORY) {
        e = failure_set(ret_failure, ERR_NO_MEMORY, "open", want.path, want.path_len, NULL);
    }
    if (e == OK) {
        e = read_tags(p, f, found.entry.version.size, digest_tag, ret_failure);
    }
    if (e != OK) {
        return e;
    }
    found.entry.id = want.id;
    found.entry.is_key = want.is_key;
    found.properties = &p->properties;
    uint64_t size = found.entry.version.size;
    p->pos = f->range.offset < size ? f->range.offset : size;
    p->end = f->range.length < size - p->pos ? p->pos + f->range.length : size;
    p->version = found.entry.version;
    p->n_resumes = 0;
    if (p->pos > 0 || p->end < size) {
        s3_read_proof_drop(&p->proof);
    } else {
        find_digest(p, f->range.index, digest_tag, &found);
        s3_read_proof_begin(&p->proof, &f->call, p->etag, !found.has_digest);
    }
    *ret_found = found;
    return OK;
}

static enum err source_s3_open(struct source *s, const struct source_range *range,
                               struct source_found *ret_found, struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    struct fetch *f = NULL;
    enum err e = take(p, range, &f, ret_failure);
    if (e != OK) {
        return e;
    }
    e = look_ahead(p, ret_failure);
    if (e == OK) {
        e = s3_await(&f->call, ret_failure);
        if (e == ERR_SOURCE_CHANGED) { // If-Match was not met, or the range is outside
            e = found_changed(f, p, ret_failure);
        }
    }
    if (e == OK) {
        e = see(p, f, ret_found, ret_failure);
    }
    if (e != OK) {
        fetch_free(f);
        return e;
    }
    p->open = f;
    return OK;
}

// The body broke off: asks for the rest, of the same version.
static enum err resume(struct source_s3 *p, const struct failure *why,
                       struct failure *ret_failure) {
    struct fetch *f = p->open;
    if (++p->n_resumes > RESUMES_MAX) {
        if (ret_failure != NULL) {
            *ret_failure = *why;
        }
        return why->err;
    }
    log_event(LOG_DEBUG, "s3_read_resumed", LOG_PATH("key", f->key, f->call.key_len),
              LOG_U64("offset_bytes", p->pos), LOG_FAILURE(why));
    s3_client_retried(p->client);
    s3_end(&f->call);
    f->range.length = p->end - f->range.offset;
    prepare(p, f, p->pos, p->etag);
    enum err e = s3_run(p->client, &f->call, ret_failure);
    return e == OK ? check_answer(p, f, p->pos, ret_failure) : e;
}

static enum err source_s3_read(struct source *s, void *buf, size_t cap, size_t *ret_len,
                               uint64_t *ret_hole, struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    *ret_hole = 0;
    *ret_len = 0;
    while (p->pos < p->end) {
        uint64_t left = p->end - p->pos;
        size_t len = 0;
        struct failure f = {0};
        enum err e = s3_read(&p->open->call, buf, left < cap ? (size_t)left : cap, &len, &f);
        if (e == OK && len > 0) {
            p->pos += len;
            *ret_len = len;
            s3_read_proof_add(&p->proof, buf, len);
            return OK;
        }
        if (e == OK) {
            e = failure_set(&f, ERR_PEER_LOST, "GetObject", p->open->key, p->open->call.key_len,
                            "the body ended early");
        }
        if (err_retry_class(e) != RETRY_SOON) {
            if (ret_failure != NULL) {
                *ret_failure = f;
            }
            return e;
        }
        e = resume(p, &f, ret_failure);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static enum err source_s3_close(struct source *s, struct source_closed *ret_closed,
                                struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    enum err e = p->pos < p->end ? OK : s3_read_proof_check(&p->proof, &p->open->call, ret_failure);
    fetch_free(p->open);
    p->open = NULL;
    ret_closed->version = p->version;
    return e;
}

static enum err source_s3_origin(struct source *s, uint32_t index,
                                 struct object_origin *ret_origin) {
    struct source_s3 *p = impl(s);
    struct object_entry e;
    size_t len = 0;
    object_table_get(p->table, index, &e);
    free(p->origin_key);
    p->origin_key = NULL;
    enum err err = s3_place_key(&p->place, &e, &p->origin_key, &len, NULL);
    if (err != OK) {
        return err;
    }
    snprintf(p->origin_etag, sizeof p->origin_etag, "%.*s",
             e.target_len < S3_ETAG_MAX ? (int)e.target_len : 0, (const char *)e.target);
    *ret_origin = (struct object_origin){
        .bucket = p->place.bucket, .key = p->origin_key, .key_len = len, .etag = p->origin_etag};
    return OK;
}

static enum err source_s3_kept_digest(struct source *s, uint32_t index, bool *ret_has,
                                      struct digest *ret_digest, struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    struct object_entry e;
    AUTO(auto_free) uint8_t *key = NULL;
    char tag[S3_DIGEST_TAG_MAX], etag[S3_ETAG_MAX];
    size_t key_len = 0;
    object_table_get(p->table, index, &e);
    if (e.target_len == 0 || e.target_len >= sizeof etag) {
        return OK; // it is not known of which version it would be
    }
    memcpy(etag, e.target, e.target_len);
    etag[e.target_len] = '\0';
    enum err err = s3_place_key(&p->place, &e, &key, &key_len, ret_failure);
    if (err == OK) {
        err = s3_tags_fetch_digest(p->client, p->place.bucket, key, key_len, tag, ret_failure);
    }
    *ret_has = err == OK && s3_digest_from_tag(p->digest, tag, etag, ret_digest);
    return err;
}

static void source_s3_abort(struct source *s) {
    s3_client_abort(impl(s)->client);
}

static void source_s3_destroy(struct source *s) {
    struct source_s3 *p = impl(s);
    fetch_free(p->open);
    while (p->first != NULL) {
        struct fetch *f = p->first;
        p->first = f->next;
        fetch_free(f);
    }
    s3_client_free(p->client);
    s3_read_proof_deinit(&p->proof);
    free(p->distrusted);
    object_properties_deinit(&p->properties);
    free(p->origin_key);
    free(p);
}

static const struct source_ops ops = {
    .kind = "s3",
    .open = source_s3_open,
    .read = source_s3_read,
    .close = source_s3_close,
    .abort = source_s3_abort,
    .destroy = source_s3_destroy,
    .expect = source_s3_expect,
    .origin = source_s3_origin,
    .kept_digest = source_s3_kept_digest,
};

enum err source_s3_new(const struct source_s3_options *o, struct source **ret_source,
                       struct failure *ret_failure) {
    struct source_s3 *p = calloc(1, sizeof *p);
    if (p == NULL) {
        s3_client_free(o->take_client);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open source", o->root, o->root_len, NULL);
    }
    p->client = o->take_client;
    p->last = &p->first;
    p->source.ops = &ops;
    p->source.capabilities = (struct source_capabilities){
        .is_remote = true, .transport = "s3", .store = s3_client_store(p->client)};
    p->table = o->table;
    p->reads_tags = o->reads_tags;
    p->digest = o->digest;
    p->distrusted = calloc((size_t)o->table->count + 1, sizeof *p->distrusted);
    enum err e =
        s3_read_proof_init(&p->proof) && p->distrusted != NULL
            ? s3_place_init(o->root, o->root_len, &p->place, ret_failure)
            : failure_set(ret_failure, ERR_NO_MEMORY, "open source", o->root, o->root_len, NULL);
    if (e != OK) {
        source_s3_destroy(&p->source);
        return e;
    }
    *ret_source = &p->source;
    return OK;
}
