// SPDX-License-Identifier: Apache-2.0
// What can be configured in a master (docs/configuration.md).
#ifndef MASTER_MASTER_OPTIONS_H
#define MASTER_MASTER_OPTIONS_H

#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

enum { CALLBACK_HOSTS_MAX = 64 };

// Callbacks of flows (docs/callbacks.md).
struct callback_options {
    const char *hosts[CALLBACK_HOSTS_MAX]; // "name" or "name:port" to which they may go
    size_t n_hosts;                        // 0: callbacks are off
    const char *secret_file;               // what they are signed with
    const char *ca_file;                   // NULL: the system's
    int64_t timeout_ms, connect_timeout_ms, backoff_ms, backoff_max_ms;
    uint32_t attempts;   // of a callback before it is given up
    uint32_t concurrent; // on their way at a time
    uint32_t dead_kept;  // that were given up and are kept, at most
};

// Where the database is (docs/database.md).
struct database_options {
    const char *url;    // postgresql://…, never logged; NULL: SQLite in state_dir
    int64_t session_ms; // PostgreSQL ends the session of a master that is silent for so long
    int64_t outage_ms;  // a master that was without PostgreSQL for so long ends
};

struct master_options {
    const char *name;       // default "master"
    const char *listen;     // "127.0.0.1:7400"
    const char *state_dir;  // required
    const char *ticket_key; // NULL: "ticket.key" in state_dir
    const char *port_file;  // NULL: none
    const char *log_file;   // NULL: stderr
    const char *log_level;
    bool tls;
    const char *tls_certificate, *tls_key, *tls_ca;
    int64_t hold_ms, heartbeat_ms, lost_after_ms, reconcile_ms, park_ms;
    uint64_t part_bytes;  // of large objects; a multiple of the leaf
    uint64_t large_bytes; // objects above this are moved in parts
    uint32_t flows_queued, flows_active, tasks_in_memory, tasks_per_flow, watchers, agents, calls;
    uint32_t events_per_flow;     // of its progress, that are kept; at least 16
    uint32_t message_bytes;       // of a message to this master
    uint64_t spec_bytes_per_flow; // of a flow's tasks in memory that no agent has
    uint32_t task_retries;        // attempts of a task before it fails
    uint32_t retries_per_flow;    // of all its tasks; then what fails has failed. 0: no limit
    struct callback_options callbacks;
    struct database_options database;
};

// The texts belong to @c, which must outlive the options.
MUST_CHECK enum err master_options_read(struct config *c, struct master_options *ret_options,
                                        struct failure *ret_failure);

#endif
