// SPDX-License-Identifier: Apache-2.0
// This run of the agent: it alone owns the state directory (flock), and it has a name of its
// own. A newer incarnation is proof for the master that the one before acts no more.
#ifndef AGENT_INCARNATION_H
#define AGENT_INCARNATION_H

#include "common/clock.h"
#include "common/daemon.h"
#include "common/failure.h"
#include "common/ident.h"

struct incarnation {
    int lock_fd; // held as long as the process lives
    char id[IDENT_SIZE];
    char boot_id[DAEMON_BOOT_ID_SIZE]; // of this machine: changes with each boot
};

// Makes @state_dir (mode 0700) if it is missing and locks it. ERR_LOCKED: another agent has it.
MUST_CHECK enum err incarnation_begin(const char *state_dir, const struct clock *clock,
                                      struct incarnation *ret_incarnation,
                                      struct failure *ret_failure);
void incarnation_end(struct incarnation *i);

#endif
