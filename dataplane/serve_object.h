// SPDX-License-Identifier: Apache-2.0
// Sends one range of one object as the answer to a READ.
#ifndef DATAPLANE_SERVE_OBJECT_H
#define DATAPLANE_SERVE_OBJECT_H

#include "dataplane/serve_task.h"

// Of one connection; belongs to its thread.
struct object_sender {
    struct serve *serve;
    struct conn *conn;
    uint8_t *buffer;      // FRAME_DATA_BYTES, aligned to a page; made when first needed
    uint64_t cpu_mark_us; // the thread's processor time when it was told last
    uint32_t n_uncounted; // objects since then
};

void object_sender_deinit(struct object_sender *o);

// An object that cannot be read is answered with its failure; the return value is that of the
// connection.
MUST_CHECK enum err object_sender_send(struct object_sender *o, struct serve_task *t,
                                       uint64_t request, const struct source_range *range,
                                       struct failure *ret_failure);

#endif
