// SPDX-License-Identifier: Apache-2.0
// What clients and agents can make grow, how far it has grown, and how often more was refused: for
// ClusterService, and a line in the log once a minute if anything changed. Core thread.
#ifndef MASTER_LIMITS_H
#define MASTER_LIMITS_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct core;
struct limits;

struct limit_use {
    const char *name; // of its setting below `limits:`
    uint64_t now;
    uint64_t limit;
    uint64_t refused; // since the start; 0 for what waits, or gives way, instead
};

enum { LIMITS_COUNT = 8 };

// ERR_NO_MEMORY.
MUST_CHECK enum err limits_new(struct core *c, struct limits **ret_limits);
void limits_free(struct limits *l); // NULL is fine
void limits_look(const struct core *c, struct limit_use ret_uses[LIMITS_COUNT]);

#endif
