// SPDX-License-Identifier: Apache-2.0
// A whole master: state directory, core thread, gRPC server. A process may run several, each
// on a state directory of its own.
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "common/clock.h"
#include "common/failure.h"
#include "master/master_options.h"

struct master;

// Returns once it serves: unfinished flows are loaded, the port file is written and
// "master_started" is logged. @o and @clock must outlive it. Signals must be blocked (threads
// are started here). Whatever is in the way is in the failure: ERR_BUSY_PORT, ERR_LOCKED,
// ERR_CONFIG, ERR_DATABASE, …
MUST_CHECK enum err master_start(const struct master_options *o, const struct clock *clock,
                                 struct master **ret_master, struct failure *ret_failure);
const char *master_address(const struct master *m); // "host:port" as it listens; any thread
// Refuses new calls, says goodbye to the agents (which go on with what they have), stores what
// is queued and ends. Returns within seconds. Any thread but the core's. NULL: does nothing.
void master_stop(struct master *m);

// Looks whether a master could use the database that is configured, and changes nothing. May be
// called while a master runs. ERR_DATABASE: the failure says what is wrong with it.
MUST_CHECK enum err master_check_database(const struct master_options *o,
                                          struct failure *ret_failure);

#endif
