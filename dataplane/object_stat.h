// SPDX-License-Identifier: Apache-2.0
// From what stat(2) says to an object entry.
#ifndef DATAPLANE_OBJECT_STAT_H
#define DATAPLANE_OBJECT_STAT_H

#include "common/object_table.h"

#include <sys/stat.h>

// All but id, path and target. ERR_UNSUPPORTED_TYPE: no kind of file that we know.
MUST_CHECK enum err object_from_stat(const struct stat *st, struct object_entry *ret_entry);
struct object_version object_version_from_stat(const struct stat *st);
int64_t object_ns_from_timespec(const struct timespec *t);
struct timespec object_timespec_from_ns(int64_t ns); // also before 1970; UTIME_OMIT if unknown

#endif
