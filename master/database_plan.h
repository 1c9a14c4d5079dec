// SPDX-License-Identifier: Apache-2.0
// The planner's part of the database: tasks, leases, the walk, large objects. Same rules as
// database.h. Everything here is read in order with the writes: an answer shows all changes
// that were committed (database_commit) before the question, and none after.
#ifndef MASTER_DATABASE_PLAN_H
#define MASTER_DATABASE_PLAN_H

#include "master/database.h"
#include "master/scheduler.h"

// ---- the plan: one row for each flow ----
void change_plan(struct change *c, const char *flow, struct blob body,
                 const struct flow_progress *progress);
// The flow has ended: everything of its plan goes, but for the progress and failed objects.
void change_plan_end(struct change *c, const char *flow);
// At the end of a cancelled flow's life only what may have left temporaries behind stays: BATCH
// and LINK tasks with leases become CLEANUP tasks, ready. Large objects stay too.
void change_plan_abandon(struct change *c, const char *flow);
// After a restart: LIST tasks go, their directories return to the frontier; tasks that were
// growing are ready, those that were leased come first.
void change_plan_restart(struct change *c, const char *flow);

struct plan_answer {
    bool exists;
    struct blob body;
    struct flow_progress progress;
};
void database_plan_load(struct database *d, const char *flow,
                        void (*done)(void *arg, enum err result, const struct plan_answer *plan),
                        void *arg);

// ---- tasks ----
enum task_status { TASK_READY = 0, TASK_WAITING = 1, TASK_GROWING = 2 };
struct lease_row {
    struct epoch epoch;
    char agent[PLACE_NAME_MAX];
};
struct task_row {
    uint64_t task_id;
    char flow[IDENT_SIZE];
    uint32_t kind; // Sluice__V1__TaskKind
    uint32_t stage, rank;
    enum task_status status;
    uint32_t attempt;
    int64_t not_before_ms; // wall clock
    char avoid[PLACE_NAME_MAX];
    uint64_t object; // of a large object's tasks; else 0
    // The listing that it comes from, if that takes several pages; else 0. UINT64_MAX: one that was
    // begun again since: what comes of it is not counted.
    uint64_t walk, generation;
    uint64_t bytes;
    uint32_t objects;
    struct blob spec; // packed TaskSpec
    // Out only: those without a result, oldest first; and the large object.
    const struct lease_row *leases;
    size_t n_leases;
    const struct large_row *large;
};
void change_task_put(struct change *c, const struct task_row *t);   // replaces
void change_task_state(struct change *c, const struct task_row *t); // all but the spec
void change_task_remove(struct change *c, uint64_t task_id);        // and its leases
void change_tasks_of_object_remove(struct change *c, const char *flow, uint64_t object);
// Of a listing under an earlier generation: those go that were never leased; the others are not
// counted any more.
void change_tasks_drop(struct change *c, const char *flow, uint64_t walk, uint64_t generation);
void change_lease_add(struct change *c, const char *flow, uint64_t task_id, struct epoch epoch,
                      const char *agent);
void change_lease_remove(struct change *c, uint64_t task_id, struct epoch epoch);

struct tasks_wanted {
    uint32_t max_stage;
    uint32_t n;           // in all
    uint32_t n_list;      // of these LIST tasks at most
    const uint64_t *skip; // sorted ids
    size_t n_skip;
};
struct tasks_answer {
    const struct task_row *rows;
    size_t n_rows;
    bool more;    // more ready tasks than were asked for
    bool any;     // any task up to the stage exists, whatever its status
    bool walking; // any directory is not listed yet
    bool objects; // any large object is unfinished
};
void database_tasks_load(struct database *d, const char *flow, const struct tasks_wanted *wanted,
                         void (*done)(void *arg, enum err result, const struct tasks_answer *a),
                         void *arg);
// Those with TASK_WAITING, without specs.
typedef void database_tasks_fn(void *arg, enum err result, const struct task_row *rows,
                               size_t n_rows);
void database_tasks_waiting(struct database *d, const char *flow, database_tasks_fn *done,
                            void *arg);

// ---- the walk: a row for each directory ----
enum walk_state { WALK_FRONTIER = 0, WALK_LISTING = 1, WALK_DONE = 2 };
struct walk_row {
    uint64_t id; // the object's
    char flow[IDENT_SIZE];
    enum walk_state state;
    uint64_t task; // WALK_LISTING
    uint32_t depth;
    uint32_t attempt;
    bool partial;        // pages of it are stored, but not the last
    uint64_t generation; // of the listing
    struct walk_counts { // of a partial listing's objects under this generation
        uint64_t objects, bytes, objects_done, bytes_done, failed, skipped;
    } counts;
    struct blob entry; // object table with the directory
    bool failed;       // out, of the deepest: it is among the failed objects
};
void change_walk_put(struct change *c, const struct walk_row *w);
void change_walk_state(struct change *c, const struct walk_row *w); // all but the entry
// A task that sets the directory's metadata was made.
void change_walk_remove(struct change *c, const char *flow, uint64_t id);
typedef void database_walks_fn(void *arg, enum err result, const struct walk_row *rows,
                               size_t n_rows, uint64_t n_all);
// The frontier's oldest; @n_all: how many there are (counted up to 10 000).
void database_walk_frontier(struct database *d, const char *flow, uint32_t limit,
                            database_walks_fn *done, void *arg);
void database_walk_partials(struct database *d, const char *flow, database_walks_fn *done,
                            void *arg);
// Listed directories, deepest first.
void database_walk_deepest(struct database *d, const char *flow, uint32_t limit,
                           database_walks_fn *done, void *arg);

// ---- large objects ----
enum large_state {
    LARGE_OPENING = 1,
    LARGE_MOVING,
    LARGE_SYNCING,
    LARGE_FINISHING,
    LARGE_STATTING, // its source changed
};
struct large_row {
    uint64_t object;
    char flow[IDENT_SIZE];
    enum large_state state;
    uint64_t size, acked_bytes, next_offset;
    uint64_t generation; // of the temporary
    uint32_t attempt;    // generations begun
    bool fresh;          // a writer's lease expired
    bool opened;         // a temporary may exist
    int64_t quiet_ms;    // wall clock; until then a lost writer may write
    struct blob entry;   // object table with the object
    struct blob receipt; // of OPEN
};
void change_large_put(struct change *c, const struct large_row *l);
void change_large_fresh(struct change *c, const char *flow, uint64_t object);
void change_large_remove(struct change *c, const char *flow, uint64_t object); // acks too
typedef void database_larges_fn(void *arg, enum err result, const struct large_row *rows,
                                size_t n_rows);
// Those with a higher number than @after; with @idle only those that have no task.
void database_larges_load(struct database *d, const char *flow, bool idle, uint64_t after,
                          uint32_t limit, database_larges_fn *done, void *arg);

// ---- what was seen: large objects and directories of listings that take several pages ----
enum { SEEN_BYTES = 16 };
void change_seen_add(struct change *c, const char *flow, uint64_t walk,
                     const uint8_t digest[SEEN_BYTES]);
void change_seen_drop(struct change *c, const char *flow, uint64_t walk);
// @seen: one for each of the @n digests.
typedef void database_seen_fn(void *arg, enum err result, const bool *seen, size_t n);
void database_seen_load(struct database *d, const char *flow, uint64_t walk, const uint8_t *digests,
                        size_t n, database_seen_fn *done, void *arg);

struct ack_row {
    char flow[IDENT_SIZE];
    uint64_t object, offset, length;
    bool synced;
    const char *agent, *boot_id;
    struct blob leaves, receipt;
};
void change_ack_add(struct change *c, const struct ack_row *a);
// Those that @agent wrote, and that are not synced.
void change_acks_drop_unsynced(struct change *c, const char *flow, uint64_t object,
                               const char *agent);
void change_acks_drop(struct change *c, const char *flow, uint64_t object);
void change_acks_synced(struct change *c, const char *flow, uint64_t object, const char *agent,
                        const char *boot_id);
typedef void database_acks_fn(void *arg, enum err result, const struct ack_row *rows, size_t n_rows,
                              bool more);
// In the order of offsets, from @from_offset on; if @agent is not NULL: those it has not synced.
void database_acks_load(struct database *d, const char *flow, uint64_t object, const char *agent,
                        uint64_t from_offset, uint32_t limit, database_acks_fn *done, void *arg);
// One row (agent, boot id; the rest 0) for each writer that has not synced; and whether the
// object has tasks.
void database_writers_load(struct database *d, const char *flow, uint64_t object,
                           void (*done)(void *arg, enum err result, const struct ack_row *rows,
                                        size_t n_rows, bool has_tasks),
                           void *arg);

// ---- failed objects ----
void change_object_failed(struct change *c, const char *flow, uint64_t object, uint64_t walk,
                          uint64_t generation, struct blob path, struct blob failure);
void change_failed_drop(struct change *c, const char *flow, uint64_t walk, uint64_t generation);

#endif
