// SPDX-License-Identifier: Apache-2.0
// Ranged GETs, pinned to a version by If-Match. Ranges that were announced are asked for ahead:
// many small ones at a time, of large ones the next. A body that breaks off is gone on with where
// it broke off.
#include "dataplane/source_s3.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "common/hmac.h"
#include "common/log.h"
#include "dataplane/s3_object.h"
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
    // What all bytes of the object prove, where all of it is read.
    enum { PROOF_NONE, PROOF_MD5, PROOF_CRC } proof;
    struct md5_sum *md5;
    struct s3_crc crc;
    char crc_told[S3_CHECKSUM_SIZE];
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

// A checksum that the store keeps of the whole object, or its ETag, if that is its MD5.
static void choose_proof(struct source_s3 *p, const struct s3_call *call, bool is_whole) {
    const char *encryption = s3_answer_header(call, "x-amz-server-side-encryption");
    const char *own_key = s3_answer_header(call, "x-amz-server-side-encryption-customer-algorithm");
    const char *text = NULL;
    p->crc = (struct s3_crc){.kind = s3_answer_crc(call, &text)};
    p->proof = PROOF_NONE;
    if (!is_whole) {
        return;
    }
    if (p->crc.kind != S3_CHECKSUM_NONE && strlen(text) < sizeof p->crc_told) {
        p->proof = PROOF_CRC;
        memcpy(p->crc_told, text, strlen(text) + 1);
    } else if (s3_etag_is_md5(p->etag) && own_key == NULL &&
               (encryption == NULL || strcmp(encryption, "AES256") == 0)) {
        p->proof = PROOF_MD5;
        md5_sum_reset(p->md5);
    }
}

static void add_to_proof(struct source_s3 *p, const void *bytes, size_t len) {
    if (p->proof == PROOF_MD5) {
        md5_sum_update(p->md5, bytes, len);
    } else if (p->proof == PROOF_CRC) {
        s3_crc_add(&p->crc, bytes, len);
    }
}

// A GET says whether there are any; a HEAD need not.
static enum err read_tags(struct source_s3 *p, const struct fetch *f, struct failure *ret_failure) {
    const char *count = s3_answer_header(&f->call, "x-amz-tagging-count");
    AUTO(auto_free) char *tagging = NULL;
    bool may_have = count != NULL ? strcmp(count, "0") != 0 : !f->call.is_stream;
    if (!p->reads_tags || !may_have) {
        return OK;
    }
    enum err e =
        s3_tags_fetch(p->client, p->place.bucket, f->key, f->call.key_len, &tagging, ret_failure);
    return e == OK && tagging != NULL
               ? object_properties_add(&p->properties, "x-amz-tagging", tagging)
               : e;
}

static enum err see(struct source_s3 *p, struct fetch *f, struct source_found *ret_found,
                    struct failure *ret_failure) {
    struct source_found found = {0};
    struct object_entry want;
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
        e = read_tags(p, f, ret_failure);
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
    choose_proof(p, &f->call, p->pos == 0 && p->end == size);
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
            add_to_proof(p, buf, len);
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

static enum err check_proof(struct source_s3 *p, struct failure *ret_failure) {
    uint8_t digest[MD5_BYTES];
    char found[2 * MD5_BYTES + S3_CHECKSUM_SIZE];
    const char *told = p->proof == PROOF_CRC ? p->crc_told : p->etag;
    if (p->proof == PROOF_NONE || p->pos < p->end) {
        return OK;
    }
    if (p->proof == PROOF_CRC) {
        s3_crc_text(&p->crc, found);
    } else if (md5_sum_final(p->md5, digest)) {
        hash_hex(digest, sizeof digest, found);
    } else {
        return OK;
    }
    if (strcmp(found, told) == 0) {
        return OK;
    }
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(&p->open->call, object, sizeof object);
    return failure_set(ret_failure, ERR_CORRUPT, "GetObject", object, n,
                       "its bytes have %s %s, the store says %.64s",
                       p->proof == PROOF_CRC ? s3_checksum_name(p->crc.kind) : "MD5", found, told);
}

static enum err source_s3_close(struct source *s, struct source_closed *ret_closed,
                                struct failure *ret_failure) {
    struct source_s3 *p = impl(s);
    enum err e = check_proof(p, ret_failure);
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
    md5_sum_free(p->md5);
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
};

enum err source_s3_new(const struct source_s3_options *o, struct source **ret_source,
                       struct failure *ret_failure) {
    struct s3_client *take_client = o->take_client;
    struct source_s3 *p = calloc(1, sizeof *p);
    struct md5_sum *md5 = md5_sum_new();
    if (p == NULL || md5 == NULL) {
        free(p);
        md5_sum_free(md5);
        s3_client_free(take_client);
        return failure_set(ret_failure, ERR_NO_MEMORY, "open source", o->root, o->root_len, NULL);
    }
    p->md5 = md5;
    p->last = &p->first;
    enum err e = s3_place_init(o->root, o->root_len, &p->place, ret_failure);
    if (e != OK) {
        s3_client_free(take_client);
        md5_sum_free(p->md5);
        free(p);
        return e;
    }
    p->client = take_client;
    p->source.ops = &ops;
    p->source.capabilities = (struct source_capabilities){
        .is_remote = true, .transport = "s3", .store = s3_client_store(take_client)};
    p->table = o->table;
    p->reads_tags = o->reads_tags;
    *ret_source = &p->source;
    return OK;
}
