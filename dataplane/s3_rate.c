// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_rate.h"

#define SECOND_US    ((uint64_t)1000000)
#define SLOW_DOWN_US (SECOND_US / 2) // answers of one burst lower the rate once
#define RAISE_US     (SECOND_US / 4) // and it rises so often

static const double factor_down = 0.7, factor_up = 1.05, least_per_s = 1.0;

uint64_t s3_rate_take_us(struct s3_rate *r, uint64_t now_us) {
    if (now_us - r->window_us >= SECOND_US) {
        double seconds = (double)(now_us - r->window_us) / (double)SECOND_US;
        r->measured_per_s = r->window_us == 0 ? 0 : (double)r->in_window / seconds;
        r->window_us = now_us;
        r->in_window = 0;
    }
    if (r->per_s > 0) {
        if (now_us < r->next_us) {
            return r->next_us - now_us;
        }
        uint64_t step = (uint64_t)((double)SECOND_US / r->per_s);
        // What was not used is not saved up, but for one request.
        r->next_us = (r->next_us + step > now_us ? r->next_us : now_us) + step;
    }
    r->in_window++;
    return 0;
}

bool s3_rate_slow_down(struct s3_rate *r, uint64_t now_us) {
    if (r->slowed_us != 0 && now_us - r->slowed_us < SLOW_DOWN_US) {
        return false;
    }
    double now_per_s = r->per_s;
    if (r->per_s <= 0) {
        double lately = (double)r->in_window;
        now_per_s = lately > r->measured_per_s ? lately : r->measured_per_s;
        r->ceiling_per_s = 2 * (now_per_s > 10 ? now_per_s : 10);
    }
    r->per_s = now_per_s * factor_down > least_per_s ? now_per_s * factor_down : least_per_s;
    r->slowed_us = r->raised_us = now_us;
    return true;
}

bool s3_rate_served(struct s3_rate *r, uint64_t now_us) {
    if (r->per_s <= 0 || now_us - r->raised_us < RAISE_US) {
        return false;
    }
    r->raised_us = now_us;
    r->per_s = r->per_s * factor_up + 1;
    if (r->per_s <= r->ceiling_per_s) {
        return false;
    }
    r->per_s = 0;
    return true;
}
