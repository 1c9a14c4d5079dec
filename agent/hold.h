// SPDX-License-Identifier: Apache-2.0
// How long this agent may act on leases without word from its master: the fence.
//
// The master closes the leases of an agent that it has not heard for hold_ms. So the agent
// counts from when it *sent* the newest heartbeat that the master has confirmed: that is never
// later than when the master heard it, however long messages were under way or this process
// was stopped. Once the hold has lapsed, leases from before it stay fenced for good, also when
// the master is heard again: each remembers the hold's generation from when it was assigned.
//
// Thread-safe; hold_may_act() is two atomic loads and a clock.
#ifndef AGENT_HOLD_H
#define AGENT_HOLD_H

#include "common/clock.h"

#include <stdatomic.h>
#include <stdbool.h>

struct hold {
    const struct clock *clock;
    _Atomic int64_t until_ms; // CLOCK_BOOTTIME
    _Atomic int64_t hold_ms;
    _Atomic uint64_t generation;
};

// Lapsed until hold_confirmed() is called.
void hold_init(struct hold *h, const struct clock *clock);
// Takes effect at once, unless the hold has lapsed. From the thread that calls
// hold_confirmed().
void hold_set_ms(struct hold *h, int64_t hold_ms);
// The master has heard what was sent at @sent_ms. true: the hold had lapsed before, so that all
// leases from before are fenced.
bool hold_confirmed(struct hold *h, int64_t sent_ms);
uint64_t hold_generation(const struct hold *h);
// May leases that were assigned in @generation still act?
bool hold_may_act(const struct hold *h, uint64_t generation);
int64_t hold_ms_left(const struct hold *h); // 0: lapsed

#endif
