// SPDX-License-Identifier: Apache-2.0
#include "dataplane/data_server.h"

#include "common/log.h"
#include "dataplane/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CONNECTIONS_MAX = 1024, // the default
    IDLE_MS = 120 * 1000,   // the default
    FULL_WAIT_MS = 200,     // before the next accept when there are no descriptors left
};

// A connection and its thread. The server's mutex guards conn and done.
struct served {
    struct served *next;
    struct data_server *server;
    pthread_t thread;
    struct conn *conn; // NULL once its thread has let go of it
    bool done;         // the thread can be joined without waiting long
};

struct data_server {
    struct serve serve; // its mutex guards what follows, too
    struct listener *listener;
    uint32_t max_connections;
    pthread_t accept_thread;

    struct served *connections;
    uint32_t n_connections;
    pthread_cond_t changed; // a connection ended, or stopping
    bool stopping;
};

// Threads of a server take no signals.
static int start_thread(pthread_t *ret_thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    int errnum;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(ret_thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return errnum;
}

static void *run_connection(void *arg) {
    struct served *k = arg;
    struct data_server *s = k->server;
    struct conn *c = k->conn; // set before this thread began

    serve_connection(&s->serve, c);
    pthread_mutex_lock(&s->serve.mutex);
    k->conn = NULL;
    pthread_mutex_unlock(&s->serve.mutex);
    conn_free(c);
    pthread_mutex_lock(&s->serve.mutex);
    k->done = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->serve.mutex);
    return NULL;
}

// Joins the threads that are done (all: once they are).
static void reap(struct data_server *s, bool all) {
    struct served *gone = NULL;

    pthread_mutex_lock(&s->serve.mutex);
    for (struct served **p = &s->connections; *p;) {
        struct served *k = *p;
        if (all || k->done) {
            *p = k->next;
            k->next = gone;
            gone = k;
            s->n_connections--;
        } else {
            p = &k->next;
        }
    }
    pthread_mutex_unlock(&s->serve.mutex);
    while (gone) {
        struct served *k = gone;
        gone = k->next;
        pthread_join(k->thread, NULL);
        free(k);
    }
}

static void refuse_wire(struct wire *take_wire, const struct data_server *s, const char *why) {
    log_event(LOG_WARN, "data_connection_refused", LOG_STR("agent", s->serve.agent),
              LOG_STR("address", wire_peer(take_wire)), LOG_STR("reason", why),
              LOG_U64("max_connections", s->max_connections));
    wire_close(take_wire);
}

static void start_connection(struct data_server *s, struct wire *take_wire) {
    struct served *k;
    int errnum;

    pthread_mutex_lock(&s->serve.mutex);
    if (s->n_connections >= s->max_connections) {
        pthread_mutex_unlock(&s->serve.mutex);
        refuse_wire(take_wire, s, "too many connections");
        return;
    }
    pthread_mutex_unlock(&s->serve.mutex);
    k = calloc(1, sizeof(*k));
    if (!k) {
        refuse_wire(take_wire, s, "out of memory");
        return;
    }
    k->server = s;
    if (conn_new(take_wire, &k->conn)) {
        free(k);
        return;
    }
    pthread_mutex_lock(&s->serve.mutex); // until the thread is known to those who join it
    errnum = start_thread(&k->thread, run_connection, k);
    if (errnum == 0) {
        k->next = s->connections;
        s->connections = k;
        s->n_connections++;
    }
    pthread_mutex_unlock(&s->serve.mutex);
    if (errnum != 0) {
        log_event(LOG_WARN, "data_connection_refused", LOG_STR("agent", s->serve.agent),
                  LOG_STR("reason", "no thread can be started"), LOG_I64("errno", errnum));
        conn_free(k->conn);
        free(k);
    }
}

// Until a connection ends, or a little later.
static void wait_for_room(struct data_server *s) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += FULL_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&s->serve.mutex);
    if (!s->stopping) {
        pthread_cond_timedwait(&s->changed, &s->serve.mutex, &until);
    }
    pthread_mutex_unlock(&s->serve.mutex);
}

static void *run_accept(void *arg) {
    struct data_server *s = arg;
    bool was_full = false;

    for (;;) {
        struct wire *wire = NULL;
        enum err e = listener_accept(s->listener, &wire);
        reap(s, false);
        if (e == ERR_CANCELLED) {
            return NULL;
        }
        if (e) {
            if (!was_full) {
                log_event(LOG_ERROR, "data_connection_refused", LOG_STR("agent", s->serve.agent),
                          LOG_STR("reason", "no descriptor or memory is left"));
            }
            was_full = true;
            wait_for_room(s);
            continue;
        }
        was_full = false;
        start_connection(s, wire);
    }
}

static enum err init_sync(struct data_server *s) {
    pthread_condattr_t attr;
    int errnum;

    if (pthread_mutex_init(&s->serve.mutex, NULL) != 0) {
        return ERR_NO_MEMORY;
    }
    if (pthread_condattr_init(&attr) != 0) {
        pthread_mutex_destroy(&s->serve.mutex);
        return ERR_NO_MEMORY;
    }
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    errnum = pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (errnum != 0) {
        pthread_mutex_destroy(&s->serve.mutex);
        return ERR_NO_MEMORY;
    }
    return OK;
}

static void destroy(struct data_server *s) {
    listener_free(s->listener);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->serve.mutex);
    free(s);
}

enum err data_server_new(const struct data_server_options *o, struct data_server **ret_server,
                         struct failure *ret_failure) {
    struct data_server *s;
    enum err e;
    int errnum;

    if (!o->transport || !o->listen || !o->agent || !o->open_volume ||
        strlen(o->agent) >= sizeof(s->serve.agent)) {
        return failure_set(ret_failure, ERR_INVALID, "serve data", NULL, 0,
                           "the data server lacks an option");
    }
    s = calloc(1, sizeof(*s));
    if (!s || init_sync(s)) {
        free(s);
        return failure_set(ret_failure, ERR_NO_MEMORY, "serve data", NULL, 0, NULL);
    }
    (void)snprintf(s->serve.agent, sizeof(s->serve.agent), "%s", o->agent);
    s->serve.idle_ms = o->idle_ms > 0 ? o->idle_ms : IDLE_MS;
    s->serve.direct_from_bytes = o->direct_from_bytes;
    s->serve.open_volume = o->open_volume;
    s->serve.user = o->user;
    atomic_init(&s->serve.bytes_served, 0);
    s->max_connections = o->max_connections > 0 ? o->max_connections : CONNECTIONS_MAX;
    e = transport_listen(o->transport, o->listen, &s->listener, ret_failure);
    if (e) {
        destroy(s);
        return e;
    }
    errnum = start_thread(&s->accept_thread, run_accept, s);
    if (errnum != 0) {
        destroy(s);
        return failure_errno(ret_failure, errnum, "start thread", NULL, 0);
    }
    *ret_server = s;
    return OK;
}

const char *data_server_address(const struct data_server *s) {
    return listener_address(s->listener);
}

void data_server_set_authority(struct data_server *s, const char *cluster,
                               const uint8_t master_public[SIGNING_KEY_BYTES]) {
    struct serve_authority a = {0};

    (void)snprintf(a.cluster, sizeof(a.cluster), "%s", cluster);
    memcpy(a.master_public, master_public, sizeof(a.master_public));
    pthread_mutex_lock(&s->serve.mutex);
    s->serve.authority = a;
    s->serve.has_authority = true;
    pthread_mutex_unlock(&s->serve.mutex);
}

uint64_t data_server_bytes_served(const struct data_server *s) {
    return atomic_load_explicit(&s->serve.bytes_served, memory_order_relaxed);
}

void data_server_free(struct data_server *s) {
    if (!s) {
        return;
    }
    listener_abort(s->listener);
    pthread_mutex_lock(&s->serve.mutex);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->serve.mutex);
    pthread_join(s->accept_thread, NULL);
    pthread_mutex_lock(&s->serve.mutex);
    for (struct served *k = s->connections; k; k = k->next) {
        if (k->conn) {
            conn_abort(k->conn);
        }
    }
    pthread_mutex_unlock(&s->serve.mutex);
    reap(s, true);
    destroy(s);
}
