// SPDX-License-Identifier: Apache-2.0
// The inside of the data server: what its connections share. Included only by
// dataplane/serve*.c and data_server.c.
#ifndef DATAPLANE_SERVE_H
#define DATAPLANE_SERVE_H

#include "dataplane/conn.h"
#include "dataplane/data_server.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    SERVE_TASKS_MAX = 16,            // open at a time on one connection
    SERVE_TASK_IDLE_FACTOR = 10,     // a connection with a task may be idle that much longer
    SERVE_FIRST_TASK_MS = 30 * 1000, // without a ticket nobody stays longer, whatever else is said
    SERVE_FLUSH_US = 5000,           // small answers wait for others that long
    SERVE_CANCEL_LOOK = 1024 * 1024, // bytes between two looks for a CANCEL
    SERVE_END_DIGESTS = 64,          // in one OBJECT_END; more go into a DIGEST before it
};

struct serve_authority {
    char cluster[IDENT_SIZE];
    uint8_t master_public[SIGNING_KEY_BYTES];
};

struct serve {
    char agent[TICKET_NAME_MAX];
    int64_t idle_ms;
    uint64_t direct_from_bytes;
    enum err (*open_volume)(void *user, const char *volume, int *ret_fd,
                            struct failure *ret_failure);
    void *user;
    _Atomic uint64_t bytes_served;

    pthread_mutex_t mutex;
    bool has_authority;               // under mutex
    struct serve_authority authority; // under mutex
};

// false: there is none yet.
bool serve_get_authority(struct serve *s, struct serve_authority *ret_authority);

// All of a connection's life, on its own thread.
void serve_connection(struct serve *s, struct conn *c);

#endif
