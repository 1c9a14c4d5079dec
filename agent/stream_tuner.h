// SPDX-License-Identifier: Apache-2.0
// How many tasks move data at a time: found by trying, from measured throughput.
//
// It begins with as many as there are processors, at least two. As long as more tasks wait and
// the processors are not all busy, it doubles the number; what does not bring at least a
// twelfth more is taken back, and not tried again for a while. A pure state machine: no clock,
// no threads.
#ifndef AGENT_STREAM_TUNER_H
#define AGENT_STREAM_TUNER_H

#include <stdbool.h>
#include <stdint.h>

struct stream_tuner {
    uint32_t n; // tasks that may move data at a time
    uint32_t max;
    // measurement of the present number
    uint64_t since_us; // 0: not begun
    uint64_t since_bytes;
    // a trial: what it was before, and how fast
    bool is_trial;
    uint32_t n_before;
    double rate_before; // bytes per second
    uint64_t quiet_until_us;
};

struct stream_sample {
    uint64_t now_us;
    uint64_t bytes;   // moved so far; only grows
    bool is_full;     // all n run, and more wait
    uint32_t n_least; // so many run whatever n is (store_streams.h); 0: none
    double cpu_busy;  // of the machine since the last sample, 0 to 1
};

struct stream_move {
    uint32_t from, to;
    double rate_before, rate; // bytes per second; before: 0 if nothing was tried yet
    const char *reason;
};

void stream_tuner_init(struct stream_tuner *t, uint32_t processors, uint32_t slots);
// To be called about once a second. true: the number changed, and *@ret_move says why.
bool stream_tuner_sample(struct stream_tuner *t, const struct stream_sample *s,
                         struct stream_move *ret_move);

#endif
