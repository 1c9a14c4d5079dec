// SPDX-License-Identifier: Apache-2.0
// The List call of one LIST task: a slot's thread hands it pages, the control loop sends them.
//
// Back-pressure: at most LIST_PAGES_AHEAD pages are sent that the master has not committed; a
// slot that is further ahead waits. It waits as long as the lease may act: the session stops
// the lease (which interrupts the stream) when the master is not heard any more.
#ifndef AGENT_LIST_STREAM_H
#define AGENT_LIST_STREAM_H

#include "common/failure.h"
#include "common/rpc/rpc.h"
#include "sluice/v1/task.pb-c.h"

enum { LIST_PAGES_AHEAD = 4 };

struct list_stream;

// Where List calls go. Constant while streams exist, but for n_open.
struct list_lane {
    struct loop *loop;
    struct rpc_channel *channel;
    // on the loop's thread
    size_t n_open;            // calls that are not closed yet
    void (*idle)(void *user); // n_open came to 0; may be NULL
    void *user;
};

struct list_page {
    uint32_t directory;
    const uint8_t *entries; // an object table; copied
    size_t entries_len;
    bool directory_done;
    const struct failure *failure; // NULL: none
    bool last;
    uint64_t walk_us;
};

// All but _free and _interrupt on the slot's thread.
MUST_CHECK enum err list_stream_new(struct list_lane *lane, const Sluice__V1__Lease *lease,
                                    const char *agent, struct list_stream **ret_stream);
// ERR_PEER_LOST: the call ended; ERR_CANCELLED: interrupted; or the master's wish to stop.
MUST_CHECK enum err list_stream_send(struct list_stream *s, const struct list_page *p,
                                     struct failure *ret_failure);
// Waits until the master has committed the last page. Errors as above.
MUST_CHECK enum err list_stream_finish(struct list_stream *s, struct failure *ret_failure);
void list_stream_interrupt(void *s); // any thread
void list_stream_free(struct list_stream *s);

#endif
