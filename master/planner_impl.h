// SPDX-License-Identifier: Apache-2.0
// What the files of the planner share. Inside the planner only.
//
// The database is the truth; what is here mirrors the rows of tasks that the scheduler has, of
// directories that are being listed, and of large objects that these tasks belong to. A change
// is made here at once and committed in order; what others are told follows the commit.
#ifndef MASTER_PLANNER_IMPL_H
#define MASTER_PLANNER_IMPL_H

#include "common/object_table.h"
#include "master/core.h"
#include "master/database_plan.h"
#include "master/flow.h"
#include "master/hash_index.h"
#include "master/planner.h"

#include <utlist.h>

struct outcome; // below

enum stage { STAGE_DATA, STAGE_LINKS, STAGE_CLEANUP, STAGE_DIRECTORIES, STAGE_END };
enum rank { RANK_URGENT, RANK_PART, RANK_USUAL };

enum {
    BATCH_MIN_BYTES = 4 << 20,  // payload of a batch, unless there is no more
    BATCH_MAX_BYTES = 64 << 20, // and at most, unless it is one file
    BATCH_MIN_OBJECTS = 32,
    TABLE_MAX_BYTES = 240 * 1024, // leaves room for the rest of a spec
    LISTS_MAX = 8,                // LIST tasks of a flow at a time
    LIST_MAX_DIRECTORIES = 64,
    PARTS_AHEAD = 256, // PART tasks of one object at a time
    LOAD_MAX = 64,     // tasks loaded at a time
    DIRMETA_TASKS = 8, // at a time
};

struct planner {
    struct core *core;
    struct plan *plans;
    struct hash_index tasks;
    struct hash_index moved; // planner_moved.c
    uint64_t next_task;      // ids rise; the term is in their upper half, so that none comes twice
    struct loop_timer *timer;
    char (*reported)[PLACE_NAME_MAX]; // agents that told what they hold
    size_t n_reported;
    uint64_t chance;    // state of a generator, for jitter
    int64_t started_ms; // mono
    int64_t wake_ms;    // mono; of the timer
};

// A directory that is being listed, or whose listing was interrupted.
struct directory {
    struct directory *prev, *next;
    struct walk_row row; // entry: unset
    struct listing *listing;
    bool restart; // the next page begins its listing again
};

enum { LARGE_GONE = 0 }; // delivered or failed: only results of old tasks may still refer to it

enum { GROW_BATCH, GROW_LINK, GROW_MKDIR, GROW_COUNT };
// A task that takes in objects of several pages. Its row is stored with every page.
struct growing {
    struct task_row row; // task_id 0: there is none
    struct object_table_builder table;
    bool changed;
};
struct page;
// A LIST task.
struct listing {
    struct listing *prev, *next;
    uint64_t task_id;
    struct directory **directories;
    size_t n_directories;
    struct growing growing[GROW_COUNT];
    struct page *first, **last; // waiting for the one before
    bool busy;
    bool gone; // the task has ended; freed when it is not busy
};

struct lease {
    struct epoch epoch;
    char agent[PLACE_NAME_MAX];
    uint64_t moved_bytes; // as last heard
    bool closed;          // nobody acts under it; what it left behind remains
    bool expired;         // closed by expiry only
};
// A task that the scheduler has, or whose result is being committed.
struct planned_task {
    struct hash_node by_id;
    struct planned_task *prev, *next;
    struct plan *plan;
    struct task_row row; // spec, leases, large: unset
    Sluice__V1__TaskSpec *spec;
    struct lease *leases; // without a result, oldest first
    size_t n_leases;
    size_t spec_bytes;
    uint64_t lost_bytes; // moved under leases that ended without a result
    bool concluded;
    bool reopened;           // OPEN: another lease may have made the temporary, or still will
    struct large *large;     // counted
    struct listing *listing; // borrowed
};

struct large {
    struct large *prev, *next;
    struct plan *plan;
    struct large_row row; // entry and receipt: owned
    unsigned refs;
    bool busy;  // what follows is being found out
    bool again; // and is to be found out once more
    // SYNC tasks with lower ids may have begun before parts were written again: what they say does
    // not count.
    uint64_t syncs_from;
};

// A lease that was not closed when its task was concluded under another.
struct open_lease {
    struct open_lease *prev, *next;
    uint64_t task_id, object;
    struct lease lease;
    int64_t deadline_ms; // mono; nobody acts under it after
};
// A task that is stored but waits until leases are closed: CLEANUP, FINISH.
struct waiting {
    struct waiting *prev, *next;
    struct task_row row;
    uint64_t task_id; // whose leases it waits for, unless they are of an object
    bool tracked;     // all leases it waits for are in plan.open
    int64_t deadline_ms;
};

struct plan_body {
    uint32_t stage;
    uint64_t next_object;
    bool resolved;              // both roots are known
    bool sink_known;            // STAT of the sink was answered
    uint8_t sink_type;          // enum object_type; 0: it is not there
    struct blob source;         // owned: object table with the root; empty: not known yet
    uint64_t n_unlisted;        // directories that are known but not listed
    uint64_t n_retries;         // attempts that failed and were made good by another
    struct flow_progress exact; // may run backwards, unlike what is shown
};

struct plan {
    struct plan *prev, *next;
    struct planner *planner;
    struct flow *flow; // NULL: it has ended, and the plan waits for the last answers
    char id[IDENT_SIZE];
    struct plan_body body;
    bool restored;
    bool begun; // what was stored is here
    bool in_scheduler;
    bool loading, load_again, load_later;
    bool outdated; // a large object's row has changed since what is being loaded was asked for
    bool drained;  // the scheduler was told that there is nothing to load
    bool frontier; // there may be directories to list
    bool abandoning;
    void (*abandoned)(void *arg);
    void *abandoned_arg;
    bool abandon_ready;          // only what may have left temporaries is stored
    int64_t abandon_deadline_ms; // without progress
    int64_t abandon_enters_ms;   // mono; leases of earlier terms are closed then; 0: it has
    uint32_t wanted;
    size_t n_tasks; // in memory
    size_t n_lists;
    size_t n_pending;           // commits and questions on their way
    uint64_t n_commits;         // ever begun
    struct flow_progress shown; // as of the newest commit; done only grows
    struct planned_task *tasks;
    struct directory *directories;
    struct listing *listings;
    struct large *larges;
    struct open_lease *open;
    struct waiting *waiting;
};

// ---- planner.c ----
struct plan *plan_find(struct planner *p, const char *flow);
struct planned_task *planner_task(struct planner *p, uint64_t task_id); // NULL: none
void plan_ref(struct plan *pl); // for each question on its way
// Frees the plan after the flow's end; looks whether a stage has ended.
void plan_unref(struct plan *pl);
void plan_unref_quietly(struct plan *pl); // does not look
// The flow ends as a whole; @pl's flow is gone after.
void plan_fail(struct plan *pl, const struct failure *why);
void plan_end(struct plan *pl, const struct failure *why);
void plan_drop_all(struct plan *pl); // but for what is being committed
int64_t planner_mono_ms(const struct planner *p);
int64_t planner_wall_ms(const struct planner *p);
void planner_arm(struct planner *p, int64_t at_ms); // wakes planner_leases_due() and loads
static inline struct failure out_of_memory(const char *operation) {
    struct failure f = {0};
    (void)failure_set(&f, ERR_NO_MEMORY, operation, NULL, 0, NULL);
    return f;
}

// ---- planner_work.c: one transaction ----
struct work {
    struct plan *plan;
    struct change *change;
    bool adds;   // tasks that can be loaded
    bool failed; // out of memory
    struct planned_task *concluded;
    struct large *large; // counted; looked at again after the commit
    // Counted: until the commit is answered, older answers must meet the object as it is here.
    struct large *changed;
    struct listing *listing; // its next page follows
    // Of that page, what is not in tasks yet; and whether it is the last of the flow.
    struct walk_counts ahead;
    bool ends_walk;
    struct large *unsynced_of; // counted; what this agent did not sync is looked for after
    char unsynced_agent[PLACE_NAME_MAX];
    struct flow_progress shown;
    void (*committed)(void *arg);
    void (*page_committed)(void *arg, enum err result);
    void *arg;
};
struct work *work_new(struct plan *pl); // NULL: the flow has failed, for want of memory
void work_commit(struct work *take_w);
void work_free(struct work *w);

// ---- planner_body.c ----
MUST_CHECK enum err plan_body_encode(const struct plan_body *b, struct blob *ret_bytes);
MUST_CHECK enum err plan_body_decode(struct blob bytes, struct plan_body *ret_body);
MUST_CHECK enum err blob_copy(struct blob from, struct blob *ret_copy);
void blob_free(struct blob *b);

// ---- planner_spec.c: making tasks ----
void spec_init(const struct plan *pl, Sluice__V1__TaskKind kind, Sluice__V1__TaskSpec *ret_spec);
struct spec_places {
    Sluice__V1__Place source, sink;
};
// The ends that a task of this kind needs.
void spec_set_places(const struct plan *pl, Sluice__V1__TaskSpec *spec, struct spec_places *storage,
                     bool source, bool sink);
// Stores the task (a new one if row.task_id is 0, which is set then); spec.task_id is set.
void work_put_task(struct work *w, struct task_row *row, Sluice__V1__TaskSpec *spec);
struct task_row task_row_new(const struct plan *pl, Sluice__V1__TaskKind kind);
// One entry as an object table of its own.
MUST_CHECK enum err entry_table(const struct object_entry *e, struct blob *ret_table);
// A task of @kind with both ends where it needs them, and @table.
void work_add_task(struct work *w, struct task_row *row, struct blob table);
void scheduler_task_of(const struct planned_task *t, struct scheduler_task *ret_task);
int64_t planner_backoff_ms(struct planner *p, uint32_t attempt, enum err why);
// Has what failed by @why, after @attempts of them, another attempt left, and the flow's budget as
// well? A full disk has fewer: that does not pass within the seconds that retries take.
bool plan_may_retry(const struct plan *pl, uint32_t attempts, enum err why);
void plan_count_retry(struct plan *pl, const struct failure *why, const char *agent);
bool plan_skips_identical(const struct plan *pl);
bool plan_copies_within_store(const struct plan *pl); // no byte passes here: there are no digests
bool plan_may_share_blocks(const struct plan *pl);    // of parts whose blocks are shared neither
uint64_t plan_large_bytes(const struct plan *pl);     // objects above this are moved in parts
// Of an object of that size: how much a part has at most, and what its bounds are multiples of.
uint64_t plan_part_bytes(const struct plan *pl, uint64_t object_bytes);
uint64_t plan_part_align(const struct plan *pl, uint64_t object_bytes);

// ---- planner_load.c ----
void plan_load(struct plan *pl);
void planned_task_free(struct planned_task *t);

// ---- planner_stage.c: what follows when a stage is drained ----
void plan_stage_drained(struct plan *pl);

// ---- planner_begin.c ----
struct plan *plan_new(struct planner *p, struct flow *f); // NULL: out of memory
void plan_load_body(struct plan *pl);                     // and goes on from there
bool plan_enter_scheduler(struct plan *pl);
void stat_result(struct work *w, const struct outcome *o); // of a root

// ---- planner_page.c, planner_grow.c ----
void listing_free(struct plan *pl, struct listing *l);
void page_next(struct plan *pl, struct listing *l);
struct directory *directory_find(struct plan *pl, uint64_t id);
struct directory *directory_add(struct plan *pl, const struct walk_row *row);
void directory_remove(struct plan *pl, struct directory *d);
void grow_add(struct work *w, struct listing *l, int what, const struct object_entry *e,
              uint64_t walk, uint64_t generation);
void grow_store(struct work *w, struct growing *g, bool close);
void grow_store_all(struct work *w, struct listing *l, bool close);
void grow_forget(struct growing *g);

// ---- planner_result.c ----
// How a task ended: an agent's result, or none (@m NULL) with the failure.
struct outcome {
    struct planned_task *task;
    const char *agent; // "": nobody
    struct epoch epoch;
    const Sluice__V1__TaskResult *m;
    struct failure failure; // err OK: none
    const char *failure_agent;
    bool done, retryable;
    bool lacks_credentials; // a store refused its keys: the flow is suspended after
};
void outcome_apply(struct work *take_w, const struct outcome *o);
// The task's row goes, or becomes a CLEANUP for leases that left something behind.
void work_conclude(struct work *w, struct planned_task *t, struct epoch epoch);
// The same task again, later.
void work_retry(struct work *w, const struct outcome *o, bool counts);
bool outcome_may_retry(const struct outcome *o);
// An object failed for good. @walk as in task_row.
void work_object_failed(struct work *w, uint64_t object, const uint8_t *path, size_t path_len,
                        const struct failure *why, const char *agent, const struct task_row *row);
// Adds to the counters, and to those of a listing that is not complete.
void work_count(struct work *w, const struct task_row *row, const struct walk_counts *add);
// The same without storing that listing's row, which is given; NULL: none.
struct directory *plan_count(struct plan *pl, const struct task_row *row,
                             const struct walk_counts *add);

// ---- planner_refused.c ----
// The first failure that says that a store refused its keys, once they had worked for a while;
// err OK: none.
void plan_find_refused_keys(const struct plan *pl, const Sluice__V1__TaskResult *m,
                            const struct failure *whole, struct failure *ret_failure);
// ---- planner_list.c ----
void list_result(struct work *w, const struct outcome *o);
// ---- planner_large.c ----
void large_add(struct work *w, const struct object_entry *e); // with its id; counts it
void large_result(struct work *w, const struct outcome *o);
void large_after_sync(struct work *w);
void large_next(struct large *l);   // what follows is found out and done
void large_resume(struct large *l); // after a restart, one that has no task
struct large *large_find(struct plan *pl, uint64_t object);
struct large *large_take(struct plan *pl, const struct large_row *row); // counted; NULL: no memory
void large_unref(struct large *l);
void large_failed(struct work *w, struct large *l, const struct failure *why, const char *agent);
void large_regenerate(struct work *w, struct large *l, const struct failure *why, const char *agent,
                      bool stat);
void large_abort_task(struct work *w, const struct large_row *l);
// Once more in the end, when this OPEN's lost leases are closed: one may have made it anew.
void large_abort_later(struct work *w, const struct large_row *l, struct planned_task *open);
void large_add_parts(struct work *w, struct large *l, unsigned n);
void large_put_part(struct work *w, struct large *l, uint64_t offset, uint64_t length,
                    uint32_t attempt, int64_t not_before_ms, const char *avoid);
void large_store(struct work *w, struct large *l);
void large_changed(struct work *w, struct large *l); // its row, in this transaction
// What FINISH is told beside: the digest (none if its length is 0), and the parts' receipts, from
// the second place on (n_receipts 0: none; the sink asks the store).
struct large_end {
    struct blob digest;
    Sluice__V1__Receipt **receipts;
    size_t n_receipts;
};
// A task of the object as a whole; @end NULL: none of that.
void large_put_step(struct work *w, struct large *l, struct task_row *row,
                    const struct large_end *end);
void large_drop_tasks(struct large *l); // those that the scheduler has

// ---- planner_moved.c ----
// Moved under other leases than this one, which is being concluded.
uint64_t leases_lost_bytes(const struct planned_task *t, struct epoch concluded);
// So many more bytes of theirs turned out not to be moved again.
void leases_forgive_bytes(struct planned_task *t, struct epoch concluded, uint64_t bytes);
void leases_recall_moved(struct planner *p, struct planned_task *t); // what was told before
void planner_moved_deinit(struct planner *p);

// ---- planner_lease.c ----
MUST_CHECK enum err lease_add(struct planned_task *t, struct epoch epoch, const char *agent);
void lease_remove(struct planned_task *t, struct epoch epoch);
// Nobody acts under it, as far as can be known.
bool lease_is_closed(struct planner *p, uint64_t task_id, const struct lease *l);
// Remembers the open ones among a concluded task's leases; true: there are some.
bool leases_left_open(struct work *w, struct planned_task *t);
// It waits for the leases of its object, or else of this task.
void waiting_add(struct work *w, const struct task_row *row, uint64_t task_id, bool tracked,
                 int64_t deadline_ms);
void planner_leases_due(struct planner *p);
int64_t plan_lease_deadline_ms(const struct plan *pl, const struct lease *l);

// ---- planner_abandon.c ----
void plan_abandon_next(struct plan *pl);
int64_t plan_abandon_due(struct plan *pl); // mono, when to look again

#endif
