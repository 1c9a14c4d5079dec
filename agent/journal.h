// SPDX-License-Identifier: Apache-2.0
// Results that the master has not committed yet, in memory and in the state directory, so that
// they are sent again after any interruption of the connection, the agent or the machine.
//
// A result is written before it may be sent, so that an agent that is killed knows it after its
// restart; fdatasync follows a little later, for many results at once, so that it holds none of
// them up. All of that happens on the journal's own thread. (Were a result that was
// sent lost with the machine, the master would lease its task again: work done twice, nothing
// wrong.) If the file cannot be written (no space), results are kept in memory and sent all the
// same, and writing is tried again. Thread-safe; nothing here waits for the disk but _close.
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include "common/failure.h"
#include "sluice/v1/task.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

enum {
    JOURNAL_RETRY_MS = 1000,              // after a write that failed
    JOURNAL_SYNC_MS = 200,                // from a write to its fdatasync, at most
    JOURNAL_KEEP_BYTES = 1 << 20,         // an empty journal of up to this size is left alone
    JOURNAL_COMPACT_BYTES = 16 << 20,     // a larger one is rewritten when half of it is stale
    JOURNAL_RESULT_MAX_BYTES = 500 << 10, // encoded
};

struct journal_options {
    const char *state_dir;
    // New results may be sent. On the journal's thread.
    void (*written)(void *user);
    void *user;
};
MUST_CHECK enum err journal_open(const struct journal_options *o, struct journal **ret_journal,
                                 struct failure *ret_failure);
// Writes and syncs what it has. Nobody may use it any more.
void journal_close(struct journal *j);

// Gives @r its number and keeps a copy. ERR_TOO_LARGE, ERR_NO_MEMORY: nothing was kept.
MUST_CHECK enum err journal_append(struct journal *j, Sluice__V1__TaskResult *r);
// The first result after number @after that was written and is not committed.
// ERR_NOT_FOUND: there is none. sluice__v1__task_result__free_unpacked() it.
MUST_CHECK enum err journal_next(struct journal *j, uint64_t after,
                                 Sluice__V1__TaskResult **ret_result);
// The master has all up to @through. Numbers go on after it.
void journal_committed(struct journal *j, uint64_t through);
// Is a result of this lease kept?
bool journal_holds(struct journal *j, uint64_t task_id, uint64_t term, uint64_t counter);
// Calls @each for each result that is kept, with its lease and the journal's lock.
void journal_each_lease(struct journal *j,
                        void (*each)(void *user, uint64_t number, uint64_t task_id, uint64_t term,
                                     uint64_t counter),
                        void *user);
uint64_t journal_written_through(struct journal *j); // all up to this number are in the file
bool journal_is_empty(struct journal *j);            // all that was appended is committed
uint64_t journal_next_number(struct journal *j);

// What the agent learnt of its cluster. Another cluster than before: results kept for that one
// are dropped.
void journal_remember(struct journal *j, const char *cluster, uint64_t term);
void journal_recall(struct journal *j, char ret_cluster[27], uint64_t *ret_term);

#endif
