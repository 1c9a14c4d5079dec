// SPDX-License-Identifier: Apache-2.0
// Ordered bytes between two agents, whatever the wire.
//
// For callers. To write a new transport read transport_impl.h. Calls block, on the stream
// thread that uses the wire; wire_abort() may come from any thread and makes blocked calls
// return ERR_CANCELLED. One thread sends and one thread receives at a time. A wire is released
// by its owner, after no other thread can abort it any more.
#ifndef DATAPLANE_TRANSPORT_H
#define DATAPLANE_TRANSPORT_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct transport; // a family of wires: "tcp", "rdma", "memory"
struct listener;
struct wire; // one connected peer: an ordered stream of bytes

enum {
    WIRE_STALL_MS = 30 * 1000, // the default
    WIRE_ADDRESS_MAX = 320,    // of an address, with its NUL
    WIRE_MAX_IOV = 16,
};

const char *transport_name(const struct transport *t);
void transport_free(struct transport *t); // NULL is fine

// ERR_INVALID: not an address. ERR_UNREACHABLE; ERR_TIMEOUT after @timeout_ms; ERR_CANCELLED
// soon after *@cancelled (may be NULL) became true.
MUST_CHECK enum err transport_dial(struct transport *t, const char *address, int64_t timeout_ms,
                                   const _Atomic bool *cancelled, struct wire **ret_wire,
                                   struct failure *ret_failure);
// ERR_BUSY_PORT; ERR_INVALID: not an address.
MUST_CHECK enum err transport_listen(struct transport *t, const char *address,
                                     struct listener **ret_listener, struct failure *ret_failure);
const char *listener_address(const struct listener *l); // "host:port" with the port taken
// ERR_CANCELLED after listener_abort(). ERR_FULL: no descriptor or memory is left for another
// one; wait a little before the next call.
MUST_CHECK enum err listener_accept(struct listener *l, struct wire **ret_wire);
void listener_abort(struct listener *l); // any thread
void listener_free(struct listener *l);  // NULL is fine

// All of @iov (at most WIRE_MAX_IOV; changed meanwhile), or an error. ERR_PEER_LOST;
// ERR_TIMEOUT: no byte moved for the wire's stall time.
MUST_CHECK enum err wire_send(struct wire *w, struct iovec *iov, int n_iov);
// Memory of the wire's own for @len bytes: a piece that begins there is sent without being copied.
// NULL: there is none (now). It is good until wire_send() had it in hand, or the next call of this,
// which may give the same again. By the thread that sends.
void *wire_lend(struct wire *w, size_t len);
// Exactly @len bytes. ERR_PEER_LOST also if the peer closes in the middle.
MUST_CHECK enum err wire_receive(struct wire *w, void *buf, size_t len);
// What there is, at least one byte, at most @cap; *@ret_len is 0 when the peer has closed.
MUST_CHECK enum err wire_receive_some(struct wire *w, void *buf, size_t cap, size_t *ret_len);
// The next bytes where they arrived, at least one, at most @cap, instead of a copy of them: they
// are good until the next call that receives or waits. *@ret_len 0: not these, wire_receive() has
// them. Errors are those of wire_receive().
MUST_CHECK enum err wire_borrow(struct wire *w, size_t cap, const void **ret_bytes,
                                size_t *ret_len);
// Is there something to receive (or an end)? Waits up to @timeout_ms (0: only looks).
// ERR_TIMEOUT: no.
MUST_CHECK enum err wire_wait_readable(struct wire *w, int64_t timeout_ms);
// How long a call may wait without a byte moving; 0: WIRE_STALL_MS.
void wire_set_stall_ms(struct wire *w, int64_t stall_ms);
const char *wire_peer(const struct wire *w); // its address, for the log
// The name of the transport that dialled it; "" of one that was accepted.
const char *wire_transport(const struct wire *w);
void wire_abort(struct wire *w); // any thread
void wire_close(struct wire *w); // NULL is fine

#endif
