// SPDX-License-Identifier: Apache-2.0
// Frames and payload between two agents, whatever the wire.
//
// For callers. To write a new transport read transport_impl.h. Calls block, on the stream
// thread that uses the connection; wire_abort() may come from any thread and makes blocked
// calls return ERR_CANCELLED. One thread sends and one thread receives at a time.
#ifndef DATAPLANE_TRANSPORT_H
#define DATAPLANE_TRANSPORT_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct transport; // a family of wires: "tcp", "memory"
struct listener;
struct wire;      // one connected peer: an ordered stream of bytes

const char *transport_name(const struct transport *t);
void transport_free(struct transport *t);

// ERR_UNREACHABLE, ERR_TIMEOUT after @timeout_ms.
MUST_CHECK enum err transport_dial(struct transport *t, const char *address, int64_t timeout_ms,
                                   struct wire **ret_wire, struct failure *ret_failure);
// ERR_BUSY_PORT.
MUST_CHECK enum err transport_listen(struct transport *t, const char *address,
                                     struct listener **ret_listener, struct failure *ret_failure);
const char *listener_address(const struct listener *l); // "host:port" with the port taken
// ERR_CANCELLED after listener_abort().
MUST_CHECK enum err listener_accept(struct listener *l, struct wire **ret_wire);
void listener_abort(struct listener *l); // any thread
void listener_free(struct listener *l);

// All of @iov, or an error. ERR_PEER_LOST; ERR_TIMEOUT: no byte moved for the wire's stall time.
MUST_CHECK enum err wire_send(struct wire *w, struct iovec *iov, int n_iov);
// Exactly @len bytes. ERR_PEER_LOST also at an end in the middle; *@ret_clean_end (may be NULL)
// tells that the peer closed before the first byte.
MUST_CHECK enum err wire_receive(struct wire *w, void *buf, size_t len, bool *ret_clean_end);
// Is there something to receive? Waits up to @timeout_ms (0: only looks; -1: the stall time
// does not apply, wait for ever). ERR_TIMEOUT: no.
MUST_CHECK enum err wire_wait_readable(struct wire *w, int64_t timeout_ms);
// Optional fast path: @len bytes of @fd from @offset. ERR_UNIMPLEMENTED: use wire_send().
// ERR_SOURCE_CHANGED: the file became shorter (part of it was sent: close the wire).
MUST_CHECK enum err wire_send_file(struct wire *w, int fd, uint64_t offset, uint64_t len);
void wire_set_stall_ms(struct wire *w, int64_t stall_ms); // 0: 30,000
const char *wire_peer(const struct wire *w);              // address, for the log
void wire_abort(struct wire *w);                          // any thread
void wire_close(struct wire *w);                          // NULL is fine

#endif
