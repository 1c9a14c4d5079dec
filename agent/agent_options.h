// SPDX-License-Identifier: Apache-2.0
// What can be configured in an agent (docs/configuration-agent.md).
#ifndef AGENT_AGENT_OPTIONS_H
#define AGENT_AGENT_OPTIONS_H

#include "common/failure.h"
#include "dataplane/s3_store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

enum {
    AGENT_NAME_MAX = 100,
    AGENT_MAX_VOLUMES = 64,
    AGENT_MAX_ADDRESSES = 16,
    AGENT_MAX_RAILS = 8,
};

struct volume_options {
    const char *name;
    const char *root; // absolute; NULL: an object store
    bool readable, writable;
    struct s3_store_options store;
};

struct agent_options {
    const char *name;
    const char *site;
    const char *master;      // "host:port", or several, joined by commas: standbys
    const char *state_dir;   // made if it is missing
    const char *data_listen; // "host:port", port 0: any
    const char *data_addresses[AGENT_MAX_ADDRESSES];
    size_t n_data_addresses; // 0: what data_listen came to
    struct volume_options volumes[AGENT_MAX_VOLUMES];
    size_t n_volumes;
    uint32_t slots;
    uint64_t buffer_bytes; // for each slot
    uint64_t stall_ms;     // a data connection on which no byte moves for so long is given up
    uint64_t data_idle_ms; // one to another agent that nobody uses is closed after so long
    uint64_t
        direct_from_bytes; // files of that size are read and written past the page cache; 0: none
    uint32_t data_connections; // that others may have to us
    const char *log_file;      // NULL: stderr
    const char *log_level;
    const char *rails[AGENT_MAX_RAILS]; // "host:port" of interfaces with an RDMA device
    size_t n_rails;                     // 0: no RDMA
    uint64_t rdma_pool_bytes;           // registered at start
    uint64_t rdma_retry_ms;             // RDMA to an agent that failed is tried again after so long
    uint64_t rdma_connect_ms;           // a connection over RDMA that takes longer has failed
    bool tls;
    const char *tls_certificate, *tls_key, *tls_ca;
};

// The texts belong to @c, which must outlive the options. ERR_CONFIG: the failure names the
// file, the line and the key.
MUST_CHECK enum err agent_options_read(struct config *c, struct agent_options *ret_options,
                                       struct failure *ret_failure);

#endif
