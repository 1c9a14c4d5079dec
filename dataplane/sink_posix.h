// SPDX-License-Identifier: Apache-2.0
// A sink that writes files beneath a directory.
#ifndef DATAPLANE_SINK_POSIX_H
#define DATAPLANE_SINK_POSIX_H

#include "dataplane/sink.h"
#include "dataplane/write_queue.h"

struct sink_posix_options {
    int volume_fd;       // the volume's root (O_PATH | O_DIRECTORY), borrowed
    const uint8_t *root; // the task's root below it, borrowed
    size_t root_len;
    struct fence fence;
    const char *boot_id; // of this machine, for receipts; borrowed
    // Shared by all sinks of an agent, borrowed. NULL: writers of one file do not wait here.
    struct write_queues *queues;
    // Files of at least so many bytes are written past the page cache, where that is possible; 0:
    // none is.
    uint64_t direct_from_bytes;
    bool never_replaces;
};
MUST_CHECK enum err sink_posix_new(const struct sink_posix_options *o, struct sink **ret_sink,
                                   struct failure *ret_failure);

#endif
