// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster.h"

#include "cli/cluster_files.h"
#include "cli/cluster_ready.h"
#include "cli/log_tail.h"
#include "cli/report.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

enum {
    START_DEADLINE_MS = 120 * 1000, // a daemon that ends is noticed at once
    READY_DEADLINE_MS = 300 * 1000,
    ASK_EVERY_MS = 50,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    HEALTHY_MS = 10 * 1000, // who ran so long starts at once when it dies
    STOP_DEADLINE_MS = 10 * 1000,
};

static int64_t now_ms(void) {
    return clock_mono_ms(&clock_system);
}

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "prepare the cluster", NULL, 0, NULL);
}

// asprintf() that leaves NULL behind when it fails.
static char *format(const char *fmt, const char *a, const char *b) {
    char *text;
    return asprintf(&text, fmt, a, b) < 0 ? NULL : text;
}

// ---- setting up ----

static bool daemon_init(struct cluster *c, struct daemon *d, char *program) {
    d->child = (struct child){.pidfd = -1};
    d->backoff_ms = BACKOFF_MIN_MS;
    d->argv[0] = program;
    d->argv[1] = (char *)(uintptr_t) "--config";
    d->argv[2] = format("%s/etc/%s.yaml", c->options->dir, d->name);
    d->log_path = format("%s/log/%s.log", c->options->dir, d->name);
    return d->argv[2] && d->log_path;
}

// The first is "master", the second "master-2".
static bool master_init(struct cluster *c, struct daemon *d, size_t number) {
    char suffix[24] = "";
    if (number > 1) {
        snprintf(suffix, sizeof(suffix), "-%zu", number);
    }
    snprintf(d->name, UP_NAME_MAX, "master%s", suffix);
    d->port_path = format("%s/state/port%s", c->options->dir, suffix);
    d->address_path = format("%s/state/address%s", c->options->dir, suffix);
    return daemon_init(c, d, c->master_program) && d->port_path && d->address_path;
}

static enum err daemons_init(struct cluster *c, struct failure *f) {
    const struct up_options *o = c->options;
    size_t n = (size_t)o->n_masters;
    for (size_t i = 0; i < o->n_sites; i++) {
        n += (size_t)o->sites[i].n_agents;
    }
    c->daemons = calloc(n, sizeof(*c->daemons));
    if (!c->daemons) {
        return no_memory(f);
    }
    bool done = true;
    for (; c->n_masters < (size_t)o->n_masters; c->n_masters++) {
        done = master_init(c, &c->daemons[c->n_masters], c->n_masters + 1) && done;
    }
    c->n_daemons = c->n_masters;
    for (size_t i = 0; i < o->n_sites; i++) {
        for (int k = 1; k <= o->sites[i].n_agents; k++) {
            struct daemon *d = &c->daemons[c->n_daemons++];
            d->site = &o->sites[i];
            snprintf(d->name, sizeof(d->name), "%.50s-%d", o->sites[i].name, k);
            done = daemon_init(c, d, c->agent_program) && done;
        }
    }
    return done ? OK : no_memory(f);
}

void cluster_signals(sigset_t *ret_signals) {
    struct sigaction hangup;
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGTERM);
    // Under nohup it stays ignored.
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        sigaddset(ret_signals, SIGHUP);
    }
}

static enum err descriptors_init(struct cluster *c, struct failure *f) {
    sigset_t signals;
    cluster_signals(&signals);
    c->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    c->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    AUTO(auto_free) char *state = format("%s/%s", c->options->dir, "state");
    if (!state) {
        return no_memory(f);
    }
    if (c->signal_fd < 0 || c->inotify_fd < 0 ||
        inotify_add_watch(c->inotify_fd, state, IN_CLOSE_WRITE | IN_MOVED_TO) < 0) {
        return failure_errno(f, errno, "watch", state, strlen(state));
    }
    return OK;
}

enum err cluster_init(const struct up_options *options, struct cluster *ret_cluster,
                      struct failure *ret_failure) {
    struct cluster *c = ret_cluster;
    *c = (struct cluster){.options = options, .lock_fd = -1, .signal_fd = -1, .inotify_fd = -1};
    enum err e;
    if ((e = child_find_program("sluice-master", &c->master_program, ret_failure)) != OK ||
        (e = child_find_program("sluice-agent", &c->agent_program, ret_failure)) != OK ||
        (e = cluster_lock(options->dir, &c->lock_fd, ret_failure)) != OK ||
        (e = daemons_init(c, ret_failure)) != OK ||
        (e = cluster_make_directories(c, ret_failure)) != OK) {
        return e;
    }
    c->config_path = format("%s/%s", options->dir, "client.yaml");
    return c->config_path ? descriptors_init(c, ret_failure) : no_memory(ret_failure);
}

void cluster_deinit(struct cluster *c) {
    char how[32];
    for (size_t i = 0; i < c->n_daemons; i++) {
        struct daemon *d = &c->daemons[i];
        child_signal(&d->child, SIGKILL);
        while (d->child.pid > 0 && !child_reap(&d->child, how, sizeof(how))) {
            struct pollfd ended = {.fd = d->child.pidfd, .events = POLLIN};
            poll(&ended, 1, -1);
        }
        free(d->argv[2]);
        free(d->log_path);
        free(d->port_path);
        free(d->address_path);
    }
    free(c->daemons);
    free(c->master_program);
    free(c->agent_program);
    free(c->config_path);
    int fds[] = {c->signal_fd, c->inotify_fd, c->lock_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

// ---- waiting ----

static void swallow(int fd) {
    char buf[4096];
    while (read(fd, buf, sizeof(buf)) > 0) {
    }
}

enum cluster_wake cluster_wait(struct cluster *c, int64_t timeout_ms) {
    struct pollfd fds[UP_AGENTS_MAX + UP_MASTERS_MAX + 2];
    nfds_t n = 2;
    fds[0] = (struct pollfd){.fd = c->signal_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = c->inotify_fd, .events = POLLIN};
    for (size_t i = 0; i < c->n_daemons; i++) {
        fds[n++] = (struct pollfd){.fd = c->daemons[i].child.pidfd, .events = POLLIN};
    }
    if (timeout_ms < 0) {
        timeout_ms = 0;
    }
    int ready = poll(fds, n, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    if (ready <= 0) {
        return WAKE_TIME;
    }
    if (fds[0].revents) {
        swallow(c->signal_fd);
        return WAKE_SIGNAL;
    }
    if (fds[1].revents) {
        swallow(c->inotify_fd);
    }
    return WAKE_CHANGE;
}

// ---- starting ----

static enum err start_daemon(struct daemon *d, struct failure *f) {
    enum err e = child_start(d->argv, d->log_path, &d->child, f);
    d->started_ms = now_ms();
    d->restart_ms = 0;
    return e;
}

// A daemon that ends before the cluster is ready is a failure of the cluster.
static enum err check_alive(struct cluster *c, struct failure *f) {
    for (size_t i = 0; i < c->n_daemons; i++) {
        struct daemon *d = &c->daemons[i];
        char how[32], why[1024];
        if (d->child.pid == 0 || !child_reap(&d->child, how, sizeof(how))) {
            continue;
        }
        bool said = log_tail_message(d->log_path, d->child.log_end, why, sizeof(why));
        enum err e = failure_set(f, ERR_STATE, "start", d->name, strlen(d->name), "%s (%s)",
                                 said ? why : "it ended without a word", how);
        failure_remedy(f, "see %s", d->log_path);
        return e;
    }
    return OK;
}

// Is the port free that the master had the last time? Then clients that still wait find it.
static bool can_listen(const char *address) {
    int port;
    if (sscanf(address, "127.0.0.1:%d", &port) != 1 || port <= 0 || port > 65535) {
        return false;
    }
    AUTO(auto_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
           bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0;
}

static enum err start_master(struct cluster *c, struct daemon *d, struct failure *f) {
    char address[64];
    bool again = cluster_read_address(d->address_path, address) && can_listen(address);
    enum err e = cluster_write_master_config(c, d, again ? address : "127.0.0.1:0", f);
    if (e) {
        return e;
    }
    if (unlink(d->port_path) != 0 && errno != ENOENT) {
        return failure_errno(f, errno, "remove", d->port_path, strlen(d->port_path));
    }
    int64_t deadline = now_ms() + START_DEADLINE_MS;
    e = start_daemon(d, f);
    while (!e && !cluster_read_address(d->port_path, address)) {
        e = check_alive(c, f);
        if (!e && now_ms() >= deadline) {
            e = failure_set(f, ERR_TIMEOUT, "start", d->name, strlen(d->name),
                            "it does not say where it is");
            failure_remedy(f, "see %s", d->log_path);
        }
        if (!e && cluster_wait(c, deadline - now_ms()) == WAKE_SIGNAL) {
            e = failure_set(f, ERR_CANCELLED, "start", d->name, strlen(d->name), NULL);
        }
    }
    if (e) {
        return e;
    }
    size_t len = strlen(c->master);
    snprintf(c->master + len, sizeof(c->master) - len, "%s%s", len > 0 ? "," : "", address);
    // From now on it comes back at the same place.
    e = cluster_keep_address(d, address, f);
    return e ? e : cluster_write_master_config(c, d, address, f);
}

static enum err wait_until_ready(struct cluster *c, struct failure *f) {
    int64_t deadline = now_ms() + READY_DEADLINE_MS;
    struct cluster_ready ready;
    enum err e = cluster_ready_init(c, &ready, f);
    while (!e) {
        bool all = cluster_ready_ask(&ready);
        if ((e = check_alive(c, f)) != OK || all) {
            break;
        }
        if (now_ms() >= deadline) {
            e = failure_set(f, ERR_TIMEOUT, "start the cluster", NULL, 0, "%s", ready.missing);
            failure_remedy(f, "see the logs in %s/log", c->options->dir);
        } else if (cluster_wait(c, ASK_EVERY_MS) == WAKE_SIGNAL) {
            e = failure_set(f, ERR_CANCELLED, "start the cluster", NULL, 0, NULL);
        }
    }
    cluster_ready_deinit(&ready);
    return e;
}

enum err cluster_start(struct cluster *c, struct failure *ret_failure) {
    enum err e = OK;
    for (size_t i = 0; !e && i < c->n_masters; i++) {
        e = start_master(c, &c->daemons[i], ret_failure);
    }
    if (e || (e = cluster_write_other_configs(c, ret_failure)) != OK) {
        return e;
    }
    for (size_t i = c->n_masters; i < c->n_daemons; i++) {
        if ((e = start_daemon(&c->daemons[i], ret_failure)) != OK) {
            return e;
        }
    }
    return wait_until_ready(c, ret_failure);
}

// ---- running ----

static void note_death(struct daemon *d, const char *how) {
    char why[1024] = "";
    // Who was killed had no time for last words.
    bool said = strncmp(how, "exit", 4) == 0 &&
                log_tail_message(d->log_path, d->child.log_end, why, sizeof(why));
    int64_t now = now_ms();
    if (now - d->started_ms >= HEALTHY_MS) {
        d->backoff_ms = BACKOFF_MIN_MS;
    }
    d->restart_ms = now + d->backoff_ms;
    d->backoff_ms = 2 * d->backoff_ms < BACKOFF_MAX_MS ? 2 * d->backoff_ms : BACKOFF_MAX_MS;
    report_note("%s ended (%s)%s%s; starting it again", d->name, how, said ? ": " : "", why);
}

// Starts what is due. Returns when the next one is.
static int64_t restart_due(struct cluster *c) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < c->n_daemons; i++) {
        struct daemon *d = &c->daemons[i];
        if (d->child.pid == 0 && now_ms() >= d->restart_ms) {
            struct failure f;
            if (start_daemon(d, &f) != OK) {
                d->restart_ms = now_ms() + BACKOFF_MAX_MS;
                report_note("cannot start %s again: %s", d->name, f.message);
            } else {
                report_note("%s runs again as process %ld", d->name, (long)d->child.pid);
            }
        }
        if (d->child.pid == 0 && d->restart_ms < next) {
            next = d->restart_ms;
        }
    }
    return next;
}

void cluster_supervise(struct cluster *c) {
    for (;;) {
        int64_t next = restart_due(c);
        int64_t wait_ms = next == INT64_MAX ? INT32_MAX : next - now_ms();
        if (cluster_wait(c, wait_ms) == WAKE_SIGNAL) {
            return;
        }
        for (size_t i = 0; i < c->n_daemons; i++) {
            char how[32];
            if (child_reap(&c->daemons[i].child, how, sizeof(how))) {
                note_death(&c->daemons[i], how);
            }
        }
    }
}

static bool any_runs(struct cluster *c) {
    bool any = false;
    for (size_t i = 0; i < c->n_daemons; i++) {
        char how[32];
        child_reap(&c->daemons[i].child, how, sizeof(how));
        any = any || c->daemons[i].child.pid > 0;
    }
    return any;
}

static void signal_all(const struct cluster *c, int sig) {
    for (size_t i = 0; i < c->n_daemons; i++) {
        child_signal(&c->daemons[i].child, sig);
    }
}

void cluster_stop(struct cluster *c) {
    int64_t deadline = now_ms() + STOP_DEADLINE_MS;
    bool killed = false;
    signal_all(c, SIGTERM);
    while (any_runs(c)) {
        bool again = cluster_wait(c, killed ? 1000 : deadline - now_ms()) == WAKE_SIGNAL;
        if (!killed && (again || now_ms() >= deadline)) {
            signal_all(c, SIGKILL);
            killed = true;
        }
    }
}
