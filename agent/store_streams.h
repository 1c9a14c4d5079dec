// SPDX-License-Identifier: Apache-2.0
// How many tasks move data to or from object stores at a time, at least: their requests wait more
// than they work, the more so the farther away the store is. Four begin; as soon as they leave
// processors idle there are eight. Beyond that, stream_tuner finds the number. A pure state
// machine: no clock, no threads.
#ifndef AGENT_STORE_STREAMS_H
#define AGENT_STORE_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

enum { STORE_STREAMS_LOOK_MS = 200 }; // so often, about, store_streams_sample() is called

struct store_streams { // zeroed: at the beginning
    bool are_many;
};

// @tuned: what stream_tuner found.
uint32_t store_streams_n(const struct store_streams *s, uint32_t tuned);
// @cpu_busy: of the machine, from 0 to 1, while tasks moved data and others waited for them.
void store_streams_sample(struct store_streams *s, double cpu_busy);

#endif
