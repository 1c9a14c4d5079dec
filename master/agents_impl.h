// SPDX-License-Identifier: Apache-2.0
// The inside of the agents' side: one struct agent for each name that ever registered, one struct
// agent_session for each Session call. Core thread.
#ifndef MASTER_AGENTS_IMPL_H
#define MASTER_AGENTS_IMPL_H

#include "common/rpc/rpc.h"
#include "common/ticket.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/hash_index.h"
#include "master/scheduler.h"

enum {
    AGENT_MAX_VOLUMES = 64,
    AGENT_MAX_ADDRESSES = 32,
    AGENT_MAX_ADDRESS_BYTES = 256,
    AGENT_MAX_SLOTS = 1024,
    SESSION_REGISTER_MS = 10000,
    SESSION_MAX_UNPACKED_BYTES = 8 << 20,
    LIST_PAGES_IN_FLIGHT = 4,
    TICKET_LEAST_MS = 10 * 60 * 1000,
    TICKET_SLOWEST_BYTES_PER_S = 256 * 1024, // a task may be this slow before its ticket expires
};

struct agents;
struct agent;
struct volume_set;

// Do all agents of the site that have a volume of this name see the same?
enum proof_state { PROOF_PENDING, PROOF_SHARED, PROOF_LOCAL };

struct agent_volume {
    char name[PLACE_NAME_MAX];
    uint8_t *root; // owned; absolute, without a slash at its end (so empty for "/")
    size_t root_len;
    bool readable, writable;
    bool is_store; // an object store; the root is its URL
    uint64_t bytes_free, bytes_total, generation;
    char *error; // owned; NULL: it can be used
    struct agent *agent;
    struct agent_volume *prev, *next; // of the agent
    // volume_proof.c's
    enum proof_state proof;
    struct volume_set *set; // while the agent is connected and the volume usable
    enum proof_answer { ANSWER_NONE, ANSWER_ASKED, ANSWER_SAME, ANSWER_OTHER } answer;
    bool cannot_write;
    bool unproven; // judged local only because nobody could write a proof
    uint32_t silent_rounds;
    struct agent_volume *set_prev, *set_next;
};

// A result under way: from its arrival until all before it are committed too.
struct agent_result {
    struct agent *agent;
    uint64_t number;
    bool committed;
    Sluice__V1__TaskResult *kept; // of an earlier term: to be judged after reconciling
    struct agent_result *prev, *next;
};

struct agent_session {
    struct agents *agents;
    struct agent *agent; // NULL: not registered yet
    struct rpc *rpc;
    int64_t opened_ms;
    bool refused, half_closed;
    struct agent_session *prev, *next;
};

struct agent {
    struct agents *agents;
    struct hash_node by_name;
    struct agent *prev, *next;
    char name[PLACE_NAME_MAX], site[PLACE_NAME_MAX];
    char incarnation[IDENT_SIZE];
    char *boot_id, *version, *host; // owned
    uint32_t pid, slots;
    uint8_t public_key[SIGNING_KEY_BYTES];
    char **addresses; // owned
    size_t n_addresses;
    struct agent_volume *volumes;
    struct agent_session *session; // NULL: not connected
    bool draining;                 // wanted by an administrator
    bool leaving;                  // it was told to stop
    int64_t heard_ms;              // monotonic
    int64_t heard_wall_ms;
    double cpu_percent, load1;
    uint64_t memory_bytes, bytes_served;
    uint32_t running;
    uint64_t committed_through;
    struct agent_result *results; // by number
};

struct agents {
    struct core *core;
    struct hash_index by_name;
    struct agent *all;
    size_t n_all, n_connected;
    uint64_t n_refused; // for want of room
    struct agent_session *sessions;
    struct listing *listings; // agent_list.c's
    struct volume_proofs *proofs;
    int64_t awake_ms;             // when the loop was last seen to run
    struct loop_timer *beat;      // looks for the silent
    struct loop_timer *reconcile; // judges the results that were kept
};

static inline int64_t agents_now_ms(const struct agents *as) {
    return clock_mono_ms(as->core->clock);
}

// ---- agents.c ----
struct agent *agent_find(const struct agents *as, const char *name);
// Finds or makes; ERR_FULL: too many names.
enum err agent_get(struct agents *as, const char *name, struct agent **ret_agent);
// Tells the scheduler which volumes the agent has and which are shared.
enum err agent_tell_scheduler(struct agent *a);
bool agent_send(struct agent *a, Sluice__V1__MasterMessage *m);

// ---- agent_register.c ----
// Checks the message and makes it the agent's session, or refuses it with a Goodbye.
void agent_register(struct agent_session *s, const Sluice__V1__Register *m);
void agent_refuse(struct agent_session *s, const struct failure *why);

// ---- agent_volumes.c ----
enum err agent_set_volumes(struct agent *a, Sluice__V1__Volume *const *volumes, size_t n);
void agent_drop_volumes(struct agent *a);
struct agent_volume *agent_volume_find(const struct agent *a, const char *name);

// ---- agent_session.c ----
void agent_session_opened(struct rpc *r);
void agent_session_message(struct rpc *r, const ProtobufCMessage *m);
void agent_session_half_closed(struct rpc *r);
void agent_session_closed(struct rpc *r, const struct rpc_status *status);
// The agent counts as lost, and its session ends: `closed` comes later.
void agent_hang_up(struct agent *a, const char *reason);
void agent_silent_check(struct agents *as);

// ---- agent_results.c ----
void agent_result_arrived(struct agent *a, const Sluice__V1__TaskResult *m);
bool agent_result_was_judged(const struct agent *a, uint64_t number);
void agent_results_judge_kept(struct agents *as);
void agent_results_reset(struct agent *a); // another state directory: numbers begin again
void agent_results_free(struct agent *a);

// ---- agent_list.c ----
void agent_list_opened(struct rpc *r);
void agent_list_message(struct rpc *r, const ProtobufCMessage *m);
void agent_list_closed(struct rpc *r, const struct rpc_status *status);
void agent_listings_free(struct agents *as);

#endif
