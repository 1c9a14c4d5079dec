// SPDX-License-Identifier: Apache-2.0
// Opening things below a volume's root, resolved by the kernel (openat2 with
// RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS): no "..", no symbolic link leads out.
//
// Paths are bytes without leading '/', of any length (walked in steps where they pass
// PATH_MAX); an empty path is the root itself. Thread-safe.
#ifndef DATAPLANE_BENEATH_H
#define DATAPLANE_BENEATH_H

#include "common/err.h"
#include "common/failure.h"

#include <stdint.h>
#include <sys/types.h>

// @flags as for open(2), O_CLOEXEC is added. Symbolic links in the middle are followed as
// long as they stay beneath; the last one too unless O_NOFOLLOW is given.
// ERR_OUTSIDE, ERR_NOT_FOUND, ERR_DENIED, ERR_NOT_DIRECTORY, …; @ret_failure may be NULL.
MUST_CHECK enum err beneath_open(int root_fd, const uint8_t *path, size_t path_len, int flags,
                                 mode_t mode, int *ret_fd, struct failure *ret_failure);
// The directory that holds @path (O_PATH | O_DIRECTORY) and its last component, as a NUL-ended
// name. ERR_INVALID for an empty path. ERR_NAME_TOO_LONG: the component passes NAME_MAX.
MUST_CHECK enum err beneath_open_parent(int root_fd, const uint8_t *path, size_t path_len,
                                        int *ret_dir_fd, char ret_name[256],
                                        struct failure *ret_failure);
// Makes @path and what is missing above it (mode 0700 & ~umask, so that nothing is readable
// before its metadata is set); what exists as a directory is fine. @ret_fd: O_PATH, or NULL.
// *@ret_n_made (may be NULL): how many were made, the deepest ones of the path.
MUST_CHECK enum err beneath_make_directories(int root_fd, const uint8_t *path, size_t path_len,
                                             int *ret_fd, uint32_t *ret_n_made,
                                             struct failure *ret_failure);

#endif
