// SPDX-License-Identifier: Apache-2.0
#include "common/location.h"

#include "common/cleanup.h"
#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char operation[] = "use the location";

static enum err complain(struct failure *f, const void *text, size_t len, const char *why,
                         const char *remedy) {
    enum err err = failure_set(f, ERR_INVALID, operation, text, len, "%s", why);
    failure_remedy(f, "%s",
                   remedy != NULL
                       ? remedy
                       : "write SITE:/path, SITE/AGENT:/path, s3://BUCKET/KEY or https://…");
    return err;
}

static enum err no_memory(struct failure *f, const void *text, size_t len) {
    return failure_set(f, ERR_NO_MEMORY, operation, text, len, NULL);
}

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool location_name_is_valid(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++) {
        bool inner = i > 0 && (name[i] == '-' || name[i] == '_' || name[i] == '.');
        if (!is_letter_or_digit(name[i]) && !inner) {
            return false;
        }
    }
    return len > 0 && len < LOCATION_NAME_MAX;
}

void location_deinit(struct location *l) {
    free(l->bytes);
    *l = (struct location){0};
}

static enum err too_long(struct failure *f, const void *text, size_t len) {
    return complain(f, text, len, "it is too long", "use a shorter path");
}

static void copy_name(char *to, const char *from, size_t len) {
    memcpy(to, from, len);
    to[len] = '\0';
}

// ---- POSIX ----

// Writes @path without doubled slashes and "." components, a trailing slash kept. false: there
// is a "..".
static bool normalise(const uint8_t *path, size_t len, uint8_t *ret_path, size_t *ret_len) {
    size_t n = 0;
    bool ends_with_slash = false;
    for (size_t at = 0; at < len;) {
        const uint8_t *slash = memchr(path + at, '/', len - at);
        size_t part = slash != NULL ? (size_t)(slash - (path + at)) : len - at;
        bool here = part == 1 && path[at] == '.';
        if (part == 2 && path[at] == '.' && path[at + 1] == '.') {
            return false;
        }
        if (part > 0 && !here) {
            ret_path[n++] = '/';
            memcpy(ret_path + n, path + at, part);
            n += part;
        }
        ends_with_slash = slash != NULL || here;
        at += part + (slash != NULL ? 1 : 0);
    }
    if (n == 0 || ends_with_slash) {
        ret_path[n++] = '/';
    }
    *ret_len = n;
    return true;
}

// @text is what the user wrote, for the failure.
static enum err set_posix(const char *site, size_t site_len, const char *agent, size_t agent_len,
                          const void *path, size_t path_len, const void *text, size_t text_len,
                          struct location *ret_location, struct failure *ret_failure) {
    struct location l = {.kind = LOCATION_POSIX};
    if (!location_name_is_valid(site, site_len)) {
        return complain(ret_failure, text, text_len,
                        site_len == 0 ? "it names no site" : "this is no name of a site",
                        "write SITE:/path; names are of letters, digits, '-', '_' and '.'");
    }
    if (agent_len > 0 && !location_name_is_valid(agent, agent_len)) {
        return complain(ret_failure, text, text_len, "this is no name of an agent",
                        "write SITE/AGENT:/path; names are of letters, digits, '-', '_' and '.'");
    }
    if (path_len == 0 || *(const char *)path != '/') {
        return complain(ret_failure, text, text_len, "its path is not absolute",
                        "write SITE:/path, with a '/' after the colon");
    }
    if (memchr(path, '\0', path_len) != NULL) {
        return complain(ret_failure, text, text_len, "there is a NUL in its path", NULL);
    }
    if (path_len > LOCATION_MAX_BYTES) {
        return too_long(ret_failure, text, text_len);
    }
    l.bytes = malloc(path_len + 2);
    if (l.bytes == NULL) {
        return no_memory(ret_failure, text, text_len);
    }
    if (!normalise(path, path_len, l.bytes, &l.len)) {
        free(l.bytes);
        return complain(ret_failure, text, text_len, "there is a '..' in its path",
                        "write the path without '..'");
    }
    l.bytes[l.len] = '\0';
    copy_name(l.site, site, site_len);
    copy_name(l.agent, agent, agent_len);
    *ret_location = l;
    return OK;
}

enum err location_posix(const char *site, const char *agent, const void *path, size_t path_len,
                        struct location *ret_location, struct failure *ret_failure) {
    return set_posix(site, strlen(site), agent, strlen(agent), path, path_len, path, path_len,
                     ret_location, ret_failure);
}

static enum err parse_posix(const char *text, size_t len, struct location *ret_location,
                            struct failure *ret_failure) {
    const char *colon = len > 0 ? memchr(text, ':', len) : NULL;
    if (colon == NULL || (len > 0 && text[0] == '/')) {
        return complain(ret_failure, text, len, "it names no site",
                        "write SITE:/path, with the name of a site before the colon");
    }
    size_t place_len = (size_t)(colon - text);
    const char *slash = place_len > 0 ? memchr(text, '/', place_len) : NULL;
    size_t site_len = slash != NULL ? (size_t)(slash - text) : place_len;
    if (slash != NULL && slash + 1 == colon) {
        return complain(ret_failure, text, len, "there is no agent after the '/'",
                        "write SITE/AGENT:/path, or SITE:/path for any of the site's agents");
    }
    return set_posix(text, site_len, slash != NULL ? slash + 1 : "",
                     slash != NULL ? place_len - site_len - 1 : 0, colon + 1, len - place_len - 1,
                     text, len, ret_location, ret_failure);
}

// ---- S3 ----

static enum err set_s3(const char *store, size_t store_len, const char *bucket, size_t bucket_len,
                       const void *key, size_t key_len, const void *text, size_t text_len,
                       struct location *ret_location, struct failure *ret_failure) {
    struct location l = {.kind = LOCATION_S3, .len = key_len};
    static const char remedy[] = "write s3://BUCKET/KEY, or s3+STORE://BUCKET/KEY";
    if (store_len > 0 && !location_name_is_valid(store, store_len)) {
        return complain(ret_failure, text, text_len, "this is no name of a store", remedy);
    }
    bool valid = bucket_len > 0 && bucket_len < sizeof l.bucket;
    for (size_t i = 0; valid && i < bucket_len; i++) {
        valid = is_letter_or_digit(bucket[i]) || (i > 0 && strchr("-_.", bucket[i]) != NULL);
        valid = valid && bucket[i] != '\0';
    }
    if (!valid) {
        return complain(ret_failure, text, text_len,
                        bucket_len == 0 ? "it names no bucket" : "this is no name of a bucket",
                        remedy);
    }
    if (key_len > 0 && memchr(key, '\0', key_len) != NULL) {
        return complain(ret_failure, text, text_len, "there is a NUL in its key", remedy);
    }
    if (key_len > LOCATION_MAX_BYTES) {
        return too_long(ret_failure, text, text_len);
    }
    l.bytes = malloc(key_len + 1);
    if (l.bytes == NULL) {
        return no_memory(ret_failure, text, text_len);
    }
    if (key_len > 0) {
        memcpy(l.bytes, key, key_len);
    }
    l.bytes[key_len] = '\0';
    copy_name(l.store, store, store_len);
    copy_name(l.bucket, bucket, bucket_len);
    *ret_location = l;
    return OK;
}

enum err location_s3(const char *store, const char *bucket, const void *key, size_t key_len,
                     struct location *ret_location, struct failure *ret_failure) {
    return set_s3(store, strlen(store), bucket, strlen(bucket), key, key_len, bucket,
                  strlen(bucket), ret_location, ret_failure);
}

// @after: what follows "s3".
static enum err parse_s3(const char *text, size_t len, const char *after,
                         struct location *ret_location, struct failure *ret_failure) {
    const char *end = text + len, *store = "";
    const char *scheme_end = memmem(after, (size_t)(end - after), "://", 3);
    size_t store_len = 0;
    if (*after == '+') {
        store = after + 1;
        store_len = (size_t)(scheme_end - store);
        if (store_len == 0) {
            return complain(ret_failure, text, len, "there is no store after the '+'",
                            "write s3+STORE://BUCKET/KEY");
        }
    }
    const char *bucket = scheme_end + 3;
    const char *slash = memchr(bucket, '/', (size_t)(end - bucket));
    const char *key = slash != NULL ? slash + 1 : end;
    return set_s3(store, store_len, bucket, (size_t)((slash != NULL ? slash : end) - bucket), key,
                  (size_t)(end - key), text, len, ret_location, ret_failure);
}

// ---- HTTPS ----

enum err location_https(const char *url, size_t len, struct location *ret_location,
                        struct failure *ret_failure) {
    static const char scheme[] = "https://";
    size_t skip = sizeof scheme - 1;
    if (len <= skip || memcmp(url, scheme, skip) != 0 || url[skip] == '/') {
        return complain(ret_failure, url, len, "it names no host", "write https://HOST/PATH");
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)url[i] <= ' ' || (unsigned char)url[i] >= 0x7f) {
            return complain(ret_failure, url, len, "a URL has no blanks and no special characters",
                            "write them as %20 and the like");
        }
    }
    if (len > LOCATION_MAX_BYTES) {
        return too_long(ret_failure, url, len);
    }
    struct location l = {.kind = LOCATION_HTTPS, .len = len, .bytes = malloc(len + 1)};
    if (l.bytes == NULL) {
        return no_memory(ret_failure, url, len);
    }
    memcpy(l.bytes, url, len);
    l.bytes[len] = '\0';
    *ret_location = l;
    return OK;
}

// ---- all ----

static bool begins(const char *text, size_t len, const char *with) {
    return len >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

enum err location_parse(const void *bytes, size_t len, struct location *ret_location,
                        struct failure *ret_failure) {
    const char *text = bytes;
    if (len > LOCATION_MAX_BYTES) {
        return too_long(ret_failure, text, len);
    }
    if (begins(text, len, "https://")) {
        return location_https(text, len, ret_location, ret_failure);
    }
    if (begins(text, len, "http://")) {
        return complain(ret_failure, text, len, "without TLS nothing is fetched",
                        "write https://…");
    }
    if (begins(text, len, "s3:/") && !begins(text, len, "s3://")) { // mistyped, not a site
        return complain(ret_failure, text, len, "a slash is missing after s3:/",
                        "write s3://BUCKET/KEY, or SITE:/path");
    }
    bool is_s3 = begins(text, len, "s3://") ||
                 (begins(text, len, "s3+") && memmem(text, len, "://", 3) != NULL);
    return is_s3 ? parse_s3(text, len, text + 2, ret_location, ret_failure)
                 : parse_posix(text, len, ret_location, ret_failure);
}

bool location_ends_with_slash(const struct location *l) {
    return l->len > 0 && l->bytes[l->len - 1] == '/';
}

bool location_equal(const struct location *a, const struct location *b) {
    return a->kind == b->kind && strcmp(a->site, b->site) == 0 && strcmp(a->agent, b->agent) == 0 &&
           strcmp(a->store, b->store) == 0 && strcmp(a->bucket, b->bucket) == 0 &&
           a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

char *location_text(const struct location *l, size_t *ret_len) {
    char before[2 * LOCATION_NAME_MAX + LOCATION_BUCKET_MAX];
    int n = 0;
    before[0] = '\0';
    if (l->kind == LOCATION_POSIX) {
        n = snprintf(before, sizeof before, "%s%s%s:", l->site, l->agent[0] != '\0' ? "/" : "",
                     l->agent);
    } else if (l->kind == LOCATION_S3) {
        n = snprintf(before, sizeof before, "s3%s%s://%s/", l->store[0] != '\0' ? "+" : "",
                     l->store, l->bucket);
    }
    char *text = malloc((size_t)n + l->len + 1);
    if (text == NULL) {
        return NULL;
    }
    memcpy(text, before, (size_t)n);
    if (l->len > 0) {
        memcpy(text + n, l->bytes, l->len);
    }
    *ret_len = (size_t)n + l->len;
    text[*ret_len] = '\0';
    return text;
}

char *location_printable(const struct location *l) {
    size_t len = 0;
    AUTO(auto_free) char *text = location_text(l, &len);
    char *printable = text != NULL ? malloc(4 * len + 1) : NULL; // "\xNN" at the most
    if (printable != NULL) {
        utf8_print(text, len, printable, 4 * len + 1);
    }
    return printable;
}
