// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_impl.h"

#include <string.h>

const char *transport_name(const struct transport *t) {
    return t->ops->name;
}

void transport_free(struct transport *t) {
    if (t) {
        t->ops->destroy(t);
    }
}

static bool is_address(const char *address) {
    return address && *address && strlen(address) < WIRE_ADDRESS_MAX;
}

enum err transport_dial(struct transport *t, const char *address, int64_t timeout_ms,
                        const _Atomic bool *cancelled, struct wire **ret_wire,
                        struct failure *ret_failure) {
    if (!is_address(address) || timeout_ms <= 0) {
        return failure_set(ret_failure, ERR_INVALID, "connect", address,
                           address ? strlen(address) : 0, "this is not an address to connect to");
    }
    enum err e = t->ops->dial(t, address, timeout_ms, cancelled, ret_wire, ret_failure);
    if (e == OK) {
        (*ret_wire)->transport = t->ops->name;
    }
    return e;
}

enum err transport_listen(struct transport *t, const char *address, struct listener **ret_listener,
                          struct failure *ret_failure) {
    if (!is_address(address)) {
        return failure_set(ret_failure, ERR_INVALID, "listen", address,
                           address ? strlen(address) : 0, "this is not an address to listen on");
    }
    return t->ops->listen(t, address, ret_listener, ret_failure);
}

const char *listener_address(const struct listener *l) {
    return l->address;
}

enum err listener_accept(struct listener *l, struct wire **ret_wire) {
    return l->ops->accept(l, ret_wire);
}

void listener_abort(struct listener *l) {
    l->ops->abort(l);
}

void listener_free(struct listener *l) {
    if (l) {
        l->ops->destroy(l);
    }
}

enum err wire_send(struct wire *w, struct iovec *iov, int n_iov) {
    if (n_iov < 0 || n_iov > WIRE_MAX_IOV) {
        return ERR_INVALID;
    }
    return w->ops->send(w, iov, n_iov);
}

void *wire_lend(struct wire *w, size_t len) {
    return w->ops->lend ? w->ops->lend(w, len) : NULL;
}

enum err wire_receive(struct wire *w, void *buf, size_t len) {
    return len == 0 ? OK : w->ops->receive(w, buf, len);
}

enum err wire_receive_some(struct wire *w, void *buf, size_t cap, size_t *ret_len) {
    return cap == 0 ? ERR_INVALID : w->ops->receive_some(w, buf, cap, ret_len);
}

enum err wire_borrow(struct wire *w, size_t cap, const void **ret_bytes, size_t *ret_len) {
    if (cap == 0) {
        return ERR_INVALID;
    }
    if (!w->ops->borrow) {
        *ret_len = 0;
        return OK;
    }
    return w->ops->borrow(w, cap, ret_bytes, ret_len);
}

enum err wire_wait_readable(struct wire *w, int64_t timeout_ms) {
    return timeout_ms < 0 ? ERR_INVALID : w->ops->wait_readable(w, timeout_ms);
}

void wire_set_stall_ms(struct wire *w, int64_t stall_ms) {
    w->ops->set_stall_ms(w, stall_ms > 0 ? stall_ms : WIRE_STALL_MS);
}

const char *wire_peer(const struct wire *w) {
    return w->peer;
}

const char *wire_transport(const struct wire *w) {
    return w->transport ? w->transport : "";
}

void wire_abort(struct wire *w) {
    w->ops->abort(w);
}

void wire_close(struct wire *w) {
    if (w) {
        w->ops->destroy(w);
    }
}
