// SPDX-License-Identifier: Apache-2.0
#include "dataplane/wire_socket.h"

#include "common/clock.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// The socket blocks, with the stall time as its timeout: one system call for each piece, no
// poll before it. A call that moved some bytes before its time was over returns them, so a
// stall is noticed after one to two stall times.
struct wire_socket {
    struct wire wire;
    int fd;
    bool is_tcp;
    _Atomic bool aborted;
};

static enum err broken(const struct wire_socket *s, int errnum) {
    if (atomic_load(&s->aborted)) {
        return ERR_CANCELLED;
    }
    switch (errnum) {
    case EAGAIN:
    case ETIMEDOUT: // TCP_USER_TIMEOUT
        return ERR_TIMEOUT;
    case ENOMEM:
    case ENOBUFS: return ERR_NO_MEMORY;
    default: return ERR_PEER_LOST;
    }
}

static void consume(struct iovec **iov, int *n_iov, size_t sent) {
    while (*n_iov > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        (*iov)++;
        (*n_iov)--;
    }
    if (*n_iov > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= sent;
    }
}

static enum err socket_send(struct wire *w, struct iovec *iov, int n_iov) {
    struct wire_socket *s = (struct wire_socket *)w;

    consume(&iov, &n_iov, 0); // drops empty pieces
    while (n_iov > 0) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)n_iov};
        ssize_t n = sendmsg(s->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return broken(s, errno);
        }
        consume(&iov, &n_iov, n > 0 ? (size_t)n : 0);
    }
    return OK;
}

static enum err socket_receive(struct wire *w, void *buf, size_t len) {
    struct wire_socket *s = (struct wire_socket *)w;
    size_t done = 0;

    while (done < len) {
        ssize_t n = recv(s->fd, (char *)buf + done, len - done, MSG_WAITALL);
        if (n == 0) {
            return broken(s, 0);
        }
        if (n < 0 && errno != EINTR) {
            return broken(s, errno);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return OK;
}

static enum err socket_receive_some(struct wire *w, void *buf, size_t cap, size_t *ret_len) {
    struct wire_socket *s = (struct wire_socket *)w;

    for (;;) {
        ssize_t n = recv(s->fd, buf, cap, 0);
        if (n > 0 || (n == 0 && !atomic_load(&s->aborted))) {
            *ret_len = (size_t)n;
            return OK;
        }
        if (n == 0 || errno != EINTR) {
            return broken(s, n == 0 ? 0 : errno);
        }
    }
}

static enum err socket_wait_readable(struct wire *w, int64_t timeout_ms) {
    struct wire_socket *s = (struct wire_socket *)w;
    int64_t until = timeout_ms > 0 ? clock_mono_ms(&clock_system) + timeout_ms : 0;

    for (;;) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        int n = poll(&p, 1, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);
        if (atomic_load(&s->aborted)) {
            return ERR_CANCELLED;
        }
        if (n > 0) {
            return OK;
        }
        if (n < 0 && errno != EINTR) {
            return broken(s, errno);
        }
        if (timeout_ms > 0) {
            timeout_ms = until - clock_mono_ms(&clock_system);
        }
        if (timeout_ms <= 0) {
            return ERR_TIMEOUT;
        }
    }
}

static void socket_set_stall_ms(struct wire *w, int64_t stall_ms) {
    struct wire_socket *s = (struct wire_socket *)w;
    struct timeval t = {.tv_sec = stall_ms / 1000, .tv_usec = (stall_ms % 1000) * 1000};

    // These fail for no socket of the right kind; a wrong stall time would only be a longer one.
    (void)setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    (void)setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    if (s->is_tcp) {
        unsigned user_ms = stall_ms > INT_MAX ? INT_MAX : (unsigned)stall_ms;
        (void)setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
    }
}

static void socket_abort(struct wire *w) {
    struct wire_socket *s = (struct wire_socket *)w;

    atomic_store(&s->aborted, true);
    (void)shutdown(s->fd, SHUT_RDWR);
}

static void socket_destroy(struct wire *w) {
    struct wire_socket *s = (struct wire_socket *)w;

    close(s->fd);
    free(s);
}

static const struct wire_ops socket_ops = {
    .send = socket_send,
    .receive = socket_receive,
    .receive_some = socket_receive_some,
    .wait_readable = socket_wait_readable,
    .set_stall_ms = socket_set_stall_ms,
    .abort = socket_abort,
    .destroy = socket_destroy,
};

static void tune_tcp(int fd) {
    const int on = 1, idle_s = 30, interval_s = 10, probes = 3;

    // Buffers are left to the kernel's tuning: a fixed size would switch it off.
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

enum err wire_socket_new(int take_fd, const char *peer, bool is_tcp, struct wire **ret_wire) {
    struct wire_socket *s = calloc(1, sizeof(*s));

    if (!s) {
        close(take_fd);
        return ERR_NO_MEMORY;
    }
    s->wire.ops = &socket_ops;
    (void)snprintf(s->wire.peer, sizeof(s->wire.peer), "%s", peer);
    s->fd = take_fd;
    s->is_tcp = is_tcp;
    atomic_init(&s->aborted, false);
    if (is_tcp) {
        tune_tcp(take_fd);
    }
    socket_set_stall_ms(&s->wire, WIRE_STALL_MS);
    *ret_wire = &s->wire;
    return OK;
}
