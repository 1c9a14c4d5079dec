// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_rdma.h"

#include "common/address.h"
#include "common/clock.h"
#include "dataplane/rdma_listener.h"
#include "dataplane/rdma_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CANCEL_LOOK_MS = 100,  // how often a dial looks whether it was cancelled
    REJECTED_BY_PEER = 28, // in an event's status: by rdma_reject(); else nobody listens
};

struct rdma_transport {
    struct transport transport; // first member
    struct rdma_pool *pool;
};

// One attempt to connect.
struct dial {
    const char *address;
    int64_t until_ms;
    const _Atomic bool *cancelled;
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    struct wire *wire; // owns events and id, once it is there
};

static enum err cannot(const struct dial *d, enum err e, const char *why, struct failure *f) {
    return failure_set(f, e, "connect", d->address, strlen(d->address), "%s",
                       why ? why : err_text(e));
}

static enum err cannot_errno(const struct dial *d, int errnum, struct failure *f) {
    if (errnum == ENODEV || errnum == ENXIO || errnum == ENETUNREACH || errnum == EHOSTUNREACH ||
        errnum == EADDRNOTAVAIL) {
        cannot(d, ERR_UNREACHABLE, "no RDMA device leads there", f);
        if (f) {
            f->errnum = errnum;
        }
        return ERR_UNREACHABLE;
    }
    return failure_errno(f, errnum, "connect", d->address, strlen(d->address));
}

// The next event, or ERR_TIMEOUT, ERR_CANCELLED. To be acknowledged.
static enum err next_event(const struct dial *d, struct rdma_cm_event **ret_event,
                           struct failure *f) {
    for (;;) {
        struct pollfd p = {.fd = d->events->fd, .events = POLLIN};
        int64_t left_ms = d->until_ms - clock_mono_ms(&clock_system);

        if (d->cancelled && atomic_load(d->cancelled)) {
            return cannot(d, ERR_CANCELLED, NULL, f);
        }
        if (left_ms <= 0) {
            return cannot(d, ERR_TIMEOUT, NULL, f);
        }
        (void)poll(&p, 1, left_ms > CANCEL_LOOK_MS ? CANCEL_LOOK_MS : (int)left_ms);
        if (p.revents && rdma_get_cm_event(d->events, ret_event) == 0) {
            return OK;
        }
        if (p.revents && errno != EAGAIN && errno != EINTR) {
            return cannot_errno(d, errno, f);
        }
    }
}

static enum err refused(const struct dial *d, const struct rdma_cm_event *event,
                        struct failure *f) {
    const uint8_t *reason = event->param.conn.private_data;

    switch ((int)event->event) {
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
        return cannot(d, ERR_UNREACHABLE, "no RDMA device leads there", f);
    case RDMA_CM_EVENT_REJECTED:
        if (event->status != REJECTED_BY_PEER) {
            return cannot(d, ERR_UNREACHABLE, "nobody listens there", f);
        }
        if (event->param.conn.private_data_len > 0 && reason && reason[0] == RDMA_REFUSED_FULL) {
            return cannot(d, ERR_FULL, "the peer has no registered memory left", f);
        }
        return cannot(d, ERR_UNREACHABLE, "the peer refuses the connection", f);
    default:
        failure_set(f, ERR_UNREACHABLE, "connect", d->address, strlen(d->address), "%s (status %d)",
                    rdma_event_str(event->event), event->status);
        return ERR_UNREACHABLE;
    }
}

// Waits for @want; a greeting that comes with it goes to the wire.
static enum err expect(const struct dial *d, enum rdma_cm_event_type want, struct failure *f) {
    struct rdma_cm_event *event = NULL;
    enum err e = next_event(d, &event, f);

    if (e || !event) {
        return e ? e : cannot(d, ERR_IO, NULL, f);
    }
    if (event->event != want) {
        e = refused(d, event, f);
    } else if (want == RDMA_CM_EVENT_ESTABLISHED &&
               rdma_wire_greet(d->wire, event->param.conn.private_data,
                               event->param.conn.private_data_len)) {
        e = cannot(d, ERR_PROTOCOL, "what answers there is not a Sluice agent of our version", f);
    }
    rdma_ack_cm_event(event);
    return e;
}

static int left_ms(const struct dial *d) {
    int64_t left = d->until_ms - clock_mono_ms(&clock_system);

    return left > INT32_MAX ? INT32_MAX : left > 1 ? (int)left : 1;
}

static enum err connect_to(struct dial *d, struct rdma_pool *pool, struct sockaddr *to,
                           struct failure *f) {
    uint8_t greeting[RDMA_GREETING_BYTES] = {0};
    struct rdma_conn_param parameters = rdma_wire_parameters(greeting);
    enum err e;

    d->events = rdma_create_event_channel();
    if (!d->events || fcntl(d->events->fd, F_SETFL, O_NONBLOCK) != 0 ||
        rdma_create_id(d->events, &d->id, NULL, RDMA_PS_TCP) != 0 ||
        rdma_resolve_addr(d->id, NULL, to, left_ms(d)) != 0) {
        return cannot_errno(d, errno, f);
    }
    e = expect(d, RDMA_CM_EVENT_ADDR_RESOLVED, f);
    if (e) {
        return e;
    }
    if (rdma_resolve_route(d->id, left_ms(d)) != 0) {
        return cannot_errno(d, errno, f);
    }
    e = expect(d, RDMA_CM_EVENT_ROUTE_RESOLVED, f);
    if (!e) {
        e = rdma_wire_new(
            &(struct rdma_wire_options){
                .pool = pool, .id = d->id, .events = d->events, .peer = d->address, .offers = true},
            &d->wire, f);
    }
    if (e) {
        return e;
    }
    rdma_wire_greeting(greeting);
    if (rdma_connect(d->id, &parameters) != 0) {
        return cannot_errno(d, errno, f);
    }
    e = expect(d, RDMA_CM_EVENT_ESTABLISHED, f);
    if (!e) {
        rdma_wire_begin(d->wire);
    }
    return e;
}

static void give_up(struct dial *d) {
    if (d->wire) {
        wire_abort(d->wire); // nothing was sent yet
        wire_close(d->wire);
    } else {
        if (d->id) {
            (void)rdma_destroy_id(d->id);
        }
        if (d->events) {
            rdma_destroy_event_channel(d->events);
        }
    }
    d->wire = NULL;
    d->id = NULL;
    d->events = NULL;
}

static enum err resolve(const char *address, struct addrinfo **ret_list, struct failure *f) {
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct address a;
    char port[8];
    enum err e = address_parse(address, &a, f);
    int result;

    if (e) {
        return e;
    }
    if (!*a.host) {
        return failure_set(f, ERR_INVALID, "connect", address, strlen(address),
                           "an address to connect to needs a host");
    }
    (void)snprintf(port, sizeof(port), "%d", a.port);
    result = getaddrinfo(a.host, port, &hints, ret_list);
    return result == 0 ? OK
                       : failure_set(f, ERR_UNREACHABLE, "connect", address, strlen(address),
                                     "the name cannot be resolved: %s", gai_strerror(result));
}

static enum err rdma_transport_dial(struct transport *t, const char *address, int64_t timeout_ms,
                                    const _Atomic bool *cancelled, struct wire **ret_wire,
                                    struct failure *ret_failure) {
    struct rdma_transport *r = (struct rdma_transport *)(void *)t;
    struct dial d = {.address = address,
                     .until_ms = clock_mono_ms(&clock_system) + timeout_ms,
                     .cancelled = cancelled};
    struct addrinfo *list = NULL;
    enum err e = resolve(address, &list, ret_failure);

    if (e) {
        return e;
    }
    e = ERR_UNREACHABLE;
    for (const struct addrinfo *a = list; a && e; a = a->ai_next) {
        e = connect_to(&d, r->pool, a->ai_addr, ret_failure);
        if (e) {
            give_up(&d);
        }
        if (e == ERR_CANCELLED || e == ERR_TIMEOUT) {
            break;
        }
    }
    freeaddrinfo(list);
    if (!e) {
        *ret_wire = d.wire;
    }
    return e;
}

static enum err rdma_transport_listen(struct transport *t, const char *address,
                                      struct listener **ret_listener, struct failure *ret_failure) {
    struct rdma_transport *r = (struct rdma_transport *)(void *)t;

    return rdma_listener_new(r->pool, address, ret_listener, ret_failure);
}

static void rdma_transport_destroy(struct transport *t) {
    struct rdma_transport *r = (struct rdma_transport *)(void *)t;

    rdma_pool_free(r->pool);
    free(r);
}

static const struct transport_ops ops = {
    .name = "rdma",
    .dial = rdma_transport_dial,
    .listen = rdma_transport_listen,
    .destroy = rdma_transport_destroy,
};

enum err transport_rdma_new(const struct transport_rdma_options *o,
                            struct transport **ret_transport, struct failure *ret_failure) {
    struct rdma_transport *r = calloc(1, sizeof(*r));
    enum err e;

    if (!r) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "register memory", NULL, 0, NULL);
    }
    r->transport.ops = &ops;
    e = rdma_pool_new(o->pool_bytes > 0 ? o->pool_bytes : RDMA_POOL_BYTES, &r->pool, ret_failure);
    if (e) {
        free(r);
        return e;
    }
    *ret_transport = &r->transport;
    return OK;
}
