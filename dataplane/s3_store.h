// SPDX-License-Identifier: Apache-2.0
// One object store (what S3 calls an endpoint) as the agent knows it: where it is, how to sign,
// and what its answers taught: regions of buckets, the difference of clocks, how many requests
// it takes. All tasks share it. Thread-safe.
#ifndef DATAPLANE_S3_STORE_H
#define DATAPLANE_S3_STORE_H

#include "common/failure.h"
#include "common/s3_credentials.h"
#include "dataplane/s3_checksum.h"
#include "dataplane/s3_sign.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer_stock;
struct http_pool;
struct s3_store;

enum s3_style {
    S3_STYLE_AUTO,    // virtual-host for Amazon's own endpoints, path for all others
    S3_STYLE_PATH,    // https://ENDPOINT/BUCKET/KEY
    S3_STYLE_VIRTUAL, // https://BUCKET.ENDPOINT/KEY
};

// Whether signatures cover the SHA-256 of what is sent (docs/decisions/0007-s3-checksums.md).
enum s3_payload {
    S3_PAYLOAD_AUTO,     // not over TLS, with a checksum that the store is known to take
    S3_PAYLOAD_SIGNED,   // always
    S3_PAYLOAD_UNSIGNED, // never, once it is known which checksum the store takes
};

struct s3_store_options {
    const char *name;     // for logs
    const char *endpoint; // URL; NULL: $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, the profile, Amazon
    const char *region;   // NULL: $AWS_REGION, $AWS_DEFAULT_REGION, the profile, us-east-1
    enum s3_style style;
    struct s3_credentials_options credentials;
    const char *checksum; // a name that s3_checksum_from_name() knows; NULL: it is found out
    enum s3_payload payload;
    bool tags_no_digest; // objects above S3_WHOLE_MAX_BYTES get none, and theirs is not looked for
    const char *ca_file, *proxy; // NULL: the system's
    uint32_t stall_ms;           // 0: as dataplane/http.h has it
};
// Copies the options. Sends nothing. ERR_UNAUTHENTICATED, ERR_CONFIG.
MUST_CHECK enum err s3_store_new(const struct s3_store_options *o, struct s3_store **ret_store,
                                 struct failure *ret_failure);
void s3_store_free(struct s3_store *s); // after all its clients
const char *s3_store_name(const struct s3_store *s);
const char *s3_store_endpoint(const struct s3_store *s); // URL, without a '/' at its end
struct http_pool *s3_store_pool(const struct s3_store *s);
struct buffer_stock *s3_store_buffers(struct s3_store *s); // of the size of parts

enum { S3_HOST_MAX = 512, S3_REGION_MAX = 64 };

// What is needed to address and sign a request.
struct s3_target {
    char *url;        // owned
    const char *path; // encoded, in @url's memory: up to @path_len
    size_t path_len;
    char host[S3_HOST_MAX];
    char region[S3_REGION_MAX];
    struct s3_credentials credentials;
    char time[S3_TIME_SIZE];
};
// @key may be NULL (the bucket itself), @bucket too (the list of buckets). @query is encoded.
MUST_CHECK enum err s3_store_target(struct s3_store *s, const char *bucket, const void *key,
                                    size_t key_len, const char *query, struct s3_target *ret_target,
                                    struct failure *ret_failure);
void s3_target_deinit(struct s3_target *t);

// ---- what answers teach ----
void s3_store_learn_region(struct s3_store *s, const char *bucket, const char *region);
// The server's Date header. true: our clock was wrong by more than before, and is corrected.
bool s3_store_learn_time(struct s3_store *s, const char *http_date);
// The credentials are refused as expired: looks whether newer ones can be found. false: no.
bool s3_store_renew_credentials(struct s3_store *s, const struct s3_credentials *refused);
// Instead of those that the options lead to; NULL: those, which are looked for again.
void s3_store_set_credentials(struct s3_store *s, const struct s3_credentials *given);
// What proves a request's bytes.
struct s3_proof {
    enum s3_checksum checksum;
    bool is_signed; // the signature covers their SHA-256
};
void s3_store_proof(struct s3_store *s, struct s3_proof *ret_proof);
// Of a part, in an upload that was begun with @checksum (or none).
void s3_store_part_proof(struct s3_store *s, enum s3_checksum checksum, struct s3_proof *ret_proof);
bool s3_store_is_trying(struct s3_store *s); // not settled yet
// @is_taken: the store answered with the checksum. Else it was refused, or ignored.
void s3_store_learn_checksum(struct s3_store *s, enum s3_checksum tried, bool is_taken);
// The store refused If-None-Match as something that it does not know. false: that was known.
bool s3_store_refuse_conditions(struct s3_store *s);
bool s3_store_takes_conditions(struct s3_store *s);
// Large objects get their digest as a tag, unless the options or the store's refusal say otherwise.
bool s3_store_tags_digest(struct s3_store *s);
bool s3_store_reads_digest_tags(const struct s3_store *s); // unless the options say otherwise
void s3_store_refuse_digest_tags(struct s3_store *s, const struct failure *why);
// 0: a request may begin now; else how long to wait.
uint64_t s3_store_take_us(struct s3_store *s);
void s3_store_slow_down(struct s3_store *s, const char *code);
void s3_store_served(struct s3_store *s);

struct s3_store_counts {
    uint64_t requests, retries, slow_downs;
    double limit_per_s; // 0: none now
};
void s3_store_counts(struct s3_store *s, struct s3_store_counts *ret_counts);
void s3_store_count_retry(struct s3_store *s);

#endif
