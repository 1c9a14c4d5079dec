// SPDX-License-Identifier: Apache-2.0
// How many requests a second a store takes: unlimited until it says that it is too much; then
// less at once, and more again by and by. Pure: the caller brings the time and the lock.
#ifndef DATAPLANE_S3_RATE_H
#define DATAPLANE_S3_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct s3_rate {
    double per_s;          // 0: not limited
    double measured_per_s; // requests begun lately
    uint64_t window_us;    // when the present second of measuring began
    uint32_t in_window;
    uint64_t next_us;     // the next request may begin
    uint64_t slowed_us;   // when it was lowered last
    uint64_t raised_us;   // when it was raised last
    double ceiling_per_s; // what it was when it was lowered first: above it the limit ends
};

// A request wants to begin. 0: it may, and is counted; else how long to wait before asking again.
uint64_t s3_rate_take_us(struct s3_rate *r, uint64_t now_us);
// The store said that it is too much. true: the rate was lowered (not for each of many answers
// that came at once).
bool s3_rate_slow_down(struct s3_rate *r, uint64_t now_us);
// A request was served. true: the limit ended with it.
bool s3_rate_served(struct s3_rate *r, uint64_t now_us);

#endif
