// SPDX-License-Identifier: Apache-2.0
#include "dataplane/conn_pool.h"

#include "common/clock.h"
#include "dataplane/rdma_rail.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_IDLE = 64,       // the default
    IDLE_MS = 60 * 1000, // the default; below the data server's, so that we close first
    REST_MS = 60 * 1000, // the default
    RDMA_DIAL_MS = 5000, // the default
    RAILS_MAX = 32,      // of one agent that are looked at
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
    int64_t idle_ms, rdma_dial_ms;

    pthread_mutex_t mutex; // guards what follows
    char cluster[IDENT_SIZE];
    struct idle *idle; // max_idle of them; the oldest first
    uint32_t n_idle;
    struct rdma_rails rails;
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
    p->rails.rest_ms = o->rest_ms > 0 ? o->rest_ms : REST_MS;
    p->key = o->key;
    p->rdma_dial_ms = o->rdma_dial_ms > 0 ? o->rdma_dial_ms : RDMA_DIAL_MS;
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

// The one to @agent that was used last, over @rail (NULL: not over RDMA); NULL: none.
static struct conn *take_idle(struct conn_pool *p, const char *agent, const char *rail) {
    struct conn *c = NULL;

    pthread_mutex_lock(&p->mutex);
    for (uint32_t i = p->n_idle; i > 0 && !c; i--) {
        const struct conn *idle = p->idle[i - 1].conn;
        if (strcmp(conn_agent(idle), agent) == 0 && conn_pool_is_rdma(p, idle) == (rail != NULL) &&
            (!rail || strcmp(conn_peer(idle), rail) == 0)) {
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

// What follows the prefix of an RDMA address; NULL: it is none.
static const char *rail_of(const char *address) {
    size_t n = strlen(CONN_RDMA_PREFIX);

    return strncmp(address, CONN_RDMA_PREFIX, n) == 0 ? address + n : NULL;
}

static enum err dial_wire(struct conn_pool *p, const struct conn_pool_target *t,
                          const char *address, struct wire **ret_wire, struct failure *f) {
    int64_t timeout_ms = t->timeout_ms;
    const char *rail = rail_of(address);

    if (!rail) {
        return transport_dial(p->transport, address, timeout_ms, t->cancelled, ret_wire, f);
    }
    if (timeout_ms > p->rdma_dial_ms) {
        timeout_ms = p->rdma_dial_ms;
    }
    return transport_dial(p->rdma, rail, timeout_ms, t->cancelled, ret_wire, f);
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

// An idle connection that is still good; NULL: there is none.
static struct conn *take_good_idle(struct conn_pool *p, const struct conn_pool_target *t,
                                   const char *rail) {
    struct conn *c;

    while (!t->fresh && (c = take_idle(p, t->agent, rail)) != NULL) {
        if (conn_is_quiet(c)) {
            return c;
        }
        conn_free(c); // the other end closed it, or said something that nobody asked for
    }
    return NULL;
}

static enum err dial_cluster(struct conn_pool *p, const struct conn_pool_target *t,
                             const char *address, struct conn **ret_conn, struct failure *f) {
    char cluster[IDENT_SIZE];

    pthread_mutex_lock(&p->mutex);
    memcpy(cluster, p->cluster, sizeof(cluster));
    pthread_mutex_unlock(&p->mutex);
    return dial(p, t, address, cluster, ret_conn, f);
}

// ---- not over RDMA ----

// ERR_CANCELLED; else the failure of the last address.
static enum err take_plain(struct conn_pool *p, const struct conn_pool_target *t,
                           struct conn **ret_conn, bool *ret_reused, struct failure *f) {
    enum err e = ERR_UNREACHABLE;
    struct conn *c = take_good_idle(p, t, NULL);

    if (c) {
        *ret_conn = c;
        *ret_reused = true;
        return OK;
    }
    for (size_t i = 0; i < t->n_addresses && e && e != ERR_CANCELLED; i++) {
        if (!rail_of(t->addresses[i])) {
            e = dial_cluster(p, t, t->addresses[i], ret_conn, f);
        }
    }
    *ret_reused = false;
    return e;
}

// ---- rails ----

static size_t list_rails(const struct conn_pool_target *t, const char *rails[RAILS_MAX]) {
    size_t n = t->n_addresses < RAILS_MAX ? t->n_addresses : RAILS_MAX;

    for (size_t i = 0; i < n; i++) {
        rails[i] = rail_of(t->addresses[i]);
    }
    return n;
}

// The rail to try next, which counts as used from now on; -1: none is left.
static int begin_rail(struct conn_pool *p, const struct conn_pool_target *t,
                      const char *const *rails, size_t n) {
    int i;

    pthread_mutex_lock(&p->mutex);
    i = rdma_rail_choose(&p->rails, t->agent, rails, n, t->choice == CONN_RDMA_ONLY,
                         clock_mono_ms(&clock_system));
    if (i >= 0) {
        rdma_rail_use(&p->rails, t->agent, rails[i]);
    }
    pthread_mutex_unlock(&p->mutex);
    return i;
}

// How many of @rails do not rest.
static size_t count_rails(const struct conn_pool *p, const char *agent, const char **rails,
                          size_t n, int64_t now_ms) {
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        count += rdma_rail_choose(&p->rails, agent, &rails[i], 1, false, now_ms) != RDMA_RAIL_NONE;
    }
    return count;
}

// Under the mutex. What else there is counts for what the log says.
static void rest_rail(struct conn_pool *p, const struct conn_pool_target *t, const char *rail,
                      const struct failure *reason) {
    const char *others[RAILS_MAX];
    size_t n = list_rails(t, others);
    int64_t now_ms = clock_mono_ms(&clock_system);

    for (size_t i = 0; i < n; i++) {
        others[i] = others[i] && strcmp(others[i], rail) == 0 ? NULL : others[i];
    }
    rdma_rail_failed(&p->rails, t->agent, rail, now_ms, count_rails(p, t->agent, others, n, now_ms),
                     reason);
}

void conn_pool_rest_rdma(struct conn_pool *p, const struct conn_pool_target *t,
                         const struct conn *c, const struct failure *reason) {
    pthread_mutex_lock(&p->mutex);
    rest_rail(p, t, conn_peer(c), reason);
    pthread_mutex_unlock(&p->mutex);
}

// Which rail @rail was, for the one that got a connection (@e is OK) or did not.
static void end_rail(struct conn_pool *p, const struct conn_pool_target *t, const char *rail,
                     enum err e, const struct failure *reason) {
    pthread_mutex_lock(&p->mutex);
    if (!e) {
        rdma_rail_worked(&p->rails, t->agent, rail);
    } else {
        rdma_rail_leave(&p->rails, t->agent, rail);
        if (e != ERR_CANCELLED && t->choice == CONN_AUTO) {
            rest_rail(p, t, rail, reason);
        }
    }
    pthread_mutex_unlock(&p->mutex);
}

// Each rail is tried once. ERR_UNREACHABLE: there is none, or it rests.
static enum err take_rail(struct conn_pool *p, const struct conn_pool_target *t,
                          struct conn **ret_conn, bool *ret_reused, struct failure *f) {
    const char *rails[RAILS_MAX];
    size_t n = p->rdma && t->choice != CONN_NO_RDMA ? list_rails(t, rails) : 0;
    enum err e = ERR_UNREACHABLE;
    int i;

    while (e && e != ERR_CANCELLED && (i = begin_rail(p, t, rails, n)) >= 0) {
        *ret_conn = take_good_idle(p, t, rails[i]);
        *ret_reused = *ret_conn != NULL;
        e = *ret_conn ? OK : dial_cluster(p, t, t->addresses[i], ret_conn, f);
        end_rail(p, t, rails[i], e, f);
        rails[i] = NULL;
    }
    return e;
}

// The connection is not used any more.
static void leave_rail(struct conn_pool *p, const struct conn *c) {
    if (conn_pool_is_rdma(p, c)) {
        pthread_mutex_lock(&p->mutex);
        rdma_rail_leave(&p->rails, conn_agent(c), conn_peer(c));
        pthread_mutex_unlock(&p->mutex);
    }
}

// ---- for sources ----

enum err conn_pool_take(struct conn_pool *p, const struct conn_pool_target *t,
                        struct conn **ret_conn, bool *ret_reused, struct failure *ret_failure) {
    struct failure f = {0};
    struct conn *c = NULL;
    bool reused = false;
    enum err e;

    close_expired(p);
    failure_set(&f, ERR_UNREACHABLE, "connect", t->agent, strlen(t->agent), "%s",
                t->choice != CONN_RDMA_ONLY ? "the agent has no data address"
                : p->rdma                   ? "the agent has no RDMA, and nothing else is allowed"
                          : "this agent has no RDMA, and nothing else is allowed");
    e = take_rail(p, t, &c, &reused, &f);
    if (e && e != ERR_CANCELLED && t->choice != CONN_RDMA_ONLY) {
        e = take_plain(p, t, &c, &reused, &f);
    }
    if (!e) {
        *ret_conn = c;
        *ret_reused = reused;
    }
    if (ret_failure) {
        *ret_failure = e ? f : (struct failure){0};
    }
    return e;
}

void conn_pool_drop(struct conn_pool *p, struct conn *take_conn) {
    if (take_conn) {
        leave_rail(p, take_conn);
        conn_free(take_conn);
    }
}

void conn_pool_give(struct conn_pool *p, struct conn *take_conn) {
    struct conn *oldest = NULL;

    leave_rail(p, take_conn);
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
