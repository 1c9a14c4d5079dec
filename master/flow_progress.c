// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/log.h"
#include "master/flow_message.h"
#include "master/flow_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Rates are exponentially weighted over about this long.
enum { RATE_WINDOW_MS = 3000, SHARES_LOGGED_BYTES = 1024 };

void flow_progressed(struct core *c, struct flow *f) {
    struct flow_entry *e = flow_entry_of(f);
    (void)c;
    e->dirty = true;
    e->log_dirty = true;
    e->callback_dirty = true;
}

void flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                    uint64_t objects) {
    struct flow_share *s = NULL;
    for (size_t i = 0; i < f->n_shares && s == NULL; i++) {
        if (strcmp(f->shares[i].agent, agent) == 0) {
            s = &f->shares[i];
        }
    }
    if (s == NULL && agent[0] != '\0' && f->n_shares < FLOW_MAX_AGENT_SHARES) {
        struct flow_share *more = realloc(f->shares, (f->n_shares + 1) * sizeof *more);
        if (more == NULL) {
            return; // only a statistic
        }
        f->shares = more;
        s = &f->shares[f->n_shares++];
        *s = (struct flow_share){0};
        snprintf(s->agent, sizeof s->agent, "%s", agent);
    }
    if (s != NULL) {
        s->bytes_written += written;
        s->bytes_read += read;
        s->objects += objects;
    }
}

void flow_add_transport(struct flow *f, const char *transport) {
    size_t len = strlen(transport), used = strlen(f->transports);
    if (len == 0) {
        return;
    }
    for (const char *at = f->transports; *at != '\0';) {
        size_t n = strcspn(at, ",");
        if (n == len && memcmp(at, transport, n) == 0) {
            return;
        }
        at += n + (at[n] == ',');
    }
    if (used + 1 + len < sizeof f->transports) {
        snprintf(f->transports + used, sizeof f->transports - used, "%s%s", used == 0 ? "" : ",",
                 transport);
    }
}

void flow_object_failed(struct core *c, struct flow *f, const uint8_t *path, size_t path_len,
                        const struct failure *why, const char *agent) {
    struct flow_entry *e = flow_entry_of(f);
    (void)c;
    log_event(LOG_WARN, "object_failed", LOG_STR("flow", f->id),
              LOG_STR("agent", agent != NULL && agent[0] != '\0' ? agent : NULL),
              LOG_PATH("path", path, path_len), LOG_FAILURE(why));
    if (f->error.err == OK) { // the first one stands for all
        f->error = *why;
        snprintf(f->error_agent, sizeof f->error_agent, "%s", agent == NULL ? "" : agent);
    }
    if (e->failed_events < FLOW_FAILED_EVENTS_PER_TICK) {
        e->failed_events++;
        (void)flow_event_live(e, "object_failed", why);
    }
    e->dirty = true;
    e->log_dirty = true;
}

void flow_tries_again(struct flow *f, const struct failure *why, const char *agent) {
    if (why->err != OK) { // else it was only given back
        f->held_up = *why;
        snprintf(f->held_up_agent, sizeof f->held_up_agent, "%s", agent == NULL ? "" : agent);
    }
}

void flow_gets_on(struct flow *f) {
    f->held_up.err = OK;
}

static double weighted(double rate, uint64_t bytes, int64_t ms) {
    double now = (double)bytes * 1000.0 / (double)ms;
    double weight = (double)ms / (double)(RATE_WINDOW_MS + ms);
    return rate == 0.0 ? now : rate + weight * (now - rate);
}

static void rate(struct flow_entry *e, int64_t now_ms) {
    struct flow *f = &e->flow;
    int64_t ms = now_ms - e->rated_ms;
    if (e->rated_ms == 0 || ms <= 0) {
        e->rated_ms = now_ms;
        e->rated_bytes = f->progress.bytes_done;
        return;
    }
    f->bytes_per_s = weighted(f->bytes_per_s, f->progress.bytes_done - e->rated_bytes, ms);
    for (size_t i = 0; i < f->n_shares; i++) {
        struct flow_share *s = &f->shares[i];
        s->bytes_per_s = weighted(s->bytes_per_s, s->bytes_written - s->rated_bytes, ms);
        s->rated_bytes = s->bytes_written;
    }
    e->rated_ms = now_ms;
    e->rated_bytes = f->progress.bytes_done;
}

// "b1=1048576,b2=2097152": how much each agent wrote, or read.
static void list_shares(const struct flow *f, bool written, char *buf, size_t cap) {
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < f->n_shares; i++) {
        uint64_t bytes = written ? f->shares[i].bytes_written : f->shares[i].bytes_read;
        if (bytes > 0 && used + strlen(f->shares[i].agent) + 24 < cap) {
            used += (size_t)snprintf(buf + used, cap - used, "%s%s=%llu", used == 0 ? "" : ",",
                                     f->shares[i].agent, (unsigned long long)bytes);
        }
    }
}

void flow_progress_log(struct flow_entry *e) {
    const struct flow *f = &e->flow;
    const struct flow_progress *p = &f->progress;
    char written[SHARES_LOGGED_BYTES], read[SHARES_LOGGED_BYTES];
    list_shares(f, true, written, sizeof written);
    list_shares(f, false, read, sizeof read);
    log_event(LOG_INFO, "flow_progress", LOG_STR("flow", f->id),
              LOG_STR("phase", flow_phase_name(f->phase)), LOG_U64("bytes_done", p->bytes_done),
              LOG_U64("bytes_total", p->bytes_total), LOG_U64("bytes_resent", p->bytes_resent),
              LOG_U64("objects_done", p->objects_done), LOG_U64("objects_total", p->objects_total),
              LOG_U64("objects_failed", p->objects_failed),
              LOG_U64("objects_skipped", p->objects_skipped), LOG_BOOL("listing", p->listing),
              LOG_F64("bytes_per_s", f->bytes_per_s), LOG_I64("eta_ms", flow_eta_ms(f)),
              LOG_STR("transport", f->transports), LOG_STR("bytes_written_by", written),
              LOG_STR("bytes_read_by", read));
    e->log_dirty = false;
}

static void check_deadline(struct flows *fl, struct flow_entry *e) {
    struct flow *f = &e->flow;
    int64_t deadline_ms = f->spec->deadline_ms;
    if (deadline_ms == 0 || !e->stored || e->ending || e->now_wall_ms < deadline_ms) {
        return;
    }
    struct failure why = {0};
    (void)failure_set(&why, ERR_DEADLINE, "go on", NULL, 0,
                      "the flow's deadline passed before it was done");
    failure_remedy(&why, "retry it with a later deadline, or with none");
    flow_end(fl->core, e, f->progress.objects_done > 0 ? OUTCOME_PARTIAL : OUTCOME_FAILED, &why);
}

void flow_tick(struct flows *fl, struct flow_entry *e, int64_t now_ms) {
    struct core *c = fl->core;
    e->now_wall_ms = clock_wall_ms(c->clock);
    e->failed_events = 0;
    if (e->unstored != NULL) {
        flow_event_stored(c, e, e->unstored);
    }
    if (e->ended) {
        return;
    }
    flow_abandon_again(c, e);
    if (e->after_again && e->stored) {
        flow_after_look(c, e);
    }
    check_deadline(fl, e);
    if (!e->begun || e->ended) {
        return;
    }
    bool moves = e->flow.bytes_per_s >= 1.0;
    rate(e, now_ms);
    if ((e->log_dirty || moves) && now_ms - e->logged_ms >= FLOW_LOG_MS) {
        flow_progress_log(e);
        e->logged_ms = now_ms;
    }
    if (e->callback_dirty && e->flow.spec->callback_url[0] != '\0' && !fl->in_trouble &&
        now_ms - e->callback_ms >= FLOW_CALLBACK_PROGRESS_MS) {
        e->callback_dirty = false;
        e->callback_ms = now_ms;
        flow_callback_progress(c, e);
    }
    if (e->dirty && now_ms - e->stored_ms >= FLOW_STORE_PROGRESS_MS) {
        flow_event_stored(c, e, "progress");
    } else if (e->dirty || moves) {
        e->dirty = !flow_event_live(e, "progress", NULL);
    }
}
