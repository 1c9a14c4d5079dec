// SPDX-License-Identifier: Apache-2.0
// The directories that one task works in, kept open, so that most objects cost one openat; and
// which of them are still to be synced.
//
// Belongs to one thread. A directory stays open while it has users or changes, and a few more
// that were used last.
#ifndef DATAPLANE_DIR_SET_H
#define DATAPLANE_DIR_SET_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dir {
    struct dir *next;
    uint64_t hash;
    uint8_t *path; // from the volume's root
    size_t path_len;
    int fd;
    bool is_readable;      // fd can be synced; else it is O_PATH
    bool changed;          // names in it were made, replaced or removed since the last sync
    bool found_files;      // in it are files that somebody else made, and may not have synced
    uint32_t n_made_above; // that many directories on the way to it were made and not synced yet
    uint32_t n_users;
    enum err synced; // how the last sync ended
};

struct dir_set {
    int volume_fd; // borrowed
    uint8_t *root;
    size_t root_len;
    bool for_writing;
    struct dir *dirs; // last used first
    size_t n_dirs;
    uint8_t *joined; // scratch of dir_set_join()
    size_t joined_cap;
    struct failure sync_failure; // of the first sync that failed; err OK: none has
};

enum {
    DIR_SET_MAX_IDLE = 16,     // kept open without users or changes
    DIR_SET_MAX_CHANGED = 256, // then it is time for dir_set_sync()
};

// @volume_fd is borrowed, @root copied. ERR_INVALID: not a path; ERR_NO_MEMORY.
MUST_CHECK enum err dir_set_init(struct dir_set *s, int volume_fd, const uint8_t *root,
                                 size_t root_len, bool for_writing, struct failure *ret_failure);
void dir_set_deinit(struct dir_set *s);

// root + path, as a path from the volume's root; it belongs to @s until the next call.
MUST_CHECK enum err dir_set_join(struct dir_set *s, const uint8_t *path, size_t path_len,
                                 const uint8_t **ret_full, size_t *ret_full_len,
                                 struct failure *ret_failure);
// The directory @full (from the volume's root). With @make it and what is missing above it are
// made. It may be closed at the next call unless it has users or changes.
MUST_CHECK enum err dir_set_get(struct dir_set *s, const uint8_t *full, size_t full_len, bool make,
                                struct dir **ret_dir, struct failure *ret_failure);
// The one that holds @full, and @full's last component.
MUST_CHECK enum err dir_set_get_parent(struct dir_set *s, const uint8_t *full, size_t full_len,
                                       bool make, struct dir **ret_dir, char ret_name[256],
                                       struct failure *ret_failure);
// It was removed behind our back: the next get looks anew.
void dir_set_forget(struct dir_set *s, struct dir *d);
size_t dir_set_n_changed(const struct dir_set *s);
// fsync of all that changed (one syncfs if they are many, or if there are files that somebody else
// made); each says in `synced` how it went.
// The first error; the others are tried all the same. A set whose sync failed once says so for
// ever: another fsync proves nothing, and who changed the directory may not have been told.
MUST_CHECK enum err dir_set_sync(struct dir_set *s, struct failure *ret_failure);

#endif
