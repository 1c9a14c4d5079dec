// SPDX-License-Identifier: Apache-2.0
// Leases as a master would send them.
#ifndef TESTS_UNIT_AGENT_TASK_MESSAGE_H
#define TESTS_UNIT_AGENT_TASK_MESSAGE_H

#include "common/object_table.h"
#include "sluice/v1/task.pb-c.h"

#define TEST_FLOW "01ARZ3NDEKTSV4RRFFQ69G5FAV"

// One lease with storage for all that it points to. Fill `table` with task_add(), then
// task_lease(), then change what is special.
struct task_message {
    Sluice__V1__Lease lease;
    Sluice__V1__Epoch epoch;
    Sluice__V1__TaskSpec spec;
    Sluice__V1__Place source, sink;
    Sluice__V1__Receipt receipt;
    Sluice__V1__Receipt *receipts[1];
    struct object_table_builder table;
};

void task_begin(struct task_message *t, Sluice__V1__TaskKind kind, uint64_t task_id);
void task_end(struct task_message *t);
// An object as lstat() finds it at @real, under the name @path, with the next id (from 1).
void task_add(struct task_message *t, const char *path, const char *real);
// An object that is made up.
void task_add_entry(struct task_message *t, const char *path, enum object_type type,
                    const char *target);
// From @from below the volume "data" to @to below it; NULL: no such end.
Sluice__V1__Lease *task_lease(struct task_message *t, const char *from, const char *to);

#endif
