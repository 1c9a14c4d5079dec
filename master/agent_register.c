// SPDX-License-Identifier: Apache-2.0
// An agent registers: who may, and what becomes of what it had before.
#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/failure_message.h"
#include "master/agents_impl.h"
#include "master/credentials.h"
#include "master/planner.h"
#include "master/volume_proof.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

void agent_refuse(struct agent_session *s, const struct failure *why) {
    char reason[512];
    failure_format(why, reason, sizeof(reason));
    log_event(LOG_WARN, "agent_refused", LOG_STR("agent", s->agent != NULL ? s->agent->name : NULL),
              LOG_FAILURE(why));
    Sluice__V1__Goodbye m = SLUICE__V1__GOODBYE__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    m.reason = reason;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_GOODBYE;
    message.goodbye = &m;
    message.term = s->agents->core->term;
    (void)rpc_send(s->rpc, &message.base);
    rpc_finish_failure(s->rpc, why);
    s->refused = true;
}

static bool is_name(const char *text) {
    return location_name_is_valid(text, strlen(text));
}

static enum err invalid(struct failure *f, const char *name, const char *what) {
    return failure_set(f, ERR_INVALID, "register", name, strlen(name), "%s", what);
}

static enum err check_message(const Sluice__V1__Register *m, struct failure *f) {
    if (!is_name(m->agent) || !is_name(m->site)) {
        return invalid(f, m->agent, "the name of the agent or of its site is not a valid one");
    }
    if (!ident_is_valid(m->incarnation)) {
        return invalid(f, m->agent, "the incarnation is not an identifier");
    }
    if (m->public_key.len != SIGNING_KEY_BYTES) {
        return invalid(f, m->agent, "the public key has the wrong length");
    }
    if (m->slots == 0 || m->slots > AGENT_MAX_SLOTS) {
        return invalid(f, m->agent, "the number of slots is not between 1 and 1024");
    }
    if (m->n_volumes > AGENT_MAX_VOLUMES || m->n_data_addresses > AGENT_MAX_ADDRESSES) {
        return invalid(f, m->agent, "it has too many volumes or addresses");
    }
    for (size_t i = 0; i < m->n_data_addresses; i++) {
        if (strlen(m->data_addresses[i]) > AGENT_MAX_ADDRESS_BYTES) {
            return invalid(f, m->agent, "one of its addresses is too long");
        }
    }
    return OK;
}

static enum err check_identity(const struct agent_session *s, const Sluice__V1__Register *m,
                               struct failure *f) {
    const struct core *c = s->agents->core;
    char name[PLACE_NAME_MAX];
    if (rpc_peer_name(s->rpc, name, sizeof(name)) && strcmp(name, m->agent) != 0) {
        enum err e = failure_set(f, ERR_DENIED, "register", m->agent, strlen(m->agent),
                                 "the certificate is for '%s'", name);
        failure_remedy(f, "give the agent a certificate whose common name is its name");
        return e;
    }
    if (strcmp(m->cluster_id, c->cluster) == 0 && m->highest_term > c->term) {
        enum err e = failure_set(f, ERR_FENCED, "register", m->agent, strlen(m->agent),
                                 "the agent knows a newer master (term %llu, this one has %llu)",
                                 (unsigned long long)m->highest_term, (unsigned long long)c->term);
        failure_remedy(f, "stop the older master, or give it the newer state");
        return e;
    }
    return OK;
}

// Of two processes with one name the younger one stays: the elder's state directory, if it is
// the same one, is not locked any more.
static enum err check_rival(const struct agent *a, const Sluice__V1__Register *m,
                            struct failure *f) {
    if (a->session == NULL || strcmp(a->incarnation, m->incarnation) <= 0) {
        return OK;
    }
    enum err e = failure_set(f, ERR_EXISTS, "register", m->agent, strlen(m->agent),
                             "another agent of this name, started later, is connected from '%s'",
                             a->host != NULL ? a->host : "");
    failure_remedy(f, "give each agent a name of its own");
    return e;
}

static void leave_session(struct agent *a) {
    struct agent_session *old = a->session;
    if (old == NULL) {
        return;
    }
    log_event(LOG_WARN, "session_replaced", LOG_STR("agent", a->name), LOG_STR("host", a->host));
    scheduler_agent_down(a->agents->core->scheduler, a->name, false, agents_now_ms(a->agents));
    old->agent = NULL;
    old->refused = true;
    rpc_cancel(old->rpc);
    a->session = NULL;
    a->agents->n_connected--;
}

static bool set_text(char **to, const char *text) {
    char *copy = strndup(text, 256);
    if (copy == NULL) {
        return false;
    }
    free(*to);
    *to = copy;
    return true;
}

static enum err set_addresses(struct agent *a, const Sluice__V1__Register *m) {
    char **addresses = calloc(m->n_data_addresses + 1, sizeof(*addresses));
    size_t n = 0;
    while (addresses != NULL && n < m->n_data_addresses &&
           (addresses[n] = strdup(m->data_addresses[n])) != NULL) {
        n++;
    }
    bool ok = addresses != NULL && n == m->n_data_addresses;
    for (size_t i = 0; i < (ok ? a->n_addresses : n); i++) {
        free(ok ? a->addresses[i] : addresses[i]);
    }
    free(ok ? a->addresses : addresses);
    if (ok) {
        a->addresses = addresses;
        a->n_addresses = n;
    }
    return ok ? OK : ERR_NO_MEMORY;
}

static enum err describe(struct agent *a, const Sluice__V1__Register *m) {
    if (!set_text(&a->boot_id, m->boot_id) || !set_text(&a->version, m->version) ||
        !set_text(&a->host, m->host)) {
        return ERR_NO_MEMORY;
    }
    enum err e = set_addresses(a, m);
    if (e != OK) {
        return e;
    }
    agent_drop_volumes(a); // all are proven anew
    memset(a->site, 0, sizeof(a->site));
    memcpy(a->site, m->site, strnlen(m->site, sizeof(a->site) - 1));
    memset(a->incarnation, 0, sizeof(a->incarnation));
    memcpy(a->incarnation, m->incarnation, IDENT_LEN);
    memcpy(a->public_key, m->public_key.data, SIGNING_KEY_BYTES);
    a->pid = m->pid;
    a->slots = m->slots;
    a->leaving = false;
    a->running = 0;
    if (m->next_number <= a->committed_through) {
        agent_results_reset(a);
    }
    return agent_set_volumes(a, m->volumes, m->n_volumes);
}

// The agent does not know that its last word on this lease was judged: nobody works on it.
static bool is_over(struct agent *a, const Sluice__V1__LeaseRef *l, struct epoch epoch,
                    int64_t now_ms) {
    if (l->result == 0 || !agent_result_was_judged(a, l->result)) {
        return false;
    }
    scheduler_released(a->agents->core->scheduler, a->name, l->task_id, epoch, now_ms);
    return true;
}

// Tells the scheduler what the agent holds; those it may not go on with are collected.
static size_t report_leases(struct agent *a, const Sluice__V1__Register *m,
                            Sluice__V1__LeaseRef **refused) {
    struct scheduler *s = a->agents->core->scheduler;
    int64_t now_ms = agents_now_ms(a->agents);
    size_t n = 0;
    for (size_t i = 0; i < m->n_leases; i++) {
        const Sluice__V1__LeaseRef *l = m->leases[i];
        if (l->epoch == NULL) {
            continue;
        }
        struct epoch epoch = {l->epoch->term, l->epoch->counter};
        if (!is_over(a, l, epoch, now_ms) &&
            !scheduler_agent_holds(s, a->name, l->task_id, epoch, now_ms)) {
            refused[n++] = m->leases[i];
        }
    }
    scheduler_agent_reported(s, a->name, now_ms);
    planner_agent_reported(a->agents->core->planner, a->name);
    return n;
}

static void report_interrupted(struct planner *p, const Sluice__V1__Register *m) {
    for (size_t i = 0; i < m->n_interrupted; i++) {
        const Sluice__V1__LeaseRef *l = m->interrupted[i]->lease;
        if (l != NULL && l->epoch != NULL) {
            planner_moved(p, l->task_id, (struct epoch){l->epoch->term, l->epoch->counter},
                          m->interrupted[i]->bytes);
        }
    }
}

static bool welcome(struct agent *a, Sluice__V1__LeaseRef **refused, size_t n_refused) {
    struct core *c = a->agents->core;
    uint8_t key[SIGNING_KEY_BYTES];
    Sluice__V1__Welcome m = SLUICE__V1__WELCOME__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    signing_key_public(c->key, key);
    m.cluster_id = c->cluster;
    m.term = c->term;
    m.ticket_public_key = (ProtobufCBinaryData){sizeof(key), key};
    m.hold_ms = (uint32_t)c->options->hold_ms;
    m.heartbeat_ms = (uint32_t)c->options->heartbeat_ms;
    m.committed_through = a->committed_through;
    m.n_refused = n_refused;
    m.refused = refused;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME;
    message.welcome = &m;
    return agent_send(a, &message);
}

static void send_credentials(void *agent, Sluice__V1__MasterMessage *m) {
    (void)agent_send(agent, m); // false: `closed` comes
}

static enum err take_up(struct agent_session *s, struct agent *a, const Sluice__V1__Register *m) {
    AUTO(auto_free) Sluice__V1__LeaseRef **refused = calloc(m->n_leases + 1, sizeof(*refused));
    if (refused == NULL) {
        return ERR_NO_MEMORY;
    }
    report_interrupted(a->agents->core->planner, m); // before its leases are closed
    leave_session(a);
    enum err e = describe(a, m);
    if (e != OK) {
        agent_drop_volumes(a);
        return e;
    }
    a->session = s;
    s->agent = a;
    a->agents->n_connected++;
    a->heard_ms = agents_now_ms(a->agents);
    a->heard_wall_ms = clock_wall_ms(a->agents->core->clock);
    e = agent_tell_scheduler(a);
    if (e != OK) {
        return e; // `closed` undoes the rest
    }
    scheduler_agent_drain(a->agents->core->scheduler, a->name, a->draining, a->heard_ms);
    size_t n_refused = report_leases(a, m, refused);
    log_event(LOG_INFO, "agent_up", LOG_STR("agent", a->name), LOG_STR("site", a->site),
              LOG_STR("incarnation", a->incarnation), LOG_STR("host", a->host),
              LOG_U64("pid", a->pid), LOG_STR("version", a->version), LOG_U64("slots", a->slots),
              LOG_U64("volumes", m->n_volumes), LOG_U64("leases", m->n_leases),
              LOG_U64("leases_refused", n_refused));
    (void)welcome(a, refused, n_refused); // false: `closed` comes
    credentials_each_message(a->agents->core->credentials, send_credentials, a);
    volume_proofs_go_on(a);
    return OK;
}

void agent_register(struct agent_session *s, const Sluice__V1__Register *m) {
    struct failure f = {0};
    struct agent *a = NULL;
    enum err e = check_message(m, &f);
    if (e == OK) {
        e = check_identity(s, m, &f);
    }
    if (e == OK && (e = agent_get(s->agents, m->agent, &a)) != OK) {
        (void)failure_set(&f, e, "register", m->agent, strlen(m->agent),
                          e == ERR_FULL ? "the cluster has as many agents as it may" : NULL);
        if (e == ERR_FULL) {
            failure_remedy(&f, "raise limits.agents of the master");
        }
    }
    if (e == OK) {
        e = check_rival(a, m, &f);
    }
    if (e == OK && (e = take_up(s, a, m)) != OK) {
        (void)failure_set(&f, e, "register", m->agent, strlen(m->agent),
                          e == ERR_INVALID ? "one of its volumes is not a valid one" : NULL);
    }
    if (e != OK) {
        agent_refuse(s, &f);
    }
}
