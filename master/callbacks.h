// SPDX-License-Identifier: Apache-2.0
// Callbacks from the database's outbox to their receivers: at least once each, those of a flow in
// order, several flows at a time. What fails is tried again, later and later, until its attempts
// are used up; then it is dead: kept and listed, and the flow's next one goes on. Core thread.
#ifndef MASTER_CALLBACKS_H
#define MASTER_CALLBACKS_H

#include "common/failure.h"

#include <stdint.h>

struct callback_options;
struct callbacks;
struct core;

// Reads the secret and starts the sender. ERR_CONFIG, those of the secret's file.
MUST_CHECK enum err callbacks_new(struct core *c, struct callbacks **ret_callbacks,
                                  struct failure *ret_failure);
// Something was added to the outbox, or is there from before. NULL: does nothing.
void callbacks_wake(struct callbacks *cb);
// Breaks off what is on its way, and sends no more. NULL: does nothing.
void callbacks_stop(struct callbacks *cb);
void callbacks_free(struct callbacks *cb);

// How long until the next attempt, after @attempts that failed (at least 1): doubled each time up
// to a limit, of which a part, by @random, is left out, so that many do not come back at once.
int64_t callback_delay_ms(const struct callback_options *o, uint32_t attempts, uint32_t random);

#endif
