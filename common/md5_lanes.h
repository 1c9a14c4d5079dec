// SPDX-License-Identifier: Apache-2.0
// MD5 (RFC 1321) of up to eight messages at once, each in a lane of the processor's vector
// registers: a step of MD5 waits for the one before, so that one message alone leaves most of the
// processor idle. For object stores, which look at Content-MD5.
#ifndef COMMON_MD5_LANES_H
#define COMMON_MD5_LANES_H

#include "common/hmac.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MD5_LANES = 8 };

struct md5_lane {
    const void *bytes;
    size_t len;
    uint8_t digest[MD5_BYTES]; // the outcome
};

// Has this processor the instructions (AVX2, better AVX-512VL)?
bool md5_lanes_are_here(void);
// Only where they are. @n at most MD5_LANES; it takes as long as the longest message, however few
// there are.
void md5_lanes(struct md5_lane *lanes, unsigned n);
// The same with AVX2 alone; for tests.
void md5_lanes_avx2(struct md5_lane *lanes, unsigned n);

#endif
