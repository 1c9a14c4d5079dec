// SPDX-License-Identifier: Apache-2.0
// Reads and writes past the page cache (O_DIRECT), where the file system and the place allow it.
//
// Included only by dataplane/source_posix*.c and sink_posix*.c. One thread uses an open file.
#ifndef DATAPLANE_DIRECT_IO_H
#define DATAPLANE_DIRECT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIRECT_IO_ALIGN = 4096 }; // of memory, offset and length; no file system asks for more

struct direct_io { // of one open file; begins as {.is_wanted = …}
    bool is_wanted;
    bool is_on; // what the descriptor is set to
};

// Sets @fd to what suits the next transfer: past the cache, if all of @buf, @len and @offset are
// aligned. Returns how many of the @len bytes to ask for at once: what is behind the last multiple
// of the alignment goes through the cache, on its own.
size_t direct_io_prepare(struct direct_io *d, int fd, const void *buf, size_t len, uint64_t offset);
// The transfer failed with @errnum. true: this file system takes it only through the cache, which
// the next call of direct_io_prepare() sees to.
bool direct_io_is_refused(struct direct_io *d, int errnum);

#endif
