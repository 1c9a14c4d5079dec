// SPDX-License-Identifier: Apache-2.0
// The played agents: a lease is carried out in a turn or two, or goes wrong. Part of
// planner_world.h, which includes it in its middle.
#include "tests/unit/master/planner_world.h"

#ifndef TESTS_UNIT_MASTER_PLANNER_WORLD_AGENT_H
#define TESTS_UNIT_MASTER_PLANNER_WORLD_AGENT_H

#define LEAF ((uint64_t)4 << 20)

static void running_free(struct running *r) {
    if (r != NULL) {
        sluice__v1__task_spec__free_unpacked(r->spec, NULL);
        free(r);
    }
}

static void agent_clear(struct sim_agent *a) {
    for (int i = 0; i < RUNNING_MAX; i++) {
        running_free(a->running[i]);
        a->running[i] = NULL;
    }
}

static int agent_index(const struct world *w, const struct sim_agent *a) {
    return (int)(a - w->agents);
}

static struct sim_agent *agent_named(struct world *w, const char *name) {
    for (int i = 0; i < AGENTS; i++) {
        if (strcmp(w->agents[i].name, name) == 0) {
            return &w->agents[i];
        }
    }
    fail();
    return NULL;
}

static void assign(struct world *w, const struct scheduler_command *cmd) {
    struct planner *p = w->core.planner;
    struct sim_agent *a = agent_named(w, cmd->agent);
    uint32_t attempt = 0;
    const Sluice__V1__TaskSpec *spec = planner_spec(p, cmd->task_id, &attempt);
    assert_non_null(spec);
    planner_leased(p, cmd->task_id, cmd->epoch, cmd->agent, NULL, NULL);
    if (!a->alive) {
        return;
    }
    struct running *r = calloc(1, sizeof *r);
    assert_non_null(r);
    size_t len = sluice__v1__task_spec__get_packed_size(spec);
    assert_true(len <= 256 * 1024);
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    sluice__v1__task_spec__pack(spec, bytes);
    r->spec = sluice__v1__task_spec__unpack(NULL, len, bytes);
    free(bytes);
    r->epoch = cmd->epoch;
    r->attempt = attempt;
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (a->running[i] == NULL) {
            a->running[i] = r;
            return;
        }
    }
    fail_msg("more leases than slots");
}

static void for_each_object(const struct running *r,
                            void (*each)(const struct running *r, uint64_t id)) {
    struct object_table t;
    assert_ok(object_table_open(r->spec->objects.data, r->spec->objects.len, &t));
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        each(r, e.id);
    }
    object_table_close(&t);
}
static bool has_temps(const struct running *r) {
    return r->spec->kind == SLUICE__V1__TASK_KIND__BATCH ||
           r->spec->kind == SLUICE__V1__TASK_KIND__LINK;
}
static void drop_temp(const struct running *r, uint64_t id) {
    (void)temp_remove(r->spec->flow_id, id, r->epoch.term, r->epoch.counter);
}
static void leave_temp(const struct running *r, uint64_t id) {
    temp_add(r->spec->flow_id, id, r->epoch.term, r->epoch.counter);
}

// A yield, or (else) a revocation, which is obeyed at once.
static void tell_running(struct world *w, const struct scheduler_command *cmd, bool yield) {
    struct sim_agent *a = agent_named(w, cmd->agent);
    for (int i = 0; i < RUNNING_MAX; i++) {
        struct running *r = a->running[i];
        if (r == NULL || r->spec->task_id != cmd->task_id ||
            epoch_compare(r->epoch, cmd->epoch) != 0) {
            continue;
        }
        if (yield) {
            r->yields = true;
            return;
        }
        if (has_temps(r) && r->began) {
            for_each_object(r, drop_temp);
        }
        running_free(r);
        a->running[i] = NULL;
    }
    if (a->alive) {
        scheduler_released(w->core.scheduler, a->name, cmd->task_id, cmd->epoch,
                           clock_mono_ms(w->core.clock));
    }
}

// ---- results ----
static void on_committed(void *arg) {
    (void)arg;
}

static void send_result(struct world *w, struct sim_agent *a, int slot, Sluice__V1__TaskResult *m) {
    struct running *r = a->running[slot];
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    char boot[16];
    epoch.term = r->epoch.term;
    epoch.counter = r->epoch.counter;
    lease.task_id = r->spec->task_id;
    lease.epoch = &epoch;
    m->lease = &lease;
    snprintf(boot, sizeof boot, "boot-%d", a->boot);
    m->boot_id = boot;
    enum err e = scheduler_result(w->core.scheduler, a->name, lease.task_id, r->epoch,
                                  clock_mono_ms(w->core.clock));
    if (e == ERR_AGAIN) {
        return; // the same again later
    }
    if (e == OK) {
        planner_result(w->core.planner, a->name, m, on_committed, NULL);
    }
    a->running[slot] = NULL;
    running_free(r);
}

static void fill_failure(struct failure_message *m, enum err e, const char *operation) {
    struct failure f;
    (void)failure_set(&f, e, operation, "x", 1, NULL);
    failure_to_message(&f, "", m);
}

#include "tests/unit/master/planner_world_work.h"

// ---- a turn of an agent ----
static void lease_turn(struct world *w, struct sim_agent *a, int slot) {
    switch ((int)a->running[slot]->spec->kind) {
    case SLUICE__V1__TASK_KIND__LIST:
        if (!a->running[slot]->waits) {
            list_turn(w, a, slot);
        }
        break;
    case SLUICE__V1__TASK_KIND__STAT: stat_turn(w, a, slot); break;
    case SLUICE__V1__TASK_KIND__CLEANUP:
    case SLUICE__V1__TASK_KIND__ABORT: removal_turn(w, a, slot); break;
    case SLUICE__V1__TASK_KIND__OPEN:
    case SLUICE__V1__TASK_KIND__PART:
    case SLUICE__V1__TASK_KIND__SYNC:
    case SLUICE__V1__TASK_KIND__FINISH: large_turn(w, a, slot); break;
    default: objects_turn(w, a, slot); break;
    }
}

// Registers, with what it holds. A LIST begins again with its stream.
static void agent_tell(struct world *w, struct sim_agent *a, int64_t now_ms) {
    struct scheduler *s = w->core.scheduler;
    struct scheduler_volume volumes[] = {{.name = "in", .readable = true, .shared = true},
                                         {.name = "out", .writable = true, .shared = true}};
    struct scheduler_agent up = {.slots = SLOTS, .volumes = volumes, .n_volumes = 2};
    snprintf(up.name, sizeof up.name, "%s", a->name);
    snprintf(up.site, sizeof up.site, agent_index(w, a) < w->n_elsewhere ? "there" : "here");
    snprintf(up.incarnation, sizeof up.incarnation, "%d", a->incarnation);
    assert_ok(scheduler_agent_up(s, &up, now_ms));
    for (int i = 0; i < RUNNING_MAX; i++) {
        struct running *r = a->running[i];
        if (r != NULL && !scheduler_agent_holds(s, a->name, r->spec->task_id, r->epoch, now_ms)) {
            if (has_temps(r) && r->began) {
                for_each_object(r, drop_temp);
            }
            scheduler_released(s, a->name, r->spec->task_id, r->epoch, now_ms);
            running_free(r);
            a->running[i] = NULL;
        } else if (r != NULL && r->spec->kind == SLUICE__V1__TASK_KIND__LIST) {
            r->began = false;
            r->waits = false;
            r->directory = 0;
            r->child = 0;
        }
    }
    scheduler_agent_reported(s, a->name, now_ms);
    planner_agent_reported(w->core.planner, a->name);
    a->told = true;
}

static bool has_work(const struct sim_agent *a) {
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (a->running[i] != NULL) {
            return true;
        }
    }
    return false;
}

static void agent_turn(struct world *w, struct sim_agent *a, int64_t now_ms) {
    if (!a->alive) {
        if (--a->dead_turns <= 0) {
            a->alive = true;
            a->incarnation++;
            a->told = false;
        }
        return;
    }
    if (has_work(a) && happens(w, w->odds_agent)) { // its temporaries stay
        if (a->told) {
            scheduler_agent_down(w->core.scheduler, a->name, false, now_ms);
        }
        agent_clear(a);
        a->alive = false;
        a->dead_turns = 1 + (int)chance(w, 400);
        if (happens(w, w->odds_reboot)) {
            a->boot++;
            for (int i = 0; i < w->n_nodes; i++) {
                for (int k = 0; k < LEAVES_MAX; k++) {
                    struct leaf *l = &w->nodes[i].leaves[k];
                    if (l->agent == agent_index(w, a) && !l->synced) {
                        l->generation = 0;
                    }
                }
            }
        }
        return;
    }
    if (!a->told || !scheduler_agent_heard(w->core.scheduler, a->name, now_ms)) {
        agent_tell(w, a, now_ms);
        return;
    }
    int slot = (int)chance(w, RUNNING_MAX);
    if (a->running[slot] != NULL) {
        Sluice__V1__TaskKind kind = a->running[slot]->spec->kind;
        const struct plan *pl = w->flow.plan;
        if (kind == SLUICE__V1__TASK_KIND__BATCH && pl != NULL && pl->n_tasks < w->hold_batches) {
            return;
        }
        w->hold_batches = kind == SLUICE__V1__TASK_KIND__BATCH ? 0 : w->hold_batches;
        bool can = kind == SLUICE__V1__TASK_KIND__BATCH || kind == SLUICE__V1__TASK_KIND__PART;
        if (can && happens(w, w->odds_yield)) {
            a->running[slot]->yields = true;
        }
        lease_turn(w, a, slot);
        __wrap_core_dispatch(&w->core);
    }
}

#endif
