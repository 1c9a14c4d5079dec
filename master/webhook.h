// SPDX-License-Identifier: Apache-2.0
// A thread that posts small JSON texts to HTTP servers (libcurl), several at a time. No redirect
// is followed, no proxy asked, nothing but http and https spoken, what is answered is not kept,
// and everything has a deadline.
#ifndef MASTER_WEBHOOK_H
#define MASTER_WEBHOOK_H

#include "common/failure.h"
#include "common/rpc/loop.h"

#include <stddef.h>

struct webhook_sender;

struct webhook_options {
    int64_t connect_timeout_ms, timeout_ms;
    const char *ca_file; // NULL: the system's
};

enum { WEBHOOK_ANSWER_MAX_BYTES = 65536, WEBHOOK_ERROR_SIZE = FAILURE_TEXT_MAX };

struct webhook_result {
    bool stopped;                   // the sender was stopped: it may have been delivered or not
    long status;                    // of HTTP; 0: there was no answer
    char error[WEBHOOK_ERROR_SIZE]; // empty: it was taken (2xx)
    int64_t took_ms;
};

// @loop: where results come.
MUST_CHECK enum err webhook_sender_new(const struct webhook_options *o, struct loop *loop,
                                       struct webhook_sender **ret_sender,
                                       struct failure *ret_failure);
// Posts @body to @url with @headers ("Name: value"). All are copied. @done comes exactly once, on
// the loop, never from within this call. ERR_NO_MEMORY: it does not come.
MUST_CHECK enum err webhook_post(struct webhook_sender *s, const char *url,
                                 const char *const *headers, size_t n_headers, const void *body,
                                 size_t len,
                                 void (*done)(void *arg, const struct webhook_result *result),
                                 void *arg);
// Breaks off what is on its way: all results are posted to the loop when this returns.
void webhook_sender_free(struct webhook_sender *s);

#endif
