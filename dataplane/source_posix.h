// SPDX-License-Identifier: Apache-2.0
// A source that reads files beneath a directory.
#ifndef DATAPLANE_SOURCE_POSIX_H
#define DATAPLANE_SOURCE_POSIX_H

#include "dataplane/source.h"

// @volume_fd: the volume's root (O_PATH | O_DIRECTORY), borrowed. @root: the task's root below
// it, borrowed. @table: borrowed. All must outlive the source.
MUST_CHECK enum err source_posix_new(int volume_fd, const uint8_t *root, size_t root_len,
                                     const struct object_table *table, struct source **ret_source,
                                     struct failure *ret_failure);
// Files of at least @from_bytes are read past the page cache, where that is possible; 0: none is.
// Before the first open.
void source_posix_read_direct(struct source *s, uint64_t from_bytes);

#endif
