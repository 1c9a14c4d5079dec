// SPDX-License-Identifier: Apache-2.0
// One end of a flow once its location is resolved: which agents can reach it, and where.
#ifndef MASTER_PLACE_H
#define MASTER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLACE_NAME_MAX = 128, PLACE_ROOT_MAX = 4096 };

// Plain value. In an object store the site and the agent are empty, the volume is the store's
// name, and the root is "BUCKET" or "BUCKET/PREFIX": any agent with that volume reaches it.
struct place {
    char site[PLACE_NAME_MAX];
    char agent[PLACE_NAME_MAX]; // only this one; empty: any of the site that has the volume
    char volume[PLACE_NAME_MAX];
    uint8_t root[PLACE_ROOT_MAX]; // below the volume's root, no leading or trailing '/'
    size_t root_len;
};

static inline bool place_is_store(const struct place *p) {
    return p->site[0] == '\0';
}

#endif
