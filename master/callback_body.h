// SPDX-License-Identifier: Apache-2.0
// What a callback says of a flow, as JSON (docs/callbacks.md). Pure.
#ifndef MASTER_CALLBACK_BODY_H
#define MASTER_CALLBACK_BODY_H

#include "common/ident.h"
#include "master/flow.h"

enum { CALLBACK_ID_SIZE = IDENT_SIZE + 21 };

// The id of an event, the same at every attempt: "FLOW-SEQ".
void callback_id(const char *flow, uint64_t seq, char ret_id[CALLBACK_ID_SIZE]);
// @progress: how far it is; if not, that it came into the state in which it is. free() the
// body; it is NULL if the flow has no callback, or nobody is to be told of that state.
// ERR_NO_MEMORY.
MUST_CHECK enum err callback_body(const struct flow *f, uint64_t seq, int64_t at_ms, bool progress,
                                  char **ret_body);

#endif
