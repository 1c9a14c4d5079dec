// SPDX-License-Identifier: Apache-2.0
// An executor with one slot over a directory of its own, and what it tells.
#ifndef TESTS_UNIT_AGENT_EXECUTOR_FIXTURE_H
#define TESTS_UNIT_AGENT_EXECUTOR_FIXTURE_H

#include "agent/executor.h"
#include "agent/journal.h"
#include "agent/task_result.h"
#include "tests/unit/agent/scratch.h"

struct executor_fixture {
    struct scratch scratch; // with "from", and "state" for the journal
    struct tally *written, *stopped, *idle;
    uint64_t last_stopped; // the task
    struct agent_options options;
    struct clock_fake now;
    struct hold hold;
    struct volumes *volumes;
    struct journal *journal;
    struct run_tools tools;
    struct executor *executor;
    uint64_t n_ran, read_through;
};
extern struct executor_fixture fixture;

int executor_set_up(void **state);
int executor_tear_down(void **state);
// Runs it and gives its result.
Sluice__V1__TaskResult *run_lease(const Sluice__V1__Lease *l);

#endif
