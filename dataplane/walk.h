// SPDX-License-Identifier: Apache-2.0
// Lists one directory of a source in pages of bounded size. Blocking; one thread.
#ifndef DATAPLANE_WALK_H
#define DATAPLANE_WALK_H

#include "common/failure.h"
#include "common/object_table.h"

// What a walk tells. Each returns OK to go on; anything else ends the walk with that error.
struct walk_sink {
    // Up to OBJECT_TABLE_MAX_OBJECTS entries, paths relative to the place's root.
    enum err (*page)(void *user, const uint8_t *table, size_t len, bool directory_done);
    // An entry could not be looked at (its path is in the failure); the walk goes on.
    enum err (*failed)(void *user, const struct failure *f);
    void *user;
};

// Lists the directory @path below @root below @volume_fd. With @single, if @path is empty and
// the root is not a directory, one page with the root itself (its path empty) is given.
// A directory that cannot be opened or read: its error, with @ret_failure.
MUST_CHECK enum err walk_directory(int volume_fd, const uint8_t *root, size_t root_len,
                                   const uint8_t *path, size_t path_len, bool single,
                                   const struct walk_sink *sink, struct failure *ret_failure);

#endif
