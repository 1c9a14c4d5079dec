// SPDX-License-Identifier: Apache-2.0
// What a master does while another one is active on its database, and when it is the active one no
// longer.
#ifndef MASTER_STANDBY_H
#define MASTER_STANDBY_H

#include "common/failure.h"

#include <stdbool.h>

// For database_open(): goes on waiting until SIGTERM or SIGINT is pending (they are blocked, and
// stay for the caller's sigwait()). Says that it waits, once, to the log and to the supervisor.
bool standby_wait(void *arg, bool begins);

// For database_on_lost(): ends the process at once. What it would still tell agents or clients
// might contradict the master that is active now.
void standby_stop_acting(void *arg, const struct failure *f);

#endif
