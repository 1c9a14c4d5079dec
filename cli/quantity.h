// SPDX-License-Identifier: Apache-2.0
// Numbers as people write and read them: bytes, rates, durations. Pure functions.
#ifndef CLI_QUANTITY_H
#define CLI_QUANTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUANTITY_MAX = 32 }; // a buffer that holds any of them

// A whole decimal number from @min to @max.
bool quantity_integer(const char *text, int64_t min, int64_t max, int64_t *ret);
// "500ms", "30s", "5min", "2h", "1d"; a bare number is seconds.
bool quantity_duration(const char *text, int64_t *ret_ms);
// "2026-01-31T12:00:00Z", or "+2h" from @now_ms.
bool quantity_time(const char *text, int64_t now_ms, int64_t *ret_ms);

void quantity_format_bytes(double bytes, char ret[QUANTITY_MAX]); // "12.3 GiB"
void quantity_format_rate(double bytes_per_s, char ret[QUANTITY_MAX]);
void quantity_format_duration(int64_t ms, char ret[QUANTITY_MAX]); // "0.4 s", "1:05", "2:00:05"
void quantity_format_count(uint64_t n, char ret[QUANTITY_MAX]);    // "1,234,567"
void quantity_format_time(int64_t ms, char ret[QUANTITY_MAX]);     // "2026-01-31T12:00:00.000Z"

#endif
