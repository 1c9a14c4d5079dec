// SPDX-License-Identifier: Apache-2.0
#include "agent/process_usage.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static uint64_t resident_bytes(void) {
    char text[128];
    unsigned long long total = 0, resident = 0;
    AUTO(auto_close) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    if (sscanf(text, "%llu %llu", &total, &resident) != 2) {
        return 0;
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t timeval_us(const struct timeval *t) {
    return (uint64_t)t->tv_sec * 1000000U + (uint64_t)t->tv_usec;
}

void process_usage_look(struct process_usage *u) {
    struct rusage r = {0};
    double load[1] = {0};
    uint64_t now = clock_mono_us();
    (void)getrusage(RUSAGE_SELF, &r);
    (void)getloadavg(load, 1);
    uint64_t cpu = timeval_us(&r.ru_utime) + timeval_us(&r.ru_stime);
    if (u->at_us != 0 && now > u->at_us) {
        u->cpu_percent = 100.0 * (double)(cpu - u->cpu_us) / (double)(now - u->at_us);
    }
    u->cpu_us = cpu;
    u->at_us = now;
    u->memory_bytes = resident_bytes();
    u->load1 = load[0];
}
