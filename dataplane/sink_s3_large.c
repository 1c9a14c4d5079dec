// SPDX-License-Identifier: Apache-2.0
// Large objects: one multipart upload, filled by many tasks. Receipts (little-endian): of the
// upload "S3U2", u8 enum s3_checksum, u8 whether the CRCs of parts join, u16 length of its id, its
// id, and the tags that were asked for if they fit (earlier: "S3U1" and its id); of a part "S3P2",
// u32 number of its first chunk, then for each chunk u8 length and its ETag (length 16: the bytes
// of an MD5), u8 length and its checksum (0: none; earlier, as "S3P1": without checksums).
#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/hash.h"
#include "common/s3_limits.h"
#include "dataplane/sink_s3_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 4, UPLOAD_HEADER_BYTES = 8, PART_HEADER_BYTES = 8, MD5_LEN = 16 };
static const char upload_magic[] = "S3U2", old_upload_magic[] = "S3U1";
static const char part_magic[] = "S3P2", old_part_magic[] = "S3P1";

uint64_t sink_s3_part_align(const struct sink *s, const struct object_entry *e) {
    (void)s;
    return s3_chunk_bytes(e->version.size);
}

// ---- receipts ----

static enum err write_upload(const struct s3_upload *u, const char *tagging,
                             struct receipt *ret_receipt) {
    size_t n = strlen(u->id), tagging_len = tagging != NULL ? strlen(tagging) : 0;
    if (UPLOAD_HEADER_BYTES + n > RECEIPT_MAX_BYTES) {
        return ERR_PROTOCOL;
    }
    memcpy(ret_receipt->bytes, upload_magic, MAGIC_BYTES);
    ret_receipt->bytes[MAGIC_BYTES] = (uint8_t)u->checksum;
    ret_receipt->bytes[MAGIC_BYTES + 1] = u->has_whole;
    put_u16(ret_receipt->bytes + MAGIC_BYTES + 2, (uint16_t)n);
    memcpy(ret_receipt->bytes + UPLOAD_HEADER_BYTES, u->id, n);
    ret_receipt->len = UPLOAD_HEADER_BYTES + n;
    if (tagging_len > 0 && tagging_len <= RECEIPT_MAX_BYTES - ret_receipt->len) {
        memcpy(ret_receipt->bytes + ret_receipt->len, tagging, tagging_len);
        ret_receipt->len += tagging_len;
    }
    return OK;
}

static bool read_upload(const struct receipt *r, struct s3_upload *u) {
    bool is_new = r->len >= MAGIC_BYTES && memcmp(r->bytes, upload_magic, MAGIC_BYTES) == 0;
    bool is_old = r->len >= MAGIC_BYTES && memcmp(r->bytes, old_upload_magic, MAGIC_BYTES) == 0;
    size_t header = is_new ? UPLOAD_HEADER_BYTES : MAGIC_BYTES, n = r->len - header;
    if (is_new && r->len > header) {
        n = get_u16(r->bytes + MAGIC_BYTES + 2);
    }
    if ((!is_new && !is_old) || r->len <= header || n == 0 || n > r->len - header ||
        n >= sizeof u->id || memchr(r->bytes + header, '\0', n) != NULL) {
        return false;
    }
    u->checksum = is_new ? (enum s3_checksum)r->bytes[MAGIC_BYTES] : S3_CHECKSUM_NONE;
    u->has_whole = is_new && r->bytes[MAGIC_BYTES + 1] != 0;
    if (u->checksum > S3_CHECKSUM_NONE || (u->has_whole && !s3_checksum_is_crc(u->checksum))) {
        return false;
    }
    memcpy(u->id, r->bytes + header, n);
    u->id[n] = '\0';
    return true;
}

// The tags that the upload was begun with; "": none, or they are not known.
static void read_tagging(const struct receipt *r, char ret_tagging[RECEIPT_MAX_BYTES]) {
    size_t n = 0;
    if (r->len > UPLOAD_HEADER_BYTES && memcmp(r->bytes, upload_magic, MAGIC_BYTES) == 0) {
        size_t at = UPLOAD_HEADER_BYTES + (size_t)get_u16(r->bytes + MAGIC_BYTES + 2);
        n = r->len > at ? r->len - at : 0;
        memcpy(ret_tagging, r->bytes + at, n);
    }
    ret_tagging[n] = '\0';
}

// An ETag that is an MD5 as its bytes, any other as it is. Its length; 0: it has no place.
static size_t pack_etag(const char *etag, uint8_t *to, size_t room) {
    size_t n = strlen(etag);
    if (s3_etag_is_md5(etag) && room >= MD5_LEN) {
        for (size_t i = 0; i < MD5_LEN; i++) {
            unsigned byte = 0;
            (void)sscanf(etag + 2 * i, "%2x", &byte);
            to[i] = (uint8_t)byte;
        }
        return MD5_LEN;
    }
    if (n == MD5_LEN || n > room || n > UINT8_MAX) {
        return 0;
    }
    memcpy(to, etag, n);
    return n;
}

// What does not fit is left out: finish asks the store then.
static void write_part(const struct s3_parts *parts, struct receipt *ret_receipt) {
    uint8_t *b = ret_receipt->bytes;
    size_t len = PART_HEADER_BYTES;
    uint32_t next = parts->n > 0 ? parts->items[0].number : 0;
    memcpy(b, part_magic, MAGIC_BYTES);
    put_u32(b + MAGIC_BYTES, next);
    for (size_t i = 0; i < parts->n && parts->items[i].number == next; i++, next++) {
        const struct s3_part *part = &parts->items[i];
        size_t sum_len = strlen(part->checksum);
        if (len + sum_len + 2 >= RECEIPT_MAX_BYTES) {
            break;
        }
        size_t n = pack_etag(part->etag, b + len + 1, RECEIPT_MAX_BYTES - len - sum_len - 2);
        if (n == 0) {
            break;
        }
        b[len] = (uint8_t)n;
        len += 1 + n;
        b[len] = (uint8_t)sum_len;
        memcpy(b + len + 1, part->checksum, sum_len);
        len += 1 + sum_len;
    }
    ret_receipt->len = len;
}

// Takes a run of bytes with its length before it from the receipt: at most @max.
static bool take_run(const struct receipt *r, size_t *at, size_t max, const uint8_t **ret_run,
                     size_t *ret_len) {
    size_t n = *at < r->len ? r->bytes[(*at)++] : max + 1;
    if (n > max || n > r->len - *at) {
        return false;
    }
    *ret_run = r->bytes + *at;
    *ret_len = n;
    *at += n;
    return true;
}

// Adds the ETags of a part's receipt to @parts; a later part's word stands.
static enum err read_part(const struct receipt *r, struct s3_parts *parts) {
    bool is_new = r->len >= MAGIC_BYTES && memcmp(r->bytes, part_magic, MAGIC_BYTES) == 0;
    bool is_old = r->len >= MAGIC_BYTES && memcmp(r->bytes, old_part_magic, MAGIC_BYTES) == 0;
    if (r->len < PART_HEADER_BYTES || (!is_new && !is_old)) {
        return ERR_INVALID;
    }
    struct s3_part part = {.number = get_u32(r->bytes + MAGIC_BYTES)};
    for (size_t at = PART_HEADER_BYTES; at < r->len; part.number++) {
        const uint8_t *run;
        size_t n;
        if (!take_run(r, &at, S3_ETAG_MAX - 1, &run, &n)) {
            return ERR_INVALID;
        }
        if (n == MD5_LEN) {
            hash_hex(run, n, part.etag);
        } else {
            memcpy(part.etag, run, n);
            part.etag[n] = '\0';
        }
        if (is_new && !take_run(r, &at, S3_CHECKSUM_SIZE - 1, &run, &n)) {
            return ERR_INVALID;
        }
        if (is_new) {
            memcpy(part.checksum, run, n);
            part.checksum[n] = '\0';
        }
        enum err e = s3_parts_put(parts, &part);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

// ---- the upload of a task ----

// Its key is *@ret_key, which the caller frees after it.
static enum err upload_of(struct sink_s3 *p, const struct object_entry *e,
                          const struct receipt *open, struct s3_upload *ret_upload,
                          uint8_t **ret_key, struct failure *ret_failure) {
    size_t key_len = 0;
    enum err err = s3_place_key(&p->place, e, ret_key, &key_len, ret_failure);
    if (err != OK) {
        return err;
    }
    *ret_upload = (struct s3_upload){
        .client = p->client,
        .bucket = p->place.bucket,
        .key = *ret_key,
        .key_len = key_len,
        .never_replaces = p->sink.capabilities.never_replaces,
    };
    if (open != NULL && !read_upload(open, ret_upload)) {
        return failure_set(ret_failure, ERR_INVALID, "s3", e->path, e->path_len,
                           "the receipt is none of an upload");
    }
    return OK;
}

enum err sink_s3_open_large(struct sink *s, const struct object_entry *e, const char *temp,
                            struct receipt *ret_receipt, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    AUTO(auto_free) uint8_t *key = NULL;
    struct s3_upload u;
    struct object_properties properties = {0};
    (void)temp;
    if (e->version.size > S3_OBJECT_MAX_BYTES) {
        return failure_set(ret_failure, ERR_TOO_LARGE, "s3", e->path, e->path_len,
                           "an object store takes 5 TiB");
    }
    enum err err = upload_of(p, e, NULL, &u, &key, ret_failure);
    if (err == OK) {
        err = sink_s3_properties(p, e, false, &properties, ret_failure);
    }
    if (err == OK) {
        err = s3_upload_create(&u, &properties, ret_failure);
    }
    const char *tagging = object_properties_get(&properties, "x-amz-tagging");
    if (err == OK && write_upload(&u, tagging, ret_receipt) != OK) {
        err = failure_set(ret_failure, ERR_PROTOCOL, "s3", e->path, e->path_len,
                          "the store's upload id is too long");
    }
    object_properties_deinit(&properties);
    return err;
}

enum err sink_s3_open_part(struct sink *s, const struct object_entry *e, const char *temp,
                           const struct receipt *open, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    struct s3_upload *u = calloc(1, sizeof *u);
    (void)temp;
    if (u == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "s3", e->path, e->path_len, NULL);
    }
    enum err err = upload_of(p, e, open, u, &p->part_key, ret_failure);
    if (err != OK) {
        free(u);
        free(take_ptr(p->part_key));
        return err;
    }
    p->part_upload = u;
    s3_chunks_init(&p->part, u, e->version.size);
    return OK;
}

void sink_s3_end_part(struct sink_s3 *p) {
    if (p->part_upload != NULL) {
        s3_chunks_deinit(&p->part);
        free(take_ptr(p->part_upload));
        free(take_ptr(p->part_key));
    }
}

// What S3 has acknowledged is on stable storage.
enum err sink_s3_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                            struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    (void)sync;
    enum err e = s3_chunks_flush(&p->part, ret_failure);
    if (e == OK) {
        write_part(&p->part.sent, ret_receipt);
    }
    sink_s3_end_part(p);
    return e;
}

enum err sink_s3_sync_large(struct sink *s, const struct object_entry *e, const char *temp,
                            const struct receipt *open, struct failure *ret_failure) {
    (void)s;
    (void)e;
    (void)temp;
    (void)open;
    (void)ret_failure;
    return OK;
}

// ---- finish ----

static enum err dest_changed(const struct s3_upload *u, const char *why,
                             struct failure *ret_failure) {
    return failure_set(ret_failure, ERR_DEST_CHANGED, "CompleteMultipartUpload", u->key, u->key_len,
                       "%s", why);
}

// Are the parts that the store has those that were written, without gaps? Checksums that it does
// not list are taken from the receipts.
static enum err check_parts(const struct s3_upload *u, uint64_t size, struct s3_parts *have,
                            const struct s3_parts *told, struct failure *ret_failure) {
    uint64_t chunk = s3_chunk_bytes(size), n = (size + chunk - 1) / chunk;
    if (have->n != n) {
        return dest_changed(u, "the store has another number of parts than were sent", ret_failure);
    }
    for (size_t i = 0; i < have->n; i++) {
        struct s3_part *part = &have->items[i];
        uint64_t want = i + 1 < n ? chunk : size - (n - 1) * chunk;
        const struct s3_part *receipt = s3_parts_find(told, part->number);
        if (part->number != i + 1 || part->bytes != want) {
            return dest_changed(u, "the store has other parts than were sent", ret_failure);
        }
        if (receipt != NULL && strcmp(receipt->etag, part->etag) != 0) {
            return dest_changed(u, "a part was replaced after it was acknowledged", ret_failure);
        }
        if (receipt != NULL && part->checksum[0] == '\0') {
            memcpy(part->checksum, receipt->checksum, sizeof part->checksum);
        } else if (receipt != NULL && receipt->checksum[0] != '\0' &&
                   strcmp(receipt->checksum, part->checksum) != 0) {
            return dest_changed(u, "a part has another checksum than was sent", ret_failure);
        }
    }
    return OK;
}

enum err sink_s3_check_object(struct sink_s3 *p, const struct s3_upload *u, uint64_t size,
                              const struct s3_parts *parts, struct sink_s3_made *ret_made,
                              struct failure *ret_failure) {
    struct sink_s3_found found;
    char want[S3_ETAG_MAX], crc[S3_CHECKSUM_SIZE];
    const char *etag = found.etag;
    enum err e = sink_s3_look(p, u->key, u->key_len, &found, ret_failure);
    if (e == ERR_NOT_FOUND) {
        return dest_changed(u, "neither the upload nor the object is there", ret_failure);
    }
    if (e != OK) {
        return e;
    }
    uint64_t chunk = s3_chunk_bytes(size), n_chunks = (size + chunk - 1) / chunk;
    bool is_known = parts->n == n_chunks && s3_upload_etag(parts, want);
    const char *dash = strchr(etag, '-'), *want_dash = is_known ? strchr(want, '-') : NULL;
    // A store that makes its ETags otherwise says at least so.
    bool may_compare = is_known && dash != NULL && strspn(etag, "0123456789abcdef") == 32 &&
                       strcmp(dash, want_dash) == 0;
    bool has_crc =
        found.crc_kind == u->checksum && parts->n == n_chunks && s3_upload_crc(u, parts, crc);
    bool is_same = may_compare && strcmp(etag, want) == 0;
    // Of what was encrypted it may be another, and be the object all the same.
    bool is_other = may_compare && !is_same && found.etag_is_of_bytes;
    if (found.entry.version.size != size || is_other || (has_crc && strcmp(found.crc, crc) != 0)) {
        return dest_changed(u, "the object there is not the one that was uploaded", ret_failure);
    }
    if (!found.has_class) {
        return sink_s3_say_dropped_class(p, "CompleteMultipartUpload", u->key, u->key_len,
                                         ret_failure);
    }
    ret_made->is_proven = is_same || has_crc;
    memcpy(ret_made->etag, found.etag, sizeof ret_made->etag);
    return OK;
}

enum err sink_s3_complete(struct sink_s3 *p, const struct s3_upload *u, uint64_t size,
                          const struct s3_parts *parts, struct sink_s3_made *ret_made,
                          struct failure *ret_failure) {
    struct failure f = {0};
    struct sink_s3_found found;
    enum err e = OK;
    // Not every store looks at the condition: nothing may be there right before, at least.
    if (u->never_replaces && sink_s3_look(p, u->key, u->key_len, &found, NULL) == OK) {
        e = failure_set(&f, ERR_EXISTS, "CompleteMultipartUpload", u->key, u->key_len, NULL);
        sink_say_exists(&f);
    } else {
        e = s3_upload_complete(u, parts, &f);
    }
    if (e == OK || e == ERR_NOT_FOUND) { // not there: complete already?
        bool is_now = e == OK;
        e = sink_s3_check_object(p, u, size, parts, ret_made, ret_failure);
        ret_made->is_proven = e == OK && (is_now || ret_made->is_proven);
        return e;
    }
    if (e == ERR_EXISTS && sink_s3_check_object(p, u, size, parts, ret_made, NULL) == OK &&
        ret_made->is_proven) {
        return OK;
    }
    if (ret_failure != NULL) {
        *ret_failure = f;
    }
    return e;
}

// What the receipts tell of the parts.
static enum err read_receipts(const struct receipt_list *receipts, const struct object_entry *e,
                              struct s3_parts *told, struct failure *ret_failure) {
    uint64_t size = e->version.size, chunk = s3_chunk_bytes(size);
    for (size_t i = 0; i < receipts->n; i++) {
        enum err err = read_part(&receipts->items[i], told);
        if (err != OK) {
            return failure_set(ret_failure, err, "s3", e->path, e->path_len,
                               "a part's receipt is none");
        }
    }
    for (size_t i = 0; i < told->n; i++) {
        uint64_t from = (told->items[i].number - (uint64_t)1) * chunk;
        uint64_t rest = from < size ? size - from : 0;
        told->items[i].bytes = rest < chunk ? rest : chunk;
    }
    return OK;
}

enum err sink_s3_finish_large(struct sink *s, const struct object_entry *e, const char *temp,
                              const struct receipt *open, const struct receipt_list *receipts,
                              const char *fresh_temp, enum durability durability,
                              struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    AUTO(auto_free) uint8_t *key = NULL;
    struct s3_upload u;
    struct s3_parts told = {0}, have = {0};
    struct sink_s3_made made = {0};
    uint64_t size = e->version.size;
    struct failure f = {0};
    (void)temp;
    (void)fresh_temp; // who was lost cannot write into an upload that is complete
    (void)durability;
    enum err err = upload_of(p, e, open, &u, &key, &f);
    if (err == OK) {
        err = read_receipts(receipts, e, &told, &f);
    }
    if (err == OK) {
        err = s3_upload_list(&u, 1, S3_CHUNKS_MAX, &have, &f);
        if (err == OK) {
            err = check_parts(&u, size, &have, &told, &f);
        }
        if (err == OK) {
            err = sink_s3_complete(p, &u, size, &have, &made, &f);
        } else if (err == ERR_NOT_FOUND) { // complete already?
            err = sink_s3_check_object(p, &u, size, &told, &made, &f);
        }
    }
    if (err == OK) {
        char tagging[RECEIPT_MAX_BYTES];
        read_tagging(open, tagging);
        err = sink_s3_finish_tags(p, key, u.key_len, tagging, &made, &f);
    }
    s3_parts_deinit(&told);
    s3_parts_deinit(&have);
    if (err != OK && ret_failure != NULL) {
        *ret_failure = f;
    }
    return err;
}

enum err sink_s3_abort_large(struct sink *s, const struct object_entry *e, const char *temp,
                             const struct receipt *open, struct failure *ret_failure) {
    struct sink_s3 *p = sink_s3_of(s);
    AUTO(auto_free) uint8_t *key = NULL;
    struct s3_upload u;
    (void)temp;
    enum err err = upload_of(p, e, open, &u, &key, ret_failure);
    return err == OK ? s3_upload_abort(&u, ret_failure) : err;
}
