// SPDX-License-Identifier: Apache-2.0
// What the played agents of the planner's world do in a turn for a task of each kind. Part of
// planner_world_agent.h.
#include "tests/unit/master/planner_world_agent.h"

#ifndef TESTS_UNIT_MASTER_PLANNER_WORLD_WORK_H
#define TESTS_UNIT_MASTER_PLANNER_WORLD_WORK_H

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

static void note_batch(struct world *w, uint64_t id, uint32_t n) {
    if (w->first_batch == 0 || id < w->first_batch) {
        w->first_batch = id;
        w->n_in_first = n;
    }
    if (id > w->last_batch) {
        w->last_batch = id;
        w->n_in_last = n;
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
    if (r->spec->kind == SLUICE__V1__TASK_KIND__BATCH) {
        note_batch(w, r->spec->task_id, t.count);
    }
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
    m->leaf_digests.len = n->bare > 0 ? 0 : leaves * 16;
    m->bytes_moved = length;
    if (n->bare > 0) {
        n->bare--;
        w->bytes_bare += length;
    }
}

static void finish_turn(struct world *w, const struct running *r, struct node *n,
                        const struct object_entry *e) {
    uint64_t leaves = (n->size + LEAF - 1) / LEAF;
    for (uint64_t i = 0; i < leaves; i++) {
        assert_int_equal(n->leaves[i].generation, r->spec->generation);
        assert_true(n->leaves[i].synced);
    }
    bool is_shared = w->n_elsewhere == 0 && w->bytes_bare > 0; // and was not read
    assert_true(r->spec->has_digest != is_shared);
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
    } else if (r->spec->kind == SLUICE__V1__TASK_KIND__PART && n->full > 0) {
        n->full--;
        e_failed = ERR_NO_SPACE;
        m.retryable = true;
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
    } else if (n->is_corrupt > 0) {
        n->is_corrupt--;
        e_failed = ERR_CORRUPT;
        m.retryable = true;
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

#endif
