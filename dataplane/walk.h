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

struct walk_options {
    int volume_fd;       // the volume's root, borrowed
    const uint8_t *root; // the place's root below it
    size_t root_len;
    bool single;           // the root may be something else than a directory
    bool skip_temporaries; // leave out names that have the form of a temporary or a proof
};
// Lists the directory @path below the root. With single, if @path is empty and the root is not
// a directory (a symbolic link to one counts as a link), one page with the root itself (its
// path empty) is given. Names that vanish while they are looked at are left out.
// A directory that cannot be opened or read: its error, with @ret_failure.
MUST_CHECK enum err walk_directory(const struct walk_options *o, const uint8_t *path,
                                   size_t path_len, const struct walk_sink *sink,
                                   struct failure *ret_failure);
// Adds to @b what @path itself is (not followed if it is a symbolic link): for the metadata of
// directories, the root among them, which no listing holds. ERR_FULL as object_table_add().
MUST_CHECK enum err walk_look(const struct walk_options *o, const uint8_t *path, size_t path_len,
                              struct object_table_builder *b, struct failure *ret_failure);

#endif
