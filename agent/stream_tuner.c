// SPDX-License-Identifier: Apache-2.0
#include "agent/stream_tuner.h"

enum {
    MEASURE_US = 1500 * 1000,   // for as long, at least, a number is measured
    QUIET_US = 60 * 1000 * 1000 // after a trial that brought nothing
};
static const double GAIN_MIN = 1.08;
static const double CPU_FULL = 0.9; // more streams would only share what is there

void stream_tuner_init(struct stream_tuner *t, uint32_t processors, uint32_t slots) {
    uint32_t n = processors > 2 ? processors : 2;
    *t = (struct stream_tuner){.n = n < slots ? n : slots, .max = slots};
}

static void measure_from(struct stream_tuner *t, const struct stream_sample *s) {
    t->since_us = s->now_us;
    t->since_bytes = s->bytes;
}

static bool move(struct stream_tuner *t, const struct stream_sample *s, uint32_t to, double rate,
                 const char *reason, struct stream_move *ret_move) {
    *ret_move = (struct stream_move){
        .from = t->n, .to = to, .rate_before = t->rate_before, .rate = rate, .reason = reason};
    t->n = to;
    measure_from(t, s);
    return true;
}

bool stream_tuner_sample(struct stream_tuner *t, const struct stream_sample *s,
                         struct stream_move *ret_move) {
    if (!s->is_full) { // what is measured now says nothing about the number
        t->since_us = 0;
        return false;
    }
    if (t->since_us == 0) {
        measure_from(t, s);
        return false;
    }
    if (s->now_us - t->since_us < MEASURE_US) {
        return false;
    }
    double rate = (double)(s->bytes - t->since_bytes) * 1e6 / (double)(s->now_us - t->since_us);
    if (t->is_trial && rate < t->rate_before * GAIN_MIN) {
        t->is_trial = false;
        t->quiet_until_us = s->now_us + QUIET_US;
        return move(t, s, t->n_before, rate, "more brought nothing", ret_move);
    }
    t->is_trial = false;
    uint32_t n = s->n_least > t->n ? s->n_least : t->n;
    if (n >= t->max || s->cpu_busy >= CPU_FULL || s->now_us < t->quiet_until_us) {
        measure_from(t, s);
        return false;
    }
    bool is_first = t->rate_before == 0.0;
    t->is_trial = true;
    t->n = t->n_before = n;
    t->rate_before = rate;
    return move(t, s, n * 2 < t->max ? n * 2 : t->max, rate,
                is_first ? "processors are idle" : "more brought more", ret_move);
}
