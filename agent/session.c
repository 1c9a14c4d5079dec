// SPDX-License-Identifier: Apache-2.0
#include "agent/session.h"

#include "agent/session_impl.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <string.h>
#include <sys/random.h>

enum { HEARTBEAT_MS = 1000, FIRST_BACKOFF_MS = 50, CLOSE_MS = 2000, KEEPALIVE_MS = 20000 };

static void dial(void *arg);
static void tick(void *arg);
static void drain_is_over(void *arg);

// ---- the call ----

static void message_arrived(struct rpc *r, const ProtobufCMessage *m) {
    struct session *s = rpc_user(r);
    s->heard_ms = clock_mono_ms(s->options.clock);
    session_receive(s, (const Sluice__V1__MasterMessage *)m);
}

static void queue_left(struct rpc *r) {
    struct session *s = rpc_user(r);
    if (s->state == SESSION_UP) {
        session_send_results(s);
    }
}

static int64_t backoff_ms(const struct session *s) {
    int64_t most = s->refused ? SESSION_REFUSED_MS : SESSION_BACKOFF_MS;
    uint32_t doublings = s->n_failures < 10 ? s->n_failures : 10;
    int64_t ms = (int64_t)FIRST_BACKOFF_MS << doublings;
    if (s->refused || ms > most) {
        ms = most;
    }
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != (ssize_t)sizeof chance) {
        chance = (uint32_t)clock_mono_us();
    }
    return ms / 2 + (int64_t)(chance % (uint64_t)(ms / 2 + 1));
}

static void finish_closing(struct session *s) {
    s->state = SESSION_CLOSED;
    loop_timer_disarm(s->drain);
    loop_timer_disarm(s->tick);
    loop_timer_disarm(s->redial);
    log_event(LOG_INFO, "session_closed", LOG_STR("cluster", s->cluster));
    s->options.drained(s->options.user);
}

// After the call has ended and no listing is under way.
static void check_closed(void *arg) {
    struct session *s = arg;
    if (s->state == SESSION_CLOSING && s->call == NULL && s->lane.n_open == 0) {
        finish_closing(s);
    }
}

static void log_lost(const struct session *s, const struct rpc_status *status) {
    bool was_up = s->state == SESSION_UP;
    enum log_level level = was_up || s->n_failures == 0 ? LOG_WARN : LOG_DEBUG;
    log_event(level, was_up ? "session_lost" : "session_failed",
              LOG_STR("master", rpc_channel_address(s->channel)),
              LOG_I64("grpc_status", status->code), LOG_STR("reason", status->detail),
              LOG_U64("attempts", s->n_failures + 1U),
              LOG_U64("leases", executor_held(s->parts.executor)),
              LOG_I64("hold_left_ms", hold_ms_left(s->options.hold)));
}

static void call_closed(struct rpc *r, const struct rpc_status *status) {
    struct session *s = rpc_user(r);
    s->call = NULL;
    if (s->state == SESSION_CLOSING) {
        check_closed(s);
        return;
    }
    log_lost(s, status);
    s->n_failures = s->state == SESSION_UP ? 0 : s->n_failures + 1;
    s->state = SESSION_WAITING;
    if (rpc_channel_next(s->channel)) { // another master may have taken over
        s->refused = false;
    }
    loop_timer_arm(s->redial, backoff_ms(s));
    s->refused = false;
    session_check_drained(s);
}

static const struct rpc_method session_method = {
    .path = "/sluice.v1.AgentService/Session",
    .input = &sluice__v1__master_message__descriptor,
    .input_stream = true,
    .message = message_arrived,
    .writable = queue_left,
    .closed = call_closed,
};

static void dial(void *arg) {
    struct session *s = arg;
    if (s->call != NULL || s->state != SESSION_WAITING) {
        return;
    }
    s->call = rpc_call(s->options.loop, s->channel, &session_method, 0, false, s);
    s->last_beat = 0;
    s->registered_ms = clock_mono_ms(s->options.clock);
    s->heard_ms = s->registered_ms;
    if (s->call == NULL || !session_send_register(s)) {
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "register"));
        if (s->call != NULL) {
            rpc_cancel(s->call); // `closed` dials again
        } else {
            loop_timer_arm(s->redial, SESSION_BACKOFF_MS);
        }
        return;
    }
    s->state = SESSION_DIALLED;
}

void session_hang_up(struct session *s, bool refused) {
    s->refused = s->refused || refused;
    if (s->call != NULL) {
        rpc_cancel(s->call);
    }
}

// ---- time passes ----

static void check_hold(struct session *s) {
    if (hold_ms_left(s->options.hold) > 0) {
        return;
    }
    size_t n = executor_revoke_all(s->parts.executor, LEASE_FENCED);
    if (n > 0) {
        log_event(LOG_WARN, "hold_lapsed", LOG_I64("hold_ms", s->hold_ms), LOG_U64("leases", n));
    }
}

static void check_silence(struct session *s) {
    int64_t silent_ms = clock_mono_ms(s->options.clock) - s->heard_ms;
    int64_t patience_ms =
        s->hold_ms / 2 > 3 * s->heartbeat_ms ? s->hold_ms / 2 : 3 * s->heartbeat_ms;
    if (s->state == SESSION_DIALLED) {
        patience_ms = SESSION_WELCOME_MS;
    }
    if (s->call != NULL && silent_ms > patience_ms) {
        log_event(LOG_WARN, "master_silent", LOG_I64("silent_ms", silent_ms));
        s->heard_ms = clock_mono_ms(s->options.clock); // once
        session_hang_up(s, false);
    }
}

static void tick(void *arg) {
    struct session *s = arg;
    loop_timer_arm(s->tick, s->heartbeat_ms);
    check_hold(s);
    check_silence(s);
    executor_tune(s->parts.executor);
    if (s->state == SESSION_UP) {
        session_send_heartbeat(s);
        session_send_results(s);
    }
}

// ---- drain ----

static void begin_closing(struct session *s) {
    s->state = SESSION_CLOSING;
    loop_timer_arm(s->drain, CLOSE_MS);
    if (s->call != NULL) {
        rpc_half_close(s->call);
    }
    check_closed(s);
}

void session_check_drained(struct session *s) {
    if (!s->draining || s->state >= SESSION_CLOSING || executor_held(s->parts.executor) > 0) {
        return;
    }
    // Without a master results stay in the journal: waiting would not help.
    if (s->state == SESSION_UP && !s->stopping && !journal_is_empty(s->parts.journal)) {
        return;
    }
    begin_closing(s);
}

static void drain_is_over(void *arg) {
    struct session *s = arg;
    if (s->state == SESSION_CLOSING && (s->call == NULL || s->is_cut)) {
        finish_closing(s);
        return;
    }
    if (s->state == SESSION_CLOSING) { // the master does not end the call
        s->is_cut = true;
        rpc_cancel(s->call);
        loop_timer_arm(s->drain, CLOSE_MS);
        return;
    }
    if (s->stopping) { // and they do not even stop
        log_event(LOG_WARN, "drain_cut_short", LOG_U64("leases", executor_held(s->parts.executor)));
        begin_closing(s);
        return;
    }
    s->stopping = true;
    size_t n = executor_revoke_all(s->parts.executor, LEASE_REVOKED);
    log_event(LOG_WARN, "drain_time_over", LOG_U64("leases", n));
    loop_timer_arm(s->drain, SESSION_STOP_MS);
    session_check_drained(s);
}

static void drain(void *arg) {
    struct session *s = arg;
    if (s->draining) {
        return;
    }
    s->draining = true;
    log_event(LOG_INFO, "draining", LOG_U64("leases", executor_held(s->parts.executor)));
    session_send_draining(s);
    loop_timer_arm(s->drain, s->options.drain_ms);
    executor_revoke_waiting(s->parts.executor);
    session_check_drained(s);
}

void session_drain(struct session *s) {
    loop_post(s->options.loop, drain, s);
}

// ---- begin and end ----

static void make_timers(struct session *s) {
    s->redial = loop_timer_new(s->options.loop, dial, s);
    s->tick = loop_timer_new(s->options.loop, tick, s);
    s->drain = loop_timer_new(s->options.loop, drain_is_over, s);
}

enum err session_new(const struct session_options *o, struct session **ret_session,
                     struct failure *ret_failure) {
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "session", NULL, 0, NULL);
    }
    s->options = *o;
    if (s->options.drain_ms == 0) {
        s->options.drain_ms = SESSION_DRAIN_MS;
    }
    usage_meter_init(&s->usage);
    s->heartbeat_ms = HEARTBEAT_MS;
    s->hold_ms = atomic_load(&o->hold->hold_ms);
    const struct agent_options *a = o->agent;
    struct rpc_tls tls = {.certificate = a->tls_certificate, .key = a->tls_key, .ca = a->tls_ca};
    s->channel = rpc_channel_new_keepalive(a->master, a->tls ? &tls : NULL, KEEPALIVE_MS);
    make_timers(s);
    if (s->channel == NULL || s->redial == NULL || s->tick == NULL || s->drain == NULL) {
        session_free(s);
        return failure_set(ret_failure, ERR_NO_MEMORY, "session", NULL, 0,
                           "no channel to the master can be made");
    }
    s->lane =
        (struct list_lane){.loop = o->loop, .channel = s->channel, .idle = check_closed, .user = s};
    *ret_session = s;
    return OK;
}

struct list_lane *session_list_lane(struct session *s) {
    return &s->lane;
}

static void start(void *arg) {
    struct session *s = arg;
    loop_timer_arm(s->tick, s->heartbeat_ms);
    dial(s);
}

void session_start(struct session *s, const struct session_parts *p) {
    s->parts = *p;
    journal_recall(p->journal, s->cluster, &s->term);
    loop_post(s->options.loop, start, s);
}

void session_free(struct session *s) {
    if (s == NULL) {
        return;
    }
    loop_timer_free(s->redial);
    loop_timer_free(s->tick);
    loop_timer_free(s->drain);
    rpc_channel_free(s->channel);
    free(s);
}

// ---- reports from other threads ----

static void on_results(void *arg) {
    struct session *s = arg;
    if (s->state == SESSION_UP) {
        session_send_results(s);
    }
}

void session_results_written(void *session) {
    struct session *s = session;
    loop_post(s->options.loop, on_results, s);
}

struct stopped_item {
    struct session *session;
    uint64_t task_id, term, counter;
};

static void on_stopped(void *arg) {
    AUTO(auto_free) struct stopped_item *i = arg;
    session_send_stopped(i->session, i->task_id, i->term, i->counter);
}

void session_lease_stopped(void *session, uint64_t task_id, uint64_t term, uint64_t counter) {
    struct session *s = session;
    struct stopped_item *i = malloc(sizeof *i);
    if (i == NULL) { // the next Register tells it all the same
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "stopped"));
        return;
    }
    *i = (struct stopped_item){s, task_id, term, counter};
    loop_post(s->options.loop, on_stopped, i);
}

static void on_idle(void *arg) {
    session_check_drained(arg);
}

void session_executor_idle(void *session) {
    struct session *s = session;
    loop_post(s->options.loop, on_idle, s);
}

static void on_volumes(void *arg) {
    struct session *s = arg;
    s->volumes_changed = true;
    if (s->state == SESSION_UP) {
        session_send_heartbeat(s);
    }
}

void session_volumes_changed(void *session) {
    struct session *s = session;
    loop_post(s->options.loop, on_volumes, s);
}

struct proof_report {
    struct session *session;
    struct volume_proof proof;
};

static void on_proof(void *arg) {
    AUTO(auto_free) struct proof_report *p = arg;
    session_send_proof(p->session, &p->proof);
}

void session_volume_proved(void *session, const struct volume_proof *p) {
    struct session *s = session;
    struct proof_report *r = malloc(sizeof *r);
    if (r == NULL) { // the master asks again, or takes the volume for a local one
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "proof"));
        return;
    }
    *r = (struct proof_report){s, *p};
    loop_post(s->options.loop, on_proof, r);
}
