// SPDX-License-Identifier: Apache-2.0
// A store in memory, behind the same table of operations as SQLite's: what each row change does
// is told in master/database_sqlite_rows.c. Of one flow, and of the planner's tables only.
#include "tests/simulation/master/whole/memory_store.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

// ---- blobs ----

// With what malloc adds: the report takes it away from the process's memory.
static size_t allocated(void *p) {
    return malloc_usable_size(p) + sizeof(size_t);
}

void memory_blob_set(struct memory_store *s, struct blob *to, struct blob from) {
    memory_blob_free(s, to);
    if (from.len > 0) {
        uint8_t *bytes = must(malloc(from.len));
        memcpy(bytes, from.bytes, from.len);
        *to = (struct blob){bytes, from.len};
        s->bytes += allocated(bytes);
    }
}
void memory_blob_free(struct memory_store *s, struct blob *b) {
    s->bytes -= b->bytes != NULL ? allocated((void *)(uintptr_t)b->bytes) : 0;
    free((void *)(uintptr_t)b->bytes);
    *b = (struct blob){0};
}

// ---- tasks ----
struct memory_task *memory_task(const struct memory_store *s, uint64_t id) {
    struct hash_node *h = hash_index_first(&s->tasks, hash_u64(id));
    for (; h != NULL; h = hash_index_again(h)) {
        struct memory_task *t = CONTAINER_OF(h, struct memory_task, by_id);
        if (t->row.task_id == id) {
            return t;
        }
    }
    return NULL;
}

static struct memory_order *order_of(struct memory_store *s, const struct task_row *r) {
    if (r->status == TASK_READY) {
        return &s->ready[r->stage][r->rank][r->kind == SLUICE__V1__TASK_KIND__LIST];
    }
    return r->status == TASK_WAITING ? &s->waiting : &s->growing;
}

// By id; most come at the end, and most others near the beginning.
static struct memory_task *place_in(const struct memory_order *o, uint64_t id) {
    struct memory_task *up = o->first;
    struct memory_task *down = o->last;
    while (up != NULL && up->row.task_id < id && down->row.task_id > id) {
        up = up->next;
        down = down->prev;
    }
    return up != NULL && up->row.task_id > id ? up->prev : down;
}
static void task_in(struct memory_store *s, struct memory_task *t) {
    struct memory_order *o = order_of(s, &t->row);
    if (t->order != o) { // else it was taken out just now, and goes where it was
        struct memory_task *before = place_in(o, t->row.task_id);
        t->order = o;
        t->prev = before;
        t->next = before != NULL ? before->next : o->first;
    }
    *(t->prev != NULL ? &t->prev->next : &o->first) = t;
    *(t->next != NULL ? &t->next->prev : &o->last) = t;
    s->n_stage[t->row.stage]++;
    if (t->row.object != 0) {
        memory_object(s, t->row.object)->n_tasks++;
    }
}
static void task_out(struct memory_store *s, struct memory_task *t) {
    *(t->prev != NULL ? &t->prev->next : &t->order->first) = t->next;
    *(t->next != NULL ? &t->next->prev : &t->order->last) = t->prev;
    s->n_stage[t->row.stage]--;
    if (t->row.object != 0) {
        memory_object(s, t->row.object)->n_tasks--;
    }
}
static void task_remove(struct memory_store *s, struct memory_task *t) {
    task_out(s, t);
    hash_index_remove(&s->tasks, &t->by_id);
    memory_blob_free(s, &t->row.spec);
    free(t->leases);
    free(t);
}

static void task_row_of(const struct row *r, struct task_row *t) {
    const int64_t *n = r->numbers;
    memset(t->avoid, 0, sizeof t->avoid);
    strncpy(t->avoid, r->texts[1], sizeof t->avoid - 1);
    t->task_id = (uint64_t)n[0];
    t->kind = (uint32_t)n[1];
    t->stage = (uint32_t)n[2];
    t->rank = (uint32_t)n[3];
    t->status = (enum task_status)n[4];
    t->attempt = (uint32_t)n[5];
    t->not_before_ms = n[6];
    t->object = (uint64_t)n[7];
    t->walk = (uint64_t)n[8];
    t->generation = (uint64_t)n[9];
    t->bytes = (uint64_t)n[10];
    t->objects = (uint32_t)n[11];
}

static void task_put(struct memory_store *s, const struct row *r, bool only_state) {
    struct memory_task *t = memory_task(s, (uint64_t)r->numbers[0]);
    if (t == NULL && only_state) {
        return;
    }
    if (t == NULL) {
        t = must(calloc(1, sizeof *t));
        t->row.task_id = (uint64_t)r->numbers[0];
        memcpy(t->row.flow, r->texts[0], strlen(r->texts[0]));
        hash_index_add(&s->tasks, &t->by_id, hash_u64(t->row.task_id));
    } else {
        task_out(s, t);
    }
    task_row_of(r, &t->row);
    if (!only_state) {
        memory_blob_set(s, &t->row.spec, r->blobs[0]);
    }
    task_in(s, t);
}

static struct memory_task *each_task(const struct memory_store *s, const struct memory_task *t) {
    struct hash_node *h = hash_index_each(&s->tasks, t != NULL ? &t->by_id : NULL);
    return h != NULL ? CONTAINER_OF(h, struct memory_task, by_id) : NULL;
}

static void lease_remove_from(struct memory_task *t, struct epoch epoch) {
    for (size_t i = 0; i < t->n_leases; i++) {
        if (epoch_compare(t->leases[i].epoch, epoch) == 0) {
            memmove(&t->leases[i], &t->leases[i + 1], (t->n_leases - i - 1) * sizeof *t->leases);
            t->n_leases--;
            return;
        }
    }
}
static void lease_put(struct memory_task *t, struct epoch epoch, const char *agent) {
    lease_remove_from(t, epoch);
    t->leases = must(realloc(t->leases, (t->n_leases + 1) * sizeof *t->leases));
    size_t at = t->n_leases++;
    while (at > 0 && epoch_compare(t->leases[at - 1].epoch, epoch) > 0) {
        t->leases[at] = t->leases[at - 1];
        at--;
    }
    t->leases[at] = (struct lease_row){.epoch = epoch};
    strncpy(t->leases[at].agent, agent, sizeof t->leases[at].agent - 1);
}

// ---- changes of many tasks ----
static bool leaves_temporaries(const struct memory_task *t) {
    return t->row.kind == SLUICE__V1__TASK_KIND__CLEANUP ||
           t->row.kind == SLUICE__V1__TASK_KIND__ABORT ||
           ((t->row.kind == SLUICE__V1__TASK_KIND__BATCH ||
             t->row.kind == SLUICE__V1__TASK_KIND__LINK) &&
            t->n_leases > 0);
}

static void tasks_remove_if(struct memory_store *s, const struct row *r,
                            bool (*fn)(const struct memory_task *t, const struct row *r)) {
    for (struct memory_task *t = each_task(s, NULL), *next; t != NULL; t = next) {
        next = each_task(s, t);
        if (fn(t, r)) {
            task_remove(s, t);
        }
    }
}
static bool is_any(const struct memory_task *t, const struct row *r) {
    (void)t, (void)r;
    return true;
}
static bool leaves_nothing(const struct memory_task *t, const struct row *r) {
    (void)r;
    return !leaves_temporaries(t);
}
static bool is_list(const struct memory_task *t, const struct row *r) {
    (void)r;
    return t->row.kind == SLUICE__V1__TASK_KIND__LIST;
}
static bool is_of_object(const struct memory_task *t, const struct row *r) {
    return t->row.object != 0 && t->row.object == (uint64_t)r->numbers[0];
}
static bool is_of_old_listing(const struct memory_task *t, const struct row *r) {
    return t->row.walk != 0 && t->row.walk == (uint64_t)r->numbers[0] &&
           t->row.generation < (uint64_t)r->numbers[1] && t->row.object == 0;
}
static bool is_unleased_of_old_listing(const struct memory_task *t, const struct row *r) {
    return is_of_old_listing(t, r) && t->n_leases == 0;
}

static void tasks_drop(struct memory_store *s, const struct row *r) {
    tasks_remove_if(s, r, is_unleased_of_old_listing);
    for (struct memory_task *t = each_task(s, NULL); t != NULL; t = each_task(s, t)) {
        if (is_of_old_listing(t, r)) {
            t->row.walk = UINT64_MAX;
        }
    }
}

static void plan_restarts(struct memory_store *s, const struct row *r) {
    tasks_remove_if(s, r, is_list);
    for (struct memory_walk *w = memory_each_walk(s, NULL); w != NULL; w = memory_each_walk(s, w)) {
        if (w->row.state == WALK_LISTING) {
            memory_walk_out(s, w);
            w->row.state = WALK_FRONTIER;
            w->row.task = 0;
            memory_walk_in(s, w);
        }
    }
    for (struct memory_task *t = each_task(s, NULL); t != NULL; t = each_task(s, t)) {
        task_out(s, t);
        t->row.status = t->row.status == TASK_GROWING ? TASK_READY : t->row.status;
        t->row.rank = t->row.status == TASK_READY && t->n_leases > 0 ? 0 : t->row.rank;
        task_in(s, t);
    }
}

static void plan_abandons(struct memory_store *s, const struct row *r) {
    tasks_remove_if(s, r, leaves_nothing);
    for (struct memory_task *t = each_task(s, NULL); t != NULL; t = each_task(s, t)) {
        task_out(s, t);
        t->row.kind = t->row.kind == SLUICE__V1__TASK_KIND__ABORT ? t->row.kind
                                                                  : SLUICE__V1__TASK_KIND__CLEANUP;
        t->row.stage = 2;
        t->row.rank = 0;
        t->row.status = TASK_READY;
        t->row.attempt = 1;
        t->row.not_before_ms = 0;
        t->row.avoid[0] = '\0';
        task_in(s, t);
    }
    memory_walks_clear(s);
    memory_objects_abandon(s);
}

static void plan_ends(struct memory_store *s, const struct row *r) {
    tasks_remove_if(s, r, is_any);
    memory_walks_clear(s);
    memory_objects_clear(s);
    memory_seen_drop(s, 0, true);
}

// ---- one row ----
static void apply_task(struct memory_store *s, const struct row *r) {
    const int64_t *n = r->numbers;
    struct memory_task *t;
    switch ((int)r->kind) {
    case ROW_TASK_PUT: task_put(s, r, false); break;
    case ROW_TASK_STATE: task_put(s, r, true); break;
    case ROW_TASK_REMOVE:
        if ((t = memory_task(s, (uint64_t)n[0])) != NULL) {
            task_remove(s, t);
        }
        break;
    case ROW_TASKS_OF_OBJECT_REMOVE: tasks_remove_if(s, r, is_of_object); break;
    case ROW_TASKS_DROP: tasks_drop(s, r); break;
    case ROW_LEASE_ADD:
        if ((t = memory_task(s, (uint64_t)n[0])) != NULL) {
            lease_put(t, (struct epoch){(uint64_t)n[1], (uint64_t)n[2]}, r->texts[1]);
        }
        break;
    case ROW_LEASE_REMOVE:
        if ((t = memory_task(s, (uint64_t)n[0])) != NULL) {
            lease_remove_from(t, (struct epoch){(uint64_t)n[1], (uint64_t)n[2]});
        }
        break;
    default: break;
    }
}

static enum err apply(struct store *store, const struct change *c, struct failure *ret_failure) {
    struct memory_store *s = (struct memory_store *)(void *)store;
    (void)ret_failure;
    for (const struct row *r = c->first; r != NULL; r = r->next) {
        switch ((int)r->kind) {
        case ROW_PLAN:
            s->has_plan = true;
            memory_blob_set(s, &s->plan, r->blobs[0]);
            memory_blob_set(s, &s->progress, r->blobs[1]);
            break;
        case ROW_PLAN_END: plan_ends(s, r); break;
        case ROW_PLAN_ABANDON: plan_abandons(s, r); break;
        case ROW_PLAN_RESTART: plan_restarts(s, r); break;
        case ROW_TASK_PUT:
        case ROW_TASK_STATE:
        case ROW_TASK_REMOVE:
        case ROW_TASKS_OF_OBJECT_REMOVE:
        case ROW_TASKS_DROP:
        case ROW_LEASE_ADD:
        case ROW_LEASE_REMOVE: apply_task(s, r); break;
        default:
            if (!memory_apply_object(s, r)) {
                return ERR_INTERNAL;
            }
            break;
        }
    }
    return OK;
}

static enum err begin(struct store *s, struct failure *ret_failure) {
    (void)s, (void)ret_failure;
    return OK;
}

static void store_free(struct store *store) {
    struct memory_store *s = (struct memory_store *)(void *)store;
    plan_ends(s, NULL);
    memory_blob_free(s, &s->plan);
    memory_blob_free(s, &s->progress);
    memory_failed_clear(s);
    hash_index_deinit(&s->tasks);
    hash_index_deinit(&s->walks);
    hash_index_deinit(&s->objects);
    hash_index_deinit(&s->seen);
    free(s);
}

static const struct store_ops ops = {
    .begin = begin,
    .commit = begin, // an event applies a group as a whole, or not at all
    .apply = apply,
    .read = memory_read,
    .free = store_free,
};

struct store *memory_store_new(void) {
    struct memory_store *s = must(calloc(1, sizeof *s));
    s->store.ops = &ops;
    if (hash_index_init(&s->tasks) != OK || hash_index_init(&s->walks) != OK ||
        hash_index_init(&s->objects) != OK || hash_index_init(&s->seen) != OK) {
        abort();
    }
    return &s->store;
}

size_t memory_store_rows(const struct store *store) {
    const struct memory_store *s = (const struct memory_store *)(const void *)store;
    return s->tasks.count + s->walks.count + s->n_larges + s->n_acks + s->seen.count;
}
size_t memory_store_bytes(const struct store *store) {
    const struct memory_store *s = (const struct memory_store *)(const void *)store;
    return s->bytes + s->tasks.count * (sizeof(struct memory_task) + sizeof(size_t)) +
           s->walks.count * (sizeof(struct memory_walk) + sizeof(size_t)) +
           s->seen.count * (sizeof(struct memory_seen) + sizeof(size_t));
}
