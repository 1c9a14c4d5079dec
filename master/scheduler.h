// SPDX-License-Identifier: Apache-2.0
// Shares tasks out over agents: a pure state machine. No clock, no I/O, no threads: events
// carry @now_ms (monotonic), what is to be done comes out as commands, in order, from
// scheduler_next_command() until it says there are none. A simulator runs it with thousands of
// agents.
//
// Rules: flows by priority, then by weight; executors round-robin among those that have a free
// slot and can reach the task's sink (its source for LIST); the list of source agents rotates
// task by task, those that are connected and not draining, least loaded first among equals. An
// agent with the most unstarted work is told to yield when others are idle and a flow has no
// more tasks. An agent that is lost loses its leases: each closes by release, by a newer
// incarnation, or when its hold expires; the task may be leased to another at once (unless it is
// exclusive), but is reported finished only under the newest epoch.
//
// @now_ms is clock_mono_ms() of the core's clock everywhere. Events take constant time but for
// those that change who is there; memory is bounded by max_tasks and the number of agents.
#ifndef MASTER_SCHEDULER_H
#define MASTER_SCHEDULER_H

#include "common/err.h"
#include "common/ident.h"
#include "master/place.h"

#include <stdbool.h>
#include <stdint.h>

struct scheduler;

struct epoch {
    uint64_t term, counter;
};
static inline int epoch_compare(struct epoch a, struct epoch b) {
    if (a.term != b.term) {
        return a.term < b.term ? -1 : 1;
    }
    return a.counter < b.counter ? -1 : a.counter > b.counter;
}

struct scheduler_options {
    uint64_t term;
    int64_t hold_ms;       // a silent agent stops writing after this
    int64_t lost_after_ms; // a silent agent counts as lost after this
    int64_t park_ms;       // a task that nobody can run fails after this
    uint32_t window;       // tasks a flow keeps here; more are wanted below half of it
    uint32_t max_tasks;    // over all flows
    uint32_t source_slots; // leases that one agent serves as a source; 0: 8 times its slots
    // Until then agents report leases of earlier terms, and tasks of flows that were restored
    // are not leased. 0: this master is the cluster's first.
    int64_t reconcile_until_ms;
    // From then on no lease of an earlier term is open, whether its agent has come back or not: a
    // restored flow that is paused before is not quiet until then. 0: there are none.
    int64_t held_until_ms;
};

// Which end's agents run a task.
enum executor_rule {
    EXECUTOR_MOVE,   // one that reaches both ends, if there is one; else one of the sink's, unless
                     // the source is an object store
    EXECUTOR_SOURCE, // LIST
    EXECUTOR_SINK,   // OPEN, FINISH, MKDIR, LINK, …
    EXECUTOR_AGENT,  // just the one named (SYNC: only who wrote can sync)
};

struct scheduler_task {
    uint64_t task_id;
    char flow[IDENT_SIZE];
    enum executor_rule rule;
    char agent[PLACE_NAME_MAX]; // EXECUTOR_AGENT
    bool reads, writes;         // does it need source agents; does it write at the sink
    uint64_t cost_bytes;        // payload
    uint32_t cost_objects;
    bool can_yield;   // BATCH, PART
    bool exclusive;   // not leased again before the lease of a lost agent is closed
    bool disowns;     // leases of earlier terms under this id were of a task that it replaced
    uint32_t attempt; // 1 at first; rises with each result that was not the last
    char avoid[PLACE_NAME_MAX]; // failed there before: another agent if there is one
    int64_t not_before_ms;
};

enum scheduler_command_kind {
    SCHED_NONE,
    SCHED_ASSIGN,     // lease @task to @agent with @sources
    SCHED_YIELD,      // ask @agent to give back what of @task has not begun
    SCHED_REVOKE,     // tell @agent to stop @task
    SCHED_WANT_TASKS, // @flow: up to @n more tasks, please (once until they came)
    SCHED_UNRUNNABLE, // nobody could run @task for park_ms; it is forgotten here; see @err
    SCHED_CLOSED,     // a lease of @task ended otherwise than by an accepted result, see @how
    SCHED_QUIET,      // @flow was paused or removed: no lease of it is open any more
};
enum lease_closed_how { CLOSED_RELEASED, CLOSED_INCARNATION, CLOSED_EXPIRED };

enum { SCHED_MAX_SOURCES = 8 };
struct scheduler_command {
    enum scheduler_command_kind kind;
    uint64_t task_id;
    char flow[IDENT_SIZE];
    struct epoch epoch;
    char agent[PLACE_NAME_MAX];
    char sources[SCHED_MAX_SOURCES][PLACE_NAME_MAX];
    uint32_t n_sources;
    uint32_t n; // WANT_TASKS
    enum lease_closed_how how;
    enum err err; // UNRUNNABLE: ERR_NO_AGENT, ERR_NO_VOLUME, ERR_NOT_SHARED
};

MUST_CHECK enum err scheduler_new(const struct scheduler_options *o, struct scheduler **ret_s);
void scheduler_free(struct scheduler *s);
uint32_t scheduler_n_tasks(const struct scheduler *s); // of all flows, with those that are leased

// ---- agents ----
struct scheduler_volume {
    char name[PLACE_NAME_MAX];
    bool readable, writable;
    bool shared; // proven to be the same for all agents of the site that have it
    bool store;  // an object store
};
struct scheduler_agent {
    char name[PLACE_NAME_MAX];
    char site[PLACE_NAME_MAX];
    char incarnation[IDENT_SIZE];
    uint32_t slots;
    const struct scheduler_volume *volumes;
    size_t n_volumes;
};
// Joined, or came back (then leases it had under an older incarnation are closed), or its
// volumes changed.
MUST_CHECK enum err scheduler_agent_up(struct scheduler *s, const struct scheduler_agent *a,
                                       int64_t now_ms);
// It reported, when it registered, that it still holds this lease of a task of an earlier or
// this term. Before the task is added it is remembered; false: unknown or superseded: it must
// stop (and say so: the lease is open until then). Not to be called for one whose result was
// judged already: its agent may mention it as long as it does not know that.
bool scheduler_agent_holds(struct scheduler *s, const char *agent, uint64_t task_id,
                           struct epoch epoch, int64_t now_ms);
// After it came back: all leases that it holds and all results that it kept have been told.
// What it held before and did not mention is closed as released.
void scheduler_agent_reported(struct scheduler *s, const char *agent, int64_t now_ms);
// Any message came. false: it counts as lost, or is unknown: it must register again.
bool scheduler_agent_heard(struct scheduler *s, const char *agent, int64_t now_ms);
// The connection is gone, or nothing more will be sent to it: it counts as lost. It stops writing
// hold_ms after it sent what was last heard. @clean: it said goodbye and holds nothing.
void scheduler_agent_down(struct scheduler *s, const char *agent, bool clean, int64_t now_ms);
void scheduler_agent_drain(struct scheduler *s, const char *agent, bool draining, int64_t now_ms);

// ---- flows ----
struct scheduler_flow {
    char id[IDENT_SIZE];
    int32_t priority;
    uint32_t weight;        // 0: 1
    uint32_t max_executors; // tasks at a time; 0: no limit
    bool restored;          // of an earlier term: its tasks wait for reconcile_until_ms
    struct place source, sink;
};
MUST_CHECK enum err scheduler_flow_add(struct scheduler *s, const struct scheduler_flow *f,
                                       int64_t now_ms);
// No new leases; those open are revoked. SCHED_QUIET follows when none is left (at once, if
// none was). Its tasks stay pending.
void scheduler_flow_pause(struct scheduler *s, const char *flow, int64_t now_ms);
void scheduler_flow_resume(struct scheduler *s, const char *flow, int64_t now_ms);
// As pause, then forgets the flow and its tasks after SCHED_QUIET.
void scheduler_flow_remove(struct scheduler *s, const char *flow, int64_t now_ms);
// The planner has no more tasks for now: no SCHED_WANT_TASKS until scheduler_more_tasks().
void scheduler_flow_drained(struct scheduler *s, const char *flow);
void scheduler_more_tasks(struct scheduler *s, const char *flow, int64_t now_ms);

// ---- tasks ----
// ERR_FULL: max_tasks is reached. ERR_EXISTS: it is here. ERR_NOT_FOUND: its flow is not.
MUST_CHECK enum err scheduler_task_add(struct scheduler *s, const struct scheduler_task *t,
                                       int64_t now_ms);
// Forgets a task: its lease, if it has one, is revoked and a late result is fenced.
void scheduler_task_drop(struct scheduler *s, uint64_t task_id, int64_t now_ms);
// The executor's final word on a lease. OK: it is the newest lease of the task, which is
// forgotten here (the planner decides what follows). ERR_FENCED: an older one, or unknown.
// ERR_AGAIN: of an earlier term, and others may still report a newer one: ask again after
// reconcile_until_ms.
MUST_CHECK enum err scheduler_result(struct scheduler *s, const char *agent, uint64_t task_id,
                                     struct epoch epoch, int64_t now_ms);
// Who may still act under this lease, as far as is known; NULL: nobody, it is not the newest of
// its task. Valid until the next event.
const char *scheduler_holder(const struct scheduler *s, uint64_t task_id, struct epoch epoch);
// May this agent still act under this lease, or is its SCHED_CLOSED still to be fetched? Also of
// one that is not the newest of its task.
bool scheduler_lease_is_open(const struct scheduler *s, const char *agent, uint64_t task_id,
                             struct epoch epoch);
// Is a lease open of a task that is not here, and so of who knows which flow?
bool scheduler_has_strays(const struct scheduler *s);
// The agent confirms that it does nothing more for this lease; the task is pending again.
void scheduler_released(struct scheduler *s, const char *agent, uint64_t task_id,
                        struct epoch epoch, int64_t now_ms);
// How much of a lease is done, from heartbeats: who is slow, how much is left.
void scheduler_progress(struct scheduler *s, const char *agent, uint64_t task_id,
                        struct epoch epoch, uint64_t bytes, uint32_t objects, int64_t now_ms);

// ---- the outcome ----
// The next command; kind SCHED_NONE: no more, and *@ret_wake_at_ms is when to call
// scheduler_tick() again at the latest (INT64_MAX: only after another event).
void scheduler_next_command(struct scheduler *s, int64_t now_ms,
                            struct scheduler_command *ret_command, int64_t *ret_wake_at_ms);
void scheduler_tick(struct scheduler *s, int64_t now_ms);

// For showing.
uint32_t scheduler_leases_of(const struct scheduler *s, const char *agent);
uint32_t scheduler_open_leases(const struct scheduler *s, const char *flow);

#endif
