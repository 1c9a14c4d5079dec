// SPDX-License-Identifier: Apache-2.0
#include "dataplane/pace.h"

enum { BURST_US = 125000 };

void pace_init(struct pace *p, uint64_t bytes_per_s) {
    *p = (struct pace){.bytes_per_s = bytes_per_s};
}

uint64_t pace_delay_us(struct pace *p, uint64_t now_us, uint64_t bytes) {
    if (p->bytes_per_s == 0) {
        return 0;
    }
    if (p->due_us + BURST_US < now_us) {
        p->due_us = now_us - BURST_US;
    }
    p->due_us += (uint64_t)((double)bytes * 1e6 / (double)p->bytes_per_s);
    return p->due_us > now_us ? p->due_us - now_us : 0;
}
