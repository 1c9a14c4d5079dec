// SPDX-License-Identifier: Apache-2.0
// What a transport must provide. Included only by dataplane/transport*.c, wire_socket.c and
// tests.
//
// Embed struct transport, listener and wire as the first member of your own. transport.c
// checks arguments before it calls you.
#ifndef DATAPLANE_TRANSPORT_IMPL_H
#define DATAPLANE_TRANSPORT_IMPL_H

#include "dataplane/transport.h"

struct transport_ops {
    const char *name; // as it appears in results and the log: "tcp", "memory"

    enum err (*dial)(struct transport *t, const char *address, int64_t timeout_ms,
                     const _Atomic bool *cancelled, struct wire **ret_wire,
                     struct failure *ret_failure);
    enum err (*listen)(struct transport *t, const char *address, struct listener **ret_listener,
                       struct failure *ret_failure);
    void (*destroy)(struct transport *t);
};

struct transport {
    const struct transport_ops *ops;
};

struct listener_ops {
    enum err (*accept)(struct listener *l, struct wire **ret_wire);
    void (*abort)(struct listener *l);
    void (*destroy)(struct listener *l);
};

struct listener {
    const struct listener_ops *ops;
    char address[WIRE_ADDRESS_MAX];
};

struct wire_ops {
    enum err (*send)(struct wire *w, struct iovec *iov, int n_iov);
    enum err (*receive)(struct wire *w, void *buf, size_t len);
    enum err (*receive_some)(struct wire *w, void *buf, size_t cap, size_t *ret_len);
    enum err (*wait_readable)(struct wire *w, int64_t timeout_ms);
    void (*set_stall_ms)(struct wire *w, int64_t stall_ms);
    void (*abort)(struct wire *w);
    void (*destroy)(struct wire *w);
    // optional
    void *(*lend)(struct wire *w, size_t len);
    enum err (*borrow)(struct wire *w, size_t cap, const void **ret_bytes, size_t *ret_len);
};

struct wire {
    const struct wire_ops *ops;
    const char *transport; // its name; set by transport_dial(), NULL if accepted
    char peer[WIRE_ADDRESS_MAX];
};

#endif
