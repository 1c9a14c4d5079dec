// SPDX-License-Identifier: Apache-2.0
// gRPC over C core: one object a call, the same at the server's and the client's end, for
// unary and streaming methods alike.
//
// A call belongs to one loop and everything about it happens on that loop's thread. It is
// valid until its `closed` callback, which comes exactly once, last.
#ifndef COMMON_RPC_RPC_H
#define COMMON_RPC_RPC_H

#include "common/err.h"
#include "common/failure.h"
#include "common/rpc/loop.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc;
struct rpc_server;
struct rpc_channel;

enum {
    RPC_MAX_MESSAGE_BYTES = 4 << 20, // both directions, both ends, if nothing else is said
    // One message may unpack to at most this much memory (4 MiB of empty submessages would
    // take 223 MiB); past it the call ends with RESOURCE_EXHAUSTED.
    RPC_MAX_UNPACKED_BYTES = 32 << 20,
};

// How a call ended. @code is a gRPC status code; 0: OK.
struct rpc_status {
    int code;
    const char *detail;  // may be ""
    const void *failure; // trailer "sluice-failure-bin"; NULL: absent
    size_t failure_len;
};

// One method as seen from one end. Static and constant.
struct rpc_method {
    const char *path;                        // "/sluice.v1.FlowService/SubmitFlow"
    const ProtobufCMessageDescriptor *input; // what arrives at this end
    bool input_stream;                       // may more than one message arrive?
    size_t max_unpacked_bytes;               // 0: RPC_MAX_UNPACKED_BYTES
    // Server: the call has come in. May finish it at once. Optional.
    void (*opened)(struct rpc *r);
    // A message arrived; it is valid during the callback only.
    void (*message)(struct rpc *r, const ProtobufCMessage *m);
    void (*half_closed)(struct rpc *r); // the peer will send no more; optional
    void (*writable)(struct rpc *r);    // all that was queued has left; optional
    // The last callback; the call is freed after it.
    void (*closed)(struct rpc *r, const struct rpc_status *status);
};

// ---- a call, either end ----
// Packs and queues. false: the call is over, nothing was sent.
bool rpc_send(struct rpc *r, const ProtobufCMessage *m);
// Server: end the call once the queue has left. @f, if not NULL, travels as the trailer
// "sluice-failure-bin" (a packed sluice.v1.Failure) and @detail may be NULL for its message.
void rpc_finish(struct rpc *r, int grpc_status, const char *detail);
void rpc_finish_failure(struct rpc *r, const struct failure *f); // status from f->err
// Client: no more messages from here.
void rpc_half_close(struct rpc *r);
void rpc_cancel(struct rpc *r);            // ends soon; `closed` still comes
void rpc_pause(struct rpc *r, bool pause); // back-pressure: stop or go on taking messages
size_t rpc_queued_messages(const struct rpc *r);
size_t rpc_queued_bytes(const struct rpc *r);
struct loop *rpc_loop(const struct rpc *r);
const struct rpc_method *rpc_method_of(const struct rpc *r);
void rpc_set_user(struct rpc *r, void *user);
void *rpc_user(const struct rpc *r);
// Server: what rpc_server_add() was given.
void *rpc_server_user(const struct rpc *r);
int64_t rpc_ms_left(const struct rpc *r); // until the caller's deadline; INT64_MAX: none
// The address of the peer, "ipv4:127.0.0.1:4711"; free() it.
char *rpc_peer(const struct rpc *r);
// The common name of the peer's certificate; false: it gave none.
bool rpc_peer_name(const struct rpc *r, char *buf, size_t cap);

// ---- server ----
struct rpc_tls {
    const char *certificate; // files in PEM; read again for each new connection
    const char *key;
    const char *ca; // peers must have a certificate of this authority
};
// Are the files there, in PEM, and does the key belong to the certificate? Server and client.
// ERR_CONFIG and the errors of reading, with a failure that names the file.
MUST_CHECK enum err rpc_tls_check(const struct rpc_tls *tls, struct failure *ret_failure);
// Serves on @loops (at least one), spread over them; one call stays on one loop. NULL: out of
// memory.
struct rpc_server *rpc_server_new(struct loop *const *loops, size_t n_loops);
// The same, for messages of at most @max_bytes from clients: a call with a larger one ends with
// RESOURCE_EXHAUSTED, without what it brought being kept.
struct rpc_server *rpc_server_new_bounded(struct loop *const *loops, size_t n_loops,
                                          uint32_t max_bytes);
// Before start. @user is what rpc_server_user() returns in the method's calls. A path that was
// added already is replaced.
void rpc_server_add(struct rpc_server *s, const struct rpc_method *m, void *user);
// @addr is "host:port", port 0: any. @tls NULL: plaintext. ERR_BUSY_PORT and others fill the
// failure. *@ret_port is the port that was taken.
MUST_CHECK enum err rpc_server_listen(struct rpc_server *s, const char *addr,
                                      const struct rpc_tls *tls, int *ret_port,
                                      struct failure *ret_failure);
// Before start: more calls than so many at a time, of whichever method, are refused with ERR_FULL,
// and @setting is what the failure says to raise. 0, the default: no limit.
void rpc_server_limit_calls(struct rpc_server *s, uint32_t max, const char *setting);
// Calls that are open, and how many were refused so far. Any thread.
void rpc_server_count_calls(const struct rpc_server *s, uint32_t *ret_open, uint64_t *ret_refused);
// The largest message that came, and how many were too large so far, in bytes or unpacked. Any
// thread.
void rpc_server_count_messages(const struct rpc_server *s, uint64_t *ret_largest_bytes,
                               uint64_t *ret_refused);
void rpc_server_start(struct rpc_server *s);
// Refuses new calls, cancels those still open after @grace_ms, then calls @done on loops[0].
void rpc_server_drain(struct rpc_server *s, int64_t grace_ms, void (*done)(void *), void *arg);
void rpc_server_free(struct rpc_server *s); // after it was drained (or never started)

// The standard grpc.health.v1.Health service; serving from the start until told otherwise. It
// knows the services whose methods were added, and "" for the server as a whole.
void rpc_health_add(struct rpc_server *s);
void rpc_health_set_serving(struct rpc_server *s, bool serving); // any thread
// Server reflection, v1 and v1alpha, over a packed google.protobuf.FileDescriptorSet that
// outlives the server, for the services named (NULL-terminated).
MUST_CHECK enum err rpc_reflection_add(struct rpc_server *s, const void *descriptor_set, size_t len,
                                       const char *const *services);

// ---- client ----
// Connects in the background, again and again (backoff 50 ms to 1 s). @tls NULL: plaintext.
// @addr: "host:port", or up to RPC_ADDRESSES_MAX of them, joined by commas: of a master and its
// standbys. Calls go to one of them; rpc_unary() tries the others by itself when it cannot be
// reached, who makes other calls says rpc_channel_next() when one has ended for that reason.
enum { RPC_ADDRESSES_MAX = 8 };
struct rpc_channel *rpc_channel_new(const char *addr, const struct rpc_tls *tls);
// Keepalive on: a silent server is noticed after @keepalive_ms + 5 s. 0: off.
struct rpc_channel *rpc_channel_new_keepalive(const char *addr, const struct rpc_tls *tls,
                                              int64_t keepalive_ms);
void rpc_channel_free(struct rpc_channel *c);
// Calls go to the next address from now on. False: there is only one. Any thread.
bool rpc_channel_next(struct rpc_channel *c);
// Where calls go now. Any thread.
const char *rpc_channel_address(const struct rpc_channel *c);
// On the loop's thread. @timeout_ms 0: no deadline. @wait_for_ready: wait for a connection
// rather than failing (if there is only one address). NULL: out of memory; no callback comes.
struct rpc *rpc_call(struct loop *l, struct rpc_channel *c, const struct rpc_method *m,
                     int64_t timeout_ms, bool wait_for_ready, void *user);

// For the command line: one unary call on a private loop, blocking. The caller frees
// *@ret_reply with protobuf_c_message_free_unpacked(). On failure @ret_failure is what the
// server sent, or ERR_UNREACHABLE, ERR_TIMEOUT, …
MUST_CHECK enum err rpc_unary(struct rpc_channel *c, const char *path,
                              const ProtobufCMessage *input,
                              const ProtobufCMessageDescriptor *output, int64_t timeout_ms,
                              ProtobufCMessage **ret_reply, struct failure *ret_failure);
// A packed sluice.v1.Failure and back. Always fills @ret_failure.
void rpc_status_failure(const struct rpc_status *s, struct failure *ret_failure);

#endif
