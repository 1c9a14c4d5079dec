// SPDX-License-Identifier: Apache-2.0
#include "master/flow.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/location_message.h"
#include "master/callback_body.h"
#include "master/callbacks.h"
#include "master/database.h"
#include "master/flow_message.h"
#include "master/flow_row.h"
#include "master/flow_table.h"
#include "master/planner.h"
#include "master/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const holder_names[] = {"", "user", "control_plane", "credentials", "space"};

static void log_move(const struct flow *f, enum flow_state from, enum flow_event ev,
                     const char *reason) {
    char holders[64] = "";
    for (unsigned h = 1; h < ARRAY_LEN(holder_names); h++) {
        if ((f->holders & 1U << h) != 0) {
            size_t used = strlen(holders);
            snprintf(holders + used, sizeof holders - used, "%s%s", used == 0 ? "" : ",",
                     holder_names[h]);
        }
    }
    const struct log_field fields[] = {
        LOG_STR("flow", f->id),
        LOG_STR("from", flow_state_name(from)),
        LOG_STR("to", flow_state_name(f->state)),
        LOG_STR("by", flow_event_name(ev)),
        LOG_STR("phase", flow_phase_name(f->phase)),
        LOG_STR("outcome", f->outcome == OUTCOME_NONE ? NULL : flow_outcome_name(f->outcome)),
        LOG_STR("suspended_by", holders[0] == '\0' ? NULL : holders),
        LOG_STR("reason", reason),
        LOG_U64("bytes_done", f->progress.bytes_done),
        LOG_U64("bytes_total", f->progress.bytes_total),
        LOG_U64("objects_done", f->progress.objects_done),
        LOG_U64("objects_failed", f->progress.objects_failed),
        LOG_BOOL("cleanup_pending", f->cleanup_pending),
        LOG_FAILURE(&f->error), // the last: left out if there is none
    };
    log_fields(f->outcome == OUTCOME_FAILED || f->outcome == OUTCOME_PARTIAL ? LOG_WARN : LOG_INFO,
               "flow_state_changed", fields, ARRAY_LEN(fields) - (f->error.err == OK));
}

enum err flow_move(struct core *c, struct flow *f, enum flow_event ev, const char *reason) {
    struct flow_entry *e = flow_entry_of(f);
    enum flow_state from = f->state;
    enum err err = flow_state_next(from, ev, &f->state);
    if (err != OK) {
        return err;
    }
    if (flow_state_is_final(f->state)) {
        f->ended_ms = clock_wall_ms(c->clock);
        f->phase = PHASE_NONE;
        f->holders = 0;
        f->bytes_per_s = 0;
        e->ended = true;
        if (f->started_ms != 0) {
            flow_progress_log(e);
        }
    }
    flow_recount(c->flows, e);
    if (e->stored) { // if not: flow_accept() stores it whole, and logs it then
        log_move(f, from, ev, reason);
        flow_event_stored(c, e, "state_changed");
    }
    return OK;
}

// An edge that the caller knows to be there.
static void move_surely(struct core *c, struct flow *f, enum flow_event ev, const char *reason) {
    if (flow_move(c, f, ev, reason) != OK) {
        log_event(LOG_ERROR, "flow_state_refused", LOG_STR("flow", f->id),
                  LOG_STR("state", flow_state_name(f->state)), LOG_STR("by", flow_event_name(ev)));
    }
}

// ---- birth ----
enum err flow_new(struct core *c, Sluice__V1__FlowSpec *take_spec, struct flow **ret_f) {
    struct flow_entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        sluice__v1__flow_spec__free_unpacked(take_spec, NULL);
        return ERR_NO_MEMORY;
    }
    struct flow *f = &e->flow;
    f->created_ms = clock_wall_ms(c->clock);
    ident_new(f->created_ms, f->id);
    f->spec = take_spec;
    f->state = FLOW_INITIALIZED;
    f->phase = PHASE_QUEUED;
    *ret_f = f;
    return OK;
}

void flow_free(struct flow *f) {
    if (f != NULL) {
        flow_deinit(f);
        free(flow_entry_of(f));
    }
}

void flow_same_request(const char *existing_flow, const char *request_id,
                       struct failure *ret_failure) {
    (void)failure_set(ret_failure, ERR_EXISTS, "submit", request_id, strlen(request_id),
                      "this request id exists already, with another spec (flow %s)", existing_flow);
    failure_remedy(ret_failure, "use a new request id for a new request");
}

struct accepting {
    struct core *core;
    struct flow_entry *entry;
    void (*done)(void *arg, const char *flow_id, bool existed, const struct failure *failure);
    void *arg;
};

static void log_accepted(const struct flow_entry *e) {
    const struct flow *f = &e->flow;
    AUTO(auto_free) char *source = flow_location_text(f->spec->source);
    AUTO(auto_free) char *destination = flow_location_text(f->spec->destination);
    log_event(LOG_INFO, "flow_accepted", LOG_STR("flow", f->id), LOG_STR("owner", f->spec->owner),
              LOG_STR("request_id", e->request_id[0] == '\0' ? NULL : e->request_id),
              LOG_STR("source", source), LOG_STR("destination", destination),
              LOG_STR("retry_of", f->spec->retry_of[0] == '\0' ? NULL : f->spec->retry_of));
}

static void on_inserted(void *arg, enum err result, const char *existing, bool same) {
    struct accepting *a = arg;
    struct core *c = a->core;
    struct flow_entry *e = a->entry;
    struct failure f = {0};
    if (result == OK && existing == NULL) {
        e->stored = true;
        log_accepted(e);
        log_move(&e->flow, FLOW_INITIALIZED, FLOW_EV_STARTED, "accepted");
        a->done(a->arg, e->flow.id, false, NULL);
        if (e->flow.spec->callback_url[0] != '\0') {
            callbacks_wake(c->callbacks);
        }
        flow_after_look(c, e);
        flow_committed(c, e);
        flows_start_waiting(c->flows);
    } else {
        if (result != OK) {
            (void)failure_set(&f, result, "submit", NULL, 0, "the flow could not be stored");
        } else if (!same) {
            flow_same_request(existing, e->request_id, &f);
        }
        a->done(a->arg, existing, f.err == OK, f.err == OK ? NULL : &f);
        flows_forget(c->flows, e);
    }
    free(a);
}

static enum err insert(struct core *c, struct accepting *a) {
    struct flow_entry *e = a->entry;
    const Sluice__V1__FlowSpec *spec = e->flow.spec;
    AUTO(auto_free) uint8_t *bytes = NULL;
    AUTO(auto_free) char *callback = NULL;
    struct flow_event_row event;
    struct flow_row_bytes row;
    AUTO(auto_free) struct flow_label *labels = calloc(spec->n_labels + 1, sizeof *labels);
    if (labels == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < spec->n_labels; i++) {
        labels[i] = (struct flow_label){spec->labels[i]->key, spec->labels[i]->value};
    }
    enum err err = flow_event_pack(c, e, "state_changed", &bytes, &event);
    if (err != OK) {
        return err;
    }
    err = callback_body(&e->flow, event.seq, event.at_ms, false, &callback);
    if (err == OK) {
        err = flow_row_init(&e->flow, true, e->request_id, &row);
    }
    if (err != OK) {
        return err;
    }
    database_flow_insert(
        c->database, &row.row, labels, spec->n_labels, &event,
        callback == NULL ? NULL : spec->callback_url,
        (struct blob){(const uint8_t *)callback, callback == NULL ? 0 : strlen(callback)},
        on_inserted, a);
    flow_row_deinit(&row);
    return OK;
}

void flow_accept(struct core *c, struct flow *take_f, const char *request_id,
                 void (*done)(void *arg, const char *flow_id, bool existed,
                              const struct failure *failure),
                 void *arg) {
    struct flow_entry *e = flow_entry_of(take_f);
    struct accepting *a = calloc(1, sizeof *a);
    enum err err = a == NULL ? ERR_NO_MEMORY : flows_add(c->flows, e);
    if (err != OK) {
        flow_free(take_f);
    } else {
        *a = (struct accepting){.core = c, .entry = e, .done = done, .arg = arg};
        snprintf(e->request_id, sizeof e->request_id, "%s", request_id);
        move_surely(c, &e->flow, FLOW_EV_STARTED, "accepted");
        err = insert(c, a);
        if (err != OK) {
            flows_forget(c->flows, e);
        }
    }
    if (err != OK) {
        struct failure f = {0};
        (void)failure_set(&f, err, "submit", NULL, 0, NULL);
        free(a);
        done(arg, NULL, false, &f);
    }
}

// ---- life ----
void flow_begin(struct core *c, struct flow_entry *e) {
    struct flow *f = &e->flow;
    e->begun = true;
    if (f->started_ms == 0) {
        f->started_ms = clock_wall_ms(c->clock);
    }
    flow_recount(c->flows, e);
    flow_set_phase(c, f, PHASE_PLANNING);
    flow_store(c, e);
    planner_flow_begin(c->planner, f);
    core_dispatch(c);
}

void flow_set_phase(struct core *c, struct flow *f, enum flow_phase phase) {
    struct flow_entry *e = flow_entry_of(f);
    (void)c;
    if (f->phase == phase || e->ended) {
        return;
    }
    log_event(LOG_INFO, "flow_phase_changed", LOG_STR("flow", f->id),
              LOG_STR("from", flow_phase_name(f->phase)), LOG_STR("to", flow_phase_name(phase)),
              LOG_U64("objects_done", f->progress.objects_done),
              LOG_U64("bytes_done", f->progress.bytes_done));
    f->phase = phase;
    e->dirty = !flow_event_live(e, "phase_changed", NULL);
}

void flow_sink_into_directory(struct core *c, struct flow *f) {
    if (f->sink_is_named) {
        return;
    }
    if (flow_name_sink(f) == OK) { // its length was checked at submission
        flow_store(c, flow_entry_of(f));
    }
}

enum err flow_name_sink(struct flow *f) {
    const ProtobufCBinaryData *path = location_message_path(f->spec->source);
    size_t end = path->len;
    while (end > 0 && path->data[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && path->data[begin - 1] != '/') {
        begin--;
    }
    size_t len = end - begin, used = f->sink.root_len;
    if (used + 1 + len > sizeof f->sink.root) {
        return ERR_NAME_TOO_LONG;
    }
    if (used > 0 && len > 0) {
        f->sink.root[used++] = '/';
    }
    memcpy(f->sink.root + used, path->data + begin, len);
    f->sink.root_len = used + len;
    f->sink_is_named = true;
    return OK;
}

enum err flow_refuse(const struct flow *f, const char *what, struct failure *ret_failure) {
    enum err e = failure_set(ret_failure, ERR_STATE, what, f->id, strlen(f->id),
                             "the flow is %s%s%s", flow_state_name(f->state),
                             f->outcome == OUTCOME_NONE ? "" : ", ", flow_outcome_name(f->outcome));
    failure_remedy(ret_failure, "%s",
                   flow_state_is_final(f->state) ? "it has ended: retry makes a new flow"
                                                 : "look at its state with show");
    return e;
}

static void refuse(const struct flow *f, const char *what,
                   void (*done)(void *arg, const struct failure *failure), void *arg) {
    struct failure failure = {0};
    if (flow_refuse(f, what, &failure) != OK) {
        done(arg, &failure);
    }
}

void flow_suspend(struct core *c, struct flow *f, unsigned holder, const char *reason,
                  void (*done)(void *arg, const struct failure *failure), void *arg) {
    struct flow_entry *e = flow_entry_of(f);
    bool more = f->state == FLOW_SUSPENDED && (f->holders & 1U << holder) == 0;
    if (e->ending || e->ended || (f->state != FLOW_STARTED && !more)) {
        refuse(f, "suspend", done, arg);
        return;
    }
    f->holders |= 1U << holder;
    snprintf(e->suspend_reason, sizeof e->suspend_reason, "%s", reason);
    log_event(LOG_INFO, "flow_suspend_wanted", LOG_STR("flow", f->id),
              LOG_STR("holder", holder_names[holder]), LOG_STR("reason", reason));
    flow_wait_add(&e->wait_quiet, done, arg);
    if (more) {
        flow_store(c, e);
    } else if (!e->begun) {
        move_surely(c, f, FLOW_EV_SUSPEND, reason);
    } else if (!e->pausing) {
        e->pausing = true;
        flow_store(c, e); // so that a master that dies meanwhile goes on suspending
        scheduler_flow_pause(c->scheduler, f->id, clock_mono_ms(c->clock));
        core_dispatch(c);
    }
}

void flow_go_on_suspending(struct core *c, struct flow_entry *e) {
    e->pausing = e->flow.state == FLOW_STARTED;
    scheduler_flow_pause(c->scheduler, e->flow.id, clock_mono_ms(c->clock));
    core_dispatch(c);
}

void flow_resume(struct core *c, struct flow *f, unsigned holder,
                 void (*done)(void *arg, const struct failure *failure), void *arg) {
    struct flow_entry *e = flow_entry_of(f);
    if (e->ending || e->ended || (f->holders & 1U << holder) == 0) {
        refuse(f, "resume", done, arg);
        return;
    }
    f->holders &= ~(1U << holder);
    flow_wait_add(&e->wait_stored, done, arg);
    if (f->holders != 0) {
        flow_store(c, e);
        return;
    }
    struct failure resumed = {0};
    (void)failure_set(&resumed, ERR_STATE, "suspend", f->id, strlen(f->id),
                      "the flow was resumed meanwhile");
    flow_waits_finish(&e->wait_quiet, &resumed);
    if (f->state == FLOW_SUSPENDED) {
        move_surely(c, f, FLOW_EV_RESUME, NULL);
    } else {
        flow_store(c, e);
    }
    if (e->begun) {
        e->pausing = false;
        scheduler_flow_resume(c->scheduler, f->id, clock_mono_ms(c->clock));
        core_dispatch(c);
    } else {
        flows_start_waiting(c->flows);
    }
}

// ---- death ----
static void on_abandoned(void *arg, struct core *c) {
    struct flow_entry *e = arg;
    struct flow *f = &e->flow;
    f->outcome = e->ending_outcome;
    move_surely(c, f, FLOW_EV_TERMINATE, f->outcome == OUTCOME_CANCELLED ? "cancelled" : NULL);
}

struct abandoning {
    struct core *core;
    struct flow_entry *entry;
};

static void on_planner_abandoned(void *arg) {
    struct abandoning *a = arg;
    on_abandoned(a->entry, a->core);
    free(a);
}

// No lease is open: what is half there goes.
static void abandon(struct core *c, struct flow_entry *e) {
    struct abandoning *a = calloc(1, sizeof *a);
    if (a == NULL) {
        e->abandon_again = true; // by the next tick
        return;
    }
    e->abandon_again = false;
    *a = (struct abandoning){.core = c, .entry = e};
    flow_set_phase(c, &e->flow, PHASE_FINISHING);
    planner_flow_abandon(c->planner, &e->flow, on_planner_abandoned, a);
    core_dispatch(c);
}

void flow_end(struct core *c, struct flow_entry *e, enum flow_outcome outcome,
              const struct failure *why) {
    struct flow *f = &e->flow;
    if (e->ending || e->ended) {
        return;
    }
    e->ending = true;
    e->ending_outcome = outcome;
    e->pausing = false;
    if (why != NULL) {
        f->error = *why;
    }
    if (e->begun) {
        flow_store(c, e);
        scheduler_flow_remove(c->scheduler, f->id, clock_mono_ms(c->clock));
        core_dispatch(c);
    } else if (f->started_ms != 0) {
        flow_store(c, e);
        abandon(c, e); // it had begun before the master's restart
    } else {
        on_abandoned(e, c);
    }
}

void flow_terminate(struct core *c, struct flow *f, const char *reason,
                    void (*done)(void *arg, const struct failure *failure), void *arg) {
    struct flow_entry *e = flow_entry_of(f);
    if (e->ended) {
        refuse(f, "cancel", done, arg);
        return;
    }
    flow_wait_add(&e->wait_end, done, arg);
    if (!e->ending) {
        log_event(LOG_INFO, "flow_cancel_wanted", LOG_STR("flow", f->id),
                  LOG_STR("reason", reason));
        f->cancel_wanted = true;
        struct failure why = {0};
        (void)failure_set(&why, ERR_CANCELLED, "go on", NULL, 0, "cancelled%s%s",
                          reason[0] == '\0' ? "" : ": ", reason);
        flow_end(c, e, OUTCOME_CANCELLED, &why);
    }
}

void flow_is_quiet(struct core *c, const char *flow_id) {
    struct flow_entry *e = flows_entry(c->flows, flow_id);
    if (e == NULL || e->ended) {
        return;
    }
    if (e->ending) {
        if (!e->abandoning) {
            e->abandoning = true;
            abandon(c, e);
        }
    } else if (e->pausing) {
        e->pausing = false;
        move_surely(c, &e->flow, FLOW_EV_SUSPEND, e->suspend_reason);
    }
}

void flow_abandon_again(struct core *c, struct flow_entry *e) {
    if (e->abandon_again) {
        abandon(c, e);
    }
}

void flow_planned_out(struct core *c, struct flow *f, const struct failure *why) {
    struct flow_entry *e = flow_entry_of(f);
    const struct flow_progress *p = &f->progress;
    if (e->ending || e->ended) {
        return; // planner_flow_abandon() says when
    }
    if (why != NULL) {
        f->error = *why;
    }
    if (f->state == FLOW_SUSPENDED) { // the last result was on its way
        f->holders = 0;
        move_surely(c, f, FLOW_EV_RESUME, "all is done already");
    }
    bool failed = why != NULL || p->objects_failed > 0;
    if (!failed) {
        f->outcome = OUTCOME_DELIVERED;
    } else if (p->objects_done + p->objects_skipped > 0) {
        f->outcome = OUTCOME_PARTIAL;
    } else {
        f->outcome = OUTCOME_FAILED;
    }
    move_surely(c, f, failed ? FLOW_EV_TERMINATE : FLOW_EV_COMPLETE, NULL);
}
