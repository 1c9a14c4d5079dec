// SPDX-License-Identifier: Apache-2.0
// One data connection: a wire on which both ends have said who they are, and the frames on it.
//
// What is sent is gathered and leaves with conn_flush(), or when the buffer is full; what
// arrives is taken in pieces as large as there are, so that many small frames cost few system
// calls. One thread owns a conn; conn_abort() may come from any. After any error but those
// named, the connection is good for nothing but conn_free().
#ifndef DATAPLANE_CONN_H
#define DATAPLANE_CONN_H

#include "dataplane/frame.h"
#include "dataplane/transport.h"

enum {
    CONN_BUFFER_BYTES = 256 * 1024,      // each way
    CONN_FRAME_MS = 60 * 1000,           // a frame other than DATA is complete within that
    CONN_HELLO_MS = 10 * 1000,           // the same for the first frames
    CONN_LINGER_BYTES = 4 * 1024 * 1024, // what is still read from a peer that was refused
};

struct conn;

// Takes @take_wire, also on failure (ERR_NO_MEMORY).
MUST_CHECK enum err conn_new(struct wire *take_wire, struct conn **ret_conn);
void conn_free(struct conn *c);  // NULL is fine
void conn_abort(struct conn *c); // any thread

struct conn_hello {
    const char *cluster, *agent;   // ours
    const char *peer;              // who should be there
    int64_t timeout_ms;            // for the answer; 0 or more than that: CONN_HELLO_MS
    const _Atomic bool *cancelled; // looked at while waiting; NULL is fine
};
// Says HELLO as an executor. ERR_DENIED: another agent answers there; ERR_CANCELLED; or the
// peer's reason.
MUST_CHECK enum err conn_hello(struct conn *c, const struct conn_hello *o,
                               struct failure *ret_failure);
// The source's side: waits for HELLO and answers. @cluster NULL: nobody is served yet.
// What is refused was answered with the reason.
MUST_CHECK enum err conn_welcome(struct conn *c, const char *cluster, const char *agent,
                                 struct failure *ret_failure);
const char *conn_agent(const struct conn *c);     // the other's name, "" before the handshake
const char *conn_peer(const struct conn *c);      // its address
const char *conn_transport(const struct conn *c); // that dialled it; "" of one that was accepted
void conn_set_stall_ms(struct conn *c, int64_t stall_ms);
// The text whose signature proves that the executor of this connection holds the ticket's key.
// @is_source: which end we are; @agent: our name.
size_t conn_proof_text(const struct conn *c, bool is_source, const char *cluster, const char *agent,
                       const void *ticket, size_t ticket_len, uint8_t buf[FRAME_PROOF_TEXT_MAX]);

// Appends a frame; @h->length bytes at @payload. Small ones are copied, large ones sent at once
// with what waits before them.
MUST_CHECK enum err conn_put(struct conn *c, const struct frame_header *h, const void *payload,
                             struct failure *ret_failure);
// Memory for a payload of @len bytes that conn_put() need not copy; NULL: none. See wire_lend().
void *conn_lend(struct conn *c, size_t len);
MUST_CHECK enum err conn_flush(struct conn *c, struct failure *ret_failure);
// How long the oldest byte has waited for a flush.
uint64_t conn_unflushed_us(const struct conn *c);

// The next frame's header; what was left of the last one's payload is skipped, and so are
// unknown optional frames. @idle_ms: how long to wait for it (ERR_TIMEOUT, after which the
// connection is still good); 0: the stall time. ERR_PEER_LOST: also if the peer closed it;
// conn_ended() tells whether it did so between two frames. ERR_PROTOCOL.
MUST_CHECK enum err conn_receive(struct conn *c, int64_t idle_ms, struct frame_header *ret_header,
                                 struct failure *ret_failure);
bool conn_ended(const struct conn *c);
// The next @len bytes of the payload, at most what is left of it.
MUST_CHECK enum err conn_receive_payload(struct conn *c, void *buf, size_t len,
                                         struct failure *ret_failure);
// The same bytes of a DATA frame, up to @cap of them, where they arrived: good until the next call
// that receives. *@ret_len 0: they have to be received. See wire_borrow().
MUST_CHECK enum err conn_borrow_payload(struct conn *c, size_t cap, const void **ret_bytes,
                                        size_t *ret_len, struct failure *ret_failure);
MUST_CHECK enum err conn_skip_payload(struct conn *c, size_t len, struct failure *ret_failure);
size_t conn_payload_left(const struct conn *c);
// Is a frame, or a part of one, here already, without asking the kernel?
bool conn_has_buffered(const struct conn *c);
// Does the kernel say that nothing came and the peer is there? For idle connections.
bool conn_is_quiet(struct conn *c);
// Looks, without waiting, for a CANCEL of @request behind what was received so far.
bool conn_peek_cancel(struct conn *c, uint64_t request);

// Tells the peer why nothing more will come, and waits a little until it has closed.
void conn_refuse(struct conn *c, const struct failure *f);

#endif
