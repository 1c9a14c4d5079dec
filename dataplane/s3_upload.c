// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_upload.h"

#include "common/array.h"
#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/hash.h"
#include "common/hmac.h"
#include "dataplane/s3_encryption.h"
#include "dataplane/s3_xml.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void s3_parts_deinit(struct s3_parts *p) {
    free(p->items);
    *p = (struct s3_parts){0};
}

enum err s3_parts_put(struct s3_parts *p, const struct s3_part *part) {
    size_t at = p->n;
    while (at > 0 && p->items[at - 1].number > part->number) {
        at--;
    }
    if (at > 0 && p->items[at - 1].number == part->number) {
        p->items[at - 1] = *part;
        return OK;
    }
    struct s3_part *grown = array_grown(p->items, sizeof *grown, p->n, &p->cap);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    p->items = grown;
    memmove(&p->items[at + 1], &p->items[at], (p->n - at) * sizeof *p->items);
    p->items[at] = *part;
    p->n++;
    return OK;
}

const struct s3_part *s3_parts_find(const struct s3_parts *p, uint32_t number) {
    size_t low = 0, high = p->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->items[middle].number == number) {
            return &p->items[middle];
        }
        if (p->items[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// ---- calls ----

static struct s3_call call_of(const struct s3_upload *u, const char *operation, const char *method,
                              const char *query) {
    return (struct s3_call){.operation = operation,
                            .method = method,
                            .bucket = u->bucket,
                            .key = u->key,
                            .key_len = u->key_len,
                            .query = query};
}

static size_t put_id(const struct s3_upload *u, char *query, size_t n) {
    memcpy(query + n, "uploadId=", 9);
    return n + 9 + s3_encode(u->id, strlen(u->id), 0, query + n + 9);
}

void s3_part_query(const struct s3_upload *u, uint32_t number, char ret_query[S3_PART_QUERY_MAX]) {
    int n = snprintf(ret_query, S3_PART_QUERY_MAX, "partNumber=%" PRIu32 "&", number);
    (void)put_id(u, ret_query, (size_t)n);
}

// The answer could not be taken apart (@e).
static enum err no_sense(const struct s3_call *call, enum err e, const char *why,
                         struct failure *ret_failure) {
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(call, object, sizeof object);
    bool is_ours = e == ERR_NO_MEMORY;
    return failure_set(ret_failure, is_ours ? e : ERR_PROTOCOL, call->operation, object, n,
                       is_ours ? NULL : "%s", why);
}

struct text_wanted {
    const char *path;
    char *to;
    size_t cap;
};

static enum err on_text(void *user, const char *path, const char *text, size_t len) {
    struct text_wanted *w = user;
    if (strcmp(path, w->path) == 0 && len < w->cap) {
        memcpy(w->to, text, len);
        w->to[len] = '\0';
    }
    return OK;
}

// What the store says of the checksum that it was asked for.
static void see_checksum(struct s3_upload *u, const struct s3_call *call) {
    const char *name = s3_answer_header(call, "x-amz-checksum-algorithm");
    const char *type = s3_answer_header(call, "x-amz-checksum-type");
    if (name == NULL || !s3_checksum_from_name(name, &u->checksum) ||
        !s3_checksum_is_amz(u->checksum)) {
        u->checksum = S3_CHECKSUM_NONE;
    }
    u->has_whole =
        s3_checksum_is_crc(u->checksum) && type != NULL && strcmp(type, "FULL_OBJECT") == 0;
}

static enum err create(struct s3_upload *u, const struct object_properties *properties,
                       enum s3_checksum checksum, struct failure *ret_failure) {
    struct s3_call call = call_of(u, "CreateMultipartUpload", "POST", "uploads=");
    if (s3_checksum_is_amz(checksum)) {
        s3_call_header(&call, "x-amz-checksum-algorithm", s3_checksum_name(checksum));
        s3_call_header(&call, "x-amz-checksum-type",
                       s3_checksum_is_crc(checksum) ? "FULL_OBJECT" : "COMPOSITE");
    }
    for (size_t i = 0; properties != NULL && i < properties->n; i++) {
        const char *name, *value;
        object_properties_at(properties, i, &name, &value);
        s3_call_header(&call, name, value);
    }
    u->id[0] = '\0';
    enum err e = s3_run(u->client, &call, ret_failure);
    if (e == OK) {
        struct text_wanted w = {"InitiateMultipartUploadResult/UploadId", u->id, sizeof u->id};
        size_t len = 0;
        const char *body = s3_answer_body(&call, &len);
        e = s3_xml_parse(body, len, on_text, &w);
        if (e != OK || u->id[0] == '\0') {
            e = no_sense(&call, e, "the store's answer has no upload id", ret_failure);
        }
        see_checksum(u, &call);
    }
    if (e == OK) {
        e = s3_check_encryption(&call, ret_failure);
    }
    s3_end(&call);
    if (e == ERR_UNIMPLEMENTED && u->id[0] != '\0') { // nothing is sent plain
        enum err given_up = s3_upload_abort(u, NULL);
        (void)given_up;
    }
    return e;
}

enum err s3_upload_create(struct s3_upload *u, const struct object_properties *properties,
                          struct failure *ret_failure) {
    struct s3_store *store = s3_client_store(u->client);
    struct s3_proof p;
    s3_store_proof(store, &p);
    for (enum s3_checksum c = p.checksum;; c = s3_checksum_next(c)) {
        struct failure f = {0};
        enum err e = create(u, properties, c, &f);
        bool is_refusal = (e == ERR_INVALID || e == ERR_UNIMPLEMENTED) && u->id[0] == '\0';
        if (is_refusal && s3_checksum_is_amz(c) && s3_store_is_trying(store)) {
            continue; // with the next, or with none
        }
        if (e != OK && ret_failure != NULL) {
            *ret_failure = f;
        }
        return e;
    }
}

// ---- ListParts ----

struct part_page {
    struct s3_parts *parts;
    struct s3_part part;
    const char *checksum; // the element that has it; NULL: none
    uint32_t from, to, next;
    bool is_truncated;
};

static enum err on_part(void *user, const char *path, const char *text, size_t len) {
    static const char top[] = "ListPartsResult/Part/";
    struct part_page *p = user;
    if (p->checksum != NULL && strncmp(path, top, sizeof top - 1) == 0 &&
        strcmp(path + sizeof top - 1, p->checksum) == 0 && len < sizeof p->part.checksum) {
        memcpy(p->part.checksum, text, len + 1);
    } else if (strcmp(path, "ListPartsResult/Part/PartNumber") == 0) {
        p->part.number = (uint32_t)strtoul(text, NULL, 10);
    } else if (strcmp(path, "ListPartsResult/Part/Size") == 0) {
        p->part.bytes = strtoull(text, NULL, 10);
    } else if (strcmp(path, "ListPartsResult/Part/ETag") == 0) {
        return s3_etag_copy(text, p->part.etag) ? OK : ERR_PROTOCOL;
    } else if (strcmp(path, "ListPartsResult/Part") == 0) {
        bool is_wanted = p->part.number >= p->from && p->part.number <= p->to;
        enum err e = is_wanted ? s3_parts_put(p->parts, &p->part) : OK;
        p->part = (struct s3_part){0};
        return e;
    } else if (strcmp(path, "ListPartsResult/IsTruncated") == 0) {
        p->is_truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0) {
        p->next = (uint32_t)strtoul(text, NULL, 10);
    }
    return OK;
}

static enum err list_page(const struct s3_upload *u, uint32_t marker, struct part_page *page,
                          struct failure *ret_failure) {
    char query[S3_PART_QUERY_MAX];
    uint32_t wanted = page->to - marker;
    int n = snprintf(query, sizeof query, "max-parts=%" PRIu32 "&part-number-marker=%" PRIu32 "&",
                     wanted < 1000 ? wanted : 1000, marker);
    (void)put_id(u, query, (size_t)n);
    struct s3_call call = call_of(u, "ListParts", "GET", query);
    page->is_truncated = false;
    page->next = 0;
    enum err e = s3_run(u->client, &call, ret_failure);
    if (e == OK) {
        size_t len = 0;
        const char *body = s3_answer_body(&call, &len);
        e = s3_xml_parse(body, len, on_part, page);
        if (e != OK) {
            e = no_sense(&call, e, "the store's list of parts makes no sense", ret_failure);
        }
    }
    s3_end(&call);
    return e;
}

enum err s3_upload_list(const struct s3_upload *u, uint32_t from, uint32_t to,
                        struct s3_parts *ret_parts, struct failure *ret_failure) {
    struct s3_parts parts = {0};
    struct part_page page = {
        .parts = &parts, .checksum = s3_checksum_element(u->checksum), .from = from, .to = to};
    uint32_t marker = from - 1;
    enum err e = OK;
    do {
        e = list_page(u, marker, &page, ret_failure);
        if (e == OK && page.is_truncated && page.next <= marker) {
            break; // it would go on for ever
        }
        marker = page.next;
    } while (e == OK && page.is_truncated && marker < to);
    if (e != OK) {
        s3_parts_deinit(&parts);
        return e;
    }
    s3_parts_deinit(ret_parts);
    *ret_parts = parts;
    return OK;
}

// ---- the end ----

static void put_text(FILE *out, const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '<' || *c == '&' || *c == '>') {
            fprintf(out, "&#%d;", *c);
        } else {
            putc(*c, out);
        }
    }
}

static char *completion(const struct s3_upload *u, const struct s3_parts *parts, size_t *ret_len) {
    const char *element = s3_checksum_element(u->checksum);
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);
    if (out == NULL) {
        return NULL;
    }
    fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", out);
    for (size_t i = 0; i < parts->n; i++) {
        fprintf(out, "<Part><PartNumber>%" PRIu32 "</PartNumber><ETag>&quot;",
                parts->items[i].number);
        put_text(out, parts->items[i].etag);
        fputs("&quot;</ETag>", out);
        if (element != NULL && parts->items[i].checksum[0] != '\0') {
            fprintf(out, "<%s>", element);
            put_text(out, parts->items[i].checksum);
            fprintf(out, "</%s>", element);
        }
        fputs("</Part>", out);
    }
    fputs("</CompleteMultipartUpload>", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

enum err s3_upload_complete(const struct s3_upload *u, const struct s3_parts *parts,
                            struct failure *ret_failure) {
    char query[S3_PART_QUERY_MAX];
    char crc[S3_CHECKSUM_SIZE];
    size_t len = 0;
    AUTO(auto_free) char *body = completion(u, parts, &len);
    if (body == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "CompleteMultipartUpload", u->key,
                           u->key_len, NULL);
    }
    (void)put_id(u, query, 0);
    struct s3_call call = call_of(u, "CompleteMultipartUpload", "POST", query);
    s3_call_header(&call, "content-type", "application/xml");
    if (s3_upload_crc(u, parts, crc)) {
        s3_call_header(&call, s3_checksum_header(u->checksum), crc);
        s3_call_header(&call, "x-amz-checksum-type", "FULL_OBJECT");
    }
    call.body = body;
    call.body_bytes = len;
    call.may_hide_errors = true;
    call.if_none_match = u->never_replaces;
    enum err e = s3_run(u->client, &call, ret_failure);
    s3_end(&call);
    return e;
}

enum err s3_upload_abort(const struct s3_upload *u, struct failure *ret_failure) {
    char query[S3_PART_QUERY_MAX];
    struct failure f = {0};
    (void)put_id(u, query, 0);
    struct s3_call call = call_of(u, "AbortMultipartUpload", "DELETE", query);
    enum err e = s3_run(u->client, &call, &f);
    s3_end(&call);
    if (e == OK || e == ERR_NOT_FOUND) {
        return OK;
    }
    if (ret_failure != NULL) {
        *ret_failure = f;
    }
    return e;
}

bool s3_upload_crc(const struct s3_upload *u, const struct s3_parts *parts,
                   char ret_text[S3_CHECKSUM_SIZE]) {
    struct s3_crc whole = {.kind = u->checksum};
    if (!u->has_whole || parts->n == 0) {
        return false;
    }
    for (size_t i = 0; i < parts->n; i++) {
        if (!s3_crc_join(&whole, parts->items[i].checksum, parts->items[i].bytes)) {
            return false;
        }
    }
    s3_crc_text(&whole, ret_text);
    return true;
}

bool s3_upload_etag(const struct s3_parts *parts, char ret_etag[S3_ETAG_MAX]) {
    struct md5_sum *m = md5_sum_new();
    uint8_t digest[MD5_BYTES];
    char hex[2 * MD5_BYTES + 1];
    bool works = m != NULL;
    for (size_t i = 0; works && i < parts->n; i++) {
        const char *etag = parts->items[i].etag;
        works = s3_etag_is_md5(etag);
        for (size_t k = 0; works && k < MD5_BYTES; k++) {
            unsigned byte = 0;
            works = sscanf(etag + 2 * k, "%2x", &byte) == 1;
            digest[k] = (uint8_t)byte;
        }
        md5_sum_update(m, digest, sizeof digest);
    }
    works = works && md5_sum_final(m, digest);
    md5_sum_free(m);
    if (works) {
        hash_hex(digest, sizeof digest, hex);
        snprintf(ret_etag, S3_ETAG_MAX, "%s-%zu", hex, parts->n);
    }
    return works;
}
