// SPDX-License-Identifier: Apache-2.0
// Time from a clock that tests can set.
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*mono_ms)(const struct clock *c); // CLOCK_BOOTTIME: counts while suspended
    int64_t (*wall_ms)(const struct clock *c); // since 1970, UTC
};

extern const struct clock clock_system;

// A clock that stands still until it is moved. Thread-safe.
struct clock_fake {
    struct clock clock; // first member
    _Atomic int64_t mono_ms;
    _Atomic int64_t wall_ms;
};
void clock_fake_init(struct clock_fake *c, int64_t mono_ms, int64_t wall_ms);
void clock_fake_advance(struct clock_fake *c, int64_t ms);

static inline int64_t clock_mono_ms(const struct clock *c) {
    return c->mono_ms(c);
}
static inline int64_t clock_wall_ms(const struct clock *c) {
    return c->wall_ms(c);
}

// Of the system's clocks, for measuring only.
uint64_t clock_mono_us(void);
uint64_t clock_thread_cpu_us(void); // processor time of the calling thread

#endif
