// SPDX-License-Identifier: Apache-2.0
// AgentService: the two methods that agents call.
#include "master/agents_impl.h"

static const struct rpc_method methods[] = {
    {.path = "/sluice.v1.AgentService/Session",
     .input = &sluice__v1__agent_message__descriptor,
     .input_stream = true,
     .max_unpacked_bytes = SESSION_MAX_UNPACKED_BYTES,
     .opened = agent_session_opened,
     .message = agent_session_message,
     .half_closed = agent_session_half_closed,
     .closed = agent_session_closed},
    {.path = "/sluice.v1.AgentService/List",
     .input = &sluice__v1__list_page__descriptor,
     .input_stream = true,
     .opened = agent_list_opened,
     .message = agent_list_message,
     .closed = agent_list_closed},
};

void agent_service_add(struct rpc_server *s, struct core *c) {
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        rpc_server_add(s, &methods[i], c);
    }
}
