// SPDX-License-Identifier: Apache-2.0
// The agents that are, or were, connected: their sessions, volumes and what they hold.
// Core thread.
#ifndef MASTER_AGENTS_H
#define MASTER_AGENTS_H

#include "common/failure.h"
#include "common/location.h"
#include "master/place.h"
#include "sluice/v1/agent_service.pb-c.h"
#include "sluice/v1/cluster_service.pb-c.h"

struct agents;
struct core;
struct rpc_server;
struct scheduler_command;

MUST_CHECK enum err agents_new(struct core *c, struct agents **ret_agents);
void agents_free(struct agents *a);
// Adds AgentService (Session and List) to the server. (agent_service.c)
void agent_service_add(struct rpc_server *s, struct core *c);

// Where is this? The longest root that contains the path wins. For @write a writable one.
// ERR_AGAIN: agents that came just now are still being asked whether they share the volume.
// ERR_NOT_FOUND (site unknown: the remedy lists those known), ERR_NO_AGENT (site known, none
// connected), ERR_NO_VOLUME (remedy lists the site's roots), ERR_NOT_SHARED (several agents have
// it, not proven to be the same: name one with SITE/AGENT:/path).
MUST_CHECK enum err agents_resolve(struct agents *a, const struct location *l, bool write,
                                   struct place *ret_place, struct failure *ret_failure);

// Sends the lease (ASSIGN), the wish (YIELD) or the order (REVOKE) to its agent. The spec comes
// from the planner, tickets are signed here.
void agents_execute(struct agents *a, const struct scheduler_command *command);

// For ClusterService. The message belongs to the caller: free with agents_list_free().
Sluice__V1__ListAgentsResponse *agents_list(struct agents *a, const char *site_or_empty);
void agents_list_free(Sluice__V1__ListAgentsResponse *m);
// ERR_NOT_FOUND.
MUST_CHECK enum err agents_drain(struct agents *a, const char *agent, bool draining,
                                 struct failure *ret_failure);
// The loop runs: if it did not for a while (a stopped process, a suspended machine), what the
// agents sent meanwhile has not been read yet, and none of them is to be taken for lost.
void agents_loop_runs(struct agents *a);
// The same message to all that are connected. How many.
size_t agents_tell(struct agents *a, Sluice__V1__MasterMessage *m);
size_t agents_connected(const struct agents *a);
struct limit_use;
void agents_limit(const struct agents *a, struct limit_use *ret_use); // those known, also if away
void agents_say_goodbye(struct agents *a);                            // the master stops

#endif
