// SPDX-License-Identifier: Apache-2.0
// A whole agent: state directory, volumes, data server, slots, session. A process may run
// several, each on a state directory of its own.
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/agent_options.h"
#include "common/clock.h"

struct agent;

// Everything but the master must be there: ERR_LOCKED, ERR_NOT_FOUND (a volume's root),
// ERR_BUSY_PORT, …; the failure says what to do. The master is dialled in the background.
// @o and @clock must outlive the agent. Signals must be blocked (threads are started here).
MUST_CHECK enum err agent_start(const struct agent_options *o, const struct clock *clock,
                                struct agent **ret_agent, struct failure *ret_failure);
const char *agent_data_address(const struct agent *a); // as it listens
// Takes no new tasks and ends when those that run are done, or after SESSION_DRAIN_MS.
void agent_drain(struct agent *a);
// Becomes readable when the agent has drained.
int agent_drained_fd(const struct agent *a);
// Follows the signals that @signal_fd (a signalfd) brings: SIGHUP reopens the log, others drain
// the agent, a second one ends the process. Returns the process's exit code once it has drained.
int agent_serve(struct agent *a, int signal_fd);
// After it has drained. NULL is fine.
void agent_free(struct agent *a);

// Opens the volumes, to see whether an agent could start.
MUST_CHECK enum err agent_check(const struct agent_options *o, struct failure *ret_failure);

#endif
