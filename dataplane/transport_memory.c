// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_memory.h"

#include "dataplane/wire_socket.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128 };

struct memory_listener;

struct memory_transport {
    struct transport transport;
    pthread_mutex_t mutex; // guards all below, and what the listeners hold
    struct memory_listener *listeners;
    unsigned last_number;
};

struct memory_listener {
    struct listener listener;
    struct memory_transport *owner;
    struct memory_listener *next;
    pthread_cond_t changed;
    int waiting[BACKLOG]; // the acceptor's ends
    int n_waiting;
    bool aborted;
};

static struct memory_listener *find(const struct memory_transport *m, const char *address) {
    for (struct memory_listener *l = m->listeners; l; l = l->next) {
        if (strcmp(l->listener.address, address) == 0 && !l->aborted) {
            return l;
        }
    }
    return NULL;
}

static enum err memory_dial(struct transport *t, const char *address, int64_t timeout_ms,
                            const _Atomic bool *cancelled, struct wire **ret_wire,
                            struct failure *ret_failure) {
    struct memory_transport *m = (struct memory_transport *)t;
    struct memory_listener *l;
    struct wire *wire = NULL;
    int pair[2];
    enum err e;

    (void)timeout_ms; // nothing here waits
    (void)cancelled;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return failure_errno(ret_failure, errno, "connect", address, strlen(address));
    }
    e = wire_socket_new(pair[0], address, false, &wire);
    if (e) {
        close(pair[1]);
        return failure_set(ret_failure, e, "connect", address, strlen(address), NULL);
    }
    pthread_mutex_lock(&m->mutex);
    l = find(m, address);
    if (l && l->n_waiting < BACKLOG) {
        l->waiting[l->n_waiting++] = pair[1];
        pthread_cond_signal(&l->changed);
    } else {
        e = ERR_UNREACHABLE;
    }
    pthread_mutex_unlock(&m->mutex);
    if (e) {
        wire_close(wire);
        close(pair[1]);
        return failure_set(ret_failure, e, "connect", address, strlen(address), "%s",
                           l ? "too many connections wait" : "nobody listens there");
    }
    *ret_wire = wire;
    return OK;
}

static enum err memory_accept(struct listener *l, struct wire **ret_wire) {
    struct memory_listener *ml = (struct memory_listener *)l;
    int fd;

    pthread_mutex_lock(&ml->owner->mutex);
    while (ml->n_waiting == 0 && !ml->aborted) {
        pthread_cond_wait(&ml->changed, &ml->owner->mutex);
    }
    if (ml->aborted) {
        pthread_mutex_unlock(&ml->owner->mutex);
        return ERR_CANCELLED;
    }
    fd = ml->waiting[0];
    ml->n_waiting--;
    memmove(&ml->waiting[0], &ml->waiting[1], (size_t)ml->n_waiting * sizeof(ml->waiting[0]));
    pthread_mutex_unlock(&ml->owner->mutex);
    return wire_socket_new(fd, "memory", false, ret_wire);
}

static void memory_listener_abort(struct listener *l) {
    struct memory_listener *ml = (struct memory_listener *)l;

    pthread_mutex_lock(&ml->owner->mutex);
    ml->aborted = true;
    pthread_cond_broadcast(&ml->changed);
    pthread_mutex_unlock(&ml->owner->mutex);
}

static void memory_listener_destroy(struct listener *l) {
    struct memory_listener *ml = (struct memory_listener *)l;
    struct memory_transport *m = ml->owner;

    pthread_mutex_lock(&m->mutex);
    for (struct memory_listener **p = &m->listeners; *p; p = &(*p)->next) {
        if (*p == ml) {
            *p = ml->next;
            break;
        }
    }
    pthread_mutex_unlock(&m->mutex);
    for (int i = 0; i < ml->n_waiting; i++) {
        close(ml->waiting[i]);
    }
    pthread_cond_destroy(&ml->changed);
    free(ml);
}

static const struct listener_ops memory_listener_ops = {
    .accept = memory_accept,
    .abort = memory_listener_abort,
    .destroy = memory_listener_destroy,
};

static enum err memory_listen(struct transport *t, const char *address,
                              struct listener **ret_listener, struct failure *ret_failure) {
    struct memory_transport *m = (struct memory_transport *)t;
    struct memory_listener *ml = calloc(1, sizeof(*ml));
    size_t len = strlen(address);
    bool is_taken;

    if (!ml) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "listen", address, len, NULL);
    }
    if (pthread_cond_init(&ml->changed, NULL) != 0) {
        free(ml);
        return failure_set(ret_failure, ERR_NO_MEMORY, "listen", address, len, NULL);
    }
    ml->listener.ops = &memory_listener_ops;
    ml->owner = m;
    pthread_mutex_lock(&m->mutex);
    if (len >= 2 && strcmp(address + len - 2, ":0") == 0) {
        (void)snprintf(ml->listener.address, sizeof(ml->listener.address), "%.*s:%u",
                       (int)(len - 2), address, ++m->last_number);
    } else {
        (void)snprintf(ml->listener.address, sizeof(ml->listener.address), "%s", address);
    }
    is_taken = find(m, ml->listener.address) != NULL;
    if (!is_taken) {
        ml->next = m->listeners;
        m->listeners = ml;
    }
    pthread_mutex_unlock(&m->mutex);
    if (is_taken) {
        pthread_cond_destroy(&ml->changed);
        free(ml);
        return failure_set(ret_failure, ERR_BUSY_PORT, "listen", address, len, NULL);
    }
    *ret_listener = &ml->listener;
    return OK;
}

static void memory_destroy(struct transport *t) {
    struct memory_transport *m = (struct memory_transport *)t;

    pthread_mutex_destroy(&m->mutex);
    free(m);
}

static const struct transport_ops memory_ops = {
    .name = "memory",
    .dial = memory_dial,
    .listen = memory_listen,
    .destroy = memory_destroy,
};

enum err transport_memory_new(struct transport **ret_transport) {
    struct memory_transport *m = calloc(1, sizeof(*m));

    if (!m || pthread_mutex_init(&m->mutex, NULL) != 0) {
        free(m);
        return ERR_NO_MEMORY;
    }
    m->transport.ops = &memory_ops;
    *ret_transport = &m->transport;
    return OK;
}
