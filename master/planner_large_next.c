// SPDX-License-Identifier: Apache-2.0
// What follows for a large object that is written: each writer that has not synced does so;
// then the digest is made from the leaves, and the object is finished.
#include "common/hash.h"
#include "common/log.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    ACKS_AT_A_TIME = 256,
    RECEIPTS_MAX_BYTES = 200 * 1024, // a task's spec has room for these
    RECEIPT_OVERHEAD_BYTES = 8,      // of one in the message
};

// One walk through the acknowledgements.
struct folding {
    struct large *large; // counted
    struct hash *hash;
    uint64_t offset; // how far they reach
    bool no_digest;  // of some parts there are none
    // The parts' receipts, if the sink wants them and they are not too many; the first is left
    // free.
    bool wants_receipts;
    Sluice__V1__Receipt **receipts; // owned, each with its bytes
    size_t n_receipts, cap_receipts, receipt_bytes;
};

static void forget_receipts(struct folding *f) {
    for (size_t i = 1; i < f->n_receipts; i++) {
        free(f->receipts[i]);
    }
    free(f->receipts);
    f->receipts = NULL;
    f->n_receipts = f->cap_receipts = 0;
    f->wants_receipts = false;
}

// What cannot be kept is not needed: the sink asks the store then.
static void keep_receipt(struct folding *f, struct blob b) {
    f->receipt_bytes += b.len + RECEIPT_OVERHEAD_BYTES;
    if (!f->wants_receipts || b.len == 0 || f->receipt_bytes > RECEIPTS_MAX_BYTES) {
        forget_receipts(f);
        return;
    }
    if (f->n_receipts + 2 > f->cap_receipts) {
        size_t cap = f->cap_receipts == 0 ? 64 : f->cap_receipts * 2;
        Sluice__V1__Receipt **grown = realloc(f->receipts, cap * sizeof(*grown));
        if (grown == NULL) {
            forget_receipts(f);
            return;
        }
        f->receipts = grown;
        f->cap_receipts = cap;
        f->n_receipts = f->n_receipts == 0 ? 1 : f->n_receipts;
    }
    Sluice__V1__Receipt *r = malloc(sizeof *r + b.len);
    if (r == NULL) {
        forget_receipts(f);
        return;
    }
    sluice__v1__receipt__init(r);
    r->opaque.data = (uint8_t *)(r + 1);
    r->opaque.len = b.len;
    memcpy(r->opaque.data, b.bytes, b.len);
    f->receipts[f->n_receipts++] = r;
}

static void next_ended(struct large *l) {
    struct plan *pl = l->plan;
    struct core *core = pl->planner->core;
    l->busy = false;
    if (l->again && pl->flow != NULL) {
        l->again = false;
        large_next(l);
    }
    large_unref(l);
    plan_unref(pl);
    core_dispatch(core);
}

static void folding_ended(struct folding *f) {
    struct large *l = f->large;
    hash_free(f->hash);
    forget_receipts(f);
    free(f);
    next_ended(l);
}

// The writers that were lost, but not for certain, have until then.
static int64_t quiet_deadline_ms(const struct large *l) {
    const struct planner *p = l->plan->planner;
    int64_t in_ms = l->row.quiet_ms - planner_wall_ms(p);
    return planner_mono_ms(p) + (in_ms > 0 ? in_ms : 0);
}

static bool has_open_writer(const struct large *l) {
    const struct open_lease *o;
    DL_FOREACH(l->plan->open, o) {
        if (o->object == l->row.object) {
            return true;
        }
    }
    return false;
}

static void put_finish(struct folding *f) {
    struct large *l = f->large;
    struct plan *pl = l->plan;
    struct digest digest;
    bool sha = pl->flow->spec->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256;
    tree_digest_end(f->hash, &digest);
    f->hash = NULL;
    struct work *w = work_new(pl);
    if (w == NULL) {
        return;
    }
    bool tracked = has_open_writer(l);
    if (!tracked && pl->restored && l->row.quiet_ms != 0) {
        l->row.fresh = true; // as far as is known, a lost writer's lease was closed by expiry only
    }
    bool restarted = !tracked && pl->restored && l->row.quiet_ms > planner_wall_ms(pl->planner);
    struct task_row row = {.kind = SLUICE__V1__TASK_KIND__FINISH,
                           .status = tracked || restarted ? TASK_WAITING : TASK_READY};
    l->row.state = LARGE_FINISHING;
    large_store(w, l);
    size_t n = hash_digest_bytes(sha ? HASH_SHA256 : HASH_XXH3_128);
    struct large_end end = {.receipts = f->receipts, .n_receipts = f->n_receipts};
    if (!f->no_digest) {
        end.digest = (struct blob){digest.bytes, n};
    }
    large_put_step(w, l, &row, &end);
    if (row.status == TASK_WAITING) {
        waiting_add(w, &row, row.task_id, tracked, quiet_deadline_ms(l));
    }
    work_commit(w);
}

static void acks_make_no_sense(struct large *l, uint64_t reach) {
    struct failure f = {0};
    (void)failure_set(&f, ERR_INTERNAL, "finish", NULL, 0, "parts end at %llu of %llu bytes",
                      (unsigned long long)reach, (unsigned long long)l->row.size);
    struct work *w = work_new(l->plan);
    if (w != NULL) {
        large_regenerate(w, l, &f, "", false);
        work_commit(w);
    }
}

static void on_acks(void *arg, enum err result, const struct ack_row *rows, size_t n_rows,
                    bool more) {
    struct folding *f = arg;
    struct large *l = f->large;
    struct plan *pl = l->plan;
    bool fits = result == OK && pl->flow != NULL && l->row.state == LARGE_SYNCING;
    bool whole = fits;
    for (size_t i = 0; whole && i < n_rows; i++) {
        whole = rows[i].offset == f->offset;
        f->no_digest = f->no_digest || rows[i].leaves.len == 0;
        hash_update(f->hash, rows[i].leaves.bytes, rows[i].leaves.len);
        f->offset += rows[i].length;
        keep_receipt(f, rows[i].receipt);
    }
    if (whole && more) {
        database_acks_load(pl->planner->core->database, pl->id, l->row.object, NULL, f->offset,
                           ACKS_AT_A_TIME, on_acks, f);
        return;
    }
    if (whole && f->offset == l->row.size) {
        put_finish(f);
    } else if (fits) {
        acks_make_no_sense(l, f->offset);
    }
    folding_ended(f);
}

static void fold(struct large *l) {
    struct plan *pl = l->plan;
    bool sha = pl->flow->spec->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256;
    struct folding *f = calloc(1, sizeof *f);
    if (f == NULL ||
        tree_digest_begin(sha ? HASH_SHA256 : HASH_XXH3_128, l->row.size, &f->hash) != OK) {
        free(f);
        struct failure failure = out_of_memory("digest");
        plan_fail(pl, &failure);
        next_ended(l);
        return;
    }
    f->large = l;
    f->wants_receipts = place_is_store(&pl->flow->sink);
    database_acks_load(pl->planner->core->database, pl->id, l->row.object, NULL, 0, ACKS_AT_A_TIME,
                       on_acks, f);
}

static void put_syncs(struct large *l, const struct ack_row *rows, size_t n_rows) {
    struct work *w = work_new(l->plan);
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < n_rows; i++) {
        if (i > 0 && strcmp(rows[i].agent, rows[i - 1].agent) == 0) {
            continue; // of another boot: the answer will show that
        }
        struct task_row row = {.kind = SLUICE__V1__TASK_KIND__SYNC};
        strncpy(row.avoid, rows[i].agent, sizeof row.avoid - 1);
        large_put_step(w, l, &row, NULL);
    }
    work_commit(w);
}

static void on_writers(void *arg, enum err result, const struct ack_row *rows, size_t n_rows,
                       bool has_tasks) {
    struct large *l = arg;
    if (result == OK && l->plan->flow != NULL && l->row.state == LARGE_SYNCING) {
        if (n_rows == 0 && !has_tasks) {
            fold(l);
            return;
        }
        if (!has_tasks) {
            put_syncs(l, rows, n_rows);
        }
    }
    next_ended(l);
}

// A step is stored together with its task: this is not to be.
static void put_missing_step(struct large *l) {
    struct failure f = {0};
    struct work *w = work_new(l->plan);
    if (w == NULL) {
        return;
    }
    (void)failure_set(&f, ERR_INTERNAL, "restart", NULL, 0, "a large object has no task");
    large_regenerate(w, l, &f, "", false);
    work_commit(w);
}

void large_next(struct large *l) {
    struct plan *pl = l->plan;
    if (l->busy) {
        l->again = true;
        return;
    }
    if (l->row.state == LARGE_SYNCING) {
        l->busy = true;
        l->refs++;
        plan_ref(pl);
        database_writers_load(pl->planner->core->database, pl->id, l->row.object, on_writers, l);
    }
}

void large_resume(struct large *l) {
    if (l->row.state == LARGE_SYNCING ||
        (l->row.state == LARGE_MOVING && l->row.acked_bytes == l->row.size)) {
        l->row.state = LARGE_SYNCING;
        large_next(l);
    } else {
        put_missing_step(l);
    }
}
