// SPDX-License-Identifier: Apache-2.0
#include "master/master.h"

#include "common/daemon.h"
#include "common/log.h"
#include "common/rpc/descriptors.h"
#include "common/rpc/rpc.h"
#include "master/agents.h"
#include "master/callbacks.h"
#include "master/core.h"
#include "master/credentials.h"
#include "master/database.h"
#include "master/flow.h"
#include "master/services.h"
#include "master/standby.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_GRACE_MS = 1000, SETTLE_ROUNDS = 16 };

struct master {
    const struct master_options *options;
    struct loop *loop;
    struct core *core;
    struct rpc_server *server;
    pthread_t thread;
    bool thread_runs;
    bool serves;      // the server was started
    int held_port;    // of a standby, until it serves; -1: none
    char listen[300]; // with the port that is held
    int rounds;
    int port;
    char address[300];
    // handed from the core's thread to the one that started it
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_ready;
    struct failure failure;
};

static void address_of(const char *listen, int port, char ret_address[300]) {
    const char *colon = strrchr(listen, ':');
    snprintf(ret_address, 300, "%.*s:%d", (int)(colon - listen), listen, port);
}

static enum err serve(struct master *m, struct failure *f) {
    static const char *const services[] = {
        "sluice.v1.FlowService",  "sluice.v1.ClusterService", "sluice.v1.CredentialService",
        "sluice.v1.AgentService", "grpc.health.v1.Health",    NULL};
    const struct master_options *o = m->options;
    const struct rpc_tls tls = {
        .certificate = o->tls_certificate, .key = o->tls_key, .ca = o->tls_ca};
    m->server = rpc_server_new_bounded(&m->loop, 1, o->message_bytes);
    if (m->server == NULL) {
        return failure_set(f, ERR_NO_MEMORY, "start", NULL, 0, NULL);
    }
    m->core->server = m->server;
    rpc_server_limit_calls(m->server, o->calls, "limits.calls");
    flow_service_add(m->server, m->core);
    callback_service_add(m->server, m->core);
    cluster_service_add(m->server, m->core);
    credential_service_add(m->server, m->core);
    agent_service_add(m->server, m->core);
    rpc_health_add(m->server);
    enum err e = rpc_reflection_add(m->server, descriptors_bytes(), descriptors_len(), services);
    if (e != OK) {
        return failure_set(f, e, "start", NULL, 0, "server reflection cannot be offered");
    }
    e = rpc_server_listen(m->server, m->listen, o->tls ? &tls : NULL, &m->port, f);
    if (e != OK) {
        return e;
    }
    address_of(o->listen, m->port, m->address);
    return OK;
}

// A master that may have to wait says at once where it will be, and keeps that place: agents and
// clients are told the addresses of all.
static enum err hold_port(struct master *m, struct failure *f) {
    const struct master_options *o = m->options;
    snprintf(m->listen, sizeof m->listen, "%s", o->listen);
    if (o->database.url == NULL) {
        return OK;
    }
    int port = 0;
    enum err e = daemon_hold_port(o->listen, &m->held_port, &port, f);
    if (e == OK) {
        address_of(o->listen, port, m->listen);
        e = o->port_file == NULL ? OK : daemon_write_port_file(o->port_file, o->listen, port, f);
    }
    return e;
}

static void become_ready(struct master *m, const struct failure *f) {
    pthread_mutex_lock(&m->lock);
    m->is_ready = true;
    if (f != NULL) {
        m->failure = *f;
    }
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

// The flows are there: agents and clients may come.
static void on_loaded(void *arg, const struct failure *failure) {
    struct master *m = arg;
    struct failure f = {0};
    if (failure != NULL) {
        become_ready(m, failure);
        return;
    }
    rpc_server_start(m->server);
    m->serves = true;
    if (m->options->port_file != NULL &&
        daemon_write_port_file(m->options->port_file, m->options->listen, m->port, &f) != OK) {
        become_ready(m, &f);
        return;
    }
    log_event(LOG_INFO, "master_started", LOG_STR("address", m->address),
              LOG_U64("term", m->core->term), LOG_STR("cluster", m->core->cluster),
              LOG_U64("pid", (uint64_t)getpid()), LOG_STR("version", SLUICE_VERSION));
    become_ready(m, NULL);
}

static void on_credentials(void *arg, const struct failure *failure) {
    struct master *m = arg;
    if (failure != NULL) {
        become_ready(m, failure);
        return;
    }
    flows_load(m->core->flows, on_loaded, m);
    callbacks_wake(m->core->callbacks); // those of the master before this one
}

static void load(void *arg) {
    struct master *m = arg;
    credentials_load(m->core->credentials, on_credentials, m);
}

static void *run(void *arg) {
    struct master *m = arg;
    loop_run(m->loop);
    return NULL;
}

// An answer of the database may lead to another question, which is refused, by posting: after
// a few rounds nothing is on its way any more.
static void settle(void *arg) {
    struct master *m = arg;
    if (m->rounds++ < SETTLE_ROUNDS) {
        loop_post(m->loop, settle, m);
    } else {
        loop_stop(m->loop);
    }
}

// What was queued is committed, and its answers are posted.
static void on_drained(void *arg) {
    struct master *m = arg;
    database_stop(m->core->database);
    settle(m);
}

static void begin_stop(void *arg) {
    struct master *m = arg;
    m->core->stopping = true;
    log_event(LOG_INFO, "master_stopping", LOG_STR("address", m->address));
    rpc_health_set_serving(m->server, false);
    agents_say_goodbye(m->core->agents);
    flows_stop(m->core->flows);
    callbacks_stop(m->core->callbacks);
    if (m->serves) {
        rpc_server_drain(m->server, DRAIN_GRACE_MS, on_drained, m);
    } else {
        on_drained(m);
    }
}

static void master_free(struct master *m) {
    if (m->held_port >= 0) {
        close(m->held_port);
    }
    rpc_server_free(m->server);
    core_free(m->core);
    if (m->loop != NULL) {
        loop_free(m->loop);
    }
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static enum err start(struct master *m, const struct clock *clock, struct failure *f) {
    m->loop = loop_new();
    if (m->loop == NULL) {
        return failure_set(f, ERR_NO_MEMORY, "start", NULL, 0, NULL);
    }
    enum err e = hold_port(m, f);
    if (e == OK) {
        e = core_new(m->options, clock, m->loop, &m->core, f);
    }
    if (e == OK) {
        e = serve(m, f);
    }
    if (e != OK) {
        return e;
    }
    database_on_lost(m->core->database, standby_stop_acting, NULL);
    loop_post(m->loop, load, m);
    int rc = pthread_create(&m->thread, NULL, run, m);
    if (rc != 0) {
        return failure_errno(f, rc, "pthread_create", NULL, 0);
    }
    m->thread_runs = true;
    pthread_mutex_lock(&m->lock);
    while (!m->is_ready) {
        pthread_cond_wait(&m->changed, &m->lock);
    }
    if (m->failure.err != OK) {
        *f = m->failure;
    }
    e = m->failure.err;
    pthread_mutex_unlock(&m->lock);
    return e;
}

enum err master_start(const struct master_options *o, const struct clock *clock,
                      struct master **ret_master, struct failure *ret_failure) {
    struct master *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "start", NULL, 0, NULL);
    }
    m->options = o;
    m->held_port = -1;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    enum err e = start(m, clock, ret_failure);
    if (e != OK) {
        if (m->held_port >= 0 && o->port_file != NULL) {
            (void)unlink(o->port_file);
        }
        if (m->thread_runs) {
            master_stop(m);
        } else {
            master_free(m);
        }
        return e;
    }
    *ret_master = m;
    return OK;
}

const char *master_address(const struct master *m) {
    return m->address;
}

void master_stop(struct master *m) {
    if (m == NULL) {
        return;
    }
    loop_post(m->loop, begin_stop, m);
    pthread_join(m->thread, NULL);
    if (m->options->port_file != NULL) {
        (void)unlink(m->options->port_file);
    }
    log_event(LOG_INFO, "master_stopped", LOG_STR("address", m->address));
    master_free(m);
}

enum err master_check_database(const struct master_options *o, struct failure *ret_failure) {
    const struct database_place place = core_database_place(o);
    return database_check(&place, ret_failure);
}
