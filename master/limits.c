// SPDX-License-Identifier: Apache-2.0
#include "master/limits.h"

#include "common/log.h"
#include "common/rpc/rpc.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/database.h"
#include "master/flow.h"
#include "master/scheduler.h"

#include <stdlib.h>
#include <string.h>

enum { LOG_MS = 60000 };

struct limits {
    struct core *core;
    struct loop_timer *timer;
    struct limit_use told[LIMITS_COUNT];
};

void limits_look(const struct core *c, struct limit_use ret_uses[LIMITS_COUNT]) {
    const struct master_options *o = c->options;
    uint32_t n_calls = 0;
    uint64_t n_refused = 0, largest_bytes = 0, n_messages_refused = 0;
    if (c->server != NULL) {
        rpc_server_count_calls(c->server, &n_calls, &n_refused);
        rpc_server_count_messages(c->server, &largest_bytes, &n_messages_refused);
    }
    flows_limits(c->flows, ret_uses);
    ret_uses[4] = (struct limit_use){"tasks_in_memory", scheduler_n_tasks(c->scheduler),
                                     o->tasks_in_memory, 0};
    agents_limit(c->agents, &ret_uses[5]);
    ret_uses[6] = (struct limit_use){"calls", n_calls, o->calls, n_refused};
    ret_uses[7] =
        (struct limit_use){"message_bytes", largest_bytes, o->message_bytes, n_messages_refused};
}

static void on_timer(void *arg) {
    struct limits *l = arg;
    struct limit_use uses[LIMITS_COUNT];
    struct log_field fields[LIMITS_COUNT + 2];
    uint64_t refused = 0;
    limits_look(l->core, uses);
    if (memcmp(uses, l->told, sizeof uses) != 0) {
        for (size_t i = 0; i < LIMITS_COUNT; i++) {
            fields[i] = LOG_U64(uses[i].name, uses[i].now);
            refused += uses[i].refused;
        }
        fields[LIMITS_COUNT] = LOG_U64("refused", refused);
        fields[LIMITS_COUNT + 1] = LOG_U64("database_queued", database_queued(l->core->database));
        log_fields(LOG_INFO, "limits", fields, LIMITS_COUNT + 2);
        memcpy(l->told, uses, sizeof uses);
    }
    loop_timer_arm(l->timer, LOG_MS);
}

enum err limits_new(struct core *c, struct limits **ret_limits) {
    struct limits *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NO_MEMORY;
    }
    l->core = c;
    l->timer = loop_timer_new(c->loop, on_timer, l);
    if (l->timer == NULL) {
        free(l);
        return ERR_NO_MEMORY;
    }
    loop_timer_arm(l->timer, LOG_MS);
    *ret_limits = l;
    return OK;
}

void limits_free(struct limits *l) {
    if (l != NULL) {
        loop_timer_free(l->timer);
        free(l);
    }
}
