// SPDX-License-Identifier: Apache-2.0
// struct failure to and from its message. The one place where the two meet.
#ifndef COMMON_RPC_FAILURE_MESSAGE_H
#define COMMON_RPC_FAILURE_MESSAGE_H

#include "common/failure.h"
#include "sluice/v1/types.pb-c.h"

// Storage behind a message that points into it: fill, send, forget.
struct failure_message {
    Sluice__V1__Failure message;
    char agent[128];
    char code[32];
    struct failure copy;
};
// @agent may be NULL.
void failure_to_message(const struct failure *f, const char *agent, struct failure_message *ret_m);
void failure_from_message(const Sluice__V1__Failure *m, struct failure *ret_failure);

#endif
