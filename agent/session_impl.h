// SPDX-License-Identifier: Apache-2.0
// What agent/session*.c share. Everything below `constant` belongs to the loop's thread.
#ifndef AGENT_SESSION_IMPL_H
#define AGENT_SESSION_IMPL_H

#include "agent/session.h"
#include "common/rpc/rpc.h"
#include "common/usage.h"
#include "sluice/v1/agent_service.pb-c.h"

enum { SESSION_BEATS = 64 }; // heartbeats whose confirmation is waited for

// When a heartbeat was sent.
struct beat {
    uint64_t sequence;
    int64_t sent_ms;
};

enum session_state {
    SESSION_WAITING, // to dial
    SESSION_DIALLED, // Register was sent
    SESSION_UP,      // Welcome arrived
    SESSION_CLOSING, // drained; the call ends
    SESSION_CLOSED,
};

struct session {
    // constant
    struct session_options options;
    struct session_parts parts;
    struct list_lane lane;
    struct rpc_channel *channel;

    enum session_state state;
    struct rpc *call; // NULL: none
    struct loop_timer *redial, *tick, *drain;
    int64_t registered_ms; // when Register was sent
    int64_t heard_ms;      // when any message arrived
    int64_t heartbeat_ms;
    int64_t hold_ms;
    uint32_t n_failures; // to connect, one after the other
    bool refused;        // by the master, or its term by us: do not hurry back
    char cluster[IDENT_SIZE];
    uint64_t term;         // the highest seen
    uint64_t sent_through; // results sent in this session
    struct beat beats[SESSION_BEATS];
    uint64_t last_beat; // its sequence; 0: none in this session
    bool volumes_changed;
    struct usage_meter usage;
    bool draining, stopping; // stopping: the drain time is over
    bool is_cut;             // CLOSING: the call was cancelled
};

// ---- session.c ----
// Ends the call; dialling again follows.
void session_hang_up(struct session *s, bool refused);
void session_check_drained(struct session *s);

// ---- session_send.c ----
bool session_send_register(struct session *s);
void session_send_heartbeat(struct session *s);
void session_send_results(struct session *s); // as far as the queue allows
void session_send_stopped(struct session *s, uint64_t task_id, uint64_t term, uint64_t counter);
void session_send_proof(struct session *s, const struct volume_proof *p);
void session_send_draining(struct session *s);

// ---- session_receive.c ----
void session_receive(struct session *s, const Sluice__V1__MasterMessage *m);

#endif
