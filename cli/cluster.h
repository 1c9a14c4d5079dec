// SPDX-License-Identifier: Apache-2.0
// A whole cluster on this machine as child processes: its files, its start, its supervision,
// its end. One thread; cluster_signals() are blocked in it, and in all others.
//
//   DIR/lock          held while the cluster runs; the pid of who holds it
//   DIR/client.yaml   for clients
//   DIR/etc/*.yaml    of the daemons
//   DIR/log/*.log
//   DIR/state/…       the masters' and the agents' state, and the masters' addresses
//   DIR/SITE          default volumes
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#include "cli/child.h"
#include "cli/up_options.h"

#include <signal.h>
#include <stdint.h>

struct daemon {
    char name[UP_NAME_MAX];
    const struct up_site *site; // NULL: a master
    char *argv[4];              // program, "--config", file
    char *log_path;
    char *port_path;    // of a master: where it writes its address
    char *address_path; // and what that was the last time
    struct child child;
    int64_t started_ms;
    int64_t restart_ms; // when to start it again; 0: not due
    int64_t backoff_ms;
};

struct cluster {
    const struct up_options *options;
    char *master_program, *agent_program;
    char *config_path;                // of clients
    char master[64 * UP_MASTERS_MAX]; // "127.0.0.1:4711", or several, joined by commas
    size_t n_masters;
    struct daemon *daemons; // the masters first
    size_t n_daemons;
    int lock_fd, signal_fd, inotify_fd; // -1: none
};

// How a wait ended.
enum cluster_wake {
    WAKE_TIME,   // the time is over
    WAKE_CHANGE, // a daemon ended, or a file appeared
    WAKE_SIGNAL, // one of cluster_signals() came
};

// Those that end a cluster: SIGINT, SIGTERM and, unless it is ignored, SIGHUP.
void cluster_signals(sigset_t *ret_signals);

// Takes the directory and prepares it. ERR_LOCKED: another cluster runs there. To be released
// with cluster_deinit() in any case; @options is borrowed.
MUST_CHECK enum err cluster_init(const struct up_options *options, struct cluster *ret_cluster,
                                 struct failure *ret_failure);
// Kills what still runs.
void cluster_deinit(struct cluster *c);

// Starts all, and returns when the master says that every agent is there and every volume can
// be used. ERR_CANCELLED: a signal came first.
MUST_CHECK enum err cluster_start(struct cluster *c, struct failure *ret_failure);
// Starts again what dies, until a signal comes.
void cluster_supervise(struct cluster *c);
// SIGTERM to all; SIGKILL to those that still run after ten seconds, or after a signal.
void cluster_stop(struct cluster *c);

enum cluster_wake cluster_wait(struct cluster *c, int64_t timeout_ms);

#endif
