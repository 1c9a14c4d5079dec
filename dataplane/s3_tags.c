// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_tags.h"

#include "common/cleanup.h"
#include "dataplane/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAGGING_MAX_BYTES = 12 * 1024 }; // ten tags of 128 and 256 characters, encoded

enum err s3_tags_add(char **tagging, const char *key, const char *value) {
    size_t len = *tagging != NULL ? strlen(*tagging) : 0;
    size_t key_len = strlen(key), value_len = strlen(value);
    size_t cap = len + 3 * (key_len + value_len) + 3;
    if (cap > 2 * TAGGING_MAX_BYTES) {
        return ERR_TOO_LARGE;
    }
    char *grown = realloc(*tagging, cap);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *tagging = grown;
    if (len > 0) {
        grown[len++] = '&';
    }
    len += s3_encode(key, key_len, 0, grown + len);
    grown[len++] = '=';
    (void)s3_encode(value, value_len, 0, grown + len);
    return OK;
}

struct parse {
    char *tagging;
    char *key;
};

static enum err on_element(void *user, const char *path, const char *text, size_t len) {
    static const char top[] = "Tagging/TagSet/Tag/";
    struct parse *p = user;
    if (strncmp(path, top, sizeof top - 1) != 0 || memchr(text, '\0', len) != NULL) {
        return OK;
    }
    if (strcmp(path + sizeof top - 1, "Key") == 0) {
        free(p->key);
        p->key = strndup(text, len);
        return p->key != NULL ? OK : ERR_NO_MEMORY;
    }
    return p->key != NULL ? s3_tags_add(&p->tagging, p->key, text) : ERR_PROTOCOL;
}

enum err s3_tags_fetch(struct s3_client *c, const char *bucket, const void *key, size_t key_len,
                       char **ret_tagging, struct failure *ret_failure) {
    struct s3_call call = {.operation = "GetObjectTagging",
                           .method = "GET",
                           .bucket = bucket,
                           .key = key,
                           .key_len = key_len,
                           .query = "tagging="};
    struct parse p = {0};
    struct failure f = {0};
    enum err e = s3_run(c, &call, &f);
    if (e == OK) {
        size_t len = 0;
        const char *body = s3_answer_body(&call, &len);
        e = len > 0 ? s3_xml_parse(body, len, on_element, &p) : OK; // Ceph's way to say: none
        if (e != OK) {
            e = failure_set(&f, e, "GetObjectTagging", key, key_len,
                            "the store's list of tags makes no sense");
        }
    } else if (e == ERR_UNIMPLEMENTED || strcmp(call.code, "NoSuchTagSet") == 0) {
        e = OK;
    }
    s3_end(&call);
    free(p.key);
    if (e != OK) {
        free(p.tagging);
        if (ret_failure != NULL) {
            *ret_failure = f;
        }
        return e;
    }
    *ret_tagging = p.tagging;
    return OK;
}

enum err s3_tags_fetch_apart(struct s3_client *c, const char *bucket, const void *key,
                             size_t key_len, char **ret_tagging, char ret_digest[S3_DIGEST_TAG_MAX],
                             struct failure *ret_failure) {
    ret_digest[0] = '\0';
    enum err e = s3_tags_fetch(c, bucket, key, key_len, ret_tagging, ret_failure);
    if (e == OK && !s3_tags_take(*ret_tagging, S3_DIGEST_TAG, ret_digest, S3_DIGEST_TAG_MAX)) {
        ret_digest[0] = '\0';
    }
    return e;
}

enum err s3_tags_fetch_digest(struct s3_client *c, const char *bucket, const void *key,
                              size_t key_len, char ret_digest[S3_DIGEST_TAG_MAX],
                              struct failure *ret_failure) {
    AUTO(auto_free) char *tagging = NULL;
    struct failure f = {0};
    const struct s3_store *store = s3_client_store(c);
    ret_digest[0] = '\0';
    if (!s3_store_reads_digest_tags(store)) {
        return OK;
    }
    enum err e = s3_tags_fetch_apart(c, bucket, key, key_len, &tagging, ret_digest, &f);
    if (e == ERR_DENIED || e == ERR_NOT_FOUND || e == ERR_INVALID) {
        return OK;
    }
    if (e == ERR_AGAIN || e == ERR_TIMEOUT) {
        failure_remedy(&f,
                       "look at the store; one that never tells tags needs digest_tag: "
                       "false in volume '%.60s'",
                       s3_store_name(store));
    }
    if (e != OK && ret_failure != NULL) {
        *ret_failure = f;
    }
    return e;
}

// ---- setting them ----

static void put_text(FILE *out, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '<' || text[i] == '>' || text[i] == '&') {
            fprintf(out, "&#%d;", text[i]);
        } else {
            putc(text[i], out);
        }
    }
}

// The document that says so. NULL: out of memory.
static char *document(const char *tagging, size_t *ret_len) {
    AUTO(auto_free) char *text = strdup(tagging);
    char *xml = NULL, *rest = text;
    FILE *out = text != NULL ? open_memstream(&xml, ret_len) : NULL;
    if (out == NULL) {
        return NULL;
    }
    fputs("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>", out);
    for (char *pair = strsep(&rest, "&"); pair != NULL; pair = strsep(&rest, "&")) {
        char *key = strsep(&pair, "=");
        fputs("<Tag><Key>", out);
        put_text(out, key, s3_url_decode(key, strlen(key)));
        fputs("</Key><Value>", out);
        if (pair != NULL) {
            put_text(out, pair, s3_url_decode(pair, strlen(pair)));
        }
        fputs("</Value></Tag>", out);
    }
    fputs("</TagSet></Tagging>", out);
    if (fclose(out) != 0) {
        free(xml);
        return NULL;
    }
    return xml;
}

enum err s3_tags_ensure(struct s3_client *c, const char *bucket, const void *key, size_t key_len,
                        const char *tagging, struct failure *ret_failure) {
    AUTO(auto_free) char *has = NULL;
    enum err e = s3_tags_fetch(c, bucket, key, key_len, &has, ret_failure);
    if (e != OK || (has != NULL && strcmp(has, tagging) == 0)) {
        return e;
    }
    return s3_tags_put(c, bucket, key, key_len, tagging, ret_failure);
}

enum err s3_tags_put(struct s3_client *c, const char *bucket, const void *key, size_t key_len,
                     const char *tagging, struct failure *ret_failure) {
    char md5[S3_CHECKSUM_SIZE];
    size_t len = 0;
    AUTO(auto_free) char *xml = document(tagging, &len);
    if (xml == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "PutObjectTagging", key, key_len, NULL);
    }
    struct s3_call call = {.operation = "PutObjectTagging",
                           .method = "PUT",
                           .bucket = bucket,
                           .key = key,
                           .key_len = key_len,
                           .query = "tagging=",
                           .body = xml,
                           .body_bytes = len};
    s3_checksum_of(S3_CHECKSUM_MD5, xml, len, md5);
    s3_call_header(&call, "content-md5", md5[0] != '\0' ? md5 : NULL);
    s3_call_header(&call, "content-type", "application/xml");
    enum err e = s3_run(c, &call, ret_failure);
    s3_end(&call);
    return e;
}

size_t s3_tags_count(const char *tagging) {
    size_t n = tagging != NULL && tagging[0] != '\0';
    for (const char *at = n > 0 ? strchr(tagging, '&') : NULL; at != NULL;
         at = strchr(at + 1, '&')) {
        n++;
    }
    return n;
}

bool s3_tags_take(char *tagging, const char *key, char *ret_value, size_t cap) {
    size_t key_len = strlen(key);
    for (char *at = tagging; at != NULL && *at != '\0';) {
        char *end = strchrnul(at, '&');
        if (strncmp(at, key, key_len) != 0 || at[key_len] != '=') {
            at = *end != '\0' ? end + 1 : end;
            continue;
        }
        size_t n = (size_t)(end - at) - key_len - 1;
        bool fits = n < cap;
        memcpy(ret_value, at + key_len + 1, fits ? n : 0);
        n = fits ? s3_url_decode(ret_value, n) : 0;
        ret_value[n] = '\0';
        if (*end == '&') {
            memmove(at, end + 1, strlen(end + 1) + 1);
        } else if (at > tagging) {
            at[-1] = '\0';
        } else {
            at[0] = '\0';
        }
        return fits;
    }
    return false;
}
