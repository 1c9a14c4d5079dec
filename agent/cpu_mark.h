// SPDX-License-Identifier: Apache-2.0
// How busy the machine's processors were since the last look.
#ifndef AGENT_CPU_MARK_H
#define AGENT_CPU_MARK_H

#include <stdint.h>

struct cpu_mark {
    uint64_t busy, idle; // ticks since the machine started
};

// 0 to 1, of all processors; 1 where it cannot be told. Moves the mark.
double cpu_busy_since(struct cpu_mark *m);

#endif
