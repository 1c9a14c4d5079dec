// SPDX-License-Identifier: Apache-2.0
// Follows a flow's events to its end, across broken connections and restarts of the master:
// each time it asks again from the last event seen.
#ifndef CLI_WATCH_H
#define CLI_WATCH_H

#include "cli/client.h"
#include "sluice/v1/flow_service.pb-c.h"

struct watch;

struct watch_options {
    const char *flow_id; // borrowed
    uint64_t from_seq;
    // 0: to the flow's end. Else stops after the event with this number, or, if that event
    // was thinned out, when nothing more comes for a second; and then a connection that breaks
    // is a failure.
    uint64_t until_seq;
    // Both run on the thread of watch_run(). The event is valid during the call only.
    void (*event)(const Sluice__V1__FlowEvent *event, void *user);
    void (*note)(const char *text, void *user); // for people: the connection is lost, or back
    void *user;
};

// @client is borrowed. NULL: out of memory.
struct watch *watch_new(struct client *client);
void watch_free(struct watch *w);

// Blocks. *@ret_flow is the flow as it ended (free_reply() it), or NULL with until_seq.
// Connections that break are not failures; NOT_FOUND, a refused client and the like are.
MUST_CHECK enum err watch_run(struct watch *w, const struct watch_options *options,
                              Sluice__V1__Flow **ret_flow, struct failure *ret_failure);

// Asks the master to cancel the flow; watch_run() then ends with the flow as it is after
// that, or with a failure if the master cannot be asked. May come before watch_run(). Any thread.
void watch_cancel_flow(struct watch *w);

// A copy that lives on. NULL: out of memory.
Sluice__V1__Flow *flow_copy(const Sluice__V1__Flow *flow);

#endif
