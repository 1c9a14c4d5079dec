// SPDX-License-Identifier: Apache-2.0
#include "dataplane/conn_impl.h"

#include "common/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    COPY_MAX = 16 * 1024,   // a payload up to that is gathered with others
    DIRECT_MIN = 64 * 1024, // a DATA payload from that on is received where it belongs
    LINGER_MS = 2000,
};

enum err conn_new(struct wire *take_wire, struct conn **ret_conn) {
    struct conn *c = calloc(1, sizeof(*c));

    if (c) {
        c->wire = take_wire;
        c->frame_ms = CONN_FRAME_MS;
        c->in = malloc(CONN_BUFFER_BYTES);
        c->out = malloc(CONN_BUFFER_BYTES);
    }
    if (!c || !c->in || !c->out ||
        getrandom(c->local_nonce, sizeof(c->local_nonce), 0) != (ssize_t)sizeof(c->local_nonce)) {
        if (c) {
            conn_free(c);
        } else {
            wire_close(take_wire);
        }
        return ERR_NO_MEMORY;
    }
    *ret_conn = c;
    return OK;
}

void conn_free(struct conn *c) {
    if (c) {
        wire_close(c->wire);
        free(c->in);
        free(c->out);
        free(c);
    }
}

void conn_abort(struct conn *c) {
    wire_abort(c->wire);
}

const char *conn_agent(const struct conn *c) {
    return c->agent;
}

const char *conn_peer(const struct conn *c) {
    return wire_peer(c->wire);
}

const char *conn_transport(const struct conn *c) {
    return wire_transport(c->wire);
}

void conn_set_stall_ms(struct conn *c, int64_t stall_ms) {
    wire_set_stall_ms(c->wire, stall_ms);
}

size_t conn_payload_left(const struct conn *c) {
    return c->payload_left;
}

bool conn_ended(const struct conn *c) {
    return c->ended;
}

static enum err wire_failed(const struct conn *c, enum err e, const char *operation,
                            struct failure *ret_failure) {
    return failure_set(ret_failure, e, operation, NULL, 0, "%s: agent '%s' at %s", err_text(e),
                       c->agent[0] ? c->agent : "?", wire_peer(c->wire));
}

enum err conn_broke_protocol(const struct conn *c, struct failure *ret_failure, const char *what) {
    return failure_set(ret_failure, ERR_PROTOCOL, "receive", NULL, 0, "agent '%s' at %s sent %s",
                       c->agent[0] ? c->agent : "?", wire_peer(c->wire), what);
}

// ---- sending ----

enum err conn_flush(struct conn *c, struct failure *ret_failure) {
    struct iovec iov = {.iov_base = c->out, .iov_len = c->out_len};
    enum err e;

    if (c->out_len == 0) {
        return OK;
    }
    e = wire_send(c->wire, &iov, 1);
    c->out_len = 0;
    return e ? wire_failed(c, e, "send", ret_failure) : OK;
}

enum err conn_put(struct conn *c, const struct frame_header *h, const void *payload,
                  struct failure *ret_failure) {
    bool is_copied = h->length <= COPY_MAX;
    enum err e;

    if (c->out_len + FRAME_HEADER_BYTES + (is_copied ? h->length : 0) > CONN_BUFFER_BYTES) {
        e = conn_flush(c, ret_failure);
        if (e) {
            return e;
        }
    }
    if (c->out_len == 0) {
        c->out_since_us = clock_mono_us();
    }
    frame_header_encode(h, c->out + c->out_len);
    c->out_len += FRAME_HEADER_BYTES;
    if (!is_copied) {
        struct iovec iov[2] = {{.iov_base = c->out, .iov_len = c->out_len},
                               {.iov_base = (void *)(uintptr_t)payload, .iov_len = h->length}};
        c->out_len = 0;
        e = wire_send(c->wire, iov, 2);
        return e ? wire_failed(c, e, "send", ret_failure) : OK;
    }
    if (h->length > 0) {
        memcpy(c->out + c->out_len, payload, h->length);
        c->out_len += h->length;
    }
    return OK;
}

void *conn_lend(struct conn *c, size_t len) {
    return wire_lend(c->wire, len);
}

uint64_t conn_unflushed_us(const struct conn *c) {
    return c->out_len == 0 ? 0 : clock_mono_us() - c->out_since_us;
}

// ---- receiving ----

// Makes at least @need bytes (at most CONN_BUFFER_BYTES) available in the buffer.
static enum err fill(struct conn *c, size_t need, struct failure *ret_failure) {
    if (c->in_at == c->in_len) {
        c->in_at = c->in_len = 0;
    }
    if (c->in_at + need > CONN_BUFFER_BYTES) {
        memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
        c->in_len -= c->in_at;
        c->in_at = 0;
    }
    while (c->in_len - c->in_at < need) {
        size_t missing = need - (c->in_len - c->in_at), n = 0;
        size_t cap = c->is_bulk ? missing : CONN_BUFFER_BYTES - c->in_len;
        enum err e = wire_receive_some(c->wire, c->in + c->in_len, cap, &n);
        if (!e && n == 0) {
            e = ERR_PEER_LOST;
        }
        if (!e && clock_mono_ms(&clock_system) > c->frame_until_ms) {
            e = ERR_TIMEOUT;
        }
        if (e) {
            return wire_failed(c, e, "receive", ret_failure);
        }
        c->in_len += n;
    }
    return OK;
}

// The first byte of a frame is waited for without its deadline.
static enum err fill_first(struct conn *c, int64_t idle_ms, struct failure *ret_failure) {
    size_t n = 0;
    enum err e = OK;

    if (c->in_at < c->in_len) {
        return OK;
    }
    c->in_at = c->in_len = 0;
    if (idle_ms > 0) {
        e = wire_wait_readable(c->wire, idle_ms);
    }
    if (!e) {
        e = wire_receive_some(c->wire, c->in, c->is_bulk ? FRAME_HEADER_BYTES : CONN_BUFFER_BYTES,
                              &n);
    }
    if (!e && n == 0) {
        c->ended = true;
        e = ERR_PEER_LOST;
    }
    c->in_len = n;
    return e ? wire_failed(c, e, "receive", ret_failure) : OK;
}

static bool is_known(uint16_t type) {
    return type >= FRAME_HELLO && type <= FRAME_GOAWAY;
}

enum err conn_receive(struct conn *c, int64_t idle_ms, struct frame_header *ret_header,
                      struct failure *ret_failure) {
    for (;;) {
        struct frame_header h;
        enum err e = conn_skip_payload(c, c->payload_left, ret_failure);

        if (!e) {
            e = fill_first(c, idle_ms, ret_failure);
        }
        c->frame_until_ms = clock_mono_ms(&clock_system) + c->frame_ms;
        if (!e) {
            e = fill(c, FRAME_HEADER_BYTES, ret_failure);
        }
        if (e) {
            return e;
        }
        frame_header_decode(c->in + c->in_at, &h);
        c->in_at += FRAME_HEADER_BYTES;
        if (h.length > FRAME_PAYLOAD_MAX) {
            return conn_broke_protocol(c, ret_failure, "a frame that is longer than the limit");
        }
        if ((h.flags & ~FRAME_FLAG_OPTIONAL) != 0) {
            return conn_broke_protocol(c, ret_failure,
                                       "a frame with flags that were not agreed on");
        }
        c->payload_left = h.length;
        c->is_bulk = h.type == FRAME_DATA && h.length >= DIRECT_MIN;
        if (h.type == FRAME_DATA) { // taken at the caller's pace: only stalls count
            c->frame_until_ms = INT64_MAX;
        }
        if (is_known(h.type)) {
            *ret_header = h;
            return OK;
        }
        if (!(h.flags & FRAME_FLAG_OPTIONAL)) {
            return conn_broke_protocol(c, ret_failure, "a required frame of an unknown type");
        }
    }
}

enum err conn_receive_payload(struct conn *c, void *buf, size_t len, struct failure *ret_failure) {
    uint8_t *to = buf;

    if (len > c->payload_left) {
        return conn_broke_protocol(c, ret_failure, "a frame that is too short");
    }
    c->payload_left -= (uint32_t)len;
    while (len > 0) {
        size_t buffered = c->in_len - c->in_at;
        size_t n = len < buffered ? len : buffered;
        enum err e = OK;

        if (n > 0) {
            memcpy(to, c->in + c->in_at, n);
            c->in_at += n;
        } else if (c->is_bulk) {
            n = len;
            e = wire_receive(c->wire, to, n);
            if (e) {
                return wire_failed(c, e, "receive", ret_failure);
            }
        } else {
            e = fill(c, 1, ret_failure);
        }
        if (e) {
            return e;
        }
        to += n;
        len -= n;
    }
    return OK;
}

enum err conn_borrow_payload(struct conn *c, size_t cap, const void **ret_bytes, size_t *ret_len,
                             struct failure *ret_failure) {
    size_t most = cap < c->payload_left ? cap : c->payload_left, n = 0;
    enum err e = OK;

    if (c->is_bulk && most > 0 && c->in_at == c->in_len) {
        e = wire_borrow(c->wire, most, ret_bytes, &n);
    }
    if (e) {
        return wire_failed(c, e, "receive", ret_failure);
    }
    c->payload_left -= (uint32_t)n;
    *ret_len = n;
    return OK;
}

enum err conn_skip_payload(struct conn *c, size_t len, struct failure *ret_failure) {
    if (len > c->payload_left) {
        return conn_broke_protocol(c, ret_failure, "a frame that is too short");
    }
    c->payload_left -= (uint32_t)len;
    while (len > 0) {
        size_t buffered = c->in_len - c->in_at;
        size_t n = len < buffered ? len : buffered;
        enum err e = OK;

        if (n > 0) {
            c->in_at += n;
        } else if (c->is_bulk) { // the buffer is empty: it can be overwritten
            n = len < CONN_BUFFER_BYTES ? len : (size_t)CONN_BUFFER_BYTES;
            e = wire_receive(c->wire, c->in, n);
            if (e) {
                return wire_failed(c, e, "receive", ret_failure);
            }
        } else {
            e = fill(c, 1, ret_failure);
        }
        if (e) {
            return e;
        }
        len -= n;
    }
    return OK;
}

bool conn_has_buffered(const struct conn *c) {
    return c->in_at < c->in_len;
}

bool conn_is_quiet(struct conn *c) {
    return !conn_has_buffered(c) && c->payload_left == 0 && c->out_len == 0 &&
           wire_wait_readable(c->wire, 0) == ERR_TIMEOUT;
}

bool conn_peek_cancel(struct conn *c, uint64_t request) {
    size_t at;

    if (c->in_at == c->in_len) {
        c->in_at = c->in_len = 0;
    }
    if (c->in_len < CONN_BUFFER_BYTES && wire_wait_readable(c->wire, 0) == OK) {
        size_t n = 0;
        // An error or an end is found again by who receives next.
        if (wire_receive_some(c->wire, c->in + c->in_len, CONN_BUFFER_BYTES - c->in_len, &n) ==
            OK) {
            c->in_len += n;
        }
    }
    at = c->in_at + c->payload_left;
    while (at + FRAME_HEADER_BYTES <= c->in_len) {
        struct frame_header h;
        frame_header_decode(c->in + at, &h);
        if (h.type == FRAME_CANCEL && h.request == request) {
            return true;
        }
        at += FRAME_HEADER_BYTES + h.length;
    }
    return false;
}

void conn_refuse(struct conn *c, const struct failure *f) {
    uint8_t buf[FRAME_FAILURE_MAX];
    struct frame_header h = {.type = FRAME_ERROR};
    int64_t until_ms = clock_mono_ms(&clock_system) + LINGER_MS;
    size_t total = 0, n = 1;

    h.length = (uint32_t)frame_failure_encode(f, buf);
    wire_set_stall_ms(c->wire, LINGER_MS);
    if (conn_put(c, &h, buf, NULL) || conn_flush(c, NULL)) {
        return;
    }
    // Closing while bytes are unread would reset the connection, and the reason would be lost.
    while (n > 0 && total < CONN_LINGER_BYTES && clock_mono_ms(&clock_system) < until_ms) {
        if (wire_receive_some(c->wire, c->in, CONN_BUFFER_BYTES, &n)) {
            return;
        }
        total += n;
    }
}
