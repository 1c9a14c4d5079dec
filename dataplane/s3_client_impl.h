// SPDX-License-Identifier: Apache-2.0
// What s3_client.c and s3_client_judge.c share; not for others.
#ifndef DATAPLANE_S3_CLIENT_IMPL_H
#define DATAPLANE_S3_CLIENT_IMPL_H

#include "dataplane/http.h"
#include "dataplane/s3_client.h"

#include <stdatomic.h>

struct s3_client {
    struct s3_store *store; // borrowed
    struct http_lane *lane;
    bool has_keys; // of its own
    struct s3_credentials keys;
    uint64_t *retries;     // NULL: not counted
    struct s3_call *calls; // not done, in the order of their beginning
    unsigned jitter;       // state of rand_r()
};

enum s3_verdict {
    S3_VERDICT_DONE,  // call->err and failure are set
    S3_VERDICT_AGAIN, // at once: something was learnt
    S3_VERDICT_LATER, // after a pause; call->err and failure are set in case it was the last
};
// Computes what proves the call's body.
void s3_prove(struct s3_call *call);
// What the end of the call's exchange means.
enum s3_verdict s3_judge(struct s3_client *c, struct s3_call *call);

#endif
