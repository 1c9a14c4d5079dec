// SPDX-License-Identifier: Apache-2.0
// What was moved under leases that ended without a result, and so is moved again: heartbeats tell
// it while an agent lives, and its next incarnation tells the rest.
#include "common/cleanup.h"
#include "master/planner_impl.h"

#include <stdlib.h>

enum { NOTES_MAX = 65536 };

// Told of a task that is not in memory: after a restart of the master, agents may be here before
// the tasks are.
struct moved_note {
    struct hash_node by_task;
    uint64_t task_id;
    struct epoch epoch;
    uint64_t bytes;
};

uint64_t leases_lost_bytes(const struct planned_task *t, struct epoch concluded) {
    uint64_t bytes = t->lost_bytes;
    for (size_t i = 0; i < t->n_leases; i++) {
        if (epoch_compare(t->leases[i].epoch, concluded) != 0) {
            bytes += t->leases[i].moved_bytes;
        }
    }
    return bytes;
}

void leases_forgive_bytes(struct planned_task *t, struct epoch concluded, uint64_t bytes) {
    for (size_t i = 0; i < t->n_leases; i++) {
        if (epoch_compare(t->leases[i].epoch, concluded) != 0) {
            t->leases[i].moved_bytes += bytes;
            return;
        }
    }
}

static bool raise_bytes(struct lease *l, struct epoch epoch, uint64_t bytes, uint64_t *ret_more) {
    if (epoch_compare(l->epoch, epoch) != 0) {
        return false;
    }
    *ret_more = bytes > l->moved_bytes ? bytes - l->moved_bytes : 0;
    l->moved_bytes += *ret_more;
    return true;
}

static bool raise_of_task(struct planned_task *t, struct epoch epoch, uint64_t bytes) {
    uint64_t more = 0;
    for (size_t i = 0; i < t->n_leases; i++) {
        if (raise_bytes(&t->leases[i], epoch, bytes, &more)) {
            return true;
        }
    }
    return false;
}

void planner_progress(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes) {
    struct planned_task *t = planner_task(p, task_id);
    if (t != NULL) {
        (void)raise_of_task(t, epoch, bytes);
    }
}

// The task was concluded under another lease, and what was known then is in the sum.
static bool raise_of_open(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes) {
    struct plan *pl;
    DL_FOREACH(p->plans, pl) {
        struct open_lease *o;
        DL_FOREACH(pl->open, o) {
            uint64_t more = 0;
            if (o->task_id == task_id && raise_bytes(&o->lease, epoch, bytes, &more)) {
                pl->body.exact.bytes_resent += more;
                return true;
            }
        }
    }
    return false;
}

static void note(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes) {
    struct moved_note *n = p->moved.count < NOTES_MAX ? calloc(1, sizeof *n) : NULL;
    if (n == NULL) {
        return; // a number that is too small
    }
    n->task_id = task_id;
    n->epoch = epoch;
    n->bytes = bytes;
    hash_index_add(&p->moved, &n->by_task, hash_u64(task_id));
}

static void drop(struct planner *p, struct moved_note *n) {
    hash_index_remove(&p->moved, &n->by_task);
    free(n);
}

void planner_moved(struct planner *p, uint64_t task_id, struct epoch epoch, uint64_t bytes) {
    if (bytes == 0) {
        return;
    }
    struct planned_task *t = planner_task(p, task_id);
    bool known = t != NULL && !t->concluded ? raise_of_task(t, epoch, bytes)
                                            : raise_of_open(p, task_id, epoch, bytes);
    // Tasks of this term were never out of memory while they had a lease.
    if (!known && t == NULL && epoch.term < p->core->term) {
        note(p, task_id, epoch, bytes);
    }
}

void leases_recall_moved(struct planner *p, struct planned_task *t) {
    uint64_t hash = hash_u64(t->row.task_id);
    struct hash_node *h = hash_index_first(&p->moved, hash), *next;
    for (; h != NULL; h = next) {
        struct moved_note *n = CONTAINER_OF(h, struct moved_note, by_task);
        next = hash_index_again(h);
        if (n->task_id == t->row.task_id) {
            (void)raise_of_task(t, n->epoch, n->bytes);
            drop(p, n);
        }
    }
}

void planner_moved_deinit(struct planner *p) {
    struct hash_node *h;
    while ((h = hash_index_each(&p->moved, NULL)) != NULL) {
        drop(p, CONTAINER_OF(h, struct moved_note, by_task));
    }
    hash_index_deinit(&p->moved);
}
