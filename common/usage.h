// SPDX-License-Identifier: Apache-2.0
// What this process and its machine are busy with, from /proc. Not thread-safe per object.
#ifndef COMMON_USAGE_H
#define COMMON_USAGE_H

#include <stdint.h>

struct usage {
    double cpu_percent;    // of one processor, since the sample before; 0 in the first one
    uint64_t memory_bytes; // resident
    double load1;          // the machine's load average over a minute
};

struct usage_meter {
    uint64_t last_cpu_us, last_at_us;
};

void usage_meter_init(struct usage_meter *m);
// What /proc does not tell stays 0.
void usage_sample(struct usage_meter *m, struct usage *ret_usage);

#endif
