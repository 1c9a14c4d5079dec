// SPDX-License-Identifier: Apache-2.0
#include "common/flow_state.h"

#include "common/cleanup.h"

#include <stddef.h>

static const char *const state_names[FLOW_STATE_COUNT] = {
    [FLOW_INITIALIZED] = "INITIALIZED", [FLOW_PREPARING] = "PREPARING",
    [FLOW_PREPARED] = "PREPARED",       [FLOW_STARTING] = "STARTING",
    [FLOW_STARTED] = "STARTED",         [FLOW_SUSPENDED] = "SUSPENDED",
    [FLOW_COMPLETED] = "COMPLETED",     [FLOW_TERMINATED] = "TERMINATED",
};

static const char *const event_names[FLOW_EVENT_COUNT] = {
    [FLOW_EV_PREPARE] = "prepare",   [FLOW_EV_PREPARED] = "prepared",   [FLOW_EV_START] = "start",
    [FLOW_EV_STARTED] = "started",   [FLOW_EV_SUSPEND] = "suspend",     [FLOW_EV_RESUME] = "resume",
    [FLOW_EV_COMPLETE] = "complete", [FLOW_EV_TERMINATE] = "terminate",
};

static const char *const phase_names[] = {
    [PHASE_NONE] = "",
    [PHASE_QUEUED] = "queued",
    [PHASE_PLANNING] = "planning",
    [PHASE_TRANSFERRING] = "transferring",
    [PHASE_FINISHING] = "finishing",
    [PHASE_VERIFYING] = "verifying",
};

static const char *const outcome_names[] = {
    [OUTCOME_NONE] = "",         [OUTCOME_DELIVERED] = "delivered", [OUTCOME_PARTIAL] = "partial",
    [OUTCOME_FAILED] = "failed", [OUTCOME_CANCELLED] = "cancelled",
};

// [from][event] is the next state; 0: refused. TERMINATE is allowed wherever it is not final.
static const enum flow_state next_state[FLOW_STATE_COUNT][FLOW_EVENT_COUNT] = {
    [FLOW_INITIALIZED] =
        {
            [FLOW_EV_PREPARE] = FLOW_PREPARING,
            [FLOW_EV_PREPARED] = FLOW_PREPARED,
            [FLOW_EV_START] = FLOW_STARTING,
            [FLOW_EV_STARTED] = FLOW_STARTED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
    [FLOW_PREPARING] =
        {
            [FLOW_EV_PREPARED] = FLOW_PREPARED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
    [FLOW_PREPARED] =
        {
            [FLOW_EV_START] = FLOW_STARTING,
            [FLOW_EV_STARTED] = FLOW_STARTED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
    [FLOW_STARTING] =
        {
            [FLOW_EV_STARTED] = FLOW_STARTED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
    [FLOW_STARTED] =
        {
            [FLOW_EV_SUSPEND] = FLOW_SUSPENDED,
            [FLOW_EV_COMPLETE] = FLOW_COMPLETED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
    [FLOW_SUSPENDED] =
        {
            [FLOW_EV_RESUME] = FLOW_STARTED,
            [FLOW_EV_TERMINATE] = FLOW_TERMINATED,
        },
};

static const char *name_of(const char *const *names, size_t n, unsigned i) {
    return i < n && names[i] != NULL ? names[i] : "?";
}

const char *flow_state_name(enum flow_state s) {
    return name_of(state_names, ARRAY_LEN(state_names), (unsigned)s);
}

const char *flow_event_name(enum flow_event ev) {
    return name_of(event_names, ARRAY_LEN(event_names), (unsigned)ev);
}

const char *flow_phase_name(enum flow_phase p) {
    return name_of(phase_names, ARRAY_LEN(phase_names), (unsigned)p);
}

const char *flow_outcome_name(enum flow_outcome o) {
    return name_of(outcome_names, ARRAY_LEN(outcome_names), (unsigned)o);
}

bool flow_state_is_final(enum flow_state s) {
    return s == FLOW_COMPLETED || s == FLOW_TERMINATED;
}

enum err flow_state_next(enum flow_state from, enum flow_event ev, enum flow_state *ret_to) {
    if ((unsigned)from >= FLOW_STATE_COUNT || (unsigned)ev >= FLOW_EVENT_COUNT ||
        next_state[from][ev] == 0) {
        return ERR_STATE;
    }
    *ret_to = next_state[from][ev];
    return OK;
}
