// SPDX-License-Identifier: Apache-2.0
// A task that an executor opened on a data connection, with a ticket for its objects.
#ifndef DATAPLANE_SERVE_TASK_H
#define DATAPLANE_SERVE_TASK_H

#include "dataplane/serve.h"
#include "dataplane/source.h"

struct serve_task {
    uint64_t task_id;
    enum hash_algorithm digest;
    struct object_table table;
    struct source *source;
    struct leaf_hasher *hasher;

    uint8_t *opening; // the payload of OPEN_TASK, which holds the table's bytes
    int volume_fd;
};

// Checks the payload of an OPEN_TASK, which it takes (also on failure): the ticket's signature,
// cluster, names, direction and time, the proof that the executor holds the key named in it, and
// that the object table is the one signed for.
MUST_CHECK enum err serve_task_open(struct serve *s, const struct conn *c, uint64_t task_id,
                                    uint8_t *take_payload, size_t len, struct serve_task **ret_task,
                                    struct failure *ret_failure);
void serve_task_close(struct serve_task *t); // NULL is fine

#endif
