// SPDX-License-Identifier: Apache-2.0
// Where bytes come from or go to, as users name it: structured, never one string inside.
// Plain value; its texts are borrowed and must outlive it.
#ifndef COMMON_LOCATION_H
#define COMMON_LOCATION_H

#include <stddef.h>
#include <stdint.h>

enum location_kind { LOCATION_POSIX = 1, LOCATION_S3, LOCATION_HTTPS };

struct location {
    enum location_kind kind;
    // LOCATION_POSIX
    const char *site;
    const char *agent;   // "": any of the site that has the volume
    const uint8_t *path; // absolute, without "." and ".." components; not terminated; a trailing
    size_t path_len;     // '/' may be there, and means "the contents of"
};

#endif
