// SPDX-License-Identifier: Apache-2.0
// What can be configured in a master (docs/configuration.md).
#ifndef MASTER_MASTER_OPTIONS_H
#define MASTER_MASTER_OPTIONS_H

#include "common/failure.h"

#include <stdbool.h>
#include <stdint.h>

struct config;

struct master_options {
    const char *name;      // default "master"
    const char *listen;    // "127.0.0.1:7400"
    const char *state_dir; // required
    const char *port_file; // NULL: none
    const char *log_file;  // NULL: stderr
    const char *log_level;
    bool tls;
    const char *tls_certificate, *tls_key, *tls_ca;
    int64_t hold_ms, heartbeat_ms, lost_after_ms, reconcile_ms, park_ms;
    uint64_t part_bytes;  // of large objects; a multiple of the leaf
    uint64_t large_bytes; // objects above this are moved in parts
    uint32_t flows_queued, flows_active, tasks_in_memory, tasks_per_flow, watchers, agents;
    uint32_t task_retries; // attempts of a task before it fails
};

// The texts belong to @c, which must outlive the options.
MUST_CHECK enum err master_options_read(struct config *c, struct master_options *ret_options,
                                        struct failure *ret_failure);

#endif
