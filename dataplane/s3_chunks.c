// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_chunks.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "common/hmac.h"
#include "common/s3_limits.h"
#include "dataplane/buffer_stock.h"

#include <stdlib.h>
#include <string.h>

enum { LISTED_AT_MOST = 128 }; // more than a task's part has

void s3_chunks_init(struct s3_chunks *c, struct s3_upload *u, uint64_t object_bytes) {
    *c = (struct s3_chunks){
        .upload = u,
        .object_bytes = object_bytes,
        .chunk_bytes = s3_chunk_bytes(object_bytes),
        .crc = {.kind = u->checksum},
    };
}

static struct buffer_stock *buffers_of(const struct s3_chunks *c) {
    return s3_store_buffers(s3_client_store(c->upload->client));
}

void s3_chunks_deinit(struct s3_chunks *c) {
    s3_end(&c->call);
    buffer_stock_give(buffers_of(c), c->filling, (size_t)c->chunk_bytes);
    buffer_stock_give(buffers_of(c), c->sending, (size_t)c->chunk_bytes);
    s3_parts_deinit(&c->sent);
    s3_parts_deinit(&c->known);
    *c = (struct s3_chunks){0};
}

static enum err fail(const struct s3_chunks *c, enum err e, const char *why,
                     struct failure *ret_failure) {
    return failure_set(ret_failure, e, "UploadPart", c->upload->key, c->upload->key_len,
                       why != NULL ? "%s" : NULL, why);
}

static uint32_t number_of(const struct s3_chunks *c, uint64_t offset) {
    return (uint32_t)(offset / c->chunk_bytes) + 1;
}

static enum err begin_at(struct s3_chunks *c, uint64_t offset, struct failure *ret_failure) {
    if (offset % c->chunk_bytes != 0 || offset > c->object_bytes) {
        return fail(c, ERR_INVALID, "the part does not begin where a chunk does", ret_failure);
    }
    // An earlier attempt may have left chunks here.
    uint32_t first = number_of(c, offset);
    enum err e =
        s3_upload_list(c->upload, first, first + LISTED_AT_MOST - 1, &c->known, ret_failure);
    if (e == ERR_NOT_FOUND) {
        return fail(c, ERR_DEST_CHANGED, "the upload is not there any more", ret_failure);
    }
    if (e == OK) {
        c->start = offset;
        c->is_begun = true;
    }
    return e;
}

// Waits for the chunk on its way.
static enum err settle(struct s3_chunks *c, struct failure *ret_failure) {
    if (!c->is_sending) {
        return OK;
    }
    enum err e = s3_await(&c->call, ret_failure);
    c->is_sending = false;
    if (e == ERR_NOT_FOUND) {
        e = fail(c, ERR_DEST_CHANGED, "the upload is not there any more", ret_failure);
    }
    if (e == OK && !s3_etag_copy(s3_answer_header(&c->call, "etag"), c->part.etag)) {
        e = fail(c, ERR_PROTOCOL, "the store's answer has no sensible ETag", ret_failure);
    }
    if (e == OK && s3_parts_put(&c->sent, &c->part) != OK) {
        e = fail(c, ERR_NO_MEMORY, NULL, ret_failure);
    }
    s3_end(&c->call);
    return e;
}

// Of what was filled; "": the upload has none.
static void checksum_of(const struct s3_chunks *c, char ret_text[S3_CHECKSUM_SIZE]) {
    if (s3_checksum_is_crc(c->crc.kind)) {
        s3_crc_text(&c->crc, ret_text);
    } else {
        s3_checksum_of(c->upload->checksum, c->filling, c->len, ret_text);
    }
}

static void begin_next(struct s3_chunks *c) {
    c->start += c->len;
    c->len = 0;
    c->crc.value = 0;
}

// Has the store just these bytes as this part?
static bool is_known(const struct s3_chunks *c, const struct s3_part *part) {
    const struct s3_part *known = s3_parts_find(&c->known, part->number);
    if (known == NULL || known->bytes != c->len) {
        return false;
    }
    if (known->checksum[0] != '\0') {
        return strcmp(part->checksum, known->checksum) == 0;
    }
    if (!s3_etag_is_md5(known->etag)) {
        return false;
    }
    uint8_t digest[MD5_BYTES];
    char hex[2 * MD5_BYTES + 1];
    struct md5_sum *m = md5_sum_new();
    if (m == NULL) {
        return false;
    }
    md5_sum_update(m, c->filling, c->len);
    bool works = md5_sum_final(m, digest);
    md5_sum_free(m);
    if (works) {
        hash_hex(digest, sizeof digest, hex);
    }
    return works && strcmp(hex, known->etag) == 0;
}

// Sends what was filled, as soon as what was sent before is there.
static enum err send_filled(struct s3_chunks *c, struct failure *ret_failure) {
    enum err e = settle(c, ret_failure);
    if (e != OK) {
        return e;
    }
    c->part = (struct s3_part){.number = number_of(c, c->start), .bytes = c->len};
    checksum_of(c, c->part.checksum);
    if (is_known(c, &c->part)) {
        if (s3_parts_put(&c->sent, s3_parts_find(&c->known, c->part.number)) != OK) {
            return fail(c, ERR_NO_MEMORY, NULL, ret_failure);
        }
        c->bytes_recognised += c->len;
        begin_next(c);
        return OK;
    }
    uint8_t *sent = c->sending;
    c->sending = c->filling;
    c->filling = sent;
    s3_part_query(c->upload, c->part.number, c->query);
    c->call = (struct s3_call){
        .operation = "UploadPart",
        .method = "PUT",
        .bucket = c->upload->bucket,
        .key = c->upload->key,
        .key_len = c->upload->key_len,
        .query = c->query,
        .body = c->sending,
        .body_bytes = c->len,
        .body_kind = S3_BODY_PART,
        .checksum = c->upload->checksum,
        .checksum_known = c->part.checksum,
    };
    begin_next(c);
    e = s3_begin(c->upload->client, &c->call, ret_failure);
    c->is_sending = e == OK;
    return e == OK ? s3_pump(c->upload->client, ret_failure) : e;
}

void *s3_chunks_room(struct s3_chunks *c, uint64_t offset, size_t *ret_cap) {
    if (!c->is_begun || c->filling == NULL || offset != c->start + c->len) {
        return NULL; // the next write begins something, or is refused
    }
    uint64_t room = c->chunk_bytes - c->len, left = c->object_bytes - offset;
    *ret_cap = (size_t)(room < left ? room : left);
    return *ret_cap > 0 ? c->filling + c->len : NULL;
}

enum err s3_chunks_write(struct s3_chunks *c, uint64_t offset, const void *buf, size_t len,
                         struct failure *ret_failure) {
    const uint8_t *from = buf;
    enum err e = c->is_begun ? OK : begin_at(c, offset, ret_failure);
    if (e == OK && (offset != c->start + c->len || len > c->object_bytes - offset)) {
        e = fail(c, ERR_STATE, "writes must follow each other, up to the object's end",
                 ret_failure);
    }
    while (e == OK && len > 0) {
        if (c->filling == NULL) {
            c->filling = buffer_stock_take(buffers_of(c), (size_t)c->chunk_bytes);
            if (c->filling == NULL) {
                return fail(c, ERR_NO_MEMORY, NULL, ret_failure);
            }
        }
        size_t room = (size_t)c->chunk_bytes - c->len, take = len < room ? len : room;
        if (from != c->filling + c->len) {
            memcpy(c->filling + c->len, from, take);
        }
        if (s3_checksum_is_crc(c->crc.kind)) {
            s3_crc_add(&c->crc, c->filling + c->len, take);
        }
        c->len += take;
        from += take;
        len -= take;
        if (c->len == c->chunk_bytes || c->start + c->len == c->object_bytes) {
            e = send_filled(c, ret_failure);
        }
    }
    if (e == OK && c->is_sending) {
        e = s3_pump(c->upload->client, ret_failure);
    }
    return e;
}

enum err s3_chunks_flush(struct s3_chunks *c, struct failure *ret_failure) {
    c->len = 0;
    return settle(c, ret_failure);
}
