// SPDX-License-Identifier: Apache-2.0
// What the scheduler decided, as messages to agents: leases with their tickets, yields, revokes.
#include "common/cleanup.h"
#include "common/hash.h"
#include "common/log.h"
#include "master/agents_impl.h"
#include "master/flow.h"
#include "master/planner.h"

#include <stdlib.h>
#include <string.h>

static void copy_text(char *to, size_t cap, const char *from) {
    size_t n = strnlen(from, cap - 1);
    memcpy(to, from, n);
    memset(to + n, 0, cap - n);
}

static int64_t ticket_expiry_ms(const struct core *c, const Sluice__V1__TaskSpec *spec) {
    uint64_t bytes = spec->length > 0 ? spec->length : (uint64_t)1 << 30;
    return clock_wall_ms(c->clock) + TICKET_LEAST_MS +
           (int64_t)(bytes / TICKET_SLOWEST_BYTES_PER_S) * 1000;
}

// All but the source.
static void fill_ticket(const struct agent *executor, const Sluice__V1__TaskSpec *spec,
                        const struct scheduler_command *cmd, struct ticket *t) {
    const struct core *c = executor->agents->core;
    memset(t, 0, sizeof(*t));
    copy_text(t->cluster, sizeof(t->cluster), c->cluster);
    copy_text(t->flow, sizeof(t->flow), spec->flow_id);
    t->task_id = spec->task_id;
    t->term = cmd->epoch.term;
    t->counter = cmd->epoch.counter;
    copy_text(t->executor, sizeof(t->executor), executor->name);
    memcpy(t->executor_key, executor->public_key, SIGNING_KEY_BYTES);
    t->direction = TICKET_READ;
    t->digest = spec->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256 ? HASH_SHA256 : HASH_XXH3_128;
    t->expires_ms = ticket_expiry_ms(c, spec);
    copy_text(t->volume, sizeof(t->volume), spec->source->volume);
    t->root_len = spec->source->root.len; // ticket_sign() refuses one that is too long
    if (t->root_len > 0 && t->root_len <= sizeof(t->root)) {
        memcpy(t->root, spec->source->root.data, t->root_len);
    }
    sha256(spec->objects.data, spec->objects.len, t->objects_sha256);
}

struct lease_sources {
    Sluice__V1__SourceAgent messages[SCHED_MAX_SOURCES];
    Sluice__V1__SourceAgent *pointers[SCHED_MAX_SOURCES];
    uint8_t tickets[SCHED_MAX_SOURCES][TICKET_MAX_BYTES];
    struct ticket ticket;
    size_t n;
};

static enum err add_sources(const struct agent *executor, const Sluice__V1__TaskSpec *spec,
                            const struct scheduler_command *cmd, struct lease_sources *s) {
    const struct agents *as = executor->agents;
    if (cmd->n_sources == 0 || spec->source == NULL) {
        return OK;
    }
    fill_ticket(executor, spec, cmd, &s->ticket);
    for (uint32_t i = 0; i < cmd->n_sources; i++) {
        struct agent *source = agent_find(as, cmd->sources[i]);
        if (source == NULL || source->n_addresses == 0) {
            continue;
        }
        size_t len = 0;
        copy_text(s->ticket.source, sizeof(s->ticket.source), source->name);
        enum err e =
            ticket_sign(&s->ticket, as->core->key, s->tickets[s->n], TICKET_MAX_BYTES, &len);
        if (e != OK) {
            return e;
        }
        Sluice__V1__SourceAgent *m = &s->messages[s->n];
        sluice__v1__source_agent__init(m);
        m->agent = source->name;
        m->n_data_addresses = source->n_addresses;
        m->data_addresses = source->addresses;
        m->ticket = (ProtobufCBinaryData){len, s->tickets[s->n]};
        s->pointers[s->n++] = m;
    }
    return s->n > 0 ? OK : ERR_UNREACHABLE;
}

static enum err send_lease(struct agent *a, const struct scheduler_command *cmd) {
    uint32_t attempt = 1;
    const Sluice__V1__TaskSpec *spec =
        planner_spec(a->agents->core->planner, cmd->task_id, &attempt);
    if (spec == NULL) {
        return ERR_NOT_FOUND;
    }
    AUTO(auto_free) struct lease_sources *sources = calloc(1, sizeof(*sources));
    if (sources == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err e = add_sources(a, spec, cmd, sources);
    if (e != OK) {
        return e;
    }
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__Lease m = SLUICE__V1__LEASE__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    epoch.term = cmd->epoch.term;
    epoch.counter = cmd->epoch.counter;
    m.epoch = &epoch;
    m.spec = (Sluice__V1__TaskSpec *)spec;
    m.n_sources = sources->n;
    m.sources = sources->pointers;
    m.expires_ms = sources->ticket.expires_ms;
    m.attempt = attempt;
    struct flows *flows = a->agents->core->flows;
    const struct flow *f = flows != NULL ? flows_find(flows, spec->flow_id) : NULL;
    if (f != NULL) {
        m.n_credentials = f->spec->n_credentials;
        m.credentials = f->spec->credentials;
    }
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_ASSIGN;
    message.assign = &m;
    return agent_send(a, &message) ? OK : ERR_PEER_LOST;
}

static void assign(struct agent *a, const struct scheduler_command *cmd) {
    enum err e = send_lease(a, cmd);
    if (e == OK) {
        log_event(LOG_DEBUG, "task_assigned", LOG_STR("flow", cmd->flow),
                  LOG_U64("task", cmd->task_id), LOG_STR("agent", a->name),
                  LOG_U64("term", cmd->epoch.term), LOG_U64("counter", cmd->epoch.counter),
                  LOG_STR("source", cmd->n_sources > 0 ? cmd->sources[0] : NULL));
    } else if (e == ERR_PEER_LOST) {
        agent_hang_up(a, "a lease could not be sent");
    } else { // the agent will not report it, so the task is given out again
        log_event(LOG_ERROR, "lease_not_sent", LOG_STR("flow", cmd->flow),
                  LOG_U64("task", cmd->task_id), LOG_STR("agent", a->name),
                  LOG_STR("code", err_name(e)));
        agent_hang_up(a, err_text(e));
    }
}

static void order(struct agent *a, const struct scheduler_command *cmd) {
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__LeaseRef *leases[1] = {&lease};
    Sluice__V1__Yield yield = SLUICE__V1__YIELD__INIT;
    Sluice__V1__Revoke revoke = SLUICE__V1__REVOKE__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    epoch.term = cmd->epoch.term;
    epoch.counter = cmd->epoch.counter;
    lease.task_id = cmd->task_id;
    lease.epoch = &epoch;
    if (cmd->kind == SCHED_YIELD) {
        yield.lease = &lease;
        message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_YIELD;
        message.yield = &yield;
    } else {
        revoke.n_leases = 1;
        revoke.leases = leases;
        message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE;
        message.revoke = &revoke;
    }
    log_event(cmd->kind == SCHED_YIELD ? LOG_INFO : LOG_DEBUG,
              cmd->kind == SCHED_YIELD ? "task_yielded" : "task_revoked",
              LOG_STR("flow", cmd->flow), LOG_U64("task", cmd->task_id), LOG_STR("agent", a->name));
    if (!agent_send(a, &message)) {
        agent_hang_up(a, "an order could not be sent");
    }
}

void agents_execute(struct agents *as, const struct scheduler_command *cmd) {
    struct agent *a = agent_find(as, cmd->agent);
    if (a == NULL || a->session == NULL) {
        scheduler_agent_down(as->core->scheduler, cmd->agent, false, agents_now_ms(as));
        return;
    }
    if (cmd->kind == SCHED_ASSIGN) {
        assign(a, cmd);
    } else if (cmd->kind == SCHED_YIELD || cmd->kind == SCHED_REVOKE) {
        order(a, cmd);
    }
}
