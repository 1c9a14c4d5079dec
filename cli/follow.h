// SPDX-License-Identifier: Apache-2.0
// A flow to its end before the user's eyes: a progress bar on a terminal, or events as JSON
// lines, then the summary. What `cp` and `watch` have in common.
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include "cli/client.h"
#include "cli/watch.h"

enum follow_output {
    FOLLOW_SUMMARY, // progress bar, if stderr is a terminal, and the summary
    FOLLOW_RESULT,  // with --json: the flow as one object, at its end
    FOLLOW_EVENTS,  // with --json: every event as one object
};

// Blocks. Returns the exit code that belongs to the flow's outcome.
int follow_flow(const struct invocation *inv, struct client *client, struct watch *watch,
                const char *flow_id, enum follow_output output);

#endif
