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

// ---- LIST ----
static void on_page(void *arg, enum err result) {
    struct world *w = arg;
    (void)result;
    for (int i = 0; i < AGENTS; i++) {
        for (int k = 0; k < RUNNING_MAX; k++) {
            if (w->agents[i].running[k] != NULL) {
                w->agents[i].running[k]->waits = false;
            }
        }
    }
}

static void list_turn(struct world *w, struct sim_agent *a, int slot) {
    struct running *r = a->running[slot];
    struct object_table t;
    assert_ok(object_table_open(r->spec->objects.data, r->spec->objects.len, &t));
    if (r->directory == t.count) {
        object_table_close(&t);
        Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
        m.done = true;
        w->n_lists++;
        send_result(w, a, slot, &m);
        return;
    }
    struct object_entry e;
    object_table_get(&t, r->directory, &e);
    struct node *d = node_at(w, e.path, e.path_len);
    assert_non_null(d);
    struct object_table_builder b;
    object_table_init(&b);
    for (; r->child < w->n_nodes && (int)b.count < w->page_entries; r->child++) {
        if (r->child > 0 && w->nodes[r->child].parent == d - w->nodes && !d->list_fails) {
            struct object_entry child = entry_of_node(&w->nodes[r->child]);
            assert_ok(object_table_add(&b, &child));
        }
    }
    Sluice__V1__ListPage page = SLUICE__V1__LIST_PAGE__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    struct failure_message failure;
    const uint8_t *bytes;
    assert_ok(object_table_bytes(&b, &bytes, &page.entries.len));
    page.entries.data = (uint8_t *)(uintptr_t)bytes;
    page.lease = r->began ? NULL : &lease;
    page.directory = r->directory;
    if (r->child == w->n_nodes) {
        page.directory_done = true;
        page.last = r->directory + 1 == t.count;
        r->directory++;
        r->child = 0;
    }
    if (d->list_fails) {
        fill_failure(&failure, ERR_DENIED, "opendir");
        page.failure = &failure.message;
    }
    r->began = true;
    r->waits = true;
    w->n_pages++;
    planner_page(w->core.planner, a->name, r->spec->task_id, r->epoch, &page, on_page, w);
    object_table_deinit(&b);
    object_table_close(&t);
}

// ---- whole objects ----
static void object_turn(struct world *w, const struct running *r, const struct object_entry *e,
                        Sluice__V1__ObjectResult *o) {
    struct node *n = node_at(w, e->path, e->path_len);
    assert_non_null(n);
    o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED;
    switch ((int)r->spec->kind) {
    case SLUICE__V1__TASK_KIND__BATCH:
    case SLUICE__V1__TASK_KIND__LINK:
        if (n->delivered > 0 && r->spec->skip_identical) {
            o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
        } else if (n->fails_always || n->fails > 0) {
            o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED;
            o->retryable = !n->fails_always;
            n->fails -= n->fails > 0;
        } else {
            o->bytes = n->size;
            n->delivered++;
        }
        break;
    case SLUICE__V1__TASK_KIND__MKDIR: n->made++; break;
    default: // DIRMETA: all that is below was before
        for (int i = 1; i < w->n_nodes; i++) {
            const struct node *c = &w->nodes[i];
            if (c->parent == n - w->nodes && c->type == OBJECT_DIRECTORY && !c->list_fails) {
                assert_true(c->meta > 0);
            }
        }
        n->meta++;
        break;
    }
}

static void objects_turn(struct world *w, struct sim_agent *a, int slot) {
    struct running *r = a->running[slot];
    if (!r->began && has_temps(r)) { // the next turn ends it
        for_each_object(r, leave_temp);
        r->began = true;
        return;
    }
    struct object_table t;
    assert_ok(object_table_open(r->spec->objects.data, r->spec->objects.len, &t));
    Sluice__V1__ObjectResult *all = calloc(t.count + 1, sizeof *all);
    Sluice__V1__ObjectResult **pointers = calloc(t.count + 1, sizeof *pointers);
    struct failure_message failure;
    fill_failure(&failure, ERR_PEER_LOST, "read");
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        sluice__v1__object_result__init(&all[i]);
        all[i].index = i;
        pointers[i] = &all[i];
        if (r->yields && i > 0) {
            all[i].outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED;
            continue;
        }
        object_turn(w, r, &e, &all[i]);
        if (all[i].outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED) {
            all[i].failure = &failure.message;
        }
        m.bytes_moved += all[i].bytes;
    }
    if (has_temps(r)) {
        for_each_object(r, drop_temp);
    }
    w->n_yields += r->yields;
    m.done = !r->yields;
    m.objects = pointers;
    m.n_objects = t.count;
    send_result(w, a, slot, &m);
    object_table_close(&t);
    free(pointers);
    free(all);
}

// ---- large objects ----
static void part_turn(struct world *w, struct sim_agent *a, struct running *r, struct node *n,
                      Sluice__V1__TaskResult *m, uint8_t *digests) {
    uint64_t first = r->spec->offset / LEAF;
    uint64_t length = r->yields && r->spec->length > LEAF ? LEAF : r->spec->length;
    uint64_t leaves = (length + LEAF - 1) / LEAF;
    assert_true(first + leaves <= LEAVES_MAX);
    for (uint64_t i = first; i < first + leaves; i++) {
        n->leaves[i] = (struct leaf){
            .generation = r->spec->generation, .agent = agent_index(w, a), .boot = a->boot};
    }
    memset(digests, 7, leaves * 16);
    m->done = length == r->spec->length;
    m->done_bytes = length;
    m->leaf_digests.data = digests;
    m->leaf_digests.len = leaves * 16;
    m->bytes_moved = length;
}

static void finish_turn(struct world *w, const struct running *r, struct node *n,
                        const struct object_entry *e) {
    uint64_t leaves = (n->size + LEAF - 1) / LEAF;
    for (uint64_t i = 0; i < leaves; i++) {
        assert_int_equal(n->leaves[i].generation, r->spec->generation);
        assert_true(n->leaves[i].synced);
    }
    assert_true(r->spec->has_digest);
    (void)temp_remove(r->spec->flow_id, e->id, 0, r->spec->generation);
    n->temp_generation = 0;
    n->delivered++;
    w->n_fresh += r->spec->copy_to_fresh;
}

static void large_turn(struct world *w, struct sim_agent *a, int slot) {
    struct running *r = a->running[slot];
    struct object_table t;
    struct object_entry e;
    assert_ok(object_table_open(r->spec->objects.data, r->spec->objects.len, &t));
    object_table_get(&t, 0, &e);
    struct node *n = node_at(w, e.path, e.path_len);
    assert_non_null(n);
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__Receipt receipt = SLUICE__V1__RECEIPT__INIT;
    struct failure_message failure;
    uint8_t digests[LEAVES_MAX * 16];
    enum err e_failed = OK;
    receipt.opaque.data = (uint8_t *)(uintptr_t) "r";
    receipt.opaque.len = 1;
    m.done = true;
    if (r->spec->kind != SLUICE__V1__TASK_KIND__OPEN) {
        assert_int_equal(r->spec->n_receipts, 1);
    }
    if (r->spec->kind == SLUICE__V1__TASK_KIND__OPEN) {
        n->temp_generation = r->spec->generation;
        temp_add(r->spec->flow_id, e.id, 0, r->spec->generation);
        m.receipt = &receipt;
    } else if (n->temp_generation != r->spec->generation && n->delivered == 0) {
        e_failed = ERR_DEST_CHANGED;
    } else if (r->spec->kind == SLUICE__V1__TASK_KIND__PART && n->version != e.version.mtime_ns) {
        e_failed = ERR_SOURCE_CHANGED;
    } else if (n->fails > 0 || n->fails_always) {
        n->fails -= n->fails > 0;
        e_failed = ERR_PEER_LOST;
        m.retryable = !n->fails_always;
    } else if (r->spec->kind == SLUICE__V1__TASK_KIND__PART) {
        part_turn(w, a, r, n, &m, digests);
        m.receipt = &receipt;
    } else if (r->spec->kind == SLUICE__V1__TASK_KIND__SYNC) {
        for (int i = 0; i < LEAVES_MAX; i++) {
            struct leaf *l = &n->leaves[i];
            l->synced |= l->agent == agent_index(w, a) && l->boot == a->boot;
        }
    } else if (n->delivered == 0) {
        finish_turn(w, r, n, &e);
    }
    if (e_failed != OK) {
        m.done = false;
        fill_failure(&failure, e_failed, "write");
        m.failure = &failure.message;
    }
    send_result(w, a, slot, &m);
    object_table_close(&t);
}

// ---- STAT, CLEANUP, ABORT ----
static void stat_turn(struct world *w, struct sim_agent *a, int slot) {
    struct running *r = a->running[slot];
    struct object_table t;
    struct object_entry e;
    struct object_table_builder b;
    object_table_init(&b);
    assert_ok(object_table_open(r->spec->objects.data, r->spec->objects.len, &t));
    object_table_get(&t, 0, &e);
    struct node *n = w->n_nodes > 0 ? node_at(w, e.path, e.path_len) : NULL;
    if (r->spec->source != NULL && n != NULL) {
        struct object_entry found = entry_of_node(n);
        assert_ok(object_table_add(&b, &found));
    } else if (r->spec->sink != NULL && w->sink_type != 0) {
        struct object_entry found = {.type = w->sink_type};
        assert_ok(object_table_add(&b, &found));
    }
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    const uint8_t *bytes;
    assert_ok(object_table_bytes(&b, &bytes, &m.found.len));
    m.found.data = (uint8_t *)(uintptr_t)bytes;
    m.done = true;
    send_result(w, a, slot, &m);
    object_table_deinit(&b);
    object_table_close(&t);
}

static void clean_object(const struct running *r, uint64_t id) {
    for (size_t i = 0; i < r->spec->n_stale; i++) {
        the->n_cleanups +=
            temp_remove(r->spec->flow_id, id, r->spec->stale[i]->term, r->spec->stale[i]->counter);
    }
}
static void abort_object(const struct running *r, uint64_t id) {
    (void)temp_remove(r->spec->flow_id, id, 0, r->spec->generation);
}
static void removal_turn(struct world *w, struct sim_agent *a, int slot) {
    struct running *r = a->running[slot];
    bool cleanup = r->spec->kind == SLUICE__V1__TASK_KIND__CLEANUP;
    assert_true(!cleanup || r->spec->n_stale > 0);
    for_each_object(r, cleanup ? clean_object : abort_object);
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    m.done = true;
    send_result(w, a, slot, &m);
}

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
    snprintf(up.site, sizeof up.site, "here");
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
        bool can = kind == SLUICE__V1__TASK_KIND__BATCH || kind == SLUICE__V1__TASK_KIND__PART;
        if (can && happens(w, w->odds_yield)) {
            a->running[slot]->yields = true;
        }
        lease_turn(w, a, slot);
        __wrap_core_dispatch(&w->core);
    }
}

#endif
