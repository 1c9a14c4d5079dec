// SPDX-License-Identifier: Apache-2.0
// A cluster in which only the scheduler is real: agents that are slow, fail, vanish and come
// back, a network that cuts and partitions, a master that restarts, a database that commits a
// little later. Time is simulated; a seed decides everything, so any run can be replayed.
#ifndef TESTS_SIMULATION_MASTER_SIMULATED_CLUSTER_H
#define TESTS_SIMULATION_MASTER_SIMULATED_CLUSTER_H

#include "master/scheduler.h"

struct sim;

struct sim_options {
    uint64_t seed;
    uint32_t n_sources, n_sinks; // agents of site "a" and of site "b"
    uint32_t slots;              // 0: by chance
    uint32_t n_flows, n_tasks;   // tasks of each flow
    uint64_t task_cost;          // bytes; 0: by chance
    double rate;                 // bytes per ms and slot; 0: by chance
    int64_t begin_ms;            // when the flows come
    uint32_t n_slow;             // so many sink agents run at a tenth of the rate
    int64_t faults_until_ms;     // 0: none
    uint32_t failures_percent;   // of the tasks' attempts
    bool check_all;              // all structures after every event
};

struct sim *sim_new(const struct sim_options *o);
void sim_free(struct sim *s);
// Runs until all tasks are done. false: something was violated, see sim_violation().
bool sim_run(struct sim *s);
const char *sim_violation(const struct sim *s);
int64_t sim_now_ms(const struct sim *s);
uint64_t sim_n_events(const struct sim *s);
// How many leases an agent of site "b" got before any task was done.
uint32_t sim_first_assignments(const struct sim *s, uint32_t sink);

#endif
