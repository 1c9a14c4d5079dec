// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rdma_listener.h"

#include "common/address.h"
#include "common/log.h"
#include "dataplane/rdma_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    WAITING_MAX = 128,       // wires that nobody accepted yet
    COME_BACK_MS = 5 * 1000, // how often it is tried to listen again
};

struct rdma_listener {
    struct listener listener; // first member
    struct rdma_pool *pool;
    struct sockaddr_storage at; // with the port that was taken
    pthread_t thread;
    int wake_fd; // eventfd: readable once aborted

    // the thread's
    struct rdma_event_channel *events;
    struct rdma_cm_id *id; // NULL while the device is away

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    struct wire *waiting[WAITING_MAX];
    int n_waiting;
    bool is_full; // someone was refused since the last accept
    bool aborted;
};

static void format_address(const struct sockaddr *a, char *buf, size_t cap) {
    char host[INET6_ADDRSTRLEN] = "unknown";

    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        (void)snprintf(buf, cap, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;
        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        (void)snprintf(buf, cap, "%s:%u", host, ntohs(in->sin_port));
    }
}

// ---- those who connect ----

static void refuse(struct rdma_cm_id *take_id, struct rdma_event_channel *take_events,
                   bool is_full) {
    const uint8_t reason = is_full ? RDMA_REFUSED_FULL : 0;

    (void)rdma_reject(take_id, &reason, sizeof(reason)); // it may be gone already
    (void)rdma_destroy_id(take_id);
    if (take_events) {
        rdma_destroy_event_channel(take_events);
    }
}

static bool is_room(struct rdma_listener *l) {
    bool is;

    pthread_mutex_lock(&l->mutex);
    is = l->n_waiting < WAITING_MAX && !l->aborted;
    pthread_mutex_unlock(&l->mutex);
    return is;
}

static void tell_full(struct rdma_listener *l) {
    pthread_mutex_lock(&l->mutex);
    l->is_full = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

// Answers the request of @id with @theirs, its greeting.
static void welcome(struct rdma_listener *l, struct rdma_cm_id *take_id, const uint8_t *theirs,
                    size_t len) {
    struct rdma_event_channel *events = rdma_create_event_channel();
    uint8_t greeting[RDMA_GREETING_BYTES] = {0};
    struct rdma_conn_param parameters = rdma_wire_parameters(greeting);
    struct wire *wire = NULL;
    struct failure f = {0};
    char peer[WIRE_ADDRESS_MAX];
    enum err e;

    if (!events || rdma_migrate_id(take_id, events) != 0 || !is_room(l)) {
        refuse(take_id, events, true);
        tell_full(l);
        return;
    }
    format_address(rdma_get_peer_addr(take_id), peer, sizeof(peer));
    e = rdma_wire_new(
        &(struct rdma_wire_options){.pool = l->pool, .id = take_id, .events = events, .peer = peer},
        &wire, &f);
    if (e) {
        log_event(LOG_WARN, "rdma_connection_refused", LOG_STR("address", peer), LOG_FAILURE(&f));
        refuse(take_id, events, e == ERR_FULL || e == ERR_NO_MEMORY);
        tell_full(l);
        return;
    }
    rdma_wire_greeting(greeting);
    if (rdma_wire_greet(wire, theirs, len) || rdma_accept(take_id, &parameters) != 0) {
        log_event(LOG_WARN, "rdma_connection_refused", LOG_STR("address", peer),
                  LOG_STR("reason", "no proper greeting"));
        (void)rdma_reject(take_id, NULL, 0);
        wire_abort(wire);
        wire_close(wire);
        return;
    }
    pthread_mutex_lock(&l->mutex);
    l->waiting[l->n_waiting++] = wire; // this thread alone adds, so there is room still
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

// ---- the device comes and goes ----

// errno; 0: it listens.
static int listen_at(struct rdma_listener *l) {
    int errnum = 0;

    if (rdma_create_id(l->events, &l->id, NULL, RDMA_PS_TCP) != 0) {
        l->id = NULL;
        return errno;
    }
    if (rdma_bind_addr(l->id, (struct sockaddr *)&l->at) != 0 || rdma_listen(l->id, BACKLOG) != 0) {
        errnum = errno;
        (void)rdma_destroy_id(l->id);
        l->id = NULL;
    }
    return errnum;
}

static void take_event(struct rdma_listener *l) {
    struct rdma_cm_event *event;
    struct rdma_cm_id *id;
    uint8_t greeting[RDMA_GREETING_BYTES] = {0};
    enum rdma_cm_event_type type;
    size_t len;

    if (rdma_get_cm_event(l->events, &event) != 0) {
        return;
    }
    type = event->event;
    id = event->id;
    len = event->param.conn.private_data_len;
    if (type == RDMA_CM_EVENT_CONNECT_REQUEST && event->param.conn.private_data) {
        len = len < sizeof(greeting) ? len : sizeof(greeting);
        memcpy(greeting, event->param.conn.private_data, len);
    }
    rdma_ack_cm_event(event);
    if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
        welcome(l, id, greeting, len);
    } else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL && id == l->id) {
        log_event(LOG_WARN, "rdma_device_lost", LOG_STR("address", l->listener.address));
        (void)rdma_destroy_id(l->id);
        l->id = NULL;
    }
}

static void *run(void *arg) {
    struct rdma_listener *l = arg;

    for (;;) {
        struct pollfd p[2] = {{.fd = l->events->fd, .events = POLLIN},
                              {.fd = l->wake_fd, .events = POLLIN}};
        int n = poll(p, 2, l->id ? -1 : COME_BACK_MS);
        if (p[1].revents) {
            return NULL;
        }
        if (n > 0 && p[0].revents) {
            take_event(l);
        } else if (n == 0 && !l->id && listen_at(l) == 0) {
            log_event(LOG_INFO, "rdma_device_back", LOG_STR("address", l->listener.address));
        }
    }
}

// ---- the listener's operations ----

static enum err rdma_listener_accept(struct listener *listener, struct wire **ret_wire) {
    struct rdma_listener *l = (struct rdma_listener *)(void *)listener;
    enum err e = OK;

    pthread_mutex_lock(&l->mutex);
    while (l->n_waiting == 0 && !l->aborted && !l->is_full) {
        pthread_cond_wait(&l->changed, &l->mutex);
    }
    if (l->aborted) {
        e = ERR_CANCELLED;
    } else if (l->n_waiting == 0) {
        e = ERR_FULL;
    } else {
        *ret_wire = l->waiting[0];
        l->n_waiting--;
        memmove(&l->waiting[0], &l->waiting[1], (size_t)l->n_waiting * sizeof(l->waiting[0]));
    }
    l->is_full = false;
    pthread_mutex_unlock(&l->mutex);
    return e;
}

static void rdma_listener_abort(struct listener *listener) {
    struct rdma_listener *l = (struct rdma_listener *)(void *)listener;
    uint64_t one = 1;

    pthread_mutex_lock(&l->mutex);
    l->aborted = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    (void)!write(l->wake_fd, &one, sizeof(one));
}

// Also of one whose thread does not run.
static void release(struct rdma_listener *l) {
    for (int i = 0; i < l->n_waiting; i++) {
        wire_abort(l->waiting[i]);
        wire_close(l->waiting[i]);
    }
    if (l->id) {
        (void)rdma_destroy_id(l->id);
    }
    if (l->events) {
        rdma_destroy_event_channel(l->events);
    }
    if (l->wake_fd >= 0) {
        close(l->wake_fd);
    }
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

static void rdma_listener_destroy(struct listener *listener) {
    struct rdma_listener *l = (struct rdma_listener *)(void *)listener;

    rdma_listener_abort(listener);
    pthread_join(l->thread, NULL);
    release(l);
}

static const struct listener_ops ops = {
    .accept = rdma_listener_accept,
    .abort = rdma_listener_abort,
    .destroy = rdma_listener_destroy,
};

static enum err resolve(const char *address, struct sockaddr_storage *ret_at, struct failure *f) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    struct address a;
    char port[8];
    enum err e = address_parse(address, &a, f);
    int result;

    if (e) {
        return e;
    }
    (void)snprintf(port, sizeof(port), "%d", a.port);
    result = getaddrinfo(*a.host ? a.host : NULL, port, &hints, &list);
    if (result != 0) {
        return failure_set(f, ERR_UNREACHABLE, "listen", address, strlen(address),
                           "the name cannot be resolved: %s", gai_strerror(result));
    }
    memcpy(ret_at, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return OK;
}

static enum err start(struct rdma_listener *l, const char *address, struct failure *f) {
    sigset_t all, before;
    int errnum;

    l->events = rdma_create_event_channel();
    if (!l->events || l->wake_fd < 0 || fcntl(l->events->fd, F_SETFL, O_NONBLOCK) != 0) {
        return failure_errno(f, errno, "listen", address, strlen(address));
    }
    errnum = listen_at(l);
    if (errnum == EADDRINUSE) {
        return failure_set(f, ERR_BUSY_PORT, "listen", address, strlen(address), NULL);
    }
    if (errnum == ENODEV || errnum == EADDRNOTAVAIL) {
        enum err e = failure_set(f, ERR_NOT_FOUND, "listen", address, strlen(address),
                                 "no RDMA device has this address");
        failure_remedy(f, "see what sluice-agent --check says about devices");
        return e;
    }
    if (errnum != 0) {
        return failure_errno(f, errnum, "listen", address, strlen(address));
    }
    memcpy(&l->at, rdma_get_local_addr(l->id),
           l->at.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    format_address((const struct sockaddr *)&l->at, l->listener.address,
                   sizeof(l->listener.address));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // its thread takes no signals
    errnum = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return errnum == 0 ? OK : failure_errno(f, errnum, "start thread", NULL, 0);
}

enum err rdma_listener_new(struct rdma_pool *pool, const char *address,
                           struct listener **ret_listener, struct failure *ret_failure) {
    struct sockaddr_storage at = {0};
    struct rdma_listener *l;
    enum err e = resolve(address, &at, ret_failure);

    if (e) {
        return e;
    }
    l = calloc(1, sizeof(*l));
    if (!l || pthread_mutex_init(&l->mutex, NULL) != 0) {
        free(l);
        return failure_set(ret_failure, ERR_NO_MEMORY, "listen", address, strlen(address), NULL);
    }
    if (pthread_cond_init(&l->changed, NULL) != 0) {
        pthread_mutex_destroy(&l->mutex);
        free(l);
        return failure_set(ret_failure, ERR_NO_MEMORY, "listen", address, strlen(address), NULL);
    }
    l->listener.ops = &ops;
    l->pool = pool;
    l->at = at;
    l->wake_fd = eventfd(0, EFD_CLOEXEC);
    e = start(l, address, ret_failure);
    if (e) {
        release(l);
        return e;
    }
    *ret_listener = &l->listener;
    return OK;
}
