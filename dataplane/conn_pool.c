// SPDX-License-Identifier: Apache-2.0
#include "dataplane/conn_pool.h"

#include "common/clock.h"
#include "dataplane/rdma_rest.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_IDLE = 64,       // the default
    IDLE_MS = 60 * 1000, // the default; below the data server's, so that we close first
    REST_MS = 60 * 1000, // the default
    RDMA_DIAL_MS = 5000, // at most: there is another way
};

struct idle {
    struct conn *conn;
    int64_t since_ms;
};

struct conn_pool {
    struct transport *transport, *rdma;
    const struct signing_key *key;
    char agent[TICKET_NAME_MAX];
    uint32_t max_idle;
    int64_t idle_ms;

    pthread_mutex_t mutex; // guards what follows
    char cluster[IDENT_SIZE];
    struct idle *idle; // max_idle of them; the oldest first
    uint32_t n_idle;
    struct rdma_rest rest;
};

enum err conn_pool_new(const struct conn_pool_options *o, struct conn_pool **ret_pool) {
    struct conn_pool *p;

    if (!o->transport || !o->agent || !o->key || strlen(o->agent) >= sizeof(p->agent)) {
        return ERR_INVALID;
    }
    p = calloc(1, sizeof(*p));
    if (!p) {
        return ERR_NO_MEMORY;
    }
    p->max_idle = o->max_idle > 0 ? o->max_idle : MAX_IDLE;
    p->idle = calloc(p->max_idle, sizeof(*p->idle));
    if (!p->idle || pthread_mutex_init(&p->mutex, NULL) != 0) {
        free(p->idle);
        free(p);
        return ERR_NO_MEMORY;
    }
    p->transport = o->transport;
    p->rdma = o->rdma;
    p->rest.rest_ms = o->rest_ms > 0 ? o->rest_ms : REST_MS;
    p->key = o->key;
    p->idle_ms = o->idle_ms > 0 ? o->idle_ms : IDLE_MS;
    (void)snprintf(p->agent, sizeof(p->agent), "%s", o->agent);
    if (o->cluster) {
        conn_pool_set_cluster(p, o->cluster);
    }
    *ret_pool = p;
    return OK;
}

void conn_pool_set_cluster(struct conn_pool *p, const char *cluster) {
    pthread_mutex_lock(&p->mutex);
    (void)snprintf(p->cluster, sizeof(p->cluster), "%s", cluster);
    pthread_mutex_unlock(&p->mutex);
}

const char *conn_pool_transport_name(const struct conn_pool *p) {
    return transport_name(p->transport);
}

void conn_pool_free(struct conn_pool *p) {
    if (!p) {
        return;
    }
    for (uint32_t i = 0; i < p->n_idle; i++) {
        conn_free(p->idle[i].conn);
    }
    pthread_mutex_destroy(&p->mutex);
    free(p->idle);
    free(p);
}

// Under the mutex: takes one out of the list.
static struct conn *take_at(struct conn_pool *p, uint32_t i) {
    struct conn *c = p->idle[i].conn;

    p->n_idle--;
    memmove(&p->idle[i], &p->idle[i + 1], (p->n_idle - i) * sizeof(p->idle[0]));
    return c;
}

// The oldest one, if it has been idle for too long; NULL: none has.
static struct conn *take_expired(struct conn_pool *p) {
    struct conn *c = NULL;

    pthread_mutex_lock(&p->mutex);
    if (p->n_idle > 0 && clock_mono_ms(&clock_system) - p->idle[0].since_ms > p->idle_ms) {
        c = take_at(p, 0);
    }
    pthread_mutex_unlock(&p->mutex);
    return c;
}

bool conn_pool_is_rdma(const struct conn_pool *p, const struct conn *c) {
    return p->rdma && strcmp(conn_transport(c), transport_name(p->rdma)) == 0;
}

// The one to @agent that was used last; NULL: none.
static struct conn *take_idle(struct conn_pool *p, const char *agent, bool is_rdma) {
    struct conn *c = NULL;

    pthread_mutex_lock(&p->mutex);
    for (uint32_t i = p->n_idle; i > 0 && !c; i--) {
        if (strcmp(conn_agent(p->idle[i - 1].conn), agent) == 0 &&
            conn_pool_is_rdma(p, p->idle[i - 1].conn) == is_rdma) {
            c = take_at(p, i - 1);
        }
    }
    pthread_mutex_unlock(&p->mutex);
    return c;
}

static void close_expired(struct conn_pool *p) {
    struct conn *c;

    while ((c = take_expired(p)) != NULL) {
        conn_free(c);
    }
}

static bool is_rdma_address(const char *address) {
    return strncmp(address, CONN_RDMA_PREFIX, strlen(CONN_RDMA_PREFIX)) == 0;
}

static enum err dial_wire(struct conn_pool *p, const struct conn_pool_target *t,
                          const char *address, struct wire **ret_wire, struct failure *f) {
    int64_t timeout_ms = t->timeout_ms;

    if (!is_rdma_address(address)) {
        return transport_dial(p->transport, address, timeout_ms, t->cancelled, ret_wire, f);
    }
    if (timeout_ms > RDMA_DIAL_MS) {
        timeout_ms = RDMA_DIAL_MS;
    }
    return transport_dial(p->rdma, address + strlen(CONN_RDMA_PREFIX), timeout_ms, t->cancelled,
                          ret_wire, f);
}

static enum err dial(struct conn_pool *p, const struct conn_pool_target *t, const char *address,
                     const char *cluster, struct conn **ret_conn, struct failure *ret_failure) {
    struct wire *wire = NULL;
    struct conn *c = NULL;
    enum err e = dial_wire(p, t, address, &wire, ret_failure);

    if (e) {
        return e;
    }
    e = conn_new(wire, &c);
    if (e) {
        return failure_set(ret_failure, e, "connect", address, strlen(address), NULL);
    }
    e = conn_hello(c,
                   &(struct conn_hello){.cluster = cluster,
                                        .agent = p->agent,
                                        .peer = t->agent,
                                        .timeout_ms = t->timeout_ms,
                                        .cancelled = t->cancelled},
                   ret_failure);
    if (e) {
        conn_free(c);
        return e;
    }
    *ret_conn = c;
    return OK;
}

static bool has_rdma_address(const struct conn_pool_target *t) {
    for (size_t i = 0; i < t->n_addresses; i++) {
        if (is_rdma_address(t->addresses[i])) {
            return true;
        }
    }
    return false;
}

static bool is_rdma_tried(struct conn_pool *p, const struct conn_pool_target *t) {
    bool is_rested;

    if (!p->rdma || t->choice == CONN_NO_RDMA || !has_rdma_address(t)) {
        return false;
    }
    pthread_mutex_lock(&p->mutex);
    is_rested = rdma_rest_is_over(&p->rest, t->agent, clock_mono_ms(&clock_system));
    pthread_mutex_unlock(&p->mutex);
    return is_rested || t->choice == CONN_RDMA_ONLY;
}

// An idle connection, or a new one. ERR_CANCELLED; else the failure of the last address.
static enum err take_over(struct conn_pool *p, const struct conn_pool_target *t, bool is_rdma,
                          struct conn **ret_conn, bool *ret_reused, struct failure *ret_failure) {
    char cluster[IDENT_SIZE];
    struct conn *c;
    enum err e = ERR_UNREACHABLE;

    while (!t->fresh && (c = take_idle(p, t->agent, is_rdma)) != NULL) {
        if (conn_is_quiet(c)) {
            *ret_conn = c;
            *ret_reused = true;
            return OK;
        }
        conn_free(c); // the other end closed it, or said something that nobody asked for
    }
    pthread_mutex_lock(&p->mutex);
    memcpy(cluster, p->cluster, sizeof(cluster));
    pthread_mutex_unlock(&p->mutex);
    for (size_t i = 0; i < t->n_addresses && e && e != ERR_CANCELLED; i++) {
        if (is_rdma_address(t->addresses[i]) == is_rdma) {
            e = dial(p, t, t->addresses[i], cluster, ret_conn, ret_failure);
        }
    }
    if (!e) {
        *ret_reused = false;
    }
    return e;
}

void conn_pool_rest_rdma(struct conn_pool *p, const char *agent, const struct failure *reason) {
    pthread_mutex_lock(&p->mutex);
    rdma_rest_begin(&p->rest, agent, clock_mono_ms(&clock_system), reason);
    pthread_mutex_unlock(&p->mutex);
}

static void end_rest(struct conn_pool *p, const char *agent) {
    pthread_mutex_lock(&p->mutex);
    rdma_rest_end(&p->rest, agent);
    pthread_mutex_unlock(&p->mutex);
}

enum err conn_pool_take(struct conn_pool *p, const struct conn_pool_target *t,
                        struct conn **ret_conn, bool *ret_reused, struct failure *ret_failure) {
    struct failure f = {0};
    enum err e = ERR_UNREACHABLE;

    close_expired(p);
    failure_set(&f, e, "connect", t->agent, strlen(t->agent), "%s",
                t->choice != CONN_RDMA_ONLY ? "the agent has no data address"
                : p->rdma                   ? "the agent has no RDMA, and nothing else is allowed"
                          : "this agent has no RDMA, and nothing else is allowed");
    if (is_rdma_tried(p, t)) {
        e = take_over(p, t, true, ret_conn, ret_reused, &f);
        if (!e) {
            end_rest(p, t->agent);
        } else if (e != ERR_CANCELLED && t->choice == CONN_AUTO) {
            conn_pool_rest_rdma(p, t->agent, &f);
        }
    }
    if (e && e != ERR_CANCELLED && t->choice != CONN_RDMA_ONLY) {
        e = take_over(p, t, false, ret_conn, ret_reused, &f);
    }
    if (ret_failure) {
        *ret_failure = e ? f : (struct failure){0};
    }
    return e;
}

void conn_pool_give(struct conn_pool *p, struct conn *take_conn) {
    struct conn *oldest = NULL;

    pthread_mutex_lock(&p->mutex);
    if (p->n_idle == p->max_idle) {
        oldest = take_at(p, 0);
    }
    p->idle[p->n_idle++] =
        (struct idle){.conn = take_conn, .since_ms = clock_mono_ms(&clock_system)};
    pthread_mutex_unlock(&p->mutex);
    conn_free(oldest);
    close_expired(p);
}

enum err conn_pool_prove(struct conn_pool *p, const struct conn *c, const void *ticket,
                         size_t ticket_len, uint8_t ret_proof[SIGNATURE_BYTES]) {
    char cluster[IDENT_SIZE];
    uint8_t text[FRAME_PROOF_TEXT_MAX];
    size_t len;

    pthread_mutex_lock(&p->mutex);
    memcpy(cluster, p->cluster, sizeof(cluster));
    pthread_mutex_unlock(&p->mutex);
    len = conn_proof_text(c, false, cluster, p->agent, ticket, ticket_len, text);
    return signing_key_sign(p->key, text, len, ret_proof);
}
