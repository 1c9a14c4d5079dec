// SPDX-License-Identifier: Apache-2.0
// What a store's answers teach: regions, the time, keys, what it takes, how fast it may be asked.
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/s3_store_impl.h"

#include <string.h>
#include <time.h>

enum { SKEW_TOLERATED_S = 5 }; // less is the way of the message

void s3_store_learn_region(struct s3_store *s, const char *bucket, const char *region) {
    struct learnt_region new = {0};
    if (bucket == NULL || strlen(bucket) >= sizeof new.bucket ||
        strlen(region) >= sizeof new.region || strcspn(region, "/ \t") != strlen(region)) {
        return;
    }
    memcpy(new.bucket, bucket, strlen(bucket));
    memcpy(new.region, region, strlen(region));
    pthread_mutex_lock(&s->lock);
    struct learnt_region *known = s3_store_region_of(s, bucket);
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

bool s3_store_tags_digest(struct s3_store *s) {
    pthread_mutex_lock(&s->lock);
    bool tags = !s->tags_no_digest;
    pthread_mutex_unlock(&s->lock);
    return tags;
}

bool s3_store_reads_digest_tags(const struct s3_store *s) {
    return !s->reads_no_digest_tags;
}

void s3_store_refuse_digest_tags(struct s3_store *s, const struct failure *why) {
    pthread_mutex_lock(&s->lock);
    bool is_news = !s->tags_no_digest;
    s->tags_no_digest = true;
    pthread_mutex_unlock(&s->lock);
    if (is_news) {
        log_event(LOG_WARN, "s3_digest_tags_refused", LOG_STR("store", s->name), LOG_FAILURE(why));
    }
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
