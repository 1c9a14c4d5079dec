// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include "agent/agent_rdma.h"
#include "agent/credential_table.h"
#include "agent/session.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/notify_socket.h"
#include "dataplane/conn_pool.h"
#include "dataplane/data_server.h"
#include "dataplane/transport.h"
#include "dataplane/transport_tcp.h"
#include "dataplane/write_queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

struct agent {
    const struct agent_options *options;
    struct incarnation incarnation;
    struct hold hold;
    struct signing_key *key;
    uint8_t public_key[SIGNING_KEY_BYTES];
    int drained_fd;
    char *addresses[AGENT_MAX_RAILS + AGENT_MAX_ADDRESSES]; // owned
    size_t n_addresses;
    // in the order of making
    struct volumes *volumes;
    struct credential_table *credentials;
    struct transport *transport;
    struct data_server *server;
    struct agent_rdma rdma;
    struct conn_pool *pool;
    struct write_queues *queues;
    struct loop *loop;
    struct session *session;
    struct journal *journal;
    struct proof_files *proofs;
    struct under_way *under_way;
    struct volume_watch *watch;
    struct run_tools tools;
    struct executor *executor;
    pthread_t thread; // of the loop
    bool is_running;
};

// ---- what the parts tell ----

static enum err open_volume(void *user, const char *volume, int *ret_fd,
                            struct failure *ret_failure) {
    struct agent *a = user;
    return volumes_root(a->volumes, volume, VOLUME_READ, ret_fd, ret_failure);
}

static void welcomed(void *user, const char *cluster, const uint8_t ticket_key[SIGNING_KEY_BYTES]) {
    struct agent *a = user;
    conn_pool_set_cluster(a->pool, cluster);
    data_server_set_authority(a->server, cluster, ticket_key);
    agent_rdma_set_authority(&a->rdma, cluster, ticket_key);
}

static void credentials(void *user, const char *name, const struct s3_credentials *keys,
                        bool removed) {
    struct agent *a = user;
    enum err e = OK;
    if (keys != NULL) {
        e = credential_table_put(a->credentials, name, keys);
    } else if (removed) {
        credential_table_remove(a->credentials, name);
    }
    volumes_set_credentials(a->volumes, name, keys);
    if (e != OK) {
        log_event(LOG_ERROR, "credentials_refused", LOG_STR("name", name),
                  LOG_STR("code", err_name(e)));
    }
}

static uint64_t bytes_served(void *user) {
    struct agent *a = user;
    return data_server_bytes_served(a->server) + agent_rdma_bytes_served(&a->rdma);
}

static void results_written(void *user) {
    struct agent *a = user;
    under_way_written(a->under_way, journal_written_through(a->journal));
    session_results_written(a->session);
}

static void drained(void *user) {
    struct agent *a = user;
    uint64_t one = 1;
    (void)!write(a->drained_fd, &one, sizeof one);
}

// ---- making them ----

static enum err out_of_memory(const char *what, struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "start", what, strlen(what), NULL);
}

static enum err load_key(struct agent *a, struct failure *f) {
    char path[4200];
    int n = snprintf(path, sizeof path, "%s/agent.key", a->options->state_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return failure_set(f, ERR_NAME_TOO_LONG, "open", a->options->state_dir,
                           strlen(a->options->state_dir), NULL);
    }
    enum err e = signing_key_load_or_create(path, &a->key, f);
    if (e == OK) {
        signing_key_public(a->key, a->public_key);
    }
    return e;
}

// What other agents connect to: as configured, with the port that was taken for port 0.
static enum err name_addresses(struct agent *a, struct failure *f) {
    const struct agent_options *o = a->options;
    const char *listening = data_server_address(a->server);
    const char *port = strrchr(listening, ':');
    size_t n = o->n_data_addresses == 0 ? 1 : o->n_data_addresses;
    size_t first = a->rdma.n; // the best ones
    for (size_t i = 0; i < first; i++) {
        a->addresses[i] = take_ptr(a->rdma.rails[i].address);
        a->n_addresses = i + 1;
    }
    for (size_t i = 0; i < n; i++) {
        const char *given = o->n_data_addresses == 0 ? listening : o->data_addresses[i];
        const char *colon = strrchr(given, ':');
        bool is_any = colon != NULL && strcmp(colon, ":0") == 0 && port != NULL;
        int len = is_any ? (int)(colon - given) : (int)strlen(given);
        char **address = &a->addresses[first + i];
        if (asprintf(address, "%.*s%s", len, given, is_any ? port : "") < 0) {
            *address = NULL;
            return out_of_memory("addresses", f);
        }
        a->n_addresses = first + i + 1;
    }
    return OK;
}

static enum err start_data(struct agent *a, struct failure *f) {
    const struct agent_options *o = a->options;
    enum err e = transport_tcp_new(&a->transport);
    if (e != OK) {
        return out_of_memory("transport", f);
    }
    struct data_server_options so = {
        .transport = a->transport,
        .listen = o->data_listen,
        .agent = o->name,
        .max_connections = o->data_connections,
        .direct_from_bytes = o->direct_from_bytes,
        .open_volume = open_volume,
        .user = a,
    };
    e = data_server_new(&so, &a->server, f);
    if (e == OK) {
        e = agent_rdma_start(&a->rdma, o, &so, f);
    }
    if (e == OK) {
        e = name_addresses(a, f);
    }
    if (e != OK) {
        return e;
    }
    struct conn_pool_options po = {
        .transport = a->transport,
        .rdma = a->rdma.transport,
        .agent = o->name,
        .key = a->key,
        .rest_ms = (int64_t)o->rdma_retry_ms,
        .idle_ms = (int64_t)o->data_idle_ms,
        .rdma_dial_ms = (int64_t)o->rdma_connect_ms,
    };
    return conn_pool_new(&po, &a->pool) == OK ? OK : out_of_memory("connections", f);
}

static enum err make_session(struct agent *a, const struct clock *clock, struct failure *f) {
    a->loop = loop_new();
    if (a->loop == NULL) {
        return out_of_memory("loop", f);
    }
    struct session_options o = {
        .loop = a->loop,
        .clock = clock,
        .agent = a->options,
        .incarnation = &a->incarnation,
        .hold = &a->hold,
        .public_key = a->public_key,
        .welcomed = welcomed,
        .credentials = credentials,
        .bytes_served = bytes_served,
        .drained = drained,
        .user = a,
    };
    return session_new(&o, &a->session, f);
}

static enum err make_workers(struct agent *a, struct failure *f) {
    struct journal_options jo = {
        .state_dir = a->options->state_dir,
        .written = results_written,
        .user = a,
    };
    enum err e = journal_open(&jo, &a->journal, f);
    if (e == OK) {
        e = under_way_open(a->options->state_dir, a->journal, &a->under_way, f);
    }
    if (e != OK) {
        return e;
    }
    e = proof_files_new(a->options->state_dir, a->volumes, &a->proofs, f);
    if (e != OK) {
        return e;
    }
    struct volume_watch_options wo = {
        .volumes = a->volumes,
        .proofs = a->proofs,
        .changed = session_volumes_changed,
        .proved = session_volume_proved,
        .user = a->session,
    };
    if (volume_watch_new(&wo, &a->watch) != OK) {
        return out_of_memory("volume watch", f);
    }
    if (write_queues_new((size_t)a->options->buffer_bytes / 2, &a->queues) != OK) {
        return out_of_memory("write queues", f);
    }
    a->tools = (struct run_tools){
        .agent = a->options->name,
        .boot_id = a->incarnation.boot_id,
        .volumes = a->volumes,
        .credentials = a->credentials,
        .pool = a->pool,
        .queues = a->queues,
        .stall_ms = (int64_t)a->options->stall_ms,
        .direct_from_bytes = a->options->direct_from_bytes,
        .lists = session_list_lane(a->session),
    };
    struct executor_options eo = {
        .slots = a->options->slots,
        .buffer_bytes = a->options->buffer_bytes,
        .tools = &a->tools,
        .hold = &a->hold,
        .journal = a->journal,
        .under_way = a->under_way,
        .stopped = session_lease_stopped,
        .idle = session_executor_idle,
        .user = a->session,
    };
    return executor_new(&eo, &a->executor, f);
}

static void *control_thread(void *arg) {
    loop_run(arg);
    return NULL;
}

static enum err run_session(struct agent *a, struct failure *f) {
    if (pthread_create(&a->thread, NULL, control_thread, a->loop) != 0) {
        return out_of_memory("control thread", f);
    }
    a->is_running = true;
    struct session_parts p = {
        .journal = a->journal,
        .under_way = a->under_way,
        .volumes = a->volumes,
        .watch = a->watch,
        .executor = a->executor,
        .data_addresses = (const char *const *)a->addresses,
        .n_data_addresses = a->n_addresses,
    };
    session_start(a->session, &p);
    return OK;
}

static enum err start_all(struct agent *a, const struct clock *clock, struct failure *f) {
    enum err e = volumes_open(a->options, &a->volumes, f);
    if (e == OK && credential_table_new(&a->credentials) != OK) {
        e = out_of_memory("credentials", f);
    }
    if (e == OK) {
        e = incarnation_begin(a->options->state_dir, clock, &a->incarnation, f);
    }
    if (e == OK) {
        e = load_key(a, f);
    }
    if (e == OK) {
        e = start_data(a, f);
    }
    if (e == OK) {
        e = make_session(a, clock, f);
    }
    if (e == OK) {
        e = make_workers(a, f);
    }
    return e == OK ? run_session(a, f) : e;
}

enum err agent_start(const struct agent_options *o, const struct clock *clock,
                     struct agent **ret_agent, struct failure *ret_failure) {
    struct agent *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return out_of_memory("agent", ret_failure);
    }
    a->options = o;
    a->incarnation.lock_fd = -1;
    hold_init(&a->hold, clock);
    a->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum err e = a->drained_fd < 0 ? failure_errno(ret_failure, errno, "eventfd", NULL, 0)
                                   : start_all(a, clock, ret_failure);
    if (e != OK) {
        agent_free(a);
        return e;
    }
    log_event(LOG_INFO, "agent_started", LOG_STR("site", o->site),
              LOG_STR("version", SLUICE_VERSION), LOG_STR("incarnation", a->incarnation.id),
              LOG_STR("master", o->master), LOG_STR("data_address", a->addresses[0]),
              LOG_STR("data_listen", data_server_address(a->server)), LOG_U64("slots", o->slots),
              LOG_U64("volumes", o->n_volumes), LOG_I64("pid", getpid()));
    *ret_agent = a;
    return OK;
}

const char *agent_data_address(const struct agent *a) {
    return data_server_address(a->server);
}

void agent_drain(struct agent *a) {
    session_drain(a->session);
}

int agent_drained_fd(const struct agent *a) {
    return a->drained_fd;
}

int agent_serve(struct agent *a, int signal_fd) {
    struct pollfd fds[] = {{.fd = signal_fd, .events = POLLIN},
                           {.fd = a->drained_fd, .events = POLLIN}};
    for (bool draining = false; (fds[1].revents & POLLIN) == 0; (void)poll(fds, 2, -1)) {
        struct signalfd_siginfo s;
        if ((fds[0].revents & POLLIN) == 0 || read(signal_fd, &s, sizeof s) != (ssize_t)sizeof s) {
            continue;
        }
        if (s.ssi_signo == SIGHUP) {
            log_reopen();
        } else if (draining) {
            log_event(LOG_WARN, "agent_cut_short", LOG_STR("reason", "a second signal to end"));
            _exit(EXIT_FAILED); // the journal, and what is synced, is what counts
        } else {
            draining = true;
            notify_socket_send("STOPPING=1");
            agent_drain(a);
        }
    }
    return 0;
}

void agent_free(struct agent *a) {
    if (a == NULL) {
        return;
    }
    // Those that report to the session first, while the loop takes what they post.
    executor_free(a->executor);
    volume_watch_free(a->watch);
    proof_files_free(a->proofs);
    journal_close(a->journal);
    if (a->is_running) {
        loop_stop(a->loop);
        pthread_join(a->thread, NULL);
    }
    session_free(a->session);
    under_way_close(a->under_way);
    if (a->loop != NULL) {
        loop_free(a->loop);
    }
    conn_pool_free(a->pool);
    write_queues_free(a->queues);
    agent_rdma_stop(&a->rdma);
    data_server_free(a->server);
    transport_free(a->transport);
    for (size_t i = 0; i < a->n_addresses; i++) {
        free(a->addresses[i]);
    }
    credential_table_free(a->credentials);
    volumes_free(a->volumes);
    signing_key_free(a->key);
    incarnation_end(&a->incarnation);
    if (a->drained_fd >= 0) {
        close(a->drained_fd);
    }
    free(a);
}

enum err agent_check(const struct agent_options *o, struct failure *ret_failure) {
    struct volumes *v = NULL;
    enum err e = volumes_open(o, &v, ret_failure);
    volumes_free(v);
    return e == OK ? agent_rdma_check(o, ret_failure) : e;
}
