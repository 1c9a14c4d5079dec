// SPDX-License-Identifier: Apache-2.0
// A flow's progress on one line of a terminal. Pure, but for progress_width().
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "common/flow_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_LINE_MAX = 512 };

struct progress {
    enum flow_state state;
    enum flow_phase phase;
    uint64_t bytes_done, bytes_total;
    uint64_t objects_done, objects_total, objects_failed;
    bool listing; // the totals still grow
    double bytes_per_s;
    int64_t eta_ms; // negative: unknown
};

// At most @width columns (no newline, all ASCII): "[====>   ]  45%  1.2 GiB of 2.7 GiB …".
// What does not fit is left out, the least telling first.
void progress_format(const struct progress *p, size_t width, char ret_line[PROGRESS_LINE_MAX]);

// The columns of the terminal @fd; 80 if it does not say.
size_t progress_width(int fd);

#endif
