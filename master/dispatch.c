// SPDX-License-Identifier: Apache-2.0
// Runs what the scheduler decided.
#include "common/log.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/flow.h"
#include "master/planner.h"
#include "master/scheduler.h"

// So many, and then the loop has its turn before it goes on.
enum { COMMANDS_AT_A_TIME = 128 };

static void assign(struct core *c, const struct scheduler_command *cmd) {
    uint32_t attempt = 1;
    if (planner_spec(c->planner, cmd->task_id, &attempt) == NULL) {
        log_event(LOG_ERROR, "task_unknown", LOG_STR("flow", cmd->flow),
                  LOG_U64("task", cmd->task_id), LOG_STR("agent", cmd->agent));
        scheduler_task_drop(c->scheduler, cmd->task_id, clock_mono_ms(c->clock));
        return;
    }
    planner_leased(c->planner, cmd->task_id, cmd->epoch, cmd->agent);
    agents_execute(c->agents, cmd);
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
    case SCHED_REVOKE: agents_execute(c->agents, cmd); break;
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
    int64_t wake_ms = 0;
    for (int i = 0; i < COMMANDS_AT_A_TIME; i++) {
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
