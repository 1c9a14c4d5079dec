// SPDX-License-Identifier: Apache-2.0
// What agents do under their leases, step by step: at each step an agent may be stopped or
// killed, and before each it looks whether it may act.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

enum { OBJECTS_AT_A_TIME = 64 };

void work_step_in(struct world *w, uint32_t i, struct held *h, int64_t in_ms) {
    struct event *e = event_in(w, in_ms, work_step);
    h->run = ++w->n_runs;
    e->agent = i;
    e->number = h->run;
}

static bool is_batch(const struct held *h) {
    return h->spec->kind == SLUICE__V1__TASK_KIND__BATCH;
}
static bool has_temps(const struct held *h) {
    return is_batch(h) || h->spec->kind == SLUICE__V1__TASK_KIND__LINK;
}
static bool has_objects(const struct held *h) {
    return has_temps(h) || h->spec->kind == SLUICE__V1__TASK_KIND__MKDIR ||
           h->spec->kind == SLUICE__V1__TASK_KIND__DIRMETA;
}

int64_t work_duration_ms(const struct world *w, uint32_t i, const struct held *h, uint64_t bytes) {
    double rate = w->agents[i].bytes_per_ms;
    if (h->source != UINT32_MAX && w->agents[h->source].bytes_per_ms < rate) {
        rate = w->agents[h->source].bytes_per_ms;
    }
    return 1 + (int64_t)((double)bytes / rate);
}

struct object_entry held_entry(const struct held *h, uint32_t index) {
    struct object_entry e;
    object_table_get(&h->table, index, &e);
    return e;
}

// ---- results ----
struct kept *result_new(struct world *w, uint32_t i, const struct held *h) {
    struct kept *k = must(calloc(1, sizeof *k));
    sluice__v1__task_result__init(&k->m);
    sluice__v1__lease_ref__init(&k->lease);
    sluice__v1__epoch__init(&k->epoch);
    sluice__v1__receipt__init(&k->receipt);
    object_table_init(&k->found);
    k->epoch.term = h->epoch.term;
    k->epoch.counter = h->epoch.counter;
    k->lease.task_id = h->spec->task_id;
    k->lease.epoch = &k->epoch;
    k->m.lease = &k->lease;
    snprintf(k->boot, sizeof k->boot, "boot-%u", w->agents[i].boot);
    k->m.boot_id = k->boot;
    return k;
}

static void fill(struct failure_message *m, enum err e, const char *operation) {
    struct failure f = {0};
    (void)failure_set(&f, e, operation, "x", 1, NULL);
    failure_to_message(&f, "", m);
}

Sluice__V1__ObjectResult *work_object_result(struct world *w, uint32_t i, struct held *h,
                                             uint32_t index) {
    if (h->result == NULL) {
        h->result = result_new(w, i, h);
        h->result->objects = must(calloc(h->table.count + 1, sizeof *h->result->objects));
        h->result->pointers = must(calloc(h->table.count + 1, sizeof *h->result->pointers));
        fill(&h->result->object_failure, ERR_PEER_LOST, "read");
    }
    struct kept *k = h->result;
    Sluice__V1__ObjectResult *o = &k->objects[k->m.n_objects];
    sluice__v1__object_result__init(o);
    o->index = index;
    k->pointers[k->m.n_objects++] = o;
    k->m.objects = k->pointers;
    return o;
}

bool work_did_something(const struct held *h) {
    return h->spec->kind == SLUICE__V1__TASK_KIND__PART ? h->next > 0 : h->result != NULL;
}

static void part_result(struct held *h, struct kept *k) {
    uint64_t left = h->spec->length;
    uint64_t done = h->next * LEAF;
    k->m.done_bytes = done < left ? done : left;
    k->m.done = k->m.done_bytes == left;
    k->digests = must(calloc(h->next + 1, 16));
    k->m.leaf_digests.data = k->digests;
    k->m.leaf_digests.len = h->next * 16;
    k->m.bytes_moved = k->m.done_bytes;
    k->m.receipt = &k->receipt;
}

struct kept *work_result(struct world *w, uint32_t i, struct held *h) {
    struct kept *k = h->result != NULL ? h->result : result_new(w, i, h);
    h->result = NULL;
    if (has_objects(h) && k->objects != NULL && h->next < h->table.count) {
        h->result = k;
        for (uint32_t n = h->next; n < h->table.count; n++) {
            work_object_result(w, i, h, n)->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED;
        }
        h->result = NULL;
    }
    if (h->spec->kind == SLUICE__V1__TASK_KIND__PART) {
        part_result(h, k);
    }
    return k;
}

void work_ends(struct world *w, uint32_t i, struct held *h, struct kept *k) {
    struct agent *a = &w->agents[i];
    uint32_t at;
    if (held_of(a, h->spec->task_id, h->epoch, &at) != h) {
        violated("%s lost a lease", a->name);
    }
    result_keep(w, i, k);
    held_drop(a, at);
    agent_start_waiting(w, i);
}

void work_fails(struct world *w, uint32_t i, struct held *h, enum err why, bool retryable) {
    struct kept *k = work_result(w, i, h);
    k->m.done = false;
    k->m.retryable = retryable;
    fill(&k->failure, why, "write");
    k->m.failure = &k->failure.message;
    work_ends(w, i, h, k);
}

// ---- whole objects ----
static void object_begins(struct world *w, uint32_t i, struct held *h) {
    struct object_entry e = held_entry(h, h->next);
    uint32_t n = node_of_path(e.path, e.path_len);
    h->opened = w->nodes[n].version;
    h->temp = has_temps(h);
    if (h->temp) {
        (void)temp_add(w, e.id, h->epoch.term, h->epoch.counter);
    }
    work_step_in(w, i, h, is_batch(h) ? work_duration_ms(w, i, h, node_size(w, n, h->opened)) : 1);
}

void work_leave(struct world *w, struct held *h) {
    if (h->temp) {
        (void)temp_remove(w, held_entry(h, h->next).id, h->epoch.term, h->epoch.counter);
        h->temp = false;
    }
}

bool node_fails_once_more(struct node *n) {
    n->n_failed = n->n_failed < UINT8_MAX ? (uint8_t)(n->n_failed + 1) : n->n_failed;
    return true;
}

static void deliver(struct world *w, const struct held *h, uint32_t n, struct kept *k,
                    Sluice__V1__ObjectResult *o) {
    struct node *node = &w->nodes[n];
    bool compares = h->spec->skip_identical || h->attempt > 1;
    bool fails = node->fails_always || (one_in(w, w->odds_failure) && node_fails_once_more(node));
    o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED;
    if (has_temps(h) && fails) {
        o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED;
        o->retryable = !node->fails_always;
        o->failure = &k->object_failure.message;
    } else if (is_batch(h) && compares && node->final_version == h->opened) {
        o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
    } else if (has_temps(h)) {
        o->bytes = node_size(w, n, h->opened);
        k->m.bytes_moved += o->bytes;
        node_renamed(w, n, h->opened, "rename");
    } else if (h->spec->kind == SLUICE__V1__TASK_KIND__MKDIR) {
        node->made = true;
    } else {
        node->meta = true;
    }
}

static void check_meta(const struct world *w, uint32_t n) {
    for (uint32_t k = 0; k < node_children(w, n); k++) {
        uint32_t child = node_child(w, n, k);
        const struct node *c = &w->nodes[child];
        if (child >= w->o.n_directories) {
            break;
        }
        if (!c->meta && !c->list_fails) {
            violated("directory %u has its metadata before %u below it", n, child);
        }
    }
}

static void objects_step(struct world *w, uint32_t i, struct held *h) {
    for (int n = 0; n < (has_temps(h) ? 1 : OBJECTS_AT_A_TIME) && h->next < h->table.count; n++) {
        struct object_entry e = held_entry(h, h->next);
        uint32_t node = node_of_path(e.path, e.path_len);
        if (h->spec->kind == SLUICE__V1__TASK_KIND__DIRMETA) {
            check_meta(w, node);
        }
        Sluice__V1__ObjectResult *o = work_object_result(w, i, h, h->next);
        deliver(w, h, node, h->result, o);
        work_leave(w, h);
        h->next++;
    }
    if (h->next < h->table.count && !h->yields) {
        object_begins(w, i, h);
        return;
    }
    struct kept *k = work_result(w, i, h);
    k->m.done = h->next == h->table.count;
    work_ends(w, i, h, k);
}

// ---- the rest ----
static void stat_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct kept *k = result_new(w, i, h);
    char path[256];
    struct object_entry found;
    if (h->spec->source != NULL) {
        node_entry(w, n, path, &found);
        if (object_table_add(&k->found, &found) != OK) {
            abort();
        }
    }
    const uint8_t *bytes;
    if (object_table_bytes(&k->found, &bytes, &k->m.found.len) != OK) {
        abort();
    }
    k->m.found.data = (uint8_t *)(uintptr_t)bytes;
    k->m.done = true;
    work_ends(w, i, h, k);
}

static void removal_step(struct world *w, uint32_t i, struct held *h) {
    bool cleanup = h->spec->kind == SLUICE__V1__TASK_KIND__CLEANUP;
    for (uint32_t n = 0; n < h->table.count; n++) {
        uint64_t id = held_entry(h, n).id;
        for (size_t k = 0; cleanup && k < h->spec->n_stale; k++) {
            (void)temp_remove(w, id, h->spec->stale[k]->term, h->spec->stale[k]->counter);
        }
        if (!cleanup) {
            (void)temp_remove(w, id, 0, h->spec->generation);
        }
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    work_ends(w, i, h, k);
}

// ---- steps ----
void work_begins(struct world *w, uint32_t i, struct held *h) {
    if (h->spec->kind == SLUICE__V1__TASK_KIND__LIST) {
        listing_begins(w, i, h);
    } else if (has_objects(h)) {
        object_begins(w, i, h);
    } else {
        work_step_in(w, i, h, w->o.faults ? between(w, 1, 30) : 1);
    }
}

// It was stopped after it had looked whether it may act: it does what it was about to do.
static void acts_late(struct world *w, uint32_t i, struct held *h) {
    w->n_late++;
    trace("acts late", i, h->spec->task_id, h->epoch.counter);
    if (h->temp && h->spec->kind == SLUICE__V1__TASK_KIND__BATCH) {
        struct object_entry e = held_entry(h, h->next);
        if (temp_remove(w, e.id, h->epoch.term, h->epoch.counter)) {
            node_renamed(w, node_of_path(e.path, e.path_len), h->opened, "late rename");
        }
        h->temp = false;
    } else if (h->inode != NULL) {
        large_part_write(w, i, h);
    }
}

void work_step(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    struct held *h = NULL;
    for (uint32_t k = 0; k < a->n_held && h == NULL; k++) {
        h = a->held[k]->run == e->number ? a->held[k] : NULL;
    }
    if (h == NULL) {
        return;
    }
    if (w->now_ms < a->stopped_until_ms && agent_may_act(w, a, h) && one_in(w, w->odds_late)) {
        e->sent_ms = 1;
    }
    if (agent_is_stopped(w, e)) {
        return;
    }
    if (!agent_may_act(w, a, h)) {
        if (e->sent_ms == 1) {
            acts_late(w, e->agent, h);
        }
        agent_check_hold(w, e->agent);
        return;
    }
    uint32_t n = 0;
    if (h->table.count > 0) {
        struct object_entry first = held_entry(h, 0);
        n = node_of_path(first.path, first.path_len);
    }
    switch ((int)h->spec->kind) {
    case SLUICE__V1__TASK_KIND__LIST: listing_step(w, e->agent, h); break;
    case SLUICE__V1__TASK_KIND__OPEN: large_open_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__PART: large_part_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__SYNC: large_sync_step(w, e->agent, h); break;
    case SLUICE__V1__TASK_KIND__FINISH: large_finish_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__STAT: stat_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__CLEANUP:
    case SLUICE__V1__TASK_KIND__ABORT: removal_step(w, e->agent, h); break;
    default: objects_step(w, e->agent, h); break;
    }
}
