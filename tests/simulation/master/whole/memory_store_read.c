// SPDX-License-Identifier: Apache-2.0
// What the store in memory answers; see master/database_sqlite_read.c for each question.
#include "tests/simulation/master/whole/memory_store.h"

#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX_BYTES = 16 << 20, FRONTIER_COUNTED = 10000 };

static struct blob blob_in(struct arena *a, struct blob b) {
    return b.len == 0 ? (struct blob){0}
                      : (struct blob){must(arena_copy(a, b.bytes, b.len)), b.len};
}

static void *add_row(struct arena *a, struct query *q, size_t *cap, size_t bytes) {
    if (q->n_rows == *cap) {
        size_t more = *cap == 0 ? 16 : *cap * 2;
        unsigned char *grown = must(arena_alloc(a, more * bytes));
        if (q->n_rows > 0) {
            memcpy(grown, q->rows, q->n_rows * bytes);
        }
        q->rows = grown;
        *cap = more;
    }
    return (unsigned char *)q->rows + q->n_rows++ * bytes;
}

static void large_out(struct arena *a, const struct memory_object *o, struct large_row *ret_row) {
    *ret_row = o->row;
    ret_row->entry = blob_in(a, o->row.entry);
    ret_row->receipt = blob_in(a, o->row.receipt);
}

// ---- tasks ----
static void task_out(struct memory_store *s, struct arena *a, const struct memory_task *t,
                     struct task_row *ret_row, bool whole) {
    *ret_row = t->row;
    ret_row->spec = whole ? blob_in(a, t->row.spec) : (struct blob){0};
    ret_row->leases = NULL;
    ret_row->n_leases = t->n_leases;
    ret_row->large = NULL;
    if (t->n_leases > 0) {
        ret_row->leases = must(arena_copy(a, t->leases, t->n_leases * sizeof *t->leases));
    }
    if (whole && t->row.object != 0 && memory_object(s, t->row.object)->exists) {
        struct large_row *l = must(arena_alloc(a, sizeof *l));
        large_out(a, memory_object(s, t->row.object), l);
        ret_row->large = l;
    }
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void add_tasks(struct memory_store *s, struct query *q, struct arena *a, bool list, size_t n,
                      size_t *cap) {
    const struct tasks_wanted *w = &q->wanted;
    size_t bytes = 0;
    for (uint32_t stage = 0; stage <= w->max_stage && stage < STAGES; stage++) {
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            const struct memory_task *t = s->ready[stage][rank][list].first;
            for (; t != NULL; t = t->next) {
                if (w->n_skip > 0 && bsearch(&t->row.task_id, w->skip, w->n_skip, sizeof *w->skip,
                                             compare_ids) != NULL) {
                    continue;
                }
                if (n == 0 || bytes > TASKS_MAX_BYTES) {
                    q->tasks.more = true;
                    return;
                }
                task_out(s, a, t, add_row(a, q, cap, sizeof(struct task_row)), true);
                bytes += t->row.spec.len;
                n--;
            }
        }
    }
}

static void read_tasks(struct memory_store *s, struct query *q, struct arena *a) {
    const struct tasks_wanted *w = &q->wanted;
    size_t cap = 0;
    q->tasks = (struct tasks_answer){0};
    add_tasks(s, q, a, true, w->n_list < w->n ? w->n_list : w->n, &cap);
    add_tasks(s, q, a, false, w->n - q->n_rows, &cap);
    for (uint32_t stage = 0; stage <= w->max_stage && stage < STAGES; stage++) {
        q->tasks.any = q->tasks.any || s->n_stage[stage] > 0;
    }
    q->tasks.rows = q->rows;
    q->tasks.n_rows = q->n_rows;
    q->tasks.walking = s->walk_states[WALK_FRONTIER].n + s->walk_states[WALK_LISTING].n > 0;
    q->tasks.objects = s->n_larges > 0;
}

static void read_waiting(struct memory_store *s, struct query *q, struct arena *a) {
    size_t cap = 0;
    for (const struct memory_task *t = s->waiting.first; t != NULL; t = t->next) {
        task_out(s, a, t, add_row(a, q, &cap, sizeof(struct task_row)), false);
    }
}

// ---- the rest ----
static void walk_out(const struct memory_store *s, struct query *q, struct arena *a,
                     const struct memory_walk *w, size_t *cap) {
    struct walk_row *r = add_row(a, q, cap, sizeof *r);
    *r = w->row;
    memcpy(r->flow, q->flow, sizeof r->flow);
    r->entry = blob_in(a, w->row.entry);
    r->failed = q->kind == QUERY_WALK_DEEPEST && memory_has_failed(s, w->row.id);
}
static void read_walks(struct memory_store *s, struct query *q, struct arena *a) {
    size_t cap = 0;
    const struct memory_walk *w;
    switch ((int)q->kind) {
    case QUERY_WALK_FRONTIER:
        for (w = s->walk_states[WALK_FRONTIER].first; w != NULL && q->n_rows < q->limit;
             w = w->next) {
            walk_out(s, q, a, w, &cap);
        }
        q->n_all = s->walk_states[WALK_FRONTIER].n;
        q->n_all = q->n_all > FRONTIER_COUNTED ? FRONTIER_COUNTED : q->n_all;
        break;
    case QUERY_WALK_DEEPEST:
        for (w = s->walk_states[WALK_DONE].last; w != NULL && q->n_rows < q->limit; w = w->prev) {
            walk_out(s, q, a, w, &cap);
        }
        break;
    default:
        for (w = memory_each_walk(s, NULL); w != NULL; w = memory_each_walk(s, w)) {
            if (w->row.partial && q->n_rows < q->limit) {
                walk_out(s, q, a, w, &cap);
            }
        }
        break;
    }
}

static void read_larges(struct memory_store *s, struct query *q, struct arena *a) {
    size_t cap = 0;
    for (const struct memory_object *o = s->first_large; o != NULL && q->n_rows < q->limit;
         o = o->next) {
        if (o->id > q->from && (q->object == 0 || o->n_tasks == 0)) {
            large_out(a, o, add_row(a, q, &cap, sizeof(struct large_row)));
        }
    }
}

static void ack_out(struct query *q, struct arena *a, const struct ack_row *from, size_t *cap,
                    bool whole) {
    struct ack_row *r = add_row(a, q, cap, sizeof *r);
    *r = whole ? *from : (struct ack_row){.object = q->object};
    memcpy(r->flow, q->flow, sizeof r->flow);
    r->agent = must((void *)(uintptr_t)arena_text(a, from->agent));
    r->boot_id = must((void *)(uintptr_t)arena_text(a, from->boot_id));
    r->leaves = whole ? blob_in(a, from->leaves) : (struct blob){0};
    r->receipt = whole ? blob_in(a, from->receipt) : (struct blob){0};
}
static void read_acks(struct memory_store *s, struct query *q, struct arena *a) {
    const struct memory_object *o = memory_object(s, q->object);
    size_t cap = 0;
    for (size_t i = 0; i < o->n_acks; i++) {
        const struct ack_row *r = &o->acks[i];
        if (r->offset < q->from ||
            (q->text != NULL && (r->synced || strcmp(r->agent, q->text) != 0))) {
            continue;
        }
        if (q->n_rows == q->limit) {
            q->more = true;
            break;
        }
        ack_out(q, a, r, &cap, true);
    }
}
static int compare_writers(const void *a, const void *b) {
    const struct ack_row *x = a, *y = b;
    int order = strcmp(x->agent, y->agent);
    return order != 0 ? order : strcmp(x->boot_id, y->boot_id);
}
static void read_writers(struct memory_store *s, struct query *q, struct arena *a) {
    const struct memory_object *o = memory_object(s, q->object);
    size_t cap = 0;
    for (size_t i = 0; i < o->n_acks; i++) {
        const struct ack_row *r = &o->acks[i];
        bool known = r->synced;
        const struct ack_row *rows = q->rows;
        for (size_t k = 0; !known && k < q->n_rows; k++) {
            known = compare_writers(&rows[k], r) == 0;
        }
        if (!known) {
            ack_out(q, a, r, &cap, false);
        }
    }
    if (q->n_rows > 1) {
        qsort(q->rows, q->n_rows, sizeof(struct ack_row), compare_writers);
    }
    q->n_all = o->n_tasks > 0;
}

static void read_seen(struct memory_store *s, struct query *q, struct arena *a) {
    q->n_rows = q->blob.len / SEEN_BYTES;
    bool *seen = must(arena_alloc(a, q->n_rows * sizeof *seen));
    for (size_t i = 0; i < q->n_rows; i++) {
        seen[i] = memory_seen(s, q->object, q->blob.bytes + i * SEEN_BYTES) != NULL;
    }
    q->rows = seen;
}

static void progress_out(struct blob b, struct flow_progress *p) {
    uint64_t n[19];
    memcpy(n, b.bytes, sizeof n); // little-endian, as in change_plan()
    *p = (struct flow_progress){n[0],  n[1],  n[2],  n[3],  n[4],      n[5],  n[6],
                                n[7],  n[8],  n[9],  n[10], n[11],     n[12], n[13],
                                n[14], n[15], n[16], n[18], n[17] != 0};
}

enum err memory_read(struct store *store, struct query *q, struct arena *a,
                     struct failure *ret_failure) {
    struct memory_store *s = (struct memory_store *)(void *)store;
    (void)ret_failure;
    q->rows = NULL;
    q->n_rows = 0;
    q->more = false;
    switch ((int)q->kind) {
    case QUERY_PLAN:
        q->plan = (struct plan_answer){.exists = s->has_plan};
        if (s->has_plan) {
            q->plan.body = blob_in(a, s->plan);
            progress_out(s->progress, &q->plan.progress);
        }
        break;
    case QUERY_TASKS: read_tasks(s, q, a); break;
    case QUERY_TASKS_WAITING: read_waiting(s, q, a); break;
    case QUERY_WALK_FRONTIER:
    case QUERY_WALK_PARTIALS:
    case QUERY_WALK_DEEPEST: read_walks(s, q, a); break;
    case QUERY_LARGES: read_larges(s, q, a); break;
    case QUERY_SEEN: read_seen(s, q, a); break;
    case QUERY_ACKS: read_acks(s, q, a); break;
    case QUERY_WRITERS: read_writers(s, q, a); break;
    default: return ERR_INTERNAL;
    }
    return OK;
}
