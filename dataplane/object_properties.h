// SPDX-License-Identifier: Apache-2.0
// What an object store knows about an object beside its bytes: headers such as content-type, and
// its user's own metadata ("x-amz-meta-…"). Names in lower case; texts without control characters.
#ifndef DATAPLANE_OBJECT_PROPERTIES_H
#define DATAPLANE_OBJECT_PROPERTIES_H

#include "common/err.h"

#include <stddef.h>

enum {
    OBJECT_PROPERTIES_MAX = 64,             // of one object
    OBJECT_PROPERTIES_MAX_BYTES = 16 * 1024 // S3 itself allows 8 KiB of headers
};

// Zeroed: none. object_properties_deinit() when it is not needed any more.
struct object_properties {
    char *text; // name NUL value NUL …
    size_t len, cap;
    size_t n;
};
// ERR_FULL: beyond a limit. ERR_NO_MEMORY.
MUST_CHECK enum err object_properties_add(struct object_properties *p, const char *name,
                                          const char *value);
// NULL: there is none of that name.
const char *object_properties_get(const struct object_properties *p, const char *name);
// Property @index, below n.
void object_properties_at(const struct object_properties *p, size_t index, const char **ret_name,
                          const char **ret_value);
void object_properties_reset(struct object_properties *p);
void object_properties_deinit(struct object_properties *p);

#endif
