// SPDX-License-Identifier: Apache-2.0
// The inside of the simulated cluster: everything that all of its parts see.
#ifndef TESTS_SIMULATION_MASTER_SIMULATED_CLUSTER_IMPL_H
#define TESTS_SIMULATION_MASTER_SIMULATED_CLUSTER_IMPL_H

#include "common/cleanup.h"
#include "master/ordered_heap.h"
#include "tests/simulation/master/simulated_cluster.h"

enum {
    HOLD_MS = 10000,
    LOST_AFTER_MS = 3000,
    RECONCILE_MS = 2000,
    PARK_MS = 1000000,
    HEARTBEAT_MS = 1000,
    WINDOW = 64,
    MAX_TASKS = 100000,
    PATIENCE_MS = 3600000, // simulated: by then all must be done
};

struct ref {
    uint64_t task;
    struct epoch epoch;
};

enum event_kind {
    EV_WAKE,
    EV_HEARTBEAT,
    EV_TASK_ENDS,
    EV_DIAL,
    EV_AGENT_STARTS,
    EV_MASTER_STARTS,
    EV_HEAL,
    EV_FAULT,
    EV_COMMIT,
    EV_FLOWS_COME,
    // messages to the master
    EV_REGISTER,
    EV_BEAT,
    EV_RESULT,
    EV_STOPPED,
    EV_CUT_SEEN,
    // messages to an agent
    EV_WELCOME,
    EV_ASSIGN,
    EV_YIELD,
    EV_REVOKE,
    EV_COMMITTED,
    EV_PING,
};

struct event {
    struct heap_node node;
    int64_t at_ms;
    uint64_t order;
    enum event_kind kind;
    uint32_t agent;
    uint64_t session, term, incarnation, number;
    struct ref ref;
    int64_t sent_ms;
    uint64_t *refused; // tasks
    size_t n_refused;
};

struct sim_lease {
    struct ref ref;
    uint64_t cost, done;
    int64_t since_ms;
    bool running;
    uint64_t run; // distinguishes ends of earlier runs
};

// In the agent's journal: kept until it is committed.
struct kept_result {
    struct ref ref;
    uint64_t number, done;
    bool ok;
    uint64_t term_under_way; // the master of this term is storing it
};

struct sim_agent {
    char name[16], site[2];
    uint32_t slots;
    double rate;
    int64_t latency_ms;
    bool alive, partitioned;
    uint64_t incarnation, session; // session 0: not connected
    bool welcomed;
    int64_t confirmed_ms;
    struct sim_lease leases[64];
    size_t n_leases;
    struct kept_result *kept;
    size_t n_kept, cap_kept;
    uint64_t next_number, next_run;
    // as the master sees it
    uint64_t master_session;
    uint32_t first_assignments;
};

struct sim_task {
    uint64_t id, cost;
    uint32_t flow, attempt;
    bool done, loaded;
    struct epoch newest; // in this term
    char avoid[16];
};

struct sim {
    struct sim_options o;
    uint64_t random;
    int64_t now_ms;
    uint64_t n_events, n_order, next_session;
    struct ordered_heap events;
    struct scheduler *scheduler; // NULL: the master is down
    uint64_t term;
    int64_t wake_ms;
    struct sim_agent *agents;
    uint32_t n_agents;
    struct sim_task *tasks; // by id - 1
    size_t n_tasks, cap_tasks, n_open;
    uint64_t total_cost, done_cost;
    bool any_done;
    char violation[256];
};

// ---- simulated_cluster.c ----
void sim_violated(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t sim_between(struct sim *s, uint64_t low, uint64_t high); // by chance
void *sim_must(void *p);
struct event *sim_later(struct sim *s, int64_t in_ms, enum event_kind kind, uint32_t agent);
struct event *sim_to_master(struct sim *s, uint32_t i, enum event_kind kind);
struct event *sim_to_agent(struct sim *s, uint32_t i, enum event_kind kind);
void sim_cut(struct sim *s, uint32_t i); // the connection, at both ends

// ---- simulated_master.c ----
struct sim_task *sim_task_of(struct sim *s, uint64_t id);
struct sim_task *sim_task_new(struct sim *s, uint32_t flow, uint64_t cost);
void sim_master_starts(struct sim *s);
void sim_master_dies(struct sim *s);
void sim_flows_come(struct sim *s, const struct event *e);
void sim_commit(struct sim *s, const struct event *e);
void sim_master_message(struct sim *s, const struct event *e);
void sim_run_commands(struct sim *s);

// ---- simulated_agent.c ----
void sim_agent_starts(struct sim *s, uint32_t i);
void sim_agent_message(struct sim *s, const struct event *e);
void sim_dial(struct sim *s, uint32_t i);
void sim_heartbeat(struct sim *s, uint32_t i);
void sim_task_ends(struct sim *s, const struct event *e);
uint64_t sim_done_of(const struct sim *s, const struct sim_agent *a, const struct sim_lease *l);

#endif
