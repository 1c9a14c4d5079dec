// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_chunks.h"

#include "common/base64.h"
#include "common/cleanup.h"
#include "common/hash.h"
#include "common/s3_limits.h"
#include "dataplane/buffer_stock.h"

#include <stdlib.h>
#include <string.h>

enum {
    LISTED_AT_MOST = 128,        // more than a task's part has
    MD5_AT_LEAST = MD5_LANES / 2 // of fewer at once, SHA-256 in the signature costs less
};

// As many chunks are gathered as are hashed at once; of chunks so large that they are few, or where
// no MD5 is wanted, one while another is sent.
void s3_chunks_init(struct s3_chunks *c, struct s3_upload *u, uint64_t object_bytes) {
    uint64_t chunk = s3_chunk_bytes(object_bytes), n = S3_GROUP_BYTES / chunk;
    bool wants_md5 =
        n >= MD5_AT_LEAST && s3_store_wants_md5(s3_client_store(u->client), u->checksum);
    *c = (struct s3_chunks){
        .upload = u,
        .object_bytes = object_bytes,
        .chunk_bytes = chunk,
        .wants_md5 = wants_md5,
        .n_ring = !wants_md5            ? 2
                  : n < S3_GATHERED_MAX ? (unsigned)n
                                        : S3_GATHERED_MAX,
    };
}

static struct buffer_stock *buffers_of(const struct s3_chunks *c) {
    return s3_store_buffers(s3_client_store(c->upload->client));
}

void s3_chunks_deinit(struct s3_chunks *c) {
    s3_end(&c->call);
    for (unsigned i = 0; i < c->n_ring; i++) {
        buffer_stock_give(buffers_of(c), c->ring[i].bytes, (size_t)c->chunk_bytes);
    }
    s3_parts_deinit(&c->sent);
    s3_parts_deinit(&c->known);
    *c = (struct s3_chunks){0};
}

static enum err fail(const struct s3_chunks *c, enum err e, const char *why,
                     struct failure *ret_failure) {
    return failure_set(ret_failure, e, "UploadPart", c->upload->key, c->upload->key_len,
                       why != NULL ? "%s" : NULL, why);
}

// Of the writer's chunk @n.
static uint32_t number_of(const struct s3_chunks *c, uint64_t n) {
    return (uint32_t)(c->start / c->chunk_bytes + n) + 1;
}

static struct s3_gathered *gathered(struct s3_chunks *c, uint64_t n) {
    return &c->ring[n % c->n_ring];
}

static enum err begin_at(struct s3_chunks *c, uint64_t offset, struct failure *ret_failure) {
    if (offset % c->chunk_bytes != 0 || offset > c->object_bytes) {
        return fail(c, ERR_INVALID, "the part does not begin where a chunk does", ret_failure);
    }
    c->start = c->pos = offset;
    // An earlier attempt may have left chunks here.
    uint32_t first = number_of(c, 0);
    enum err e =
        s3_upload_list(c->upload, first, first + LISTED_AT_MOST - 1, &c->known, ret_failure);
    if (e == ERR_NOT_FOUND) {
        return fail(c, ERR_DEST_CHANGED, "the upload is not there any more", ret_failure);
    }
    c->is_begun = e == OK;
    return e;
}

// ---- sending ----

static enum err begin_sending(struct s3_chunks *c, struct failure *ret_failure) {
    const struct s3_gathered *g = gathered(c, c->n_done);
    uint32_t number = number_of(c, c->n_done);
    s3_part_query(c->upload, number, c->query);
    c->call = (struct s3_call){
        .operation = "UploadPart",
        .method = "PUT",
        .bucket = c->upload->bucket,
        .key = c->upload->key,
        .key_len = c->upload->key_len,
        .query = c->query,
        .body = g->bytes,
        .body_bytes = g->len,
        .body_kind = S3_BODY_PART,
        .checksum = c->upload->checksum,
    };
    if (g->has_md5 && c->wants_md5) {
        base64_encode(g->md5, sizeof g->md5, c->content_md5);
        c->call.content_md5 = c->content_md5;
    }
    c->part = (struct s3_part){.number = number, .bytes = g->len};
    enum err e = s3_begin(c->upload->client, &c->call, ret_failure);
    c->is_sending = e == OK;
    return e;
}

static bool is_md5(const struct s3_gathered *g, const char *etag) {
    char hex[2 * MD5_BYTES + 1];
    hash_hex(g->md5, sizeof g->md5, hex);
    return strcmp(hex, etag) == 0;
}

// Waits for the chunk on its way.
static enum err settle(struct s3_chunks *c, struct failure *ret_failure) {
    struct s3_gathered *g = gathered(c, c->n_done);
    enum err e = s3_await(&c->call, ret_failure);
    c->is_sending = false;
    if (e == ERR_NOT_FOUND) {
        e = fail(c, ERR_DEST_CHANGED, "the upload is not there any more", ret_failure);
    }
    if (e == OK && !s3_etag_copy(s3_answer_header(&c->call, "etag"), c->part.etag)) {
        e = fail(c, ERR_PROTOCOL, "the store's answer has no sensible ETag", ret_failure);
    }
    if (e == OK && c->call.content_md5 != NULL && !is_md5(g, c->part.etag)) {
        // Who says then that it looked at the MD5? The signature will.
        s3_store_distrust_md5(s3_client_store(c->upload->client));
        c->wants_md5 = false;
        s3_end(&c->call);
        return begin_sending(c, ret_failure);
    }
    if (s3_checksum_is_amz(c->upload->checksum)) {
        memcpy(c->part.checksum, c->call.checksum_text, sizeof c->part.checksum);
    }
    if (e == OK && s3_parts_put(&c->sent, &c->part) != OK) {
        e = fail(c, ERR_NO_MEMORY, NULL, ret_failure);
    }
    s3_end(&c->call);
    if (e == OK) {
        g->len = 0;
        c->n_done++;
    }
    return e;
}

// Has the store just these bytes as this part?
static bool is_known(const struct s3_chunks *c, const struct s3_gathered *g,
                     const struct s3_part *known) {
    enum s3_checksum kind = known->checksum[0] != '\0' ? c->upload->checksum : S3_CHECKSUM_MD5;
    char checksum[S3_CHECKSUM_SIZE], etag[S3_CHECKSUM_SIZE];
    if (known->bytes != g->len) {
        return false;
    }
    if (kind == S3_CHECKSUM_MD5 && g->has_md5) {
        return is_md5(g, known->etag);
    }
    s3_checksum_of(kind, g->bytes, g->len, checksum);
    return kind != S3_CHECKSUM_MD5
               ? strcmp(checksum, known->checksum) == 0
               : s3_checksum_as_etag(checksum, etag) && strcmp(etag, known->etag) == 0;
}

static enum err begin_next(struct s3_chunks *c, struct failure *ret_failure) {
    struct s3_gathered *g = gathered(c, c->n_done);
    const struct s3_part *known = s3_parts_find(&c->known, number_of(c, c->n_done));
    if (known == NULL || !is_known(c, g, known)) {
        return begin_sending(c, ret_failure);
    }
    if (s3_parts_put(&c->sent, known) != OK) {
        return fail(c, ERR_NO_MEMORY, NULL, ret_failure);
    }
    c->bytes_recognised += g->len;
    g->len = 0;
    c->n_done++;
    return OK;
}

// Sends what is hashed, as far as it goes without waiting.
static enum err move(struct s3_chunks *c, struct failure *ret_failure) {
    enum err e = OK;
    while (e == OK && c->n_done < c->n_hashed) {
        if (!c->is_sending) {
            e = begin_next(c, ret_failure);
            continue;
        }
        e = s3_pump(c->upload->client, ret_failure);
        if (e == OK && c->call.state != S3_CALL_DONE) {
            return OK;
        }
        e = e == OK ? settle(c, ret_failure) : e;
    }
    return e;
}

static enum err send_all(struct s3_chunks *c, uint64_t until, struct failure *ret_failure) {
    enum err e = move(c, ret_failure);
    while (e == OK && c->n_done < until) {
        e = c->is_sending ? settle(c, ret_failure) : OK;
        e = e == OK ? move(c, ret_failure) : e;
    }
    return e;
}

// ---- gathering ----

static void hash_gathered(struct s3_chunks *c) {
    struct md5_lane lanes[MD5_LANES];
    unsigned n = (unsigned)(c->n_full - c->n_hashed);
    bool is_worth_it = c->wants_md5 && n >= MD5_AT_LEAST;
    for (unsigned i = 0; i < n; i++) {
        struct s3_gathered *g = gathered(c, c->n_hashed + i);
        lanes[i] = (struct md5_lane){.bytes = g->bytes, .len = g->len};
        g->has_md5 = is_worth_it;
    }
    if (is_worth_it) {
        md5_lanes(lanes, n);
        for (unsigned i = 0; i < n; i++) {
            memcpy(gathered(c, c->n_hashed + i)->md5, lanes[i].digest, MD5_BYTES);
        }
    }
    c->n_hashed = c->n_full;
}

// The chunk that was being filled is full: sees to it that there is room for another.
static enum err end_chunk(struct s3_chunks *c, struct failure *ret_failure) {
    c->n_full++;
    bool is_last = c->pos == c->object_bytes;
    if (!c->wants_md5 || c->n_full - c->n_hashed == c->n_ring || is_last) {
        hash_gathered(c);
    }
    bool is_crowded = c->n_full - c->n_done == c->n_ring;
    return is_crowded ? send_all(c, c->n_done + 1, ret_failure) : move(c, ret_failure);
}

void *s3_chunks_room(struct s3_chunks *c, uint64_t offset, size_t *ret_cap) {
    struct s3_gathered *g = c->is_begun ? gathered(c, c->n_full) : NULL;
    if (g == NULL || g->bytes == NULL || offset != c->pos) {
        return NULL; // the next write begins something, or is refused
    }
    uint64_t room = c->chunk_bytes - g->len, left = c->object_bytes - offset;
    *ret_cap = (size_t)(room < left ? room : left);
    return *ret_cap > 0 ? g->bytes + g->len : NULL;
}

enum err s3_chunks_write(struct s3_chunks *c, uint64_t offset, const void *buf, size_t len,
                         struct failure *ret_failure) {
    const uint8_t *from = buf;
    enum err e = c->is_begun ? OK : begin_at(c, offset, ret_failure);
    if (e == OK && (offset != c->pos || len > c->object_bytes - offset)) {
        e = fail(c, ERR_STATE, "writes must follow each other, up to the object's end",
                 ret_failure);
    }
    while (e == OK && len > 0) {
        struct s3_gathered *g = gathered(c, c->n_full);
        if (g->bytes == NULL) {
            g->bytes = buffer_stock_take(buffers_of(c), (size_t)c->chunk_bytes);
            if (g->bytes == NULL) {
                return fail(c, ERR_NO_MEMORY, NULL, ret_failure);
            }
        }
        size_t room = (size_t)c->chunk_bytes - g->len, take = len < room ? len : room;
        if (from != g->bytes + g->len) {
            memcpy(g->bytes + g->len, from, take);
        }
        g->len += take;
        c->pos += take;
        from += take;
        len -= take;
        if (g->len == c->chunk_bytes || c->pos == c->object_bytes) {
            e = end_chunk(c, ret_failure);
        }
    }
    return e == OK ? move(c, ret_failure) : e;
}

enum err s3_chunks_flush(struct s3_chunks *c, struct failure *ret_failure) {
    gathered(c, c->n_full)->len = 0;
    hash_gathered(c);
    return send_all(c, c->n_full, ret_failure);
}
