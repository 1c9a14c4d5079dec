// SPDX-License-Identifier: Apache-2.0
// The inside of the scheduler: what it is made of, and who may call what among its files.
//
//   agent ──member──► pool ◄──queue── flow ◄── task ── lease ──► agent
//
// A *pool* is the set of agents that can run one sort of task (by the places at both ends); an
// agent is a *member* of each pool that it fits. A *queue* holds the tasks of one flow for one
// pool. Sharing out takes the best queue among pools that have a ready member, and the member
// whose turn it is. All lists are intrusive, so that no event fails for lack of memory but those
// that make something.
#ifndef MASTER_SCHEDULER_IMPL_H
#define MASTER_SCHEDULER_IMPL_H

#include "master/hash_index.h"
#include "master/ordered_heap.h"
#include "master/scheduler.h"

enum {
    // An object costs as much as this many bytes, beside its own.
    SCHED_OBJECT_BYTES = 128 * 1024,
    // An agent is leased up to this many times its slots, so that it never runs dry.
    SCHED_AHEAD = 2,
    SCHED_SOURCE_AHEAD = 8,
    // Between two looks at whether work should move from busy agents to idle ones.
    SCHED_BALANCE_MS = 200,
    // A lease younger than this is not taken back before it began.
    SCHED_SETTLE_MS = 200,
    // What it costs to interrupt a running task and begin the rest of it elsewhere.
    SCHED_YIELD_COST_MS = 1000,
    // How far a look for a faster agent goes.
    SCHED_LOOK_AHEAD = 16,
};

enum timer_kind { TIMER_AGENT, TIMER_TASK, TIMER_PARK, TIMER_BALANCE, TIMER_RECONCILE, TIMER_HELD };
struct sched_timer {
    struct heap_node node;
    int64_t at_ms;
    enum timer_kind kind;
};

// A command that waits to be fetched, inside what it is about.
struct sched_note {
    enum scheduler_command_kind kind; // SCHED_NONE: not waiting
    struct sched_note *prev, *next;
};

// Where a lease stands, as far as its agent is concerned.
enum lease_state { LEASE_OPEN, LEASE_YIELDING, LEASE_REVOKING, LEASE_LOST };
struct sched_lease {
    struct epoch epoch;
    uint64_t task_id;
    struct sched_task *task; // NULL: superseded, or the task is not here (any more)
    struct sched_agent *agent;
    struct sched_flow *flow;    // NULL: a stray, of a task that is not here
    struct sched_agent *source; // which it counts on; NULL: none
    enum lease_state state;
    bool claim;     // in claims
    bool started;   // as far as we can tell: agents begin in order
    bool mentioned; // since the agent came back
    int64_t given_ms, started_ms, progress_ms;
    uint64_t done_bytes;
    uint32_t done_objects;
    enum lease_closed_how how;       // once closing is queued
    struct hash_node by_task;        // claims
    struct sched_note order;         // REVOKE, YIELD
    struct sched_note closing;       // CLOSED
    struct sched_lease *prev, *next; // of the agent, in the order given; or of those closing
};

enum task_state {
    TASK_WAITING, // for its time
    TASK_READY,   // in its queue
    TASK_PICKY,   // only the agent that it should avoid is free
    TASK_BARRED,  // exclusive: until its lost lease is closed
    TASK_LEASED,
    TASK_GIVEN_UP, // UNRUNNABLE is to be told
};
struct sched_task {
    uint64_t task_id;
    struct hash_node by_id;
    struct sched_flow *flow;
    struct sched_queue *queue;
    enum task_state state;
    uint64_t cost; // bytes, objects included
    bool can_yield, exclusive;
    // A lease of an earlier term may come to light: no result of this task was accepted since.
    bool claimable;
    char *avoid; // owned; NULL: nobody
    int64_t pending_since_ms;
    struct epoch newest;       // of the last lease; 0: never leased in this term
    bool answered;             // its agent said the last word on that one: it does not come back
    struct sched_lease *lease; // of the newest epoch, while it is open
    enum err give_up_err;
    struct sched_timer timer; // not_before
    struct sched_note give_up;
    struct sched_task *prev, *next;           // of the queue's ready, leased, or the pool's picky
    struct sched_task *flow_prev, *flow_next; // all of the flow
};

struct queue_key {
    const struct sched_flow *flow;
    enum executor_rule rule;
    int reads;
    char agent[PLACE_NAME_MAX];
};
struct sched_queue {
    struct queue_key key;
    struct hash_node by_key;
    struct sched_flow *flow;
    struct sched_pool *pool;    // who runs its tasks
    struct sched_pool *sources; // who serves them; NULL: nobody needs to
    struct sched_task *ready, *leased;
    uint32_t n_ready, n_leased, n_tasks;
    struct heap_node in_pool; // while it has a task to give out
    double served;            // the flow's, when it was last looked at
    bool at_limit;            // taken out of the heap as its flow may have no more leases
    bool thirsty;             // in sources->thirsty
    bool parked;
    int64_t parked_since_ms;
    struct sched_timer park;
    struct sched_queue *pool_prev, *pool_next;
    struct sched_queue *sources_prev, *sources_next;
    struct sched_queue *thirsty_prev, *thirsty_next;
    struct sched_queue *flow_prev, *flow_next;
};

// Flows of one priority. What a flow was served counts from where the others are, so that one
// that had nothing to do does not catch up at their expense.
struct sched_rank {
    int32_t priority;
    uint32_t n_flows;
    double served; // of the flow that was served last
    struct sched_rank *prev, *next;
};

struct sched_flow {
    struct scheduler_flow spec;
    struct sched_rank *rank;
    struct hash_node by_id;
    bool paused, removed, drained, wanted, quiet_due;
    bool short_of_room; // in scheduler.thirsty_flows
    double served;      // cost of what was leased, by weight
    struct sched_task *tasks;
    struct sched_queue *queues;
    uint32_t n_open;    // leases, lost ones too
    uint32_t n_running; // those of agents that are here
    uint32_t n_pending;
    uint32_t n_at_limit; // queues
    struct sched_note want, quiet;
    struct sched_flow *room_prev, *room_next;
};

enum { CLASS_PLAIN, CLASS_BOTH, CLASS_COUNT };
enum { LEVEL_NONE = -1, LEVEL_IDLE, LEVEL_AHEAD, LEVEL_COUNT };
struct sched_member {
    struct sched_agent *agent;
    struct sched_pool *pool;
    int cls;   // CLASS_BOTH: it reaches both ends
    bool live; // counted in n_live
    int level; // which ready list it is in
    bool giving;
    struct sched_member *prev, *next;             // of the pool
    struct sched_member *agent_prev, *agent_next; // of the agent
    struct sched_member *ready_prev, *ready_next;
    struct sched_member *giver_prev, *giver_next;
};

enum pool_kind { POOL_MOVE, POOL_SOURCE, POOL_SINK, POOL_AGENT };
struct pool_key {
    enum pool_kind kind;
    char source_site[PLACE_NAME_MAX], source_agent[PLACE_NAME_MAX], source_volume[PLACE_NAME_MAX];
    char sink_site[PLACE_NAME_MAX], sink_agent[PLACE_NAME_MAX], sink_volume[PLACE_NAME_MAX];
};
struct sched_pool {
    struct pool_key key;
    struct hash_node by_key;
    uint32_t refs; // queues that run here, or read here
    struct sched_member *members;
    uint32_t n_live[CLASS_COUNT];
    struct sched_member *ready[CLASS_COUNT][LEVEL_COUNT];
    struct sched_member *givers; // have a source slot free
    struct ordered_heap queues_ready;
    struct sched_queue *queues;  // that run here
    struct sched_queue *readers; // that read here
    struct sched_queue *thirsty; // that wait for a source slot here
    struct sched_task *picky;
    uint32_t n_leased;
    bool active; // something to give and somebody to give it to
    struct sched_timer balance;
    struct sched_pool *active_prev, *active_next;
};

struct sched_agent {
    char name[PLACE_NAME_MAX], site[PLACE_NAME_MAX];
    char incarnation[IDENT_SIZE];
    struct hash_node by_name;
    uint32_t slots, source_slots;
    struct scheduler_volume *volumes; // owned
    size_t n_volumes;
    bool up, draining;
    bool reported; // to this master; known as long as leases of earlier terms may be open
    int64_t heard_ms;
    struct sched_lease *leases; // open ones, in the order given
    uint32_t n_leases;          // all of them
    uint32_t n_held;            // those not lost
    uint32_t n_started;
    uint32_t n_source;           // leases that count on it
    struct sched_lease *closing; // closed, but that is still to be told
    double rate;                 // cost per ms of one lease, lately; 0: unknown
    struct sched_member *memberships;
    struct sched_timer timer;
};

struct scheduler {
    struct scheduler_options options;
    int64_t now_ms;
    uint64_t counter; // of epochs
    struct hash_index agents, flows, tasks, queues, pools, claims;
    uint32_t n_tasks;
    uint32_t n_strays; // leases of who knows which flow; a restored one is not quiet meanwhile
    struct ordered_heap timers;
    struct sched_note *notes;
    struct sched_pool *active;        // pools
    struct sched_flow *thirsty_flows; // want tasks, but max_tasks is reached
    struct sched_rank *ranks;
    struct sched_timer reconcile, held;
    double rate; // of all agents
};

// ---- scheduler.c ----
void sched_timer_arm(struct scheduler *s, struct sched_timer *t, int64_t at_ms);
void sched_timer_disarm(struct scheduler *s, struct sched_timer *t);
void sched_note_queue(struct scheduler *s, struct sched_note *n, enum scheduler_command_kind kind);
void sched_note_drop(struct scheduler *s, struct sched_note *n);
static inline bool sched_note_is_queued(const struct sched_note *n) {
    return n->kind != SCHED_NONE;
}
static inline bool sched_is_reconciling(const struct scheduler *s) {
    return s->now_ms < s->options.reconcile_until_ms;
}
void sched_saw_time(struct scheduler *s, int64_t now_ms);

// ---- scheduler_agent.c ----
struct sched_agent *sched_agent_find(const struct scheduler *s, const char *name);
bool sched_agent_reaches(const struct sched_agent *a, const char *site, const char *agent,
                         const char *volume, bool write);
static inline bool sched_agent_is_live(const struct sched_agent *a) {
    return a->up && !a->draining;
}
void sched_agent_timer(struct scheduler *s, struct sched_agent *a);
void sched_agent_forget_if_gone(struct scheduler *s, struct sched_agent *a);
void sched_agent_free(struct scheduler *s, struct sched_agent *a);

// ---- scheduler_pool.c ----
// With a reference.
enum err sched_pool_get(struct scheduler *s, const struct pool_key *k,
                        struct sched_pool **ret_pool);
void sched_pool_put(struct scheduler *s, struct sched_pool *p);
// The agent's volumes changed, or it is new.
enum err sched_pool_join_all(struct scheduler *s, struct sched_agent *a);
void sched_member_free(struct scheduler *s, struct sched_member *m);
// How many leases the agent has, or whether it is there, changed. @took: it was its turn, so it
// goes to the end of each line.
void sched_agent_refresh(struct scheduler *s, struct sched_agent *a, bool took);
void sched_pool_refresh(struct scheduler *s, struct sched_pool *p); // is it active?
static inline int sched_pool_class(const struct sched_pool *p) {
    return p->n_live[CLASS_BOTH] > 0 ? CLASS_BOTH : CLASS_PLAIN;
}
void sched_pool_requeue_picky(struct scheduler *s, struct sched_pool *p,
                              const struct sched_agent *free_agent);

// ---- scheduler_flow.c ----
struct sched_flow *sched_flow_find(const struct scheduler *s, const char *id);
// It may want tasks: that is looked at when the command is fetched, by sched_flow_wants_now().
void sched_flow_want(struct scheduler *s, struct sched_flow *f);
uint32_t sched_flow_wants_now(struct scheduler *s, struct sched_flow *f);
void sched_flow_quiet(struct scheduler *s, struct sched_flow *f);
void sched_flows_quiet(struct scheduler *s); // the same for all of them
void sched_flow_free(struct scheduler *s, struct sched_flow *f);
enum err sched_queue_get(struct scheduler *s, struct sched_flow *f, const struct scheduler_task *t,
                         struct sched_queue **ret_queue);
void sched_queue_free(struct scheduler *s, struct sched_queue *q);
// Can it give out a task? Puts it into its pool's heap, or takes it out, or parks it.
void sched_queue_refresh(struct scheduler *s, struct sched_queue *q);
void sched_queue_park_timer(struct scheduler *s, struct sched_queue *q);
void sched_queue_unthirst(struct sched_queue *q);

// ---- scheduler_task.c ----
struct sched_task *sched_task_find(const struct scheduler *s, uint64_t task_id);
// Into the queue: @first before all others (it was there before).
void sched_task_ready(struct scheduler *s, struct sched_task *t, bool first);
// Out of whatever list or timer it is in; the caller sets the new state.
void sched_task_detach(struct scheduler *s, struct sched_task *t);
void sched_task_free(struct scheduler *s, struct sched_task *t);
void sched_task_timer(struct scheduler *s, struct sched_task *t);
void sched_task_set_leased(struct scheduler *s, struct sched_task *t, struct sched_lease *l);

// ---- scheduler_lease.c ----
// A stray until it has a flow. NULL: out of memory.
struct sched_lease *sched_lease_new(struct scheduler *s, struct sched_agent *a, uint64_t task_id,
                                    struct epoch epoch);
void sched_lease_set_flow(struct scheduler *s, struct sched_lease *l, struct sched_flow *f);
struct sched_lease *sched_lease_of(const struct sched_agent *a, uint64_t task_id,
                                   struct epoch epoch);
void sched_lease_order(struct scheduler *s, struct sched_lease *l, enum scheduler_command_kind k);
void sched_lease_lose(struct scheduler *s, struct sched_lease *l);
// The lease ends. @told: its end needs no SCHED_CLOSED.
void sched_lease_close(struct scheduler *s, struct sched_lease *l, enum lease_closed_how how,
                       bool told);
void sched_lease_free(struct scheduler *s, struct sched_lease *l);
struct sched_lease *sched_claim_of(const struct scheduler *s, uint64_t task_id);
void sched_claim_refuse(struct scheduler *s, struct sched_lease *l);
void sched_claims_end(struct scheduler *s); // the time to reconcile is over
// Of a running one, from its own progress, or else from how fast its agent usually is.
int64_t sched_lease_remaining_ms(const struct scheduler *s, const struct sched_lease *l);

// ---- scheduler_share.c ----
bool sched_share_one(struct scheduler *s, struct scheduler_command *ret_command);

// ---- scheduler_yield.c ----
void sched_pool_consider_balance(struct scheduler *s, struct sched_pool *p);
void sched_pool_balance(struct scheduler *s, struct sched_pool *p);

#endif
