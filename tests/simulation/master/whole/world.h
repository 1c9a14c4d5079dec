// SPDX-License-Identifier: Apache-2.0
// The world of a whole simulated cluster: the real scheduler, planner and leases of a master over
// a played clock, database, network, agents, source and sink. Everything that happens is an event
// in one queue, and all chance comes from one number: a seed replays exactly.
#ifndef TESTS_SIMULATION_MASTER_WHOLE_WORLD_H
#define TESTS_SIMULATION_MASTER_WHOLE_WORLD_H

#include "common/cleanup.h"
#include "common/ident.h"
#include "common/object_table.h"
#include "common/rpc/failure_message.h"
#include "master/database_impl.h"
#include "master/ordered_heap.h"
#include "master/planner_impl.h"

#include <stdio.h>

#define LEAF ((uint64_t)4 << 20)
enum { HEARTBEAT_MS = 1000, PATIENCE_MS = 900000, LEASES_MAX = 64 };

struct options {
    uint32_t n_agents, n_files, n_directories, slots;
    bool two_sites; // those that read, and those that write
    bool faults;
    bool uniform; // every file is a task of its own, all of a size
    bool watch_memory;
    const char *sqlite;             // a directory for a real database; NULL: in memory
    int slow_executor, slow_source; // at a tenth of the speed; -1: none
    uint32_t absent;                // agent that never comes; 0: none
};

struct world;
struct event;
typedef void event_fn(struct world *w, struct event *e);
struct event {
    struct heap_node node;
    int64_t at_ms;
    uint64_t order;
    event_fn *fn;
    uint32_t agent;
    uint64_t session, number, task;
    struct epoch epoch;
    int64_t sent_ms;
    void *ptr;
    void (*drop)(void *ptr); // NULL: it is not owned
    bool to_master;          // waits while the master is stopped
};

// ---- the source and the sink ----
struct node {
    uint32_t version;       // of the source, from 1
    uint32_t final_version; // at the sink; 0: it is not there
    uint8_t type;
    bool fails_always, list_fails, made, meta;
    uint8_t n_failed; // retryable failures that were told
};
struct temp {
    struct hash_node by_name;
    uint64_t object, major, minor;
    struct inode *inode; // of a large object
};
enum { OWNERS = 3 };
struct leaf {
    uint32_t version; // 0: it is not there
    bool synced;
    uint8_t n_owners; // who wrote it, and has it in memory only; they wrote the same
    struct owner {
        uint16_t agent, boot;
    } owners[OWNERS];
};
struct inode {
    uint32_t node;
    uint32_t refs;
    bool finished;   // it has the final name
    uint64_t serial; // what the receipt says
    uint32_t n_leaves;
    struct leaf leaves[];
};

// ---- agents ----
struct kept { // a result in the journal
    uint64_t number;
    uint32_t agent;
    enum {
        KEPT_NEW,
        KEPT_AGAIN,
        KEPT_STORING,
        KEPT_STORED
    } state; // as the master of @term sees it
    uint64_t term;
    Sluice__V1__TaskResult m;
    Sluice__V1__LeaseRef lease;
    Sluice__V1__Epoch epoch;
    Sluice__V1__Receipt receipt;
    Sluice__V1__ObjectResult *objects, **pointers;
    struct failure_message failure, object_failure;
    uint8_t *digests;
    struct object_table_builder found;
    char boot[16];
};
struct held { // a lease
    Sluice__V1__TaskSpec *spec;
    struct object_table table;
    struct epoch epoch;
    uint32_t attempt;
    uint64_t hold_generation;
    uint64_t run; // of its next step
    bool running, yields;
    uint32_t next;       // object, leaf or directory
    bool temp;           // of the object under way
    uint32_t opened;     // version of the object under way
    struct kept *result; // of what was done so far
    struct inode *inode;
    uint32_t source;       // agent that serves it; UINT32_MAX: none
    struct stream *stream; // LIST; counted
    uint64_t pages_sent, pages_done;
    uint32_t child;
    bool last_sent, asleep;
};
struct agent {
    char name[24];
    bool alive, welcomed;
    bool reads, writes;
    double bytes_per_ms;
    int64_t latency_ms, stopped_until_ms, cut_until_ms;
    uint32_t boot;
    uint64_t incarnation, session;
    int64_t heard_ms, until_ms; // of the hold
    uint64_t hold_generation;
    int64_t to_master_ms, to_agent_ms; // newest deliveries of the session
    struct held *held[LEASES_MAX];
    uint32_t n_held;
    struct kept **kept;
    size_t n_kept, cap_kept;
    uint64_t next_number;
    // as the master sees it
    uint64_t master_session, committed_through;
    int64_t master_heard_ms;
};

struct stream { // a LIST call
    struct world *world;
    unsigned refs; // the agent's end, pages on their way, pages that are being stored
    uint64_t id, term, task;
    struct epoch epoch;
    uint32_t agent;
    uint64_t received, committed;
    bool last, over;
};
struct page_message {
    struct stream *stream; // counted
    bool first, last, directory_done, failed;
    uint32_t directory, node, from, n;
};
struct registration {
    uint64_t incarnation;
    size_t n;
    struct lease_told {
        uint64_t task;
        struct epoch epoch;
        uint64_t result; // its number; 0: it is held
        bool refused;
    } leases[];
};

struct known_task {
    struct hash_node by_id;
    uint64_t id;
    struct epoch newest; // lease
    uint64_t accepted;   // the term in which its result was, since that lease
};

struct world {
    struct options o;
    uint64_t seed, random;
    struct clock clock;
    int64_t now_ms;
    uint64_t n_order, n_events, n_sessions, n_streams, n_runs;
    struct ordered_heap events;
    struct event *spare;
    size_t n_allocated;
    // the tree
    struct node *nodes;
    uint32_t n_nodes;
    uint32_t *first_file; // of each directory
    uint32_t fan;
    uint32_t page_entries;
    struct hash_index temps;
    // the master
    struct core core;
    struct master_options options;
    struct flow flow;
    bool up, dispatching, paused, quiet_wanted, cancel, abandoning, abandoned, planned_out, over;
    int64_t master_stopped_until_ms, wake_ms, last_loop_ms;
    struct event *wake;
    uint64_t term;
    struct hash_index tasks; // known_task
    struct flow_progress shown;
    struct failure why;
    uint64_t n_failed;
    struct agent *agents;
    uint64_t n_watched;
    // faults
    int64_t faults_until_ms, last_progress_ms;
    uint32_t odds_failure, odds_stream, odds_late; // one in so many; 0: never
    uint64_t n_masters, n_kills, n_stops, n_cuts, n_late, n_fresh, n_tasks_done, n_changes;
    uint64_t *finals; // serial of the inode that has the name
    uint64_t n_inodes, n_yields, n_expired, n_pauses, n_older;
};
extern struct world *the;

// ---- world.c ----
void violated(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void trace(const char *what, uint32_t agent, uint64_t a, uint64_t b);
uint64_t chance(struct world *w, uint64_t n); // below @n
bool one_in(struct world *w, uint32_t odds);
int64_t between(struct world *w, int64_t low, int64_t high);
void *must(void *p);
struct event *event_at(struct world *w, int64_t at_ms, event_fn *fn);
struct event *event_in(struct world *w, int64_t in_ms, event_fn *fn);
void event_cancel(struct world *w, struct event *e);
struct world_tally {
    int64_t makespan_ms; // simulated, of the last one that ended
    uint64_t n_events, n_tasks;
};
// False: a violation. What happened is added to @tally.
bool world_run(const struct options *o, uint64_t seed, struct world_tally *tally);
void world_settle(struct world *w);

// ---- played_loop.c ----
void played_posts_run(struct world *w);
void played_loop_reset(struct world *w);

// ---- played_database.c ----
void played_database_open(struct world *w);
void played_database_crash(struct world *w); // the master's side of it
void played_database_close(struct world *w);
bool played_database_is_idle(void);
struct store *played_store(void);

// ---- memory_store.c ----
struct store *memory_store_new(void);
size_t memory_store_rows(const struct store *s);
size_t memory_store_bytes(const struct store *s);

// ---- tree.c ----
void tree_new(struct world *w);
void tree_free(struct world *w);
uint64_t node_size(const struct world *w, uint32_t i, uint32_t version);
uint32_t node_of_path(const uint8_t *path, size_t len);
uint32_t node_children(const struct world *w, uint32_t directory);
uint32_t node_child(const struct world *w, uint32_t directory, uint32_t nth);
uint32_t node_parent(const struct world *w, uint32_t i);
void node_entry(const struct world *w, uint32_t i, char path[256], struct object_entry *ret_entry);
void node_renamed(struct world *w, uint32_t i, uint32_t version, const char *how);
struct temp *temp_find(struct world *w, uint64_t object, uint64_t major, uint64_t minor);
struct temp *temp_add(struct world *w, uint64_t object, uint64_t major, uint64_t minor);
bool temp_remove(struct world *w, uint64_t object, uint64_t major, uint64_t minor);
void inode_unref(struct inode *n);
void leaf_write(struct leaf *l, uint32_t version, uint32_t agent, uint32_t boot);
void leaf_sync(struct leaf *l, uint32_t agent, uint32_t boot);
void tree_reboot(struct world *w, uint32_t agent, uint32_t boot);
void tree_check_end(struct world *w);

// ---- played_master.c ----
void master_start(struct world *w);
void master_kill(struct world *w);
event_fn message_register, message_beat, message_stopped, message_cut_seen;
// False: the message is of a session that has ended.
bool master_heard(struct world *w, const struct event *e);

// ---- played_orders.c ----
struct known_task *known_task(struct world *w, uint64_t id); // made if need be
void known_task_forget(struct world *w, uint64_t id);
void flow_is_abandoned(void *arg);
void orders_forget(void); // what was not told yet; what a seed that broke off left

// ---- played_results.c ----
event_fn message_result, results_judge_kept;
bool result_was_judged(const struct world *w, struct agent *a, uint64_t number);
// It is accepted: nobody else may have ended the task, nor be about to.
void result_accepted(struct world *w, uint64_t task, struct epoch epoch);

// ---- played_agent.c ----
void agent_start(struct world *w, uint32_t i);
void agent_kill(struct world *w, uint32_t i, bool reboot, bool silently);
void agent_cut(struct world *w, uint32_t i);             // the session, at both ends
bool agent_is_stopped(struct world *w, struct event *e); // then it comes later
bool agent_may_act(const struct world *w, const struct agent *a, const struct held *h);
struct event *to_agent(struct world *w, uint32_t i, event_fn *fn);
struct event *to_master(struct world *w, uint32_t i, event_fn *fn);
event_fn message_welcome, message_assign, message_yield, message_revoke, message_committed,
    message_ping;
void held_drop(struct agent *a, uint32_t k);
void held_free(void *held);
void agent_check_hold(struct world *w, uint32_t i); // what may not act any more stops
struct held *held_of(struct agent *a, uint64_t task, struct epoch epoch, uint32_t *ret_k);
void result_keep(struct world *w, uint32_t i, struct kept *take_k);
void agent_start_waiting(struct world *w, uint32_t i);
void kept_free(struct kept *k);
void agent_stop_told(struct world *w, uint32_t i, uint64_t task, struct epoch epoch);

// ---- played_work.c ----
void work_begins(struct world *w, uint32_t i, struct held *h);
event_fn work_step;
// What was done of it, as a result.
struct kept *work_result(struct world *w, uint32_t i, struct held *h);
bool work_did_something(const struct held *h);
void work_leave(struct world *w, struct held *h); // unlinks what is under way
struct kept *result_new(struct world *w, uint32_t i, const struct held *h);
Sluice__V1__ObjectResult *work_object_result(struct world *w, uint32_t i, struct held *h,
                                             uint32_t index);
void work_step_in(struct world *w, uint32_t i, struct held *h, int64_t in_ms);
int64_t work_duration_ms(const struct world *w, uint32_t i, const struct held *h, uint64_t bytes);
void work_ends(struct world *w, uint32_t i, struct held *h, struct kept *k);
void work_fails(struct world *w, uint32_t i, struct held *h, enum err why, bool retryable);
struct object_entry held_entry(const struct held *h, uint32_t index);
bool node_fails_once_more(struct node *n); // true

// ---- played_large.c ----
void large_open_step(struct world *w, uint32_t i, struct held *h, uint32_t n);
void large_part_step(struct world *w, uint32_t i, struct held *h, uint32_t n);
void large_part_write(struct world *w, uint32_t i, struct held *h);
void large_sync_step(struct world *w, uint32_t i, struct held *h);
void large_finish_step(struct world *w, uint32_t i, struct held *h, uint32_t n);

// ---- played_listing.c ----
void listing_begins(struct world *w, uint32_t i, struct held *h);
void listing_step(struct world *w, uint32_t i, struct held *h);
void list_again(struct world *w, uint32_t i, struct held *h);
event_fn message_page, message_page_reply; // at the master, and at the agent
void stream_unref(struct stream *l);

// ---- faults.c ----
void faults_begin(struct world *w);

#endif
