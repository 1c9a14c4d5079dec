// SPDX-License-Identifier: Apache-2.0
// The life of a flow: which event may follow which state. Pure functions over one table.
// gRPC, the database, the log and REST all use it. The numbers are those of FlowState in
// proto/sluice/v1/types.proto; 0 is deliberately no state.
#ifndef COMMON_FLOW_STATE_H
#define COMMON_FLOW_STATE_H

#include "common/err.h"

#include <stdbool.h>

enum flow_state {
    FLOW_INITIALIZED = 1,
    FLOW_PREPARING,
    FLOW_PREPARED,
    FLOW_STARTING,
    FLOW_STARTED,
    FLOW_SUSPENDED,
    FLOW_COMPLETED,
    FLOW_TERMINATED,
    FLOW_STATE_COUNT,
};

enum flow_event {
    FLOW_EV_PREPARE,  // command from a client
    FLOW_EV_PREPARED, // report; also at once, from INITIALIZED
    FLOW_EV_START,    // command
    FLOW_EV_STARTED,  // report; also at once, from INITIALIZED and PREPARED
    FLOW_EV_SUSPEND,
    FLOW_EV_RESUME,
    FLOW_EV_COMPLETE,
    FLOW_EV_TERMINATE,
    FLOW_EVENT_COUNT,
};

enum flow_phase {
    PHASE_NONE,
    PHASE_QUEUED,
    PHASE_PLANNING,
    PHASE_TRANSFERRING,
    PHASE_FINISHING,
    PHASE_VERIFYING,
};

enum flow_outcome {
    OUTCOME_NONE,
    OUTCOME_DELIVERED,
    OUTCOME_PARTIAL,
    OUTCOME_FAILED,
    OUTCOME_CANCELLED,
};

const char *flow_state_name(enum flow_state s);     // "STARTED"
const char *flow_event_name(enum flow_event ev);    // "start"
const char *flow_phase_name(enum flow_phase p);     // "transferring"; "" for none
const char *flow_outcome_name(enum flow_outcome o); // "delivered"; "" for none
bool flow_state_is_final(enum flow_state s);

// ERR_STATE, with *@ret_to untouched: the table has no such edge.
MUST_CHECK enum err flow_state_next(enum flow_state from, enum flow_event ev,
                                    enum flow_state *ret_to);

#endif
