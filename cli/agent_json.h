// SPDX-License-Identifier: Apache-2.0
// An agent and its volumes, as JSON and as text.
#ifndef CLI_AGENT_JSON_H
#define CLI_AGENT_JSON_H

#include "sluice/v1/cluster_service.pb-c.h"

#include <jansson.h>
#include <stdio.h>

json_t *agent_to_json(const Sluice__V1__AgentInfo *agent); // NULL: out of memory
json_t *limit_to_json(const Sluice__V1__Limit *limit);     // NULL: out of memory
// The agent's line, and one for each volume below it.
void agent_print(const Sluice__V1__AgentInfo *agent, int64_t now_ms, FILE *out);

#endif
