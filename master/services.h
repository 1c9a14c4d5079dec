// SPDX-License-Identifier: Apache-2.0
// The gRPC faces of flows and cluster: they translate, and hold no logic. (AgentService:
// agents.h.) Core thread.
#ifndef MASTER_SERVICES_H
#define MASTER_SERVICES_H

struct core;
struct rpc_server;

void flow_service_add(struct rpc_server *s, struct core *c);
void callback_service_add(struct rpc_server *s, struct core *c);
void credential_service_add(struct rpc_server *s, struct core *c);
void cluster_service_add(struct rpc_server *s, struct core *c);

#endif
