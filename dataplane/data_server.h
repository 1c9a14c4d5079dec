// SPDX-License-Identifier: Apache-2.0
// Serves ranges of local objects to executors that hold a ticket. One thread a connection.
#ifndef DATAPLANE_DATA_SERVER_H
#define DATAPLANE_DATA_SERVER_H

#include "common/failure.h"
#include "common/ticket.h"

#include <stdbool.h>

struct data_server;
struct transport;

struct data_server_options {
    struct transport *transport; // borrowed
    const char *listen;          // "host:port", port 0: any
    const char *agent;           // our name: tickets for others are refused
    uint32_t max_connections;    // 0: 1024
    int64_t idle_ms;             // a connection without a task for so long is closed; 0: 120,000
    uint64_t direct_from_bytes;  // see source_posix_read_direct()
    // The root of a volume that may be read, as a new descriptor (the server closes it).
    // ERR_NO_VOLUME, ERR_DENIED. Called on connection threads.
    enum err (*open_volume)(void *user, const char *volume, int *ret_fd,
                            struct failure *ret_failure);
    void *user;
};
MUST_CHECK enum err data_server_new(const struct data_server_options *o,
                                    struct data_server **ret_server, struct failure *ret_failure);
const char *data_server_address(const struct data_server *s); // "host:port" as it listens
// Whose tickets are good. Nothing is served before. Any thread.
void data_server_set_authority(struct data_server *s, const char *cluster,
                               const uint8_t master_public[SIGNING_KEY_BYTES]);
uint64_t data_server_bytes_served(const struct data_server *s); // any thread
void data_server_free(struct data_server *s); // cuts all connections and joins their threads

#endif
