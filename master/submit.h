// SPDX-License-Identifier: Apache-2.0
// What happens between a request for a flow and its acceptance: the spec is checked, both places
// are found, and the flow is stored. Core thread.
#ifndef MASTER_SUBMIT_H
#define MASTER_SUBMIT_H

#include "common/failure.h"
#include "sluice/v1/flow_service.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct core;

enum {
    SUBMIT_LABELS_MAX = 64,
    SUBMIT_AFTER_MAX = 63,
    SUBMIT_TAGS_MAX = 10,   // what S3 allows
    SUBMIT_TEXT_MAX = 255,  // bytes of a request id, owner, namespace, label
    SUBMIT_PATH_MAX = 3800, // bytes of a path: a name of 255 still fits below it
    // How long volumes may take to be proven, and agents to come back after a master's start.
    SUBMIT_PATIENCE_MS = 5000,
    SUBMIT_RETRY_MS = 100,
};

// Can this version do what the spec says? Pure. ERR_INVALID and ERR_UNIMPLEMENTED name the
// field. @now_ms: wall clock.
MUST_CHECK enum err submit_check(const Sluice__V1__FlowSpec *spec, int64_t now_ms,
                                 struct failure *ret_failure);

// @peer: the authenticated client; NULL: nobody asked. @retry_of: the flow that this is another
// attempt of; "": none. @done comes once, perhaps at once, as that of flow_accept().
void submit(struct core *c, const Sluice__V1__FlowSpec *spec, const char *request_id,
            const char *retry_of, const char *peer,
            void (*done)(void *arg, const char *flow_id, bool existed,
                         const struct failure *failure),
            void *arg);

#endif
