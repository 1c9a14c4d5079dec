// SPDX-License-Identifier: Apache-2.0
// A rate limit: how long to wait so that no more than so many bytes pass in a second.
//
// A token bucket that holds an eighth of a second: what was not used for longer is lost. Plain
// values; time is the caller's.
#ifndef DATAPLANE_PACE_H
#define DATAPLANE_PACE_H

#include <stdint.h>

struct pace {
    uint64_t bytes_per_s; // 0: no limit
    uint64_t due_us;      // when all that passed so far is paid for
};
void pace_init(struct pace *p, uint64_t bytes_per_s);
// @bytes passed at @now_us: so many microseconds to wait before the next.
uint64_t pace_delay_us(struct pace *p, uint64_t now_us, uint64_t bytes);

#endif
