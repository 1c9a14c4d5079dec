// SPDX-License-Identifier: Apache-2.0
// What s3_store.c and s3_store_learn.c share; not for others.
#ifndef DATAPLANE_S3_STORE_IMPL_H
#define DATAPLANE_S3_STORE_IMPL_H

#include "dataplane/buffer_stock.h"
#include "dataplane/s3_rate.h"
#include "dataplane/s3_store.h"

#include <pthread.h>

enum { BUCKETS_KEPT = 16 }; // whose region was learnt

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
    bool is_https, reads_no_digest_tags;
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
    bool refuses_conditions, tags_no_digest;
    struct s3_rate rate;
    struct s3_store_counts counts;
};

// Under the lock. NULL: not learnt.
struct learnt_region *s3_store_region_of(struct s3_store *s, const char *bucket);

#endif
