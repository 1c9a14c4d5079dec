// SPDX-License-Identifier: Apache-2.0
// struct flow to and from sluice.v1.Flow. The one place where the two meet. Core thread.
#ifndef MASTER_FLOW_MESSAGE_H
#define MASTER_FLOW_MESSAGE_H

#include "common/rpc/failure_message.h"
#include "master/flow.h"

// What of a flow goes into its message.
enum flow_message_parts {
    FLOW_MESSAGE_BRIEF, // without spec and agents: events of progress
    FLOW_MESSAGE_EVENT, // with agents, without spec
    FLOW_MESSAGE_FULL,
};

// A message and the storage that it points into; the flow's spec and texts are borrowed, so the
// flow must outlive it. fill, send, deinit.
struct flow_message {
    Sluice__V1__Flow message;
    Sluice__V1__Why why;
    struct failure_message error, held_up;
    Sluice__V1__SuspensionHolder holders[4];
    char bottleneck[256];
    Sluice__V1__AgentShare *shares;
    Sluice__V1__AgentShare **share_pointers;
};
// ERR_NO_MEMORY.
MUST_CHECK enum err flow_message_init(const struct flow *f, enum flow_message_parts parts,
                                      struct flow_message *ret_m);
void flow_message_deinit(struct flow_message *m);

// What limits the flow, in words, from where its streams' time went: "the source's disk (61 %)".
void flow_bottleneck(const struct flow_progress *p, char *buf, size_t cap);
int64_t flow_eta_ms(const struct flow *f); // from now; -1: unknown

// As the command line writes it, for the log. free() it. NULL: out of memory, or none.
char *flow_location_text(const Sluice__V1__Location *l);

#endif
