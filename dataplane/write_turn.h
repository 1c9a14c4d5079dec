// SPDX-License-Identifier: Apache-2.0
// Turns at writing one file, for the streams of an agent that write parts of it.
//
// Most file systems let one writer into a file at a time, and who comes second spins on a
// processor until the first is done. Here the second sleeps, and the processor is free for
// those who read, send and hash. Whether a file system is of that kind: path_choice.h.
#ifndef DATAPLANE_WRITE_TURN_H
#define DATAPLANE_WRITE_TURN_H

#include "common/err.h"

#include <stdint.h>
#include <sys/types.h>

struct write_turns; // of an agent; any thread
struct write_turn;  // of one file that is open; any thread

MUST_CHECK enum err write_turns_new(struct write_turns **ret_turns); // ERR_NO_MEMORY
void write_turns_free(struct write_turns *t); // all turns were left; NULL is fine

// The same for all who join with the same file, until the last one left. ERR_NO_MEMORY.
MUST_CHECK enum err write_turns_join(struct write_turns *t, dev_t device, ino_t inode,
                                     struct write_turn **ret_turn);
void write_turns_leave(struct write_turns *t, struct write_turn *turn); // NULL turn is fine

void write_turn_begin(struct write_turn *turn); // waits for who writes now; NULL: returns
void write_turn_end(struct write_turn *turn);   // NULL is fine

#endif
