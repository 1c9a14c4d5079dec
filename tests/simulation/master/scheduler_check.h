// SPDX-License-Identifier: Apache-2.0
// Looks into a scheduler after its last command was fetched.
#ifndef TESTS_SIMULATION_MASTER_SCHEDULER_CHECK_H
#define TESTS_SIMULATION_MASTER_SCHEDULER_CHECK_H

#include "master/scheduler.h"

// Do all counters and lists agree, and is nothing left ready that somebody could run? NULL: yes;
// else what is wrong.
const char *scheduler_check(const struct scheduler *s);

#endif
