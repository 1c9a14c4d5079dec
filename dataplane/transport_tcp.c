// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_tcp.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "dataplane/wire_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,
    HOST_MAX = 256,
    CANCEL_LOOK_MS = 100, // how often a dial looks whether it was cancelled
};

struct tcp_listener {
    struct listener listener;
    int fd;
    int wake_fd; // eventfd: readable once aborted
};

// Cuts "host:port" or "[v6]:port".
static bool split_address(const char *address, char host[HOST_MAX], char port[8]) {
    const char *colon = strrchr(address, ':');
    const char *from = address;
    size_t len;

    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) >= 8) {
        return false;
    }
    len = (size_t)(colon - address);
    if (len >= 2 && from[0] == '[' && from[len - 1] == ']') {
        from++;
        len -= 2;
    }
    if (len >= HOST_MAX) {
        return false;
    }
    memcpy(host, from, len);
    host[len] = '\0';
    (void)snprintf(port, 8, "%s", colon + 1);
    return strspn(port, "0123456789") == strlen(port);
}

static enum err resolve(const char *address, bool to_listen, struct addrinfo **ret_list,
                        const char *operation, struct failure *ret_failure) {
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (to_listen ? AI_PASSIVE : 0),
    };
    char host[HOST_MAX], port[8];
    int result;

    if (!split_address(address, host, port)) {
        return failure_set(ret_failure, ERR_INVALID, operation, address, strlen(address),
                           "an address is written HOST:PORT");
    }
    if (!*host && !to_listen) {
        return failure_set(ret_failure, ERR_INVALID, operation, address, strlen(address),
                           "an address to connect to needs a host");
    }
    result = getaddrinfo(*host ? host : NULL, port, &hints, ret_list);
    if (result == EAI_MEMORY) {
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, address, strlen(address), NULL);
    }
    if (result != 0) {
        return failure_set(ret_failure, ERR_UNREACHABLE, operation, address, strlen(address),
                           "the name cannot be resolved: %s", gai_strerror(result));
    }
    return OK;
}

// Waits until @fd, which connects, is done. OK, ERR_TIMEOUT, ERR_CANCELLED; else *@ret_errnum.
static enum err wait_connected(int fd, int64_t until_ms, const _Atomic bool *cancelled,
                               int *ret_errnum) {
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int64_t left = until_ms - clock_mono_ms(&clock_system);
        socklen_t len = sizeof(*ret_errnum);
        int n;

        if (cancelled && atomic_load(cancelled)) {
            return ERR_CANCELLED;
        }
        if (left <= 0) {
            return ERR_TIMEOUT;
        }
        n = poll(&p, 1, left > CANCEL_LOOK_MS ? CANCEL_LOOK_MS : (int)left);
        if (n < 0 && errno != EINTR) {
            *ret_errnum = errno;
            return ERR_UNREACHABLE;
        }
        if (n > 0) {
            if (getsockopt(fd, SOL_SOCKET, SO_ERROR, ret_errnum, &len) != 0) {
                *ret_errnum = errno;
            }
            return *ret_errnum == 0 ? OK : ERR_UNREACHABLE;
        }
    }
}

static enum err connect_one(const struct addrinfo *a, int64_t until_ms,
                            const _Atomic bool *cancelled, int *ret_fd, int *ret_errnum) {
    AUTO(auto_close)
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    enum err e;
    int flags;

    if (fd < 0) {
        *ret_errnum = errno;
        return ERR_UNREACHABLE;
    }
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        if (errno != EINPROGRESS && errno != EINTR) {
            *ret_errnum = errno;
            return ERR_UNREACHABLE;
        }
        e = wait_connected(fd, until_ms, cancelled, ret_errnum);
        if (e) {
            return e;
        }
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        *ret_errnum = errno;
        return ERR_UNREACHABLE;
    }
    *ret_fd = take_fd(&fd);
    return OK;
}

static enum err tcp_dial(struct transport *t, const char *address, int64_t timeout_ms,
                         const _Atomic bool *cancelled, struct wire **ret_wire,
                         struct failure *ret_failure) {
    int64_t until_ms = clock_mono_ms(&clock_system) + timeout_ms;
    struct addrinfo *list = NULL;
    int fd = -1, errnum = 0;
    enum err e = resolve(address, false, &list, "connect", ret_failure);

    (void)t;
    if (e) {
        return e;
    }
    e = ERR_UNREACHABLE;
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        e = connect_one(a, until_ms, cancelled, &fd, &errnum);
        if (e != ERR_UNREACHABLE) {
            break;
        }
    }
    freeaddrinfo(list);
    if (e) {
        failure_set(ret_failure, e, "connect", address, strlen(address), "%s",
                    e == ERR_UNREACHABLE ? strerror(errnum) : err_text(e));
        if (ret_failure && e == ERR_UNREACHABLE) {
            ret_failure->errnum = errnum;
        }
        return e;
    }
    e = wire_socket_new(fd, address, true, ret_wire);
    return e ? failure_set(ret_failure, e, "connect", address, strlen(address), NULL) : OK;
}

static void format_address(const struct sockaddr *a, socklen_t len, char *buf, size_t cap) {
    char host[HOST_MAX], port[8];

    if (getnameinfo(a, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(buf, cap, "unknown");
    } else {
        (void)snprintf(buf, cap, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    }
}

static enum err tcp_accept(struct listener *l, struct wire **ret_wire) {
    struct tcp_listener *tl = (struct tcp_listener *)l;

    for (;;) {
        struct pollfd p[2] = {{.fd = tl->fd, .events = POLLIN},
                              {.fd = tl->wake_fd, .events = POLLIN}};
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        char peer[WIRE_ADDRESS_MAX];
        int fd;

        if (poll(p, 2, -1) < 0 && errno != EINTR) {
            return ERR_FULL;
        }
        if (p[1].revents) {
            return ERR_CANCELLED;
        }
        fd = accept4(tl->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
        if (fd >= 0) {
            format_address((const struct sockaddr *)&from, len, peer, sizeof(peer));
            return wire_socket_new(fd, peer, true, ret_wire);
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            return ERR_FULL;
        }
        // Others tell of a peer that is gone already: on to the next one.
    }
}

static void tcp_listener_abort(struct listener *l) {
    struct tcp_listener *tl = (struct tcp_listener *)l;
    const uint64_t one = 1;

    (void)!write(tl->wake_fd, &one, sizeof(one)); // cannot block: nobody counts it up
}

static void tcp_listener_destroy(struct listener *l) {
    struct tcp_listener *tl = (struct tcp_listener *)l;

    if (tl->fd >= 0) {
        close(tl->fd);
    }
    if (tl->wake_fd >= 0) {
        close(tl->wake_fd);
    }
    free(tl);
}

static const struct listener_ops tcp_listener_ops = {
    .accept = tcp_accept,
    .abort = tcp_listener_abort,
    .destroy = tcp_listener_destroy,
};

// 0 or errno.
static int listen_on(struct tcp_listener *tl, const struct addrinfo *a) {
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    const int on = 1;

    // Nonblocking: a peer that goes away between poll and accept must not hold up accept.
    tl->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (tl->fd < 0 || setsockopt(tl->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(tl->fd, a->ai_addr, a->ai_addrlen) != 0 || listen(tl->fd, BACKLOG) != 0 ||
        getsockname(tl->fd, (struct sockaddr *)&bound, &len) != 0) {
        int errnum = errno;
        if (tl->fd >= 0) {
            close(tl->fd);
            tl->fd = -1;
        }
        return errnum;
    }
    format_address((const struct sockaddr *)&bound, len, tl->listener.address,
                   sizeof(tl->listener.address));
    return 0;
}

static enum err tcp_listen(struct transport *t, const char *address, struct listener **ret_listener,
                           struct failure *ret_failure) {
    struct addrinfo *list = NULL;
    struct tcp_listener *tl;
    int errnum = EADDRNOTAVAIL;
    enum err e = resolve(address, true, &list, "listen", ret_failure);

    (void)t;
    if (e) {
        return e;
    }
    tl = calloc(1, sizeof(*tl));
    if (!tl) {
        freeaddrinfo(list);
        return failure_set(ret_failure, ERR_NO_MEMORY, "listen", address, strlen(address), NULL);
    }
    tl->listener.ops = &tcp_listener_ops;
    tl->fd = -1;
    tl->wake_fd = eventfd(0, EFD_CLOEXEC);
    for (const struct addrinfo *a = list; a && errnum != 0 && tl->wake_fd >= 0; a = a->ai_next) {
        errnum = listen_on(tl, a);
    }
    freeaddrinfo(list);
    if (tl->wake_fd >= 0 && tl->fd >= 0) {
        *ret_listener = &tl->listener;
        return OK;
    }
    tcp_listener_destroy(&tl->listener);
    if (errnum == EADDRINUSE) {
        return failure_set(ret_failure, ERR_BUSY_PORT, "listen", address, strlen(address), NULL);
    }
    return failure_errno(ret_failure, errnum, "listen", address, strlen(address));
}

static void tcp_destroy(struct transport *t) {
    free(t);
}

static const struct transport_ops tcp_ops = {
    .name = "tcp",
    .dial = tcp_dial,
    .listen = tcp_listen,
    .destroy = tcp_destroy,
};

enum err transport_tcp_new(struct transport **ret_transport) {
    struct transport *t = calloc(1, sizeof(*t));

    if (!t) {
        return ERR_NO_MEMORY;
    }
    t->ops = &tcp_ops;
    *ret_transport = t;
    return OK;
}
