// SPDX-License-Identifier: Apache-2.0
// Identifiers: 26 characters of Crockford's base 32, 48 bits of time and 80 of chance, so
// that they sort by time (the ULID format, https://github.com/ulid/spec). And the names of
// temporaries, which are made from what they stand for.
#ifndef COMMON_IDENT_H
#define COMMON_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IDENT_LEN = 26,
    IDENT_SIZE = IDENT_LEN + 1, // with the NUL
    TEMP_NAME_LEN = 8 + 26,     // ".sluice-" and 26 characters
    TEMP_NAME_SIZE = TEMP_NAME_LEN + 1,
};

void ident_new(int64_t wall_ms, char ret_ident[IDENT_SIZE]);
bool ident_is_valid(const char *text);

// The name of the temporary of object @object_id of @flow: for whole objects @major and
// @minor are the lease's epoch (term, counter); for large ones 0 and the generation.
void temp_name(const char *flow, uint64_t object_id, uint64_t major, uint64_t minor,
               char ret_name[TEMP_NAME_SIZE]);
// Has @name the form of a temporary?
bool temp_name_matches(const void *name, size_t len);

#endif
