// SPDX-License-Identifier: Apache-2.0
// Turns flows into tasks: from the walk's frontier to the last directory's metadata. Its state
// is in the database; here it keeps counters and the specs of tasks that the scheduler has.
// Core thread.
//
// Stages of a flow: 0 list, mkdir, batches, large objects (open → parts → sync → finish);
// 1 links; 2 deletes; 3 metadata of directories, deepest first. A stage begins when the one
// before is drained and the walk is over.
#ifndef MASTER_PLANNER_H
#define MASTER_PLANNER_H

#include "common/err.h"
#include "common/failure.h"
#include "master/scheduler.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "sluice/v1/task.pb-c.h"

struct core;
struct flow;
struct planner;

MUST_CHECK enum err planner_new(struct core *c, struct planner **ret_planner);
void planner_free(struct planner *p);

// The flow's first tasks are made (both places are resolved) and it is added to the scheduler.
// After a restart: goes on where the database says, and sets the flow's progress accordingly.
// Call it once for a flow in this process's life, also for one that is suspended (then pause it
// in the scheduler right after). Before flow_planned_out() the planner removes the flow from the
// scheduler.
void planner_flow_begin(struct planner *p, struct flow *f);
// No more of this flow: @done(arg) after its pending tasks are dropped and CLEANUP tasks for the
// temporaries that may exist have been done or are recorded as pending (flow.cleanup_pending).
// Call it after scheduler_flow_remove() and its SCHED_QUIET: the planner adds the flow to the
// scheduler again for the cleanup alone, and removes it once more (with another SCHED_QUIET,
// which may come after @done and means nothing). Also for a flow that was never begun in this
// process. flow_planned_out() is not called any more.
void planner_flow_abandon(struct planner *p, struct flow *f, void (*done)(void *arg), void *arg);

// SCHED_WANT_TASKS: loads up to @n pending tasks and adds them to the scheduler.
void planner_want_tasks(struct planner *p, const char *flow, uint32_t n);
// The spec of a task that the scheduler has. It belongs to the planner until the task's result.
// NULL: unknown.
const Sluice__V1__TaskSpec *planner_spec(struct planner *p, uint64_t task_id,
                                         uint32_t *ret_attempt);
// The newest lease of a task, as it was given out: names of temporaries are made from it. Its agent
// may be told only after @stored(arg, OK), else a master that dies now does not know what to clean
// up. NULL: nobody waits. It comes from within if nothing of the lease needs to be stored, and in
// the order of the calls.
void planner_leased(struct planner *p, uint64_t task_id, struct epoch epoch, const char *agent,
                    void (*stored)(void *arg, enum err result), void *arg);

// How much payload a lease has moved so far, from heartbeats: what a lost one moved is moved again.
void planner_progress(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes);
// As much was moved under a lease that ended, or will end, without an accepted result. Before the
// lease is closed.
void planner_moved(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes);

// What an agent said of a lease that the scheduler accepted (scheduler_result() gave OK), of any
// kind, LIST too. @committed(arg) once it is stored.
// @m is valid during the call only.
void planner_result(struct planner *p, const char *agent, const Sluice__V1__TaskResult *m,
                    void (*committed)(void *arg), void *arg);
// SCHED_UNRUNNABLE.
void planner_unrunnable(struct planner *p, uint64_t task_id, enum err why);
// SCHED_CLOSED, also after CLOSED_RELEASED: a lease ended without an accepted result. After
// CLOSED_EXPIRED a large object that it was writing is finished on a fresh inode.
void planner_lease_closed(struct planner *p, uint64_t task_id, struct epoch epoch,
                          const char *agent, enum lease_closed_how how);

// An agent has registered and told what it holds (after scheduler_agent_reported()): leases of
// earlier terms that it does not hold are closed.
void planner_agent_reported(struct planner *p, const char *agent);

// A page of the listing under a lease that is the newest of its LIST task. @committed tells
// whether to go on (OK) or to stop (the flow is gone, the listing superseded). Never called from
// within. A page with `lease` set is the first of a new stream: the listing begins again. The
// last page does not end the lease: that is the TaskResult's.
void planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch epoch,
                  const Sluice__V1__ListPage *page, void (*committed)(void *arg, enum err result),
                  void *arg);

#endif
