// SPDX-License-Identifier: Apache-2.0
// HTTP requests over kept connections: the only user of libcurl.
//
// A *lane* is what one stream thread works with: connections and any number of exchanges under
// way at a time. Lanes come from a pool, which keeps them with their open connections for the
// next task. All calls on a lane and its exchanges are for one thread, and bytes move only
// during them; http_lane_abort() may come from any thread and makes a blocked call return
// ERR_CANCELLED soon. Nothing is retried here.
#ifndef DATAPLANE_HTTP_H
#define DATAPLANE_HTTP_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_pool;
struct http_lane;
struct http_exchange;

enum {
    HTTP_HEADERS_MAX_BYTES = 256 * 1024,    // of a response
    HTTP_BODY_MAX_BYTES = 32 * 1024 * 1024, // of a response that is kept whole
    HTTP_STREAM_BUFFER_BYTES = 256 * 1024,  // of a stream, that nobody reads yet
};

struct http_pool_options {
    const char *ca_file; // certificates to trust; NULL: the system's
    const char *proxy;   // URL; NULL: as the environment says (http_proxy, no_proxy, …)
    uint32_t connect_ms; // 0: 10 s
    uint32_t stall_ms;   // a request without a byte moving for so long fails; 0: 60 s
    uint32_t lanes_kept; // idle lanes that stay connected; 0: 32
};
// Thread-safe. The options are copied.
MUST_CHECK enum err http_pool_new(const struct http_pool_options *o, struct http_pool **ret_pool,
                                  struct failure *ret_failure);
void http_pool_free(struct http_pool *p); // after all its lanes were given back

MUST_CHECK enum err http_pool_take(struct http_pool *p, struct http_lane **ret_lane,
                                   struct failure *ret_failure);
// All exchanges of the lane must have ended. NULL is fine.
void http_pool_give_back(struct http_pool *p, struct http_lane *lane);
void http_lane_abort(struct http_lane *lane); // any thread, while the lane is taken
bool http_lane_is_aborted(const struct http_lane *lane);

struct http_request {
    const char *method;         // "GET", "HEAD", "PUT", …
    const char *url;            // sent as it is: not normalised
    const char *const *headers; // "Name: value"
    size_t n_headers;
    const void *body; // borrowed until the exchange ends
    uint64_t body_bytes;
    bool is_stream; // the response's body is taken with http_read(); else kept whole
};
// Begins; nothing has been sent when this returns.
MUST_CHECK enum err http_begin(struct http_lane *lane, const struct http_request *r,
                               struct http_exchange **ret_exchange, struct failure *ret_failure);

enum http_progress {
    HTTP_RUNNING,
    HTTP_STREAMING, // a stream's headers are here, and its body may follow
    HTTP_DONE,      // the response is complete
    HTTP_FAILED,    // http_failure() says why
};
enum http_progress http_progress(const struct http_exchange *x);
// Moves bytes of all exchanges of the lane, without waiting.
MUST_CHECK enum err http_lane_pump(struct http_lane *lane, struct failure *ret_failure);
// Waits until something happens in the lane, for at most @ms. ERR_CANCELLED: aborted.
MUST_CHECK enum err http_lane_wait(struct http_lane *lane, uint32_t ms,
                                   struct failure *ret_failure);
// Counts from now: how long the exchange may stall. For one that nobody drove for a while.
void http_touch(struct http_exchange *x);

// ERR_PEER_LOST, ERR_UNREACHABLE, ERR_TIMEOUT, ERR_UNAUTHENTICATED (a certificate), …
enum err http_failure(const struct http_exchange *x, struct failure *ret_failure);
int http_status(const struct http_exchange *x);
// The value of a response's header, by its lower-case name; NULL: there is none. Belongs to @x.
const char *http_header(const struct http_exchange *x, const char *name);
// Calls @each for every header, names in lower case.
void http_each_header(const struct http_exchange *x,
                      void (*each)(void *user, const char *name, const char *value), void *user);
// What was kept of a body; belongs to @x, with a NUL after it that does not count.
const char *http_body(const struct http_exchange *x, size_t *ret_len);
// The next bytes of a stream that is HTTP_STREAMING or HTTP_DONE: at least one, at most @cap;
// 0 at the end. Errors as http_failure(), and ERR_CANCELLED.
MUST_CHECK enum err http_read(struct http_exchange *x, void *buf, size_t cap, size_t *ret_len,
                              struct failure *ret_failure);
// Ends it; if it is not complete its connection is closed. NULL is fine.
void http_end(struct http_exchange *x);

#endif
