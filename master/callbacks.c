// SPDX-License-Identifier: Apache-2.0
#include "master/callbacks.h"

#include "common/cleanup.h"
#include "common/ident.h"
#include "common/log.h"
#include "master/callback_body.h"
#include "master/callback_signature.h"
#include "master/callback_target.h"
#include "master/core.h"
#include "master/database.h"
#include "master/webhook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// One that is with the sender, or whose end is being stored.
struct sending {
    struct sending *next;
    struct callbacks *owner; // NULL: it is gone
    uint64_t id;             // in the outbox
    char flow[IDENT_SIZE];
    char event_id[CALLBACK_ID_SIZE];
    uint32_t attempts; // before this one
};

struct callbacks {
    struct core *core;
    const struct callback_options *options;
    struct callback_secret secret;
    struct webhook_sender *sender; // NULL: stopped
    struct loop_timer *timer;      // for the next that is to be tried again
    struct sending *sending;
    uint32_t n_sending;
    struct reading {
        struct callbacks *owner; // NULL: it is gone
    } * reading;                 // a question to the database is open
    bool read_again;
};

enum { RETRY_READ_MS = 1000 };

int64_t callback_delay_ms(const struct callback_options *o, uint32_t attempts, uint32_t random) {
    int64_t delay = o->backoff_ms;
    for (uint32_t i = 1; i < attempts && delay < o->backoff_max_ms; i++) {
        delay *= 2;
    }
    if (delay > o->backoff_max_ms) {
        delay = o->backoff_max_ms;
    }
    return delay - (int64_t)((uint64_t)delay / 2 * random / UINT32_MAX);
}

static bool is_sending(const struct callbacks *cb, const char *flow) {
    for (const struct sending *s = cb->sending; s != NULL; s = s->next) {
        if (strcmp(s->flow, flow) == 0) {
            return true;
        }
    }
    return false;
}

static void wake_in(struct callbacks *cb, int64_t delay_ms) {
    loop_timer_arm(cb->timer, delay_ms);
}

// Its end is stored, or it was broken off.
static void forget(struct sending *s) {
    struct callbacks *cb = s->owner;
    if (cb != NULL) {
        struct sending **at = &cb->sending;
        while (*at != s) {
            at = &(*at)->next;
        }
        *at = s->next;
        cb->n_sending--;
    }
    free(s);
}

static void on_end_stored(void *arg, enum err result) {
    struct sending *s = arg;
    struct callbacks *cb = s->owner;
    forget(s);
    if (result == OK) {
        callbacks_wake(cb);
    } else if (cb != NULL) { // it is sent again, which is what ids are for
        wake_in(cb, RETRY_READ_MS);
    }
}

static void log_end(const struct sending *s, const struct webhook_result *r, enum log_level level,
                    const char *event, int64_t retry_ms) {
    const struct log_field fields[] = {
        LOG_STR("flow", s->flow),
        LOG_STR("id", s->event_id),
        LOG_U64("attempt", s->attempts + 1),
        LOG_I64("status", r->status),
        LOG_I64("took_ms", r->took_ms),
        LOG_STR("reason", r->error[0] == '\0' ? NULL : r->error),
        LOG_I64("retry_in_ms", retry_ms), // the last: left out if there is no retry
    };
    log_fields(level, event, fields, ARRAY_LEN(fields) - (retry_ms < 0));
}

static void settle(struct sending *s, const struct webhook_result *r) {
    struct callbacks *cb = s->owner;
    const struct callback_options *o = cb->options;
    struct core *c = cb->core;
    struct change *change = change_new();
    if (r->error[0] == '\0') {
        log_end(s, r, LOG_INFO, "callback_delivered", -1);
        change_outbox_done(change, s->flow, s->id);
    } else if (s->attempts + 1 >= o->attempts) {
        log_end(s, r, LOG_ERROR, "callback_dead", -1);
        change_outbox_dead(change, s->flow, s->id, r->error, clock_wall_ms(c->clock), o->dead_kept);
    } else {
        uint32_t random = 0;
        (void)!getrandom(&random, sizeof random, GRND_NONBLOCK); // without: no jitter
        int64_t delay = callback_delay_ms(o, s->attempts + 1, random);
        log_end(s, r, LOG_WARN, "callback_failed", delay);
        change_outbox_later(change, s->id, clock_wall_ms(c->clock) + delay);
    }
    database_commit(c->database, change, on_end_stored, s);
}

static void on_sent(void *arg, const struct webhook_result *r) {
    struct sending *s = arg;
    if (r->stopped || s->owner == NULL) {
        forget(s);
    } else {
        settle(s, r);
    }
}

// ERR_NO_MEMORY: not now.
static enum err hand_over(struct callbacks *cb, const struct outbox_row *row, struct sending *s) {
    char signature[CALLBACK_SIGNATURE_SIZE];
    char signature_header[CALLBACK_SIGNATURE_SIZE + 32], id_header[CALLBACK_ID_SIZE + 32];
    int64_t now_s = clock_wall_ms(cb->core->clock) / 1000;
    enum err e = callback_sign(&cb->secret, now_s, row->body.bytes, row->body.len, signature);
    if (e != OK) {
        return e;
    }
    snprintf(signature_header, sizeof signature_header, "Sluice-Signature: %s", signature);
    snprintf(id_header, sizeof id_header, "Sluice-Event-Id: %s", s->event_id);
    const char *const headers[] = {signature_header, id_header};
    return webhook_post(cb->sender, row->target, headers, ARRAY_LEN(headers), row->body.bytes,
                        row->body.len, on_sent, s);
}

static enum err send_one(struct callbacks *cb, const struct outbox_row *row) {
    struct failure f = {0};
    struct sending *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_NO_MEMORY;
    }
    s->owner = cb;
    s->id = row->id;
    s->attempts = row->attempts;
    snprintf(s->flow, sizeof s->flow, "%s", row->flow);
    callback_id(row->flow, row->seq, s->event_id);
    s->next = cb->sending;
    cb->sending = s;
    cb->n_sending++;
    if (callback_target_check(row->target, cb->options, &f) != OK) { // no longer listed
        struct webhook_result refused = {0};
        snprintf(refused.error, sizeof refused.error, "%s", f.message);
        s->attempts = cb->options->attempts - 1;
        settle(s, &refused);
        return OK;
    }
    enum err e = hand_over(cb, row, s);
    if (e != OK) {
        cb->sending = s->next;
        cb->n_sending--;
        free(s);
    }
    return e;
}

static void on_rows(void *arg, enum err result, const struct outbox_row *rows, size_t n_rows,
                    bool more) {
    struct reading *reading = arg;
    struct callbacks *cb = reading->owner;
    (void)more; // those that are sent now wake us when they end
    free(reading);
    if (cb == NULL) {
        return;
    }
    cb->reading = NULL;
    if (cb->sender == NULL) {
        return;
    }
    int64_t now_ms = clock_wall_ms(cb->core->clock);
    for (size_t i = 0; result == OK && i < n_rows && cb->n_sending < cb->options->concurrent; i++) {
        int64_t wait_ms = rows[i].not_before_ms - now_ms;
        if (is_sending(cb, rows[i].flow)) {
            continue;
        }
        // More than the longest delay: the wall clock was set back.
        if (wait_ms > 0 && wait_ms <= cb->options->backoff_max_ms) {
            wake_in(cb, wait_ms); // and so is the rest
            break;
        }
        result = send_one(cb, &rows[i]);
    }
    if (result != OK) {
        wake_in(cb, RETRY_READ_MS);
    } else if (cb->read_again) {
        callbacks_wake(cb);
    }
}

void callbacks_wake(struct callbacks *cb) {
    if (cb == NULL || cb->sender == NULL || cb->n_sending >= cb->options->concurrent) {
        return;
    }
    if (cb->reading != NULL) {
        cb->read_again = true;
        return;
    }
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading == NULL) {
        wake_in(cb, RETRY_READ_MS);
        return;
    }
    reading->owner = cb;
    cb->reading = reading;
    cb->read_again = false;
    // Those that are being sent may be among the answer.
    database_outbox_read(cb->core->database, cb->n_sending + cb->options->concurrent, on_rows,
                         reading);
}

static void on_timer(void *arg) {
    callbacks_wake(arg);
}

enum err callbacks_new(struct core *c, struct callbacks **ret_callbacks,
                       struct failure *ret_failure) {
    struct callbacks *cb = calloc(1, sizeof *cb);
    if (cb == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "start callbacks", NULL, 0, NULL);
    }
    cb->core = c;
    cb->options = &c->options->callbacks;
    cb->timer = loop_timer_new(c->loop, on_timer, cb);
    enum err e = cb->timer != NULL
                     ? callback_secret_read(cb->options->secret_file, &cb->secret, ret_failure)
                     : failure_set(ret_failure, ERR_NO_MEMORY, "start callbacks", NULL, 0, NULL);
    if (e == OK) {
        const struct webhook_options wo = {
            .connect_timeout_ms = cb->options->connect_timeout_ms,
            .timeout_ms = cb->options->timeout_ms,
            .ca_file = cb->options->ca_file,
        };
        e = webhook_sender_new(&wo, c->loop, &cb->sender, ret_failure);
    }
    if (e != OK) {
        callbacks_free(cb);
        return e;
    }
    *ret_callbacks = cb;
    return OK;
}

void callbacks_stop(struct callbacks *cb) {
    if (cb != NULL) {
        webhook_sender_free(take_ptr(cb->sender));
    }
}

void callbacks_free(struct callbacks *cb) {
    if (cb == NULL) {
        return;
    }
    callbacks_stop(cb);
    // Their last words are still on the loop.
    for (struct sending *s = cb->sending; s != NULL; s = s->next) {
        s->owner = NULL;
    }
    if (cb->reading != NULL) {
        cb->reading->owner = NULL;
    }
    if (cb->timer != NULL) {
        loop_timer_free(cb->timer);
    }
    explicit_bzero(&cb->secret, sizeof cb->secret);
    free(cb);
}
