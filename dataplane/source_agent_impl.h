// SPDX-License-Identifier: Apache-2.0
// The inside of a source that is another agent. Included only by dataplane/source_agent*.c.
//
// source_agent.c is what the caller sees: one object after the other. source_agent_frames.c takes
// the answers. source_agent_link.c is the connection below: which peer is asked, and for what.
#ifndef DATAPLANE_SOURCE_AGENT_IMPL_H
#define DATAPLANE_SOURCE_AGENT_IMPL_H

#include "dataplane/conn_pool.h"
#include "dataplane/source_agent.h"
#include "dataplane/source_impl.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    AGENT_REQUESTS_AHEAD = 256,           // outstanding at a time: 12 KiB, which any socket holds
    AGENT_BYTES_AHEAD = 16 * 1024 * 1024, // that they ask for, but for the first two
    AGENT_FAILURES_PER_PEER = 2,          // then it is not asked again for this task
    AGENT_DRAIN_BYTES = 1024 * 1024,      // of a range closed early, more are cancelled
};

struct agent_request {
    struct source_range range;
    uint64_t from;  // where to begin: the range's offset, or later after a fail-over
    uint64_t id;    // while it is outstanding
    uint64_t bytes; // as counted in bytes_ahead
};

// The range that is open.
struct agent_object {
    struct object_version version; // pinned
    uint64_t start, end;
    uint64_t pos;      // the next byte for the caller
    uint64_t wire_pos; // the next byte on the wire: behind pos after a fail-over
    uint64_t hole_left;
    bool ended; // OBJECT_END came
    struct object_version closed;
    uint8_t *digests; // of the leaves, as far as they are known; kept for the next object
    size_t n_digests, cap_digests;
};

struct source_agent {
    struct source source; // first member

    // set once
    struct conn_pool *pool;
    const struct source_agent_peer *peers; // borrowed
    size_t n_peers;
    const uint8_t *objects; // borrowed
    size_t objects_len;
    struct object_table table;
    uint64_t task_id;
    enum hash_algorithm digest;
    int64_t stall_ms;

    // the stream thread's
    struct agent_request *requests;              // [head, n): to be opened, in this order
    size_t head, sent, n_requests, cap_requests; // [head, sent): outstanding
    uint64_t next_id, bytes_ahead;
    size_t peer;
    const char *served_by;      // the peer that did last; NULL: none yet
    uint8_t *n_failed;          // how often each peer failed
    bool want_fresh, is_reused; // connections
    bool is_answered;           // the peer said something on this connection
    bool is_leaving;            // it said GOAWAY
    struct failure lost;        // err OK: some peer may still be asked
    struct agent_object object;
    struct source_spent spent; // by the peers, as they say

    // shared
    _Atomic bool aborted;
    pthread_mutex_t mutex;
    struct conn *conn; // set under mutex, by the stream thread
};

// Makes @range the next request, in front of those that wait. ERR_NO_MEMORY.
MUST_CHECK enum err agent_request_front(struct source_agent *a, const struct source_range *range);
MUST_CHECK enum err agent_request_add(struct source_agent *a, const struct source_range *range);
void agent_request_pop(struct source_agent *a);

// Sees to it that the first request is on its way, and more behind it. Whatever peers fail, it
// goes on with the next; the error is final.
MUST_CHECK enum err agent_ask(struct source_agent *a, struct failure *ret_failure);
// The next frame for the first request. Any error is one of this peer's, for agent_fail_over().
MUST_CHECK enum err agent_receive(struct source_agent *a, struct frame_header *ret_header,
                                  struct failure *ret_failure);
// The peer failed for @reason. OK: agent_ask() will ask another, or again; else final.
MUST_CHECK enum err agent_fail_over(struct source_agent *a, const struct failure *reason,
                                    struct failure *ret_failure);
// Asks the next peer from now on, although this one is well. false: there is no other.
bool agent_next_peer(struct source_agent *a);
// Closes the connection with all that is outstanding.
void agent_drop(struct source_agent *a);
// Asks that the rest of the open range is not sent.
MUST_CHECK enum err agent_cancel(struct source_agent *a, struct failure *ret_failure);
// Gives the connection back, if it can be used again.
void agent_release(struct source_agent *a);

// How a step ended, if not well.
struct agent_trouble {
    bool is_object; // the object cannot be read: for the caller. Else the peer failed.
    struct failure reason;
};
// Takes the answer to the first request up to its bytes: OBJECT, or an early OBJECT_END.
MUST_CHECK enum err agent_take_object(struct source_agent *a, struct frame_header *ret_header,
                                      struct object_entry *ret_entry, struct agent_trouble *t);
// Takes the next frame of the open object; of a DATA only the header.
MUST_CHECK enum err agent_advance(struct source_agent *a, struct agent_trouble *t);

#endif
