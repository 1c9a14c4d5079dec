// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_store.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/s3_limits.h"
#include "dataplane/http.h"
#include "dataplane/s3_store_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "s3", NULL, 0, NULL);
}

static const char *first_set(const char *a, const char *b, const char *c) {
    return a != NULL && a[0] != '\0' ? a : b != NULL && b[0] != '\0' ? b : c;
}

static bool keep(const char *text, char **ret_copy, const char **ret_borrowed) {
    *ret_borrowed = NULL;
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    *ret_copy = strdup(text);
    *ret_borrowed = *ret_copy;
    return *ret_copy != NULL;
}

static bool keep_options(struct s3_store *s, const struct s3_store_options *o) {
    const struct s3_credentials_options *c = &o->credentials;
    s->name = strdup(o->name);
    s->find.is_anonymous = c->is_anonymous;
    return s->name != NULL && keep(c->access_key, &s->access_key, &s->find.access_key) &&
           keep(c->secret_key, &s->secret_key, &s->find.secret_key) &&
           keep(c->session_token, &s->session_token, &s->find.session_token) &&
           keep(c->profile, &s->profile, &s->find.profile) &&
           keep(c->credentials_file, &s->credentials_file, &s->find.credentials_file);
}

static enum err find_region(struct s3_store *s, const struct s3_store_options *o) {
    char found[S3_REGION_MAX] = "";
    const char *region = first_set(o->region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"));
    if (region == NULL || region[0] == '\0') {
        enum err e = s3_profile_setting(s->find.profile, "region", found, sizeof found);
        region = e == OK && found[0] != '\0' ? found : "us-east-1";
    }
    size_t n = strlen(region);
    if (n >= sizeof s->region || strcspn(region, "/ \t") != n) {
        return ERR_CONFIG;
    }
    memcpy(s->region, region, n + 1);
    return OK;
}

static enum err find_endpoint(struct s3_store *s, const struct s3_store_options *o,
                              struct failure *ret_failure) {
    char found[S3_HOST_MAX] = "";
    const char *url =
        first_set(o->endpoint, getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"));
    if ((url == NULL || url[0] == '\0') &&
        s3_profile_setting(s->find.profile, "endpoint_url", found, sizeof found) == OK) {
        url = found;
    }
    s->is_amazon = url == NULL || url[0] == '\0';
    if (s->is_amazon) {
        snprintf(found, sizeof found, "https://s3.%s.amazonaws.com", s->region);
        url = found;
    }
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    const char *host = strncmp(url, "https://", 8) == 0  ? url + 8
                       : strncmp(url, "http://", 7) == 0 ? url + 7
                                                         : NULL;
    size_t host_len = host != NULL && host < url + n ? n - (size_t)(host - url) : 0;
    if (host_len == 0 || host_len > S3_HOST_MAX - 260 || memchr(host, '/', host_len) != NULL ||
        memchr(host, '?', host_len) != NULL || memchr(host, '@', host_len) != NULL) {
        enum err e = failure_set(ret_failure, ERR_CONFIG, "s3", url, n,
                                 "the endpoint of a store must be http://HOST[:PORT] or https://…");
        failure_remedy(ret_failure, "correct the endpoint of volume '%.60s'", s->name);
        return e;
    }
    s->endpoint = strndup(url, n);
    if (s->endpoint == NULL) {
        return no_memory(ret_failure);
    }
    s->scheme_end = s->endpoint + (host - url);
    s->is_https = strncmp(s->endpoint, "https://", 8) == 0;
    s->is_virtual = o->style == S3_STYLE_VIRTUAL || (o->style == S3_STYLE_AUTO && s->is_amazon);
    return OK;
}

static enum err set_checksum(struct s3_store *s, const struct s3_store_options *o,
                             struct failure *ret_failure) {
    s->payload = o->payload;
    s->checksum.now = S3_CHECKSUM_FIRST;
    if (o->checksum == NULL) {
        return OK;
    }
    s->checksum.is_settled = s3_checksum_from_name(o->checksum, &s->checksum.now);
    return s->checksum.is_settled ? OK
                                  : failure_set(ret_failure, ERR_CONFIG, "s3", NULL, 0,
                                                "'%.40s' is no checksum", o->checksum);
}

enum err s3_store_new(const struct s3_store_options *o, struct s3_store **ret_store,
                      struct failure *ret_failure) {
    struct s3_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return no_memory(ret_failure);
    }
    pthread_mutex_init(&s->lock, NULL);
    s->tags_no_digest = s->reads_no_digest_tags = o->tags_no_digest;
    buffer_stock_init(&s->buffers, S3_CHUNK_LEAST_BYTES);
    enum err e = keep_options(s, o) ? OK : no_memory(ret_failure);
    if (e == OK && find_region(s, o) != OK) {
        e = failure_set(ret_failure, ERR_CONFIG, "s3", NULL, 0,
                        "this is no name of a region of volume '%.60s'", s->name);
    }
    if (e == OK) {
        e = find_endpoint(s, o, ret_failure);
    }
    if (e == OK) {
        e = set_checksum(s, o, ret_failure);
    }
    if (e == OK) {
        e = s3_credentials_find(&s->find, &s->credentials, ret_failure);
    }
    if (e == OK) {
        struct http_pool_options h = {
            .ca_file = first_set(o->ca_file, getenv("AWS_CA_BUNDLE"), NULL),
            .proxy = o->proxy,
            .stall_ms = o->stall_ms,
        };
        e = http_pool_new(&h, &s->pool, ret_failure);
    }
    if (e != OK) {
        s3_store_free(s);
        return e;
    }
    *ret_store = s;
    return OK;
}

void s3_store_free(struct s3_store *s) {
    if (s == NULL) {
        return;
    }
    http_pool_free(s->pool);
    buffer_stock_deinit(&s->buffers);
    s3_credentials_wipe(&s->credentials);
    if (s->secret_key != NULL) {
        explicit_bzero(s->secret_key, strlen(s->secret_key));
    }
    pthread_mutex_destroy(&s->lock);
    char *texts[] = {s->name,          s->endpoint, s->access_key,      s->secret_key,
                     s->session_token, s->profile,  s->credentials_file};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free(texts[i]);
    }
    free(s);
}

const char *s3_store_name(const struct s3_store *s) {
    return s->name;
}

const char *s3_store_endpoint(const struct s3_store *s) {
    return s->endpoint;
}

struct http_pool *s3_store_pool(const struct s3_store *s) {
    return s->pool;
}

struct buffer_stock *s3_store_buffers(struct s3_store *s) {
    return &s->buffers;
}

// ---- addressing ----

struct learnt_region *s3_store_region_of(struct s3_store *s, const char *bucket) {
    for (size_t i = 0; i < BUCKETS_KEPT; i++) {
        if (bucket != NULL && strcmp(s->regions[i].bucket, bucket) == 0) {
            return &s->regions[i];
        }
    }
    return NULL;
}

static enum err write_host(const struct s3_store *s, const char *bucket, struct s3_target *t) {
    char amazon[S3_REGION_MAX + 32];
    const char *host = s->scheme_end;
    // A certificate for *.HOST does not hold for names with more dots.
    bool as_host = bucket != NULL && s->is_virtual && !(s->is_https && strchr(bucket, '.') != NULL);
    if (s->is_amazon) {
        snprintf(amazon, sizeof amazon, "s3.%s.amazonaws.com", t->region);
        host = amazon;
    }
    int n = snprintf(t->host, sizeof t->host, "%s%s%s", as_host ? bucket : "", as_host ? "." : "",
                     host);
    return n > 0 && (size_t)n < sizeof t->host ? OK : ERR_TOO_LARGE;
}

static enum err write_url(const struct s3_store *s, const char *bucket, const void *key,
                          size_t key_len, const char *query, struct s3_target *t) {
    size_t bucket_len = bucket != NULL ? strlen(bucket) : 0;
    size_t cap = 16 + strlen(t->host) + 3 * (bucket_len + key_len) + strlen(query) + 8;
    char *url = malloc(cap);
    if (url == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t n = (size_t)snprintf(url, cap, "%.*s%s", (int)(s->scheme_end - s->endpoint), s->endpoint,
                                t->host);
    // In virtual-host style the host begins with the bucket.
    bool in_host = bucket_len > 0 && strncmp(t->host, bucket, bucket_len) == 0 &&
                   t->host[bucket_len] == '.' && s->is_virtual;
    t->path = url + n;
    url[n++] = '/';
    if (bucket_len > 0 && !in_host) {
        n += s3_encode(bucket, bucket_len, 0, url + n);
        if (key != NULL) {
            url[n++] = '/';
        }
    }
    if (key != NULL) {
        n += s3_encode(key, key_len, 1, url + n);
    }
    t->path_len = (size_t)(url + n - t->path);
    if (query[0] != '\0') {
        url[n++] = '?';
    }
    memcpy(url + n, query, strlen(query) + 1);
    t->url = url;
    return OK;
}

enum err s3_store_target(struct s3_store *s, const char *bucket, const void *key, size_t key_len,
                         const char *query, struct s3_target *ret_target,
                         struct failure *ret_failure) {
    struct s3_target *t = ret_target;
    t->url = NULL;
    pthread_mutex_lock(&s->lock);
    const struct learnt_region *learnt = s3_store_region_of(s, bucket);
    memcpy(t->region, learnt != NULL ? learnt->region : s->region, sizeof t->region);
    t->credentials = s->credentials;
    int64_t skew_s = s->skew_s;
    pthread_mutex_unlock(&s->lock);
    s3_time(clock_wall_ms(&clock_system) + skew_s * 1000, t->time);
    enum err e = write_host(s, bucket, t);
    if (e == OK) {
        e = write_url(s, bucket, key, key_len, query, t);
    }
    return e == OK ? OK : failure_set(ret_failure, e, "s3", key, key_len, NULL);
}

void s3_target_deinit(struct s3_target *t) {
    free(t->url);
    t->url = NULL;
    s3_credentials_wipe(&t->credentials);
}
