// SPDX-License-Identifier: Apache-2.0
// How much each lease has moved, in a file of the state directory that is mapped: what the kernel
// keeps when the process is killed. The next incarnation tells the master from it what was moved
// under leases that ended without a result, so that payload that is moved again is counted.
//
// (After a power loss the file may be older, or zeros: it is told what is known.) Thread-safe; all
// functions but _open take NULL for a file that is not kept.
#ifndef AGENT_UNDER_WAY_H
#define AGENT_UNDER_WAY_H

#include "agent/journal.h"

#include <stdatomic.h>

struct under_way;

enum { UNDER_WAY_ENTRIES = 1024 }; // leases at a time; what is more is not counted

// Leases that @journal holds a result of are not left over. What the file has no room for on the
// disk is kept in memory only, and logged. ERR_NO_MEMORY, and what open(2) says.
MUST_CHECK enum err under_way_open(const char *state_dir, struct journal *journal,
                                   struct under_way **ret_under_way, struct failure *ret_failure);
void under_way_close(struct under_way *u);

// Where the bytes that are moved under this lease are added up, until under_way_end(). NULL: they
// are not counted, there is no room.
_Atomic uint64_t *under_way_begin(struct under_way *u, uint64_t task_id, uint64_t term,
                                  uint64_t counter);
// The lease ended with the result @number of the journal; 0: with none. @bytes may be NULL.
void under_way_end(struct under_way *u, const _Atomic uint64_t *bytes, uint64_t number);
// Results up to @through outlive a kill by themselves.
void under_way_written(struct under_way *u, uint64_t through);

// Calls @each for the leases that ended without a result, with the lock.
void under_way_each_left(struct under_way *u,
                         void (*each)(void *user, uint64_t task_id, uint64_t term, uint64_t counter,
                                      uint64_t bytes),
                         void *user);
// What was left over of this lease is told now: forget it. Gives the bytes; 0: nothing was left.
uint64_t under_way_take_left(struct under_way *u, uint64_t task_id, uint64_t term,
                             uint64_t counter);
// All that under_way_each_left() gave last is told.
void under_way_forget_left(struct under_way *u);

#endif
