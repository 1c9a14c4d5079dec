// SPDX-License-Identifier: Apache-2.0
#include "agent/hold.h"

void hold_init(struct hold *h, const struct clock *clock) {
    h->clock = clock;
    atomic_init(&h->until_ms, INT64_MIN);
    atomic_init(&h->hold_ms, 30000);
    atomic_init(&h->generation, 0);
}

void hold_set_ms(struct hold *h, int64_t hold_ms) {
    int64_t before = atomic_exchange(&h->hold_ms, hold_ms);
    int64_t until = atomic_load(&h->until_ms);
    if (clock_mono_ms(h->clock) <= until) { // what lapsed does not come back
        atomic_store(&h->until_ms, until - before + hold_ms);
    }
}

bool hold_confirmed(struct hold *h, int64_t sent_ms) {
    int64_t until = sent_ms + atomic_load(&h->hold_ms);
    int64_t before = atomic_load(&h->until_ms);
    bool lapsed = clock_mono_ms(h->clock) > before;
    if (lapsed) {
        // Before the new limit: who reads the new limit sees the new generation too.
        atomic_fetch_add(&h->generation, 1);
    }
    if (until > before) {
        atomic_store(&h->until_ms, until);
    }
    return lapsed;
}

uint64_t hold_generation(const struct hold *h) {
    return atomic_load(&h->generation);
}

bool hold_may_act(const struct hold *h, uint64_t generation) {
    int64_t until = atomic_load(&h->until_ms); // first, see hold_confirmed()
    return atomic_load(&h->generation) == generation && clock_mono_ms(h->clock) <= until;
}

int64_t hold_ms_left(const struct hold *h) {
    int64_t until = atomic_load(&h->until_ms), now = clock_mono_ms(h->clock);
    return until > now ? until - now : 0;
}
