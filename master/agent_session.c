// SPDX-License-Identifier: Apache-2.0
// The Session call of one agent, from its opening to its end.
#include "common/cleanup.h"
#include "common/log.h"
#include "master/agents_impl.h"
#include "master/planner.h"
#include "master/volume_proof.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

void agent_session_opened(struct rpc *r) {
    struct core *c = rpc_server_user(r);
    struct agent_session *s = c->stopping ? NULL : calloc(1, sizeof(*s));
    if (s == NULL) {
        rpc_finish(r, err_grpc_status(ERR_AGAIN), "the master stops, or is out of memory");
        return;
    }
    s->agents = c->agents;
    s->rpc = r;
    s->opened_ms = agents_now_ms(c->agents);
    DL_APPEND(c->agents->sessions, s);
    rpc_set_user(r, s);
}

static void disconnected(struct agent *a, bool clean, const char *why) {
    struct agents *as = a->agents;
    uint32_t n_leases = scheduler_leases_of(as->core->scheduler, a->name);
    a->session = NULL;
    as->n_connected--;
    struct agent_volume *v;
    DL_FOREACH(a->volumes, v) {
        volume_proofs_leave(as->proofs, v);
    }
    clean = clean && n_leases == 0;
    log_event(clean || as->core->stopping ? LOG_INFO : LOG_WARN,
              clean ? "agent_down" : "agent_lost", LOG_STR("agent", a->name),
              LOG_STR("site", a->site), LOG_U64("leases", n_leases), LOG_STR("reason", why),
              LOG_I64("silent_ms", agents_now_ms(as) - a->heard_ms));
    scheduler_agent_down(as->core->scheduler, a->name, clean, agents_now_ms(as));
}

void agent_session_closed(struct rpc *r, const struct rpc_status *status) {
    struct agent_session *s = rpc_user(r);
    if (s == NULL) {
        return;
    }
    struct core *c = s->agents->core;
    struct agent *a = s->agent;
    DL_DELETE(s->agents->sessions, s);
    if (a != NULL && a->session == s) {
        disconnected(a, s->half_closed && a->leaving, status->detail);
    }
    free(s);
    core_dispatch(c);
}

void agent_session_half_closed(struct rpc *r) {
    struct agent_session *s = rpc_user(r);
    if (s != NULL) {
        s->half_closed = true;
    }
    rpc_finish(r, 0, "");
}

void agent_hang_up(struct agent *a, const char *reason) {
    struct agents *as = a->agents;
    if (a->session == NULL || a->session->refused) {
        return;
    }
    log_event(LOG_WARN, "session_cut", LOG_STR("agent", a->name), LOG_STR("reason", reason),
              LOG_I64("silent_ms", agents_now_ms(as) - a->heard_ms));
    scheduler_agent_down(as->core->scheduler, a->name, false, agents_now_ms(as));
    a->session->refused = true;
    rpc_cancel(a->session->rpc);
}

void agent_silent_check(struct agents *as) {
    int64_t now_ms = agents_now_ms(as);
    agents_loop_runs(as);
    struct agent_session *s;
    DL_FOREACH(as->sessions, s) {
        if (s->agent == NULL && !s->refused && now_ms - s->opened_ms > SESSION_REGISTER_MS) {
            s->refused = true;
            rpc_cancel(s->rpc);
        } else if (s->agent != NULL &&
                   now_ms - s->agent->heard_ms >= as->core->options->lost_after_ms) {
            agent_hang_up(s->agent, "silent");
        }
    }
}

void agents_loop_runs(struct agents *as) {
    int64_t now_ms = agents_now_ms(as), before_ms = as->awake_ms;
    as->awake_ms = now_ms;
    if (before_ms == 0 || now_ms - before_ms <= 2 * as->core->options->heartbeat_ms) {
        return;
    }
    log_event(LOG_WARN, "core_stalled", LOG_I64("stalled_ms", now_ms - before_ms));
    struct agent *a;
    DL_FOREACH(as->all, a) {
        if (a->session != NULL && !a->session->refused &&
            scheduler_agent_heard(as->core->scheduler, a->name, now_ms)) {
            a->heard_ms = now_ms;
        }
    }
}

// ---- messages ----

static void ping(struct agent *a, uint64_t heard) {
    Sluice__V1__Ping m = SLUICE__V1__PING__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    m.master_ms = clock_wall_ms(a->agents->core->clock);
    m.heard = heard;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_PING;
    message.ping = &m;
    (void)agent_send(a, &message);
}

static void heartbeat(struct agent *a, const Sluice__V1__Heartbeat *m) {
    struct scheduler *s = a->agents->core->scheduler;
    a->cpu_percent = m->cpu_percent;
    a->memory_bytes = m->memory_bytes;
    a->load1 = m->load1;
    a->running = m->running;
    a->bytes_served = m->bytes_served;
    for (size_t i = 0; i < m->n_leases; i++) {
        const Sluice__V1__LeaseProgress *p = m->leases[i];
        if (p->lease != NULL && p->lease->epoch != NULL) {
            uint32_t objects = p->objects < UINT32_MAX ? (uint32_t)p->objects : UINT32_MAX;
            struct epoch epoch = {p->lease->epoch->term, p->lease->epoch->counter};
            scheduler_progress(s, a->name, p->lease->task_id, epoch, p->bytes, objects,
                               a->heard_ms);
            planner_progress(a->agents->core->planner, p->lease->task_id, epoch, p->bytes);
        }
    }
    ping(a, m->sequence);
    if (m->n_volumes == 0) {
        return;
    }
    enum err e = agent_set_volumes(a, m->volumes, m->n_volumes);
    if (e == OK) {
        e = agent_tell_scheduler(a);
    }
    if (e != OK) {
        agent_hang_up(a, err_text(e));
        return;
    }
    volume_proofs_go_on(a);
}

static void stopped(struct agent *a, const Sluice__V1__Stopped *m) {
    for (size_t i = 0; i < m->n_leases; i++) {
        const Sluice__V1__LeaseRef *l = m->leases[i];
        if (l->epoch != NULL) {
            planner_moved(a->agents->core->planner, l->task_id,
                          (struct epoch){l->epoch->term, l->epoch->counter},
                          i < m->n_bytes ? m->bytes[i] : 0);
            scheduler_released(a->agents->core->scheduler, a->name, l->task_id,
                               (struct epoch){l->epoch->term, l->epoch->counter}, a->heard_ms);
        }
    }
}

static void leaves(struct agent *a) {
    a->leaving = true;
    log_event(LOG_INFO, "agent_draining", LOG_STR("agent", a->name),
              LOG_STR("reason", "it was told to stop"));
    scheduler_agent_drain(a->agents->core->scheduler, a->name, true, a->heard_ms);
}

static void first_message(struct agent_session *s, const Sluice__V1__AgentMessage *m) {
    if (m->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_REGISTER) {
        agent_register(s, m->register_);
        return;
    }
    struct failure f = {0};
    (void)failure_set(&f, ERR_PROTOCOL, "session", NULL, 0, "the first message is not Register");
    agent_refuse(s, &f);
}

static void message(struct agent *a, const Sluice__V1__AgentMessage *m) {
    switch (m->kind_case) {
    case SLUICE__V1__AGENT_MESSAGE__KIND_HEARTBEAT: heartbeat(a, m->heartbeat); break;
    case SLUICE__V1__AGENT_MESSAGE__KIND_RESULT: agent_result_arrived(a, m->result); break;
    case SLUICE__V1__AGENT_MESSAGE__KIND_VOLUME_PROOF:
        volume_proofs_answer(a->agents->proofs, a, m->volume_proof);
        break;
    case SLUICE__V1__AGENT_MESSAGE__KIND_DRAINING: leaves(a); break;
    case SLUICE__V1__AGENT_MESSAGE__KIND_STOPPED: stopped(a, m->stopped); break;
    case SLUICE__V1__AGENT_MESSAGE__KIND_REGISTER: agent_hang_up(a, "it registered twice"); break;
    case SLUICE__V1__AGENT_MESSAGE__KIND__NOT_SET: // of a newer agent: a sign of life
    case _SLUICE__V1__AGENT_MESSAGE__KIND__CASE_IS_INT_SIZE:
    default: break;
    }
}

void agent_session_message(struct rpc *r, const ProtobufCMessage *message_base) {
    struct agent_session *s = rpc_user(r);
    const Sluice__V1__AgentMessage *m = (const Sluice__V1__AgentMessage *)message_base;
    if (s == NULL || s->refused) {
        return;
    }
    struct core *c = s->agents->core;
    struct agent *a = s->agent;
    if (a == NULL) {
        first_message(s, m);
    } else {
        int64_t now_ms = agents_now_ms(s->agents);
        if (scheduler_agent_heard(c->scheduler, a->name, now_ms)) {
            a->heard_ms = now_ms;
            a->heard_wall_ms = clock_wall_ms(c->clock);
            message(a, m);
        } else {
            agent_hang_up(a, "it was silent for too long and has to register again");
        }
    }
    core_dispatch(c);
}
