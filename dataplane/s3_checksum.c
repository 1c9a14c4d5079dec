// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_checksum.h"

#include "common/base64.h"
#include "common/cleanup.h"
#include "common/crc.h"
#include "common/hash.h"
#include "common/hmac.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *name, *header, *element;
    size_t crc_bytes; // 0: it is no CRC
} kinds[] = {
    [S3_CHECKSUM_CRC64NVME] = {"CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME", 8},
    [S3_CHECKSUM_CRC32C] = {"CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C", 4},
    [S3_CHECKSUM_SHA256] = {"SHA256", "x-amz-checksum-sha256", "ChecksumSHA256", 0},
    [S3_CHECKSUM_NONE] = {"NONE", NULL, NULL, 0},
    [S3_CHECKSUM_MD5] = {"MD5", "content-md5", NULL, 0},
};

const char *s3_checksum_name(enum s3_checksum c) {
    return kinds[c].name;
}

bool s3_checksum_from_name(const char *name, enum s3_checksum *ret_checksum) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcasecmp(name, kinds[i].name) == 0) {
            *ret_checksum = (enum s3_checksum)i;
            return true;
        }
    }
    return false;
}

const char *s3_checksum_header(enum s3_checksum c) {
    return kinds[c].header;
}

const char *s3_checksum_element(enum s3_checksum c) {
    return kinds[c].element;
}

bool s3_checksum_is_crc(enum s3_checksum c) {
    return kinds[c].crc_bytes > 0;
}

bool s3_checksum_is_amz(enum s3_checksum c) {
    return kinds[c].element != NULL;
}

static bool md5_of(const void *bytes, size_t len, uint8_t ret_digest[MD5_BYTES]) {
    struct md5_sum *m = md5_sum_new();
    if (m == NULL) {
        return false;
    }
    md5_sum_update(m, bytes, len);
    bool works = md5_sum_final(m, ret_digest);
    md5_sum_free(m);
    return works;
}

void s3_checksum_of(enum s3_checksum c, const void *bytes, size_t len,
                    char ret_text[S3_CHECKSUM_SIZE]) {
    uint8_t digest[32];
    struct s3_crc crc = {.kind = c};
    ret_text[0] = '\0';
    if (s3_checksum_is_crc(c)) {
        s3_crc_add(&crc, bytes, len);
        s3_crc_text(&crc, ret_text);
    } else if (c == S3_CHECKSUM_SHA256) {
        sha256(bytes, len, digest);
        base64_encode(digest, sizeof digest, ret_text);
    } else if (c == S3_CHECKSUM_MD5 && md5_of(bytes, len, digest)) {
        base64_encode(digest, MD5_BYTES, ret_text);
    }
}

bool s3_checksum_as_etag(const char *md5, char ret_etag[S3_CHECKSUM_SIZE]) {
    uint8_t digest[S3_CHECKSUM_SIZE];
    size_t n = 0;
    if (strlen(md5) >= S3_CHECKSUM_SIZE || base64_decode(md5, strlen(md5), digest, &n) != OK ||
        n != MD5_BYTES) {
        return false;
    }
    hash_hex(digest, n, ret_etag);
    return true;
}

// ---- CRCs ----

void s3_crc_add(struct s3_crc *c, const void *bytes, size_t len) {
    c->value = c->kind == S3_CHECKSUM_CRC64NVME ? crc64nvme(c->value, bytes, len)
                                                : crc32c((uint32_t)c->value, bytes, len);
}

bool s3_crc_join(struct s3_crc *c, const char *text, uint64_t n_bytes) {
    uint8_t bytes[S3_CHECKSUM_SIZE];
    size_t n = 0;
    uint64_t value = 0;
    if (strlen(text) >= S3_CHECKSUM_SIZE || base64_decode(text, strlen(text), bytes, &n) != OK ||
        n != kinds[c->kind].crc_bytes) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | bytes[i];
    }
    c->value = c->kind == S3_CHECKSUM_CRC64NVME
                   ? crc64nvme_join(c->value, value, n_bytes)
                   : crc32c_join((uint32_t)c->value, (uint32_t)value, n_bytes);
    return true;
}

// The highest byte comes first.
void s3_crc_text(const struct s3_crc *c, char ret_text[S3_CHECKSUM_SIZE]) {
    uint8_t bytes[8];
    size_t n = kinds[c->kind].crc_bytes;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(c->value >> (8 * (n - 1 - i)));
    }
    base64_encode(bytes, n, ret_text);
}

// ---- what is tried ----

static const enum s3_checksum order[] = {
    S3_CHECKSUM_FIRST,
    S3_CHECKSUM_CRC64NVME,
    S3_CHECKSUM_SHA256,
    S3_CHECKSUM_NONE,
};

static size_t place_of(enum s3_checksum c) {
    size_t at = 0;
    while (at < ARRAY_LEN(order) - 1 && order[at] != c) {
        at++;
    }
    return at;
}

enum s3_checksum s3_checksum_next(enum s3_checksum tried) {
    size_t at = place_of(tried);
    return at + 1 < ARRAY_LEN(order) ? order[at + 1] : S3_CHECKSUM_NONE;
}

bool s3_checksum_comes_after(enum s3_checksum c, enum s3_checksum other) {
    return place_of(c) > place_of(other);
}

bool s3_checksum_choice_learn(struct s3_checksum_choice *c, enum s3_checksum tried, bool is_taken) {
    if (c->is_settled || !s3_checksum_is_amz(tried) || s3_checksum_comes_after(c->now, tried)) {
        return false; // the answer to a request from before
    }
    c->now = is_taken ? tried : s3_checksum_next(tried);
    c->is_settled = is_taken || c->now == S3_CHECKSUM_NONE;
    return c->is_settled;
}
