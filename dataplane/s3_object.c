// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_object.h"

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/hash.h"
#include "dataplane/http.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define NS_PER_S ((int64_t)1000000000)

enum err s3_place_init(const uint8_t *root, size_t root_len, struct s3_place *ret_place,
                       struct failure *ret_failure) {
    const uint8_t *slash = root_len > 0 ? memchr(root, '/', root_len) : NULL;
    size_t n = slash != NULL ? (size_t)(slash - root) : root_len;
    if (n == 0 || n >= S3_BUCKET_SIZE || memchr(root, '\0', root_len) != NULL) {
        return failure_set(ret_failure, ERR_INVALID, "s3", root, root_len,
                           "this names no bucket of an object store");
    }
    struct s3_place p = {.has_prefix = slash != NULL};
    memcpy(p.bucket, root, n);
    if (slash != NULL) {
        p.prefix = slash + 1;
        p.prefix_len = root_len - n - 1;
    }
    *ret_place = p;
    return OK;
}

enum err s3_place_key(const struct s3_place *p, const struct object_entry *e, uint8_t **ret_key,
                      size_t *ret_len, struct failure *ret_failure) {
    bool is_root = e->path_len == 0 && !e->is_key;
    size_t len = p->prefix_len + (p->has_prefix && !is_root ? 1 : 0) + e->path_len;
    if (len > S3_KEY_MAX) {
        return failure_set(ret_failure, ERR_NAME_TOO_LONG, "s3", e->path, e->path_len,
                           "the key would have %zu bytes, S3 takes %d", len, S3_KEY_MAX);
    }
    uint8_t *key = malloc(len + 1);
    if (key == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "s3", e->path, e->path_len, NULL);
    }
    size_t n = 0;
    if (p->prefix_len > 0) {
        memcpy(key, p->prefix, p->prefix_len);
        n = p->prefix_len;
    }
    if (p->has_prefix && !is_root) {
        key[n++] = '/';
    }
    if (e->path_len > 0) {
        memcpy(key + n, e->path, e->path_len);
    }
    key[len] = '\0';
    *ret_key = key;
    *ret_len = len;
    return OK;
}

bool s3_etag_copy(const char *text, char ret_etag[S3_ETAG_MAX]) {
    size_t n = text != NULL ? strlen(text) : 0;
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    if (n >= S3_ETAG_MAX) {
        return false;
    }
    if (n > 0) {
        memcpy(ret_etag, text, n);
    }
    ret_etag[n] = '\0';
    return true;
}

bool s3_etag_is_md5(const char *etag) {
    return strlen(etag) == 32 && strspn(etag, "0123456789abcdef") == 32;
}

uint64_t s3_etag_number(const char *etag) {
    uint8_t digest[32];
    sha256(etag, strlen(etag), digest);
    return get_u64(digest);
}

static const char *digest_prefix(enum hash_algorithm a) {
    return a == HASH_SHA256 ? "sha256:" : "xxh3-128:";
}

void s3_digest_text(enum hash_algorithm a, const struct digest *digest,
                    char ret_text[S3_DIGEST_TEXT_MAX]) {
    char hex[2 * HASH_MAX_BYTES + 1];
    hash_hex(digest->bytes, hash_digest_bytes(a), hex);
    snprintf(ret_text, S3_DIGEST_TEXT_MAX, "%s%s", digest_prefix(a), hex);
}

bool s3_digest_from_text(enum hash_algorithm a, const char *text, struct digest *ret_digest) {
    size_t prefix_len = strlen(digest_prefix(a)), n = hash_digest_bytes(a);
    if (strncmp(text, digest_prefix(a), prefix_len) != 0 || strlen(text) != prefix_len + 2 * n ||
        strspn(text + prefix_len, "0123456789abcdef") != 2 * n) {
        return false;
    }
    struct digest digest = {0};
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        (void)sscanf(text + prefix_len + 2 * i, "%2x", &byte);
        digest.bytes[i] = (uint8_t)byte;
    }
    *ret_digest = digest;
    return true;
}

bool s3_digest_tag(const char *digest_text, const char *etag, char ret_value[S3_DIGEST_TAG_MAX]) {
    size_t n = strlen(etag);
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)etag[i]) && strchr("-_.", etag[i]) == NULL) {
            return false;
        }
    }
    int len = snprintf(ret_value, S3_DIGEST_TAG_MAX, "%s/%s", digest_text, etag);
    return n > 0 && len > 0 && len < S3_DIGEST_TAG_MAX;
}

bool s3_digest_from_tag(enum hash_algorithm a, const char *value, const char *etag,
                        struct digest *ret_digest) {
    char text[S3_DIGEST_TEXT_MAX];
    const char *slash = strchr(value, '/');
    if (slash == NULL || strcmp(slash + 1, etag) != 0 || slash - value >= S3_DIGEST_TEXT_MAX) {
        return false;
    }
    snprintf(text, sizeof text, "%.*s", (int)(slash - value), value);
    return s3_digest_from_text(a, text, ret_digest);
}

// ---- from headers ----

// "1354040105.123456789" → nanoseconds.
static bool parse_seconds(const char *text, int64_t *ret_ns) {
    char *end = NULL;
    bool is_negative = text[0] == '-';
    long long seconds = strtoll(text, &end, 10);
    if (end == text || seconds > 1LL << 33 || seconds < -(1LL << 33)) {
        return false;
    }
    int64_t ns = 0, unit = NS_PER_S / 10;
    if (*end == '.') {
        for (end++; *end >= '0' && *end <= '9'; end++) {
            ns += (*end - '0') * unit;
            unit /= 10;
        }
    }
    if (*end != '\0') {
        return false;
    }
    *ret_ns = (int64_t)seconds * NS_PER_S + (is_negative ? -ns : ns);
    return true;
}

static void parse_number(const char *text, int base, uint32_t *value) {
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return;
    }
    unsigned long long n = strtoull(text, &end, base);
    if (*end == '\0' && n <= UINT32_MAX) {
        *value = (uint32_t)n;
    }
}

void s3_entry_defaults(struct object_entry *e) {
    e->type = OBJECT_FILE;
    e->mode = 0644;
    e->uid = geteuid();
    e->gid = getegid();
    e->links = 1;
}

static bool find_size(const struct s3_call *call, uint64_t *ret_size) {
    const char *range = s3_answer_header(call, "content-range");
    const char *length = s3_answer_header(call, "content-length");
    const char *slash = range != NULL ? strchr(range, '/') : NULL;
    const char *text = slash != NULL ? slash + 1 : length;
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return false;
    }
    *ret_size = strtoull(text, &end, 10);
    return *end == '\0' && *ret_size <= INT64_MAX;
}

enum err s3_entry_from_answer(const struct s3_call *call, struct object_entry *entry,
                              char ret_etag[S3_ETAG_MAX], bool *ret_has_mtime,
                              struct failure *ret_failure) {
    struct object_entry e = *entry;
    struct tm tm = {0};
    uint32_t mode = 0;
    if (!find_size(call, &e.version.size) ||
        !s3_etag_copy(s3_answer_header(call, "etag"), ret_etag)) {
        char object[FAILURE_OBJECT_MAX];
        size_t n = s3_call_object(call, object, sizeof object);
        return failure_set(ret_failure, ERR_PROTOCOL, call->operation, object, n,
                           "the store's answer has no size, or no sensible ETag");
    }
    s3_entry_defaults(&e);
    e.version.ctime_ns = 0;
    e.version.inode = s3_etag_number(ret_etag);
    const char *modified = s3_answer_header(call, "last-modified");
    if (modified != NULL && strptime(modified, "%a, %d %b %Y %H:%M:%S", &tm) != NULL) {
        e.version.mtime_ns = (int64_t)timegm(&tm) * NS_PER_S;
    }
    const char *mtime = s3_answer_header(call, "x-amz-meta-mtime");
    *ret_has_mtime = mtime != NULL && parse_seconds(mtime, &e.version.mtime_ns);
    parse_number(s3_answer_header(call, "x-amz-meta-mode"), 8, &mode);
    if (mode != 0 && ((mode & S_IFMT) == 0 || S_ISREG(mode))) {
        e.mode = mode & 07777;
    }
    parse_number(s3_answer_header(call, "x-amz-meta-uid"), 10, &e.uid);
    parse_number(s3_answer_header(call, "x-amz-meta-gid"), 10, &e.gid);
    *entry = e;
    return OK;
}

struct collection {
    struct object_properties *properties;
    enum err err;
};

static void collect(void *user, const char *name, const char *value) {
    static const char *const kept[] = {"content-type",
                                       "cache-control",
                                       "content-disposition",
                                       "content-encoding",
                                       "content-language",
                                       "expires",
                                       "x-amz-website-redirect-location"};
    struct collection *c = user;
    bool is_kept = strncmp(name, "x-amz-meta-", 11) == 0;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        is_kept = is_kept || strcmp(name, kept[i]) == 0;
    }
    if (is_kept && c->err == OK) {
        c->err = object_properties_add(c->properties, name, value);
    }
}

enum err s3_properties_from_answer(const struct s3_call *call,
                                   struct object_properties *ret_properties) {
    struct collection c = {.properties = ret_properties};
    object_properties_reset(ret_properties);
    if (call->exchange != NULL) {
        http_each_header(call->exchange, collect, &c);
    }
    return c.err;
}

// ---- to headers ----

static void write_seconds(int64_t ns, char *ret_text, size_t cap) {
    uint64_t magnitude = ns < 0 ? (uint64_t)0 - (uint64_t)ns : (uint64_t)ns;
    int n = snprintf(ret_text, cap, "%s%" PRIu64 ".%09" PRIu64, ns < 0 ? "-" : "",
                     magnitude / (uint64_t)NS_PER_S, magnitude % (uint64_t)NS_PER_S);
    while (n > 0 && ret_text[n - 1] == '0') {
        ret_text[--n] = '\0';
    }
    if (n > 0 && ret_text[n - 1] == '.') {
        ret_text[n - 1] = '\0';
    }
}

enum err s3_properties_from_entry(const struct object_entry *e,
                                  struct object_properties *ret_properties) {
    char mtime[48], mode[16], uid[16], gid[16];
    object_properties_reset(ret_properties);
    snprintf(mode, sizeof mode, "%o", (unsigned)(S_IFREG | (e->mode & 07777)));
    snprintf(uid, sizeof uid, "%" PRIu32, e->uid);
    snprintf(gid, sizeof gid, "%" PRIu32, e->gid);
    enum err err = OK;
    if (e->version.mtime_ns != OBJECT_MTIME_UNKNOWN) {
        write_seconds(e->version.mtime_ns, mtime, sizeof mtime);
        err = object_properties_add(ret_properties, "x-amz-meta-mtime", mtime);
    }
    if (err == OK) {
        err = object_properties_add(ret_properties, "x-amz-meta-mode", mode);
    }
    if (err == OK) {
        err = object_properties_add(ret_properties, "x-amz-meta-uid", uid);
    }
    return err == OK ? object_properties_add(ret_properties, "x-amz-meta-gid", gid) : err;
}
