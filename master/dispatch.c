// SPDX-License-Identifier: Apache-2.0
// Runs what the scheduler decided. What agents are told about leases goes through one queue: a
// lease is told after it is stored, and nothing overtakes it.
#include "common/log.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/flow.h"
#include "master/planner.h"
#include "master/scheduler.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

// So many, and then the loop has its turn before it goes on.
enum { COMMANDS_AT_A_TIME = 128 };
// No more is fetched while so many orders wait for the database.
enum { ORDERS_MAX = 1024 };

struct order {
    struct order *prev, *next;
    struct core *core;
    bool ready; // what it needs is stored
    struct scheduler_command command;
};

// Meanwhile its agent may have been lost, or the task may not be wanted any more.
static bool is_current(struct core *c, const struct scheduler_command *cmd) {
    const char *holder = scheduler_holder(c->scheduler, cmd->task_id, cmd->epoch);
    uint32_t attempt = 1;
    return holder != NULL && strcmp(holder, cmd->agent) == 0 &&
           planner_spec(c->planner, cmd->task_id, &attempt) != NULL;
}

static void order_free(struct order *o) {
    DL_DELETE(o->core->dispatch.orders, o);
    o->core->dispatch.n_orders--;
    free(o);
}

static void tell_agents(struct core *c) {
    while (c->dispatch.orders != NULL && c->dispatch.orders->ready && !c->stopping) {
        struct scheduler_command cmd = c->dispatch.orders->command;
        order_free(c->dispatch.orders);
        if (cmd.kind != SCHED_ASSIGN || is_current(c, &cmd)) {
            agents_execute(c->agents, &cmd);
        }
    }
}

static void lease_stored(void *arg, enum err result) {
    struct order *o = arg;
    struct core *c = o->core;
    o->ready = true;
    if (result != OK) { // the master stops, or the flow has ended: the lease is never told
        if (result == ERR_NO_MEMORY || result == ERR_INTERNAL) {
            scheduler_agent_down(c->scheduler, o->command.agent, false, clock_mono_ms(c->clock));
        }
        order_free(o);
    }
    tell_agents(c);
    core_dispatch(c);
}

static struct order *order_new(struct core *c, const struct scheduler_command *cmd) {
    struct order *o = calloc(1, sizeof *o);
    if (o == NULL) { // its agent reports again, and then has not got the lease
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "dispatch"));
        scheduler_agent_down(c->scheduler, cmd->agent, false, clock_mono_ms(c->clock));
        return NULL;
    }
    o->core = c;
    o->command = *cmd;
    DL_APPEND(c->dispatch.orders, o);
    c->dispatch.n_orders++;
    return o;
}

static void assign(struct core *c, const struct scheduler_command *cmd) {
    uint32_t attempt = 1;
    if (planner_spec(c->planner, cmd->task_id, &attempt) == NULL) {
        log_event(LOG_ERROR, "task_unknown", LOG_STR("flow", cmd->flow),
                  LOG_U64("task", cmd->task_id), LOG_STR("agent", cmd->agent));
        scheduler_task_drop(c->scheduler, cmd->task_id, clock_mono_ms(c->clock));
        return;
    }
    struct order *o = order_new(c, cmd);
    if (o != NULL) {
        planner_leased(c->planner, cmd->task_id, cmd->epoch, cmd->agent, lease_stored, o);
    }
}

static void order(struct core *c, const struct scheduler_command *cmd) {
    struct order *o = order_new(c, cmd);
    if (o != NULL) {
        o->ready = true;
        tell_agents(c);
    }
}

void core_dispatch_deinit(struct core *c) {
    struct order *o, *next;
    DL_FOREACH_SAFE(c->dispatch.orders, o, next) {
        order_free(o);
    }
    loop_timer_free(c->dispatch.wake);
}

static const char *how_text(enum lease_closed_how how) {
    switch (how) {
    case CLOSED_RELEASED: return "released";
    case CLOSED_INCARNATION: return "restarted";
    case CLOSED_EXPIRED: return "expired";
    }
    return "";
}

static void closed(struct core *c, const struct scheduler_command *cmd) {
    log_event(cmd->how == CLOSED_RELEASED ? LOG_DEBUG : LOG_WARN, "lease_lost",
              LOG_STR("flow", cmd->flow), LOG_U64("task", cmd->task_id),
              LOG_STR("agent", cmd->agent), LOG_U64("term", cmd->epoch.term),
              LOG_U64("counter", cmd->epoch.counter), LOG_STR("how", how_text(cmd->how)));
    planner_lease_closed(c->planner, cmd->task_id, cmd->epoch, cmd->agent, cmd->how);
}

static void run(struct core *c, const struct scheduler_command *cmd) {
    switch (cmd->kind) {
    case SCHED_NONE: break;
    case SCHED_ASSIGN: assign(c, cmd); break;
    case SCHED_YIELD:
    case SCHED_REVOKE: order(c, cmd); break;
    case SCHED_WANT_TASKS: planner_want_tasks(c->planner, cmd->flow, cmd->n); break;
    case SCHED_UNRUNNABLE:
        log_event(LOG_WARN, "task_unrunnable", LOG_STR("flow", cmd->flow),
                  LOG_U64("task", cmd->task_id), LOG_STR("code", err_name(cmd->err)));
        planner_unrunnable(c->planner, cmd->task_id, cmd->err);
        break;
    case SCHED_CLOSED: closed(c, cmd); break;
    case SCHED_QUIET: flow_is_quiet(c, cmd->flow); break;
    }
}

static void woken(void *arg) {
    core_dispatch(arg);
}

void core_dispatch(struct core *c) {
    if (c->dispatch.busy || c->stopping) {
        return; // what a command leads to is fetched by the loop below
    }
    if (c->dispatch.wake == NULL &&
        (c->dispatch.wake = loop_timer_new(c->loop, woken, c)) == NULL) {
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "dispatch"));
    }
    c->dispatch.busy = true;
    agents_loop_runs(c->agents);
    int64_t wake_ms = c->dispatch.n_orders < ORDERS_MAX ? 0 : INT64_MAX;
    for (int i = 0; i < COMMANDS_AT_A_TIME && c->dispatch.n_orders < ORDERS_MAX; i++) {
        struct scheduler_command cmd;
        scheduler_next_command(c->scheduler, clock_mono_ms(c->clock), &cmd, &wake_ms);
        if (cmd.kind == SCHED_NONE) {
            break;
        }
        run(c, &cmd);
    }
    c->dispatch.busy = false;
    if (c->dispatch.wake != NULL && wake_ms < INT64_MAX) {
        int64_t in_ms = wake_ms - clock_mono_ms(c->clock);
        loop_timer_arm(c->dispatch.wake, in_ms > 0 ? in_ms : 0);
    } else if (c->dispatch.wake != NULL) {
        loop_timer_disarm(c->dispatch.wake);
    }
}
