// SPDX-License-Identifier: Apache-2.0
// A scheduler to try: agents of site "a" hold what is read, those of site "b" are written to.
#ifndef TESTS_UNIT_MASTER_SCHEDULER_FIXTURE_H
#define TESTS_UNIT_MASTER_SCHEDULER_FIXTURE_H

#include "tests/lib/test.h"

#include "master/scheduler.h"

enum { HOLD_MS = 30000, LOST_MS = 5000, PARK_MS = 60000, MAX_COMMANDS = 4096 };
#define FLOW "01HZZZZZZZZZZZZZZZZZZZZZZA"

extern struct scheduler *s;
extern int64_t now_ms, wake_ms;
extern struct scheduler_command commands[MAX_COMMANDS]; // of the last run()
extern size_t n_commands;

// The scheduler that setup made is replaced.
void start_at(int64_t reconcile_until_ms, uint64_t term, uint32_t max_tasks);
int start(void **state);
int stop(void **state);
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)

void run(void); // fetches all commands
size_t count(enum scheduler_command_kind kind, const char *agent_or_null);
const struct scheduler_command *command(enum scheduler_command_kind kind); // the first; or fails
void agent_up_as(const char *name, const char *site, const char *incarnation, uint32_t slots,
                 bool shared);
void agent_up(const char *name, const char *site); // 2 slots
struct scheduler_flow flow_of(const char *id);     // from site "a" to "b"
void flow_add(void);
struct scheduler_task task_of(uint64_t id);
void tasks_add(uint64_t first, uint64_t n);
void later(int64_t ms, bool heard); // time passes; are the agents heard meanwhile?
void done(const struct scheduler_command *c);

#endif
