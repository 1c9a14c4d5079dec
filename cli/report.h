// SPDX-License-Identifier: Apache-2.0
// What a command says at its end: a failure on stderr (and in JSON on stdout, if asked for),
// a JSON object as one line, the exit code.
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli/command.h"
#include "common/flow_state.h"

#include <jansson.h>

// "sluice: cannot …: reason; remedy". Returns the exit code.
int report_failure(const struct invocation *inv, const struct failure *f);
// Prints @take_object as one line on stdout. NULL stands for "out of memory". Returns 0, or
// the exit code after having said what failed (also if stdout cannot be written).
int report_json(const struct invocation *inv, json_t *take_object);
// Flushes stdout and says so if that fails: a full disk must not look like success.
int report_end(const struct invocation *inv, int exit_code);
// A line on stderr for people, beside the command's result.
void report_note(const char *fmt, ...) PRINTF_LIKE(1, 2);

int outcome_exit_code(enum flow_outcome o); // OUTCOME_NONE: EXIT_FAILED

// {"code", "errno", "operation", "path", "message", "remedy", "agent"}; NULL: out of memory.
json_t *failure_to_json(const struct failure *f, const char *agent);

#endif
