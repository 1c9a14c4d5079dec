// SPDX-License-Identifier: Apache-2.0
// Writes into one file, from the streams of an agent that write parts of it.
//
// Most file systems let one writer into a file at a time, and who comes second spins on a
// processor until the first is done. Here the second leaves its bytes to the first, which writes
// them next, and goes on to receive: the file always has one writer that is at work, as long as
// there is something to write. Whether a file system is of that kind: path_choice.h.
#ifndef DATAPLANE_WRITE_QUEUE_H
#define DATAPLANE_WRITE_QUEUE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct write_queues; // of an agent; any thread
struct queue_writer; // one stream that writes one file; one thread

enum { WRITE_QUEUE_PIECES = 6 }; // of a writer, at most, wait to be written

// @piece_bytes: of each, rounded up to a multiple of 4096. ERR_NO_MEMORY.
MUST_CHECK enum err write_queues_new(size_t piece_bytes, struct write_queues **ret_queues);
void write_queues_free(struct write_queues *q); // all writers left; NULL is fine

// Writes one piece, in the thread of any writer of the file, but never two of the file at a time.
// false: it failed, and so will all that come after it from this writer.
typedef bool (*queue_write_fn)(void *user, uint64_t offset, const void *bytes, size_t len);

// ERR_NO_MEMORY.
MUST_CHECK enum err write_queue_join(struct write_queues *q, dev_t device, ino_t inode,
                                     queue_write_fn write, void *user,
                                     struct queue_writer **ret_writer);
void write_queue_leave(struct queue_writer *w); // settles, whatever comes of it; NULL is fine

// Where the next piece may be put, *@ret_cap bytes, aligned to 4096; waits until one of the
// writer's pieces was written. The same one until the next write_queue_put().
void *write_queue_room(struct queue_writer *w, size_t *ret_cap);
// @bytes were put into the room: they will be written. Other bytes are written when it returns,
// after those. false: this or an earlier piece failed.
MUST_CHECK bool write_queue_put(struct queue_writer *w, uint64_t offset, const void *bytes,
                                size_t len);
// Waits until all that was put is written. false: something failed.
MUST_CHECK bool write_queue_settle(struct queue_writer *w);
// Where the first piece begins that is not written yet; UINT64_MAX: there is none.
uint64_t write_queue_pending(struct queue_writer *w);

#endif
