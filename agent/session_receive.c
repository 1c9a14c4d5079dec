// SPDX-License-Identifier: Apache-2.0
// What the master says.
#include "agent/session_impl.h"
#include "common/log.h"

#include <string.h>

// Calls @fn for each well-formed reference.
static void each_ref(struct session *s, Sluice__V1__LeaseRef *const *refs, size_t n,
                     void (*fn)(struct session *s, uint64_t task_id, uint64_t term,
                                uint64_t counter)) {
    for (size_t i = 0; i < n; i++) {
        if (refs[i]->epoch != NULL) {
            fn(s, refs[i]->task_id, refs[i]->epoch->term, refs[i]->epoch->counter);
        }
    }
}

// The master's clock of our life: it heard what we sent at @sent_ms.
static void confirmed(struct session *s, int64_t sent_ms) {
    if (!hold_confirmed(s->options.hold, sent_ms)) {
        return;
    }
    size_t n = executor_revoke_all(s->parts.executor, LEASE_FENCED);
    if (n > 0) {
        log_event(LOG_WARN, "hold_lapsed", LOG_I64("hold_ms", s->hold_ms), LOG_U64("leases", n));
    }
}

static void refuse_lease(struct session *s, uint64_t task_id, uint64_t term, uint64_t counter) {
    if (executor_revoke(s->parts.executor, task_id, term, counter, LEASE_REVOKED)) {
        log_event(LOG_INFO, "lease_refused", LOG_U64("task", task_id), LOG_U64("term", term),
                  LOG_U64("counter", counter));
    }
}

// A master that we have never met, in the place of the one we had.
static void change_cluster(struct session *s, const char *cluster) {
    log_event(LOG_WARN, "cluster_changed", LOG_STR("cluster", cluster),
              LOG_STR("cluster_before", s->cluster),
              LOG_U64("leases", executor_held(s->parts.executor)));
    (void)executor_revoke_all(s->parts.executor, LEASE_FENCED);
}

static void welcome(struct session *s, const Sluice__V1__Welcome *m) {
    if (s->state != SESSION_DIALLED || m->ticket_public_key.len != SIGNING_KEY_BYTES ||
        strnlen(m->cluster_id, IDENT_SIZE) != IDENT_LEN) {
        log_event(LOG_ERROR, "protocol_broken", LOG_STR("message", "welcome"));
        session_hang_up(s, true);
        return;
    }
    bool is_other = s->cluster[0] != '\0' && strcmp(s->cluster, m->cluster_id) != 0;
    if (is_other) {
        change_cluster(s, m->cluster_id);
    }
    memcpy(s->cluster, m->cluster_id, IDENT_SIZE);
    s->term = m->term;
    journal_remember(s->parts.journal, s->cluster, s->term);
    if (m->hold_ms > 0) {
        s->hold_ms = m->hold_ms;
        hold_set_ms(s->options.hold, s->hold_ms);
    }
    if (m->heartbeat_ms > 0) {
        s->heartbeat_ms = m->heartbeat_ms;
    }
    each_ref(s, m->refused, m->n_refused, refuse_lease); // before anything may act again
    confirmed(s, s->registered_ms);
    journal_committed(s->parts.journal, m->committed_through);
    s->sent_through = m->committed_through;
    under_way_forget_left(s->parts.under_way);
    s->state = SESSION_UP;
    s->n_failures = 0;
    s->options.welcomed(s->options.user, s->cluster, m->ticket_public_key.data);
    log_event(LOG_INFO, "session_up", LOG_STR("cluster", s->cluster), LOG_U64("term", s->term),
              LOG_STR("master", rpc_channel_address(s->channel)),
              LOG_U64("leases", executor_held(s->parts.executor)),
              LOG_U64("committed_through", m->committed_through));
    if (s->draining) {
        session_send_draining(s);
    }
    session_send_heartbeat(s);
    session_send_results(s);
    loop_timer_arm(s->tick, s->heartbeat_ms);
    session_check_drained(s);
}

static void assign(struct session *s, const Sluice__V1__Lease *m) {
    if (m->spec == NULL || m->epoch == NULL) {
        log_event(LOG_ERROR, "protocol_broken", LOG_STR("message", "assign"));
        session_hang_up(s, true);
        return;
    }
    enum err e = s->draining ? ERR_STATE : executor_assign(s->parts.executor, m);
    log_event(LOG_DEBUG, "task_assigned", LOG_STR("flow", m->spec->flow_id),
              LOG_U64("task", m->spec->task_id), LOG_STR("kind", run_kind_name(m->spec->kind)),
              LOG_STR("code", err_name(e)));
    if (e != OK && e != ERR_EXISTS) {
        log_event(LOG_WARN, "task_refused", LOG_U64("task", m->spec->task_id),
                  LOG_STR("code", err_name(e)));
        session_send_stopped(s, m->spec->task_id, m->epoch->term, m->epoch->counter);
    }
}

static void revoke_lease(struct session *s, uint64_t task_id, uint64_t term, uint64_t counter) {
    if (!executor_revoke(s->parts.executor, task_id, term, counter, LEASE_REVOKED) &&
        !journal_holds(s->parts.journal, task_id, term, counter)) {
        session_send_stopped(s, task_id, term, counter); // not ours, or not any more
    }
}

static void yield_lease(struct session *s, uint64_t task_id, uint64_t term, uint64_t counter) {
    executor_yield(s->parts.executor, task_id, term, counter);
}

static void prove_volume(struct session *s, const Sluice__V1__ProveVolume *m) {
    struct volume_proof p = {.write = m->write, .remove = m->remove};
    size_t len = strlen(m->volume);
    if (len > AGENT_NAME_MAX || m->nonce.len == 0 || m->nonce.len > PROOF_NONCE_MAX) {
        log_event(LOG_ERROR, "protocol_broken", LOG_STR("message", "prove_volume"));
        return;
    }
    memcpy(p.volume, m->volume, len);
    memcpy(p.nonce, m->nonce.data, m->nonce.len);
    p.nonce_len = m->nonce.len;
    enum err e = volume_watch_prove(s->parts.watch, &p);
    if (e != OK) {
        log_event(LOG_WARN, "volume_proof_refused", LOG_STR("volume", m->volume),
                  LOG_STR("code", err_name(e)));
        size_t text_len = strlen(err_text(e));
        memcpy(p.error, err_text(e), text_len < sizeof p.error ? text_len : sizeof p.error - 1);
        session_send_proof(s, &p);
    }
}

static bool copy(const char *text, char *to, size_t cap) {
    size_t n = strlen(text);
    if (n >= cap) {
        return false;
    }
    memcpy(to, text, n + 1);
    return true;
}

static void credentials(struct session *s, const Sluice__V1__Credentials *m) {
    struct s3_credentials keys = {0};
    bool works = strlen(m->name) <= AGENT_NAME_MAX;
    if (m->keys != NULL) {
        works = works && copy(m->keys->access_key, keys.access_key, sizeof keys.access_key) &&
                copy(m->keys->secret_key, keys.secret_key, sizeof keys.secret_key) &&
                copy(m->keys->session_token, keys.session_token, sizeof keys.session_token);
    }
    if (works) {
        s->options.credentials(s->options.user, m->name, m->keys != NULL ? &keys : NULL,
                               m->removed != 0);
    } else {
        log_event(LOG_ERROR, "protocol_broken", LOG_STR("message", "credentials"));
    }
    s3_credentials_wipe(&keys);
}

static void ping(struct session *s, const Sluice__V1__Ping *m) {
    if (m->heard == 0) {
        return; // the Welcome confirmed all that was sent before
    }
    const struct beat *b = &s->beats[m->heard % SESSION_BEATS];
    if (b->sequence == m->heard && m->heard <= s->last_beat) {
        confirmed(s, b->sent_ms);
    }
}

// Every message carries the term. false: it is not to be obeyed.
static bool check_term(struct session *s, const Sluice__V1__MasterMessage *m) {
    bool is_other = m->kind_case == SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME &&
                    strncmp(m->welcome->cluster_id, s->cluster, IDENT_SIZE) != 0;
    if (is_other || m->term >= s->term) {
        return true;
    }
    log_event(LOG_ERROR, "term_refused", LOG_U64("term", m->term), LOG_U64("highest_term", s->term),
              LOG_STR("master", rpc_channel_address(s->channel)),
              LOG_STR("remedy", "stop the master that was replaced, or give it the newer state"));
    session_hang_up(s, true);
    return false;
}

void session_receive(struct session *s, const Sluice__V1__MasterMessage *m) {
    if (s->state >= SESSION_CLOSING && m->kind_case != SLUICE__V1__MASTER_MESSAGE__KIND_COMMITTED) {
        return;
    }
    if (!check_term(s, m)) {
        return;
    }
    if (s->state != SESSION_UP && m->kind_case != SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME &&
        m->kind_case != SLUICE__V1__MASTER_MESSAGE__KIND_GOODBYE) {
        log_event(LOG_DEBUG, "message_too_early", LOG_I64("kind", (int64_t)m->kind_case));
        return;
    }
    switch (m->kind_case) {
    case SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME: welcome(s, m->welcome); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_ASSIGN: assign(s, m->assign); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_YIELD:
        each_ref(s, &m->yield->lease, m->yield->lease == NULL ? 0 : 1, yield_lease);
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE:
        each_ref(s, m->revoke->leases, m->revoke->n_leases, revoke_lease);
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_COMMITTED:
        journal_committed(s->parts.journal, m->committed->through);
        session_check_drained(s);
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_PROVE_VOLUME: prove_volume(s, m->prove_volume); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_PING: ping(s, m->ping); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_CREDENTIALS: credentials(s, m->credentials); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_GOODBYE:
        log_event(LOG_WARN, "master_said_goodbye", LOG_STR("reason", m->goodbye->reason));
        session_hang_up(s, s->state != SESSION_UP);
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND__NOT_SET:
    case _SLUICE__V1__MASTER_MESSAGE__KIND__CASE_IS_INT_SIZE:
    default: break; // of a newer master: a sign of life
    }
}
