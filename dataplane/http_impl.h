// SPDX-License-Identifier: Apache-2.0
// What http.c and http_exchange.c share; not for others.
#ifndef DATAPLANE_HTTP_IMPL_H
#define DATAPLANE_HTTP_IMPL_H

#include "dataplane/http.h"

#include <curl/curl.h>
#include <stdatomic.h>

struct http_lane {
    // constant
    CURLM *multi;
    const char *ca_file, *proxy; // the pool's
    uint32_t connect_ms, stall_ms;
    // any thread
    atomic_bool aborted;
    // the lane's thread
    struct http_exchange *running; // linked by next
    struct http_exchange *stock;   // ended ones, for the next requests
    struct http_lane *next;        // in the pool
};

struct growing_text {
    char *bytes; // with a NUL after them
    size_t len, cap;
};

struct http_exchange {
    struct http_lane *lane;
    struct http_exchange *next;
    CURL *easy;
    struct curl_slist *headers;
    // the request
    const uint8_t *body;
    uint64_t body_bytes, body_sent;
    bool is_stream;
    // the response
    enum http_progress progress;
    int status;
    struct growing_text head; // "name: value\0" lines of the last response
    struct growing_text kept; // the body, or what of a stream was not read yet
    size_t kept_read;         // of it
    uint8_t *wanted;          // where http_read() wants the next bytes
    size_t wanted_cap, wanted_len;
    bool is_paused;
    enum err kept_err; // why the response could not be kept
    uint64_t moved_ms; // when a byte moved last
    struct failure failure;
    char error[CURL_ERROR_SIZE];
};

void http_exchange_free(struct http_exchange *x);
void http_exchange_ended(struct http_exchange *x, CURLcode code);
void http_lane_find_stalled(struct http_lane *l, uint64_t now_ms);

#endif
