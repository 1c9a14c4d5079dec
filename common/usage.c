// SPDX-License-Identifier: Apache-2.0
#include "common/usage.h"

#include "common/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

// The beginning of a file as a text; "" if it cannot be read.
static void read_text(const char *path, char *ret_text, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret_text, cap - 1) : 0;
    ret_text[n > 0 ? n : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
}

static uint64_t cpu_us(void) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) {
        return 0;
    }
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void usage_meter_init(struct usage_meter *m) {
    *m = (struct usage_meter){.last_cpu_us = cpu_us(), .last_at_us = clock_mono_us()};
}

void usage_sample(struct usage_meter *m, struct usage *ret_usage) {
    struct usage u = {0};
    char text[128];
    unsigned long long pages = 0;
    uint64_t cpu = cpu_us(), now = clock_mono_us();
    if (now > m->last_at_us) {
        u.cpu_percent = 100.0 * (double)(cpu - m->last_cpu_us) / (double)(now - m->last_at_us);
    }
    read_text("/proc/self/statm", text, sizeof text);
    if (sscanf(text, "%*u %llu", &pages) == 1) {
        u.memory_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    read_text("/proc/loadavg", text, sizeof text);
    u.load1 = strtod(text, NULL);
    m->last_cpu_us = cpu;
    m->last_at_us = now;
    *ret_usage = u;
}
