// SPDX-License-Identifier: Apache-2.0
#include "agent/cpu_mark.h"

#include <inttypes.h>
#include <stdio.h>

double cpu_busy_since(struct cpu_mark *m) {
    uint64_t user, nice, system, idle, iowait, irq, softirq, steal;
    FILE *f = fopen("/proc/stat", "re");
    if (f == NULL) {
        return 1.0;
    }
    int n = fscanf(f,
                   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                   " %" SCNu64 " %" SCNu64,
                   &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal);
    (void)fclose(f);
    if (n != 8) {
        return 1.0;
    }
    struct cpu_mark now = {.busy = user + nice + system + irq + softirq + steal,
                           .idle = idle + iowait};
    uint64_t busy = now.busy - m->busy, all = busy + now.idle - m->idle;
    *m = now;
    return all == 0 ? 1.0 : (double)busy / (double)all;
}
