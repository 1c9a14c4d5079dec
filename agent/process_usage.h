// SPDX-License-Identifier: Apache-2.0
// What this process uses of its machine, for heartbeats. One thread.
#ifndef AGENT_PROCESS_USAGE_H
#define AGENT_PROCESS_USAGE_H

#include <stdint.h>

struct process_usage {
    double cpu_percent; // since the look before; 100 is one processor
    uint64_t memory_bytes;
    double load1; // of the machine
    // of the look before
    uint64_t cpu_us, at_us;
};

// All zeros before the first look.
void process_usage_look(struct process_usage *u);

#endif
