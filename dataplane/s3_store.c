// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_store.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/s3_limits.h"
#include "dataplane/buffer_stock.h"
#include "dataplane/http.h"
#include "dataplane/s3_rate.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BUCKETS_KEPT = 16,    // whose region was learnt
    SKEW_TOLERATED_S = 5, // less is the way of the message
};

struct learnt_region {
    char bucket[256];
    char region[S3_REGION_MAX];
};

struct s3_store {
    // constant
    char *name, *endpoint, *scheme_end; // the host begins at scheme_end
    char *access_key, *secret_key, *session_token, *profile, *credentials_file;
    char region[S3_REGION_MAX];
    bool is_virtual, is_amazon; // is_amazon: the endpoint was not given, and follows the region
    bool is_https;
    enum s3_payload payload;
    struct s3_credentials_options find;
    struct http_pool *pool;
    struct buffer_stock buffers;
    // under the lock
    pthread_mutex_t lock;
    struct s3_credentials credentials;
    bool are_given; // by s3_store_set_credentials()
    struct learnt_region regions[BUCKETS_KEPT];
    uint32_t next_region;
    int64_t skew_s;
    struct s3_checksum_choice checksum;
    bool refuses_conditions;
    struct s3_rate rate;
    struct s3_store_counts counts;
};

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

// Under the lock.
static struct learnt_region *region_of(struct s3_store *s, const char *bucket) {
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
    const struct learnt_region *learnt = region_of(s, bucket);
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

// ---- what answers teach ----

void s3_store_learn_region(struct s3_store *s, const char *bucket, const char *region) {
    struct learnt_region new = {0};
    if (bucket == NULL || strlen(bucket) >= sizeof new.bucket ||
        strlen(region) >= sizeof new.region || strcspn(region, "/ \t") != strlen(region)) {
        return;
    }
    memcpy(new.bucket, bucket, strlen(bucket));
    memcpy(new.region, region, strlen(region));
    pthread_mutex_lock(&s->lock);
    struct learnt_region *known = region_of(s, bucket);
    if (known == NULL) {
        known = &s->regions[s->next_region++ % BUCKETS_KEPT];
    }
    *known = new;
    pthread_mutex_unlock(&s->lock);
    log_event(LOG_INFO, "s3_region_learnt", LOG_STR("store", s->name), LOG_STR("bucket", bucket),
              LOG_STR("region", region));
}

bool s3_store_learn_time(struct s3_store *s, const char *http_date) {
    struct tm tm = {0};
    if (http_date == NULL || strptime(http_date, "%a, %d %b %Y %H:%M:%S", &tm) == NULL) {
        return false;
    }
    int64_t skew_s = (int64_t)timegm(&tm) - clock_wall_ms(&clock_system) / 1000;
    pthread_mutex_lock(&s->lock);
    int64_t change = skew_s > s->skew_s ? skew_s - s->skew_s : s->skew_s - skew_s;
    bool is_news = change > SKEW_TOLERATED_S;
    if (is_news) {
        s->skew_s = skew_s;
    }
    pthread_mutex_unlock(&s->lock);
    if (is_news) {
        log_event(LOG_WARN, "s3_clock_corrected", LOG_STR("store", s->name),
                  LOG_I64("skew_s", skew_s));
    }
    return is_news;
}

bool s3_store_renew_credentials(struct s3_store *s, const struct s3_credentials *refused) {
    struct s3_credentials found;
    bool is_new = false, are_given;
    pthread_mutex_lock(&s->lock);
    are_given = s->are_given;
    is_new = strcmp(s->credentials.session_token, refused->session_token) != 0 ||
             strcmp(s->credentials.access_key, refused->access_key) != 0;
    pthread_mutex_unlock(&s->lock);
    if (is_new) { // another thread found them
        return true;
    }
    if (are_given || s3_credentials_find(&s->find, &found, NULL) != OK) {
        return false;
    }
    is_new = strcmp(found.session_token, refused->session_token) != 0 ||
             strcmp(found.access_key, refused->access_key) != 0;
    if (is_new) {
        pthread_mutex_lock(&s->lock);
        s->credentials = found;
        pthread_mutex_unlock(&s->lock);
        log_event(LOG_INFO, "s3_credentials_renewed", LOG_STR("store", s->name));
    }
    s3_credentials_wipe(&found);
    return is_new;
}

void s3_store_set_credentials(struct s3_store *s, const struct s3_credentials *given) {
    struct s3_credentials found = {0};
    bool works = true;
    if (given != NULL) {
        found = *given;
    } else {
        works = s3_credentials_find(&s->find, &found, NULL) == OK;
    }
    pthread_mutex_lock(&s->lock);
    s->are_given = given != NULL;
    if (works) {
        s->credentials = found;
    }
    pthread_mutex_unlock(&s->lock);
    s3_credentials_wipe(&found);
    log_event(LOG_INFO, "s3_credentials_set", LOG_STR("store", s->name),
              LOG_BOOL("given", given != NULL), LOG_BOOL("found", works));
}

static struct s3_checksum_choice checksum_of(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    struct s3_checksum_choice c = s->checksum;
    pthread_mutex_unlock(&s->lock);
    return c;
}

static bool signs_payload(const struct s3_store *s, bool is_taken) {
    return s->payload == S3_PAYLOAD_SIGNED ||
           (s->payload == S3_PAYLOAD_AUTO && !(s->is_https && is_taken));
}

void s3_store_proof(struct s3_store *s, struct s3_proof *ret_proof) {
    struct s3_checksum_choice c = checksum_of(s);
    bool is_taken = c.is_settled && c.now != S3_CHECKSUM_NONE;
    struct s3_proof p = {c.now, !c.is_settled || signs_payload(s, is_taken)};
    if (!p.is_signed && p.checksum == S3_CHECKSUM_NONE) {
        p.checksum = S3_CHECKSUM_MD5;
    }
    *ret_proof = p;
}

void s3_store_part_proof(struct s3_store *s, enum s3_checksum checksum,
                         struct s3_proof *ret_proof) {
    struct s3_checksum_choice c = checksum_of(s);
    if (s3_checksum_is_amz(checksum)) {
        *ret_proof = (struct s3_proof){checksum, signs_payload(s, true)};
        return;
    }
    bool is_md5 = c.is_settled && c.now == S3_CHECKSUM_MD5;
    struct s3_proof p = {is_md5 ? S3_CHECKSUM_MD5 : S3_CHECKSUM_NONE, signs_payload(s, is_md5)};
    if (!p.is_signed) {
        p.checksum = S3_CHECKSUM_MD5;
    }
    *ret_proof = p;
}

bool s3_store_is_trying(struct s3_store *s) {
    return !checksum_of(s).is_settled;
}

void s3_store_learn_checksum(struct s3_store *s, enum s3_checksum tried, bool is_taken) {
    pthread_mutex_lock(&s->lock);
    bool is_news = s3_checksum_choice_learn(&s->checksum, tried, is_taken);
    enum s3_checksum now = s->checksum.now;
    pthread_mutex_unlock(&s->lock);
    if (is_news) {
        struct s3_proof p;
        s3_store_proof(s, &p);
        log_event(LOG_INFO, "s3_checksum_chosen", LOG_STR("store", s->name),
                  LOG_STR("checksum", s3_checksum_name(now)),
                  LOG_BOOL("payload_signed", p.is_signed));
    }
}

bool s3_store_refuse_conditions(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    bool is_news = !s->refuses_conditions;
    s->refuses_conditions = true;
    pthread_mutex_unlock(&s->lock);
    if (is_news) {
        log_event(LOG_WARN, "s3_conditions_refused", LOG_STR("store", s->name));
    }
    return is_news;
}

bool s3_store_takes_conditions(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    bool takes = !s->refuses_conditions;
    pthread_mutex_unlock(&s->lock);
    return takes;
}

uint64_t s3_store_take_us(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    uint64_t wait_us = s3_rate_take_us(&s->rate, clock_mono_us());
    s->counts.requests += wait_us == 0;
    pthread_mutex_unlock(&s->lock);
    return wait_us;
}

void s3_store_slow_down(struct s3_store *s, const char *code) {
    pthread_mutex_lock(&s->lock);
    s->counts.slow_downs++;
    bool is_lowered = s3_rate_slow_down(&s->rate, clock_mono_us());
    double per_s = s->rate.per_s;
    pthread_mutex_unlock(&s->lock);
    if (is_lowered) {
        log_event(LOG_WARN, "s3_rate_lowered", LOG_STR("store", s->name), LOG_STR("code", code),
                  LOG_F64("requests_per_s", per_s));
    }
}

void s3_store_served(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    bool is_free = s3_rate_served(&s->rate, clock_mono_us());
    pthread_mutex_unlock(&s->lock);
    if (is_free) {
        log_event(LOG_INFO, "s3_rate_recovered", LOG_STR("store", s->name));
    }
}

void s3_store_count_retry(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    s->counts.retries++;
    pthread_mutex_unlock(&s->lock);
}

void s3_store_counts(struct s3_store *s, struct s3_store_counts *ret_counts) {
    pthread_mutex_lock(&s->lock);
    *ret_counts = s->counts;
    ret_counts->limit_per_s = s->rate.per_s;
    pthread_mutex_unlock(&s->lock);
}
