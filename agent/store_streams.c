// SPDX-License-Identifier: Apache-2.0
#include "agent/store_streams.h"

enum { FEW = 4, MANY = 8 };
static const double IDLE = 0.75, BUSY = 0.9;

uint32_t store_streams_n(const struct store_streams *s, uint32_t tuned) {
    uint32_t least = s->are_many ? MANY : FEW;
    return tuned > least ? tuned : least;
}

void store_streams_sample(struct store_streams *s, double cpu_busy) {
    if (cpu_busy < IDLE) {
        s->are_many = true;
    } else if (cpu_busy >= BUSY) {
        s->are_many = false;
    }
}
