// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include "common/cleanup.h"

#include <stdatomic.h>
#include <time.h>

static int64_t read_ms(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t read_us(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int64_t system_mono_ms(const struct clock *c) {
    (void)c;
    return read_ms(CLOCK_BOOTTIME);
}

static int64_t system_wall_ms(const struct clock *c) {
    (void)c;
    return read_ms(CLOCK_REALTIME);
}

const struct clock clock_system = {.mono_ms = system_mono_ms, .wall_ms = system_wall_ms};

static int64_t fake_mono_ms(const struct clock *c) {
    return atomic_load(&((const struct clock_fake *)c)->mono_ms);
}

static int64_t fake_wall_ms(const struct clock *c) {
    return atomic_load(&((const struct clock_fake *)c)->wall_ms);
}

void clock_fake_init(struct clock_fake *c, int64_t mono_ms, int64_t wall_ms) {
    c->clock = (struct clock){.mono_ms = fake_mono_ms, .wall_ms = fake_wall_ms};
    atomic_init(&c->mono_ms, mono_ms);
    atomic_init(&c->wall_ms, wall_ms);
}

void clock_fake_advance(struct clock_fake *c, int64_t ms) {
    atomic_fetch_add(&c->mono_ms, ms);
    atomic_fetch_add(&c->wall_ms, ms);
}

uint64_t clock_mono_us(void) {
    return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_thread_cpu_us(void) {
    return read_us(CLOCK_THREAD_CPUTIME_ID);
}
