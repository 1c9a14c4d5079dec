// SPDX-License-Identifier: Apache-2.0
// Leases: given, lost, resumed, ordered back, closed.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <utlist.h>

static uint64_t done_cost(const struct sched_lease *l) {
    return l->done_bytes + (uint64_t)l->done_objects * SCHED_OBJECT_BYTES;
}

static void start(struct sched_lease *l, int64_t now_ms) {
    if (!l->started) {
        l->started = true;
        l->started_ms = now_ms;
        l->agent->n_started++;
    }
}

// Agents run what they have in order, so the oldest leases fill the slots.
static void start_next(struct scheduler *s, struct sched_agent *a) {
    if (a->n_started >= a->slots) {
        return;
    }
    for (struct sched_lease *l = a->leases; l != NULL; l = l->next) {
        if (!l->started && l->state != LEASE_LOST) {
            start(l, s->now_ms);
            if (a->n_started >= a->slots) {
                return;
            }
        }
    }
}

// The one function that writes the state, and keeps the counters.
static void set_state(struct scheduler *s, struct sched_lease *l, enum lease_state to) {
    bool was_held = l->state != LEASE_LOST, is_held = to != LEASE_LOST;
    l->state = to;
    if (was_held == is_held) {
        return;
    }
    struct sched_agent *a = l->agent;
    if (is_held) {
        a->n_held++;
    } else {
        a->n_held--;
    }
    if (l->flow != NULL) {
        if (is_held) {
            l->flow->n_running++;
        } else {
            l->flow->n_running--;
        }
    }
    if (!is_held && l->started) {
        l->started = false;
        a->n_started--;
    }
    start_next(s, a);
}

struct sched_lease *sched_lease_new(struct scheduler *s, struct sched_agent *a, uint64_t task_id,
                                    struct epoch epoch) {
    struct sched_lease *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return NULL;
    }
    l->epoch = epoch;
    l->task_id = task_id;
    l->agent = a;
    l->state = LEASE_OPEN;
    l->given_ms = l->started_ms = s->now_ms;
    l->mentioned = true;
    DL_APPEND(a->leases, l);
    a->n_leases++;
    a->n_held++;
    s->n_strays++;
    if (a->n_started < a->slots) {
        start(l, s->now_ms);
    }
    return l;
}

void sched_lease_set_flow(struct scheduler *s, struct sched_lease *l, struct sched_flow *f) {
    l->flow = f;
    s->n_strays--;
    f->n_open++;
    if (l->state != LEASE_LOST) {
        f->n_running++;
    }
}

static struct sched_lease *lease_among(struct sched_lease *first, uint64_t task_id,
                                       struct epoch epoch) {
    for (struct sched_lease *l = first; l != NULL; l = l->next) {
        if (l->task_id == task_id && epoch_compare(l->epoch, epoch) == 0) {
            return l;
        }
    }
    return NULL;
}

struct sched_lease *sched_lease_of(const struct sched_agent *a, uint64_t task_id,
                                   struct epoch epoch) {
    return lease_among(a->leases, task_id, epoch);
}

struct sched_lease *sched_claim_of(const struct scheduler *s, uint64_t task_id) {
    struct hash_node *n = hash_index_first(&s->claims, hash_u64(task_id));
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_lease *l = CONTAINER_OF(n, struct sched_lease, by_task);
        if (l->task_id == task_id) {
            return l;
        }
    }
    return NULL;
}

static void unclaim(struct scheduler *s, struct sched_lease *l) {
    hash_index_remove(&s->claims, &l->by_task);
    l->claim = false;
}

void sched_lease_order(struct scheduler *s, struct sched_lease *l, enum scheduler_command_kind k) {
    if (l->state == LEASE_LOST || l->state == LEASE_REVOKING) {
        return;
    }
    set_state(s, l, k == SCHED_YIELD ? LEASE_YIELDING : LEASE_REVOKING);
    sched_note_queue(s, &l->order, k);
}

// A lease less: those of the flow's queues that its limit held up may give out again.
static void flow_has_room(struct scheduler *s, struct sched_flow *f) {
    for (struct sched_queue *q = f->n_at_limit > 0 ? f->queues : NULL; q != NULL;
         q = q->flow_next) {
        if (q->at_limit) {
            sched_queue_refresh(s, q);
        }
    }
}

void sched_lease_lose(struct scheduler *s, struct sched_lease *l) {
    if (l->state == LEASE_LOST) {
        return;
    }
    sched_note_drop(s, &l->order);
    set_state(s, l, LEASE_LOST);
    if (l->flow != NULL) {
        flow_has_room(s, l->flow);
    }
    struct sched_task *t = l->task;
    if (t == NULL) {
        return;
    }
    if (t->flow->removed) {
        sched_task_free(s, t);
        return;
    }
    sched_task_detach(s, t);
    if (t->exclusive) {
        t->state = TASK_BARRED;
    } else {
        sched_task_ready(s, t, true);
    }
}

void sched_lease_free(struct scheduler *s, struct sched_lease *l) {
    sched_note_drop(s, &l->order);
    sched_note_drop(s, &l->closing);
    free(l);
}

static void task_is_free(struct scheduler *s, struct sched_lease *l) {
    struct sched_task *t = l->task;
    l->task = NULL;
    t->lease = NULL;
    if (t->flow->removed) {
        sched_task_free(s, t);
    } else if (t->state == TASK_LEASED || t->state == TASK_BARRED) {
        sched_task_detach(s, t);
        sched_task_ready(s, t, true);
    }
}

void sched_lease_close(struct scheduler *s, struct sched_lease *l, enum lease_closed_how how,
                       bool told) {
    struct sched_agent *a = l->agent;
    sched_note_drop(s, &l->order);
    if (l->claim) {
        unclaim(s, l);
    }
    DL_DELETE(a->leases, l);
    a->n_leases--;
    if (l->state != LEASE_LOST) {
        set_state(s, l, LEASE_LOST);
    }
    if (l->task != NULL) {
        task_is_free(s, l);
    }
    if (l->source != NULL) {
        l->source->n_source--;
        sched_agent_refresh(s, l->source, false);
        sched_agent_forget_if_gone(s, l->source);
        l->source = NULL;
    }
    sched_agent_refresh(s, a, false);
    struct sched_flow *f = l->flow;
    if (told) {
        sched_lease_free(s, l);
    } else {
        l->how = how;
        DL_APPEND(a->closing, l);
        sched_note_queue(s, &l->closing, SCHED_CLOSED);
    }
    if (f != NULL) {
        f->n_open--;
        flow_has_room(s, f);
        sched_flow_quiet(s, f);
    } else if (--s->n_strays == 0) {
        sched_flows_quiet(s);
    }
}

void sched_claim_refuse(struct scheduler *s, struct sched_lease *l) {
    unclaim(s, l);
    sched_lease_order(s, l, SCHED_REVOKE);
}

void sched_claims_end(struct scheduler *s) {
    for (struct hash_node *n = hash_index_each(&s->claims, NULL), *next; n != NULL; n = next) {
        next = hash_index_each(&s->claims, n);
        sched_claim_refuse(s, CONTAINER_OF(n, struct sched_lease, by_task));
    }
}

// ---- what agents say ----

static void supersede(struct scheduler *s, struct sched_lease *l) {
    if (l->claim) {
        unclaim(s, l);
    }
    l->task = NULL;
    sched_lease_order(s, l, SCHED_REVOKE);
}

// May a lease of an earlier term still come to light? Once the time to reconcile is over, one
// whose task is not here does not count any more (its task may have ended since, and its result
// would be fenced), nor does one that its agent did not tell of when it reported.
static bool may_come_to_light(const struct scheduler *s, const struct sched_agent *a,
                              const struct sched_task *t) {
    bool open = s->options.held_until_ms == 0 || s->now_ms < s->options.held_until_ms;
    bool late = t != NULL && open && !a->reported;
    return (t == NULL || t->claimable) && (sched_is_reconciling(s) || late);
}

// A lease of an earlier term, or of an earlier incarnation, comes to light. NULL: a newer one is
// known, or it comes too late.
static struct sched_lease *claim(struct scheduler *s, struct sched_agent *a, uint64_t task_id,
                                 struct epoch epoch) {
    struct sched_task *t = sched_task_find(s, task_id);
    struct sched_lease *other = t != NULL ? t->lease : sched_claim_of(s, task_id);
    struct epoch newest = t != NULL       ? t->newest
                          : other != NULL ? other->epoch
                                          : (struct epoch){0, 0};
    // Its own newest one again: closed with the agent's former incarnation, whose result was kept.
    bool again = t != NULL && t->lease == NULL && !t->answered && epoch_compare(epoch, newest) == 0;
    bool earlier = epoch.term < s->options.term && epoch_compare(epoch, newest) > 0 &&
                   may_come_to_light(s, a, t);
    if (epoch.term == 0 || !(again || earlier) || (t != NULL && t->state == TASK_GIVEN_UP)) {
        return NULL;
    }
    struct sched_lease *l = sched_lease_new(s, a, task_id, epoch);
    if (l == NULL) {
        return NULL;
    }
    if (other != NULL) {
        supersede(s, other);
    }
    if (t == NULL) {
        l->claim = true;
        hash_index_add(&s->claims, &l->by_task, hash_u64(task_id));
    } else {
        sched_lease_set_flow(s, l, t->flow);
        sched_task_detach(s, t);
        sched_task_set_leased(s, t, l);
    }
    sched_agent_refresh(s, a, true);
    return l;
}

// The agent is back and goes on with this lease, unless somebody else does.
static bool resume(struct scheduler *s, struct sched_lease *l) {
    bool wanted = l->task != NULL || l->claim;
    set_state(s, l, wanted ? LEASE_OPEN : LEASE_REVOKING);
    if (l->task != NULL) {
        struct sched_task *t = l->task;
        sched_task_detach(s, t);
        sched_task_set_leased(s, t, l);
    }
    sched_agent_refresh(s, l->agent, false);
    return wanted;
}

// It has to stop. As long as it has not said so, and may act, the lease is open.
static void refuse(struct scheduler *s, struct sched_agent *a, uint64_t task_id,
                   struct epoch epoch) {
    const struct sched_task *t = sched_task_find(s, task_id);
    bool answered = t != NULL && t->answered && epoch_compare(epoch, t->newest) == 0;
    if (epoch.term == 0 || epoch.term > s->options.term || answered) {
        return; // not of this cluster's, or it is over
    }
    struct sched_lease *l = sched_lease_new(s, a, task_id, epoch);
    if (l != NULL) { // else: it stops all the same
        set_state(s, l, LEASE_REVOKING);
        sched_agent_refresh(s, a, true);
    }
}

bool scheduler_agent_holds(struct scheduler *s, const char *agent, uint64_t task_id,
                           struct epoch epoch, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    if (a == NULL || !a->up) {
        return false;
    }
    struct sched_lease *l = sched_lease_of(a, task_id, epoch);
    if (l != NULL) {
        l->mentioned = true;
        if (l->state == LEASE_LOST) {
            resume(s, l);
        }
    } else {
        l = claim(s, a, task_id, epoch);
    }
    if (l == NULL) {
        refuse(s, a, task_id, epoch);
        return false;
    }
    if (l->flow != NULL && (l->flow->paused || l->flow->removed) && l->state == LEASE_OPEN) {
        sched_lease_order(s, l, SCHED_REVOKE);
        sched_note_drop(s, &l->order); // the caller tells it
    }
    return l->state != LEASE_REVOKING;
}

static void learn_rate(struct scheduler *s, const struct sched_lease *l, uint64_t cost) {
    if (l->state != LEASE_OPEN || cost == 0) {
        return;
    }
    int64_t took_ms = s->now_ms - l->started_ms;
    double rate = (double)cost / (double)(took_ms > 0 ? took_ms : 1);
    struct sched_agent *a = l->agent;
    a->rate = a->rate > 0 ? 0.7 * a->rate + 0.3 * rate : rate;
    s->rate = s->rate > 0 ? 0.95 * s->rate + 0.05 * rate : rate;
}

// The result is the task's last word.
static void finish(struct scheduler *s, struct sched_task *t, struct sched_lease *l) {
    struct sched_lease *current = t->lease;
    uint64_t cost = t->cost;
    struct sched_flow *f = t->flow;
    sched_task_free(s, t);
    if (current != NULL && current != l) {
        sched_lease_order(s, current, SCHED_REVOKE);
    }
    if (l != NULL) {
        struct sched_agent *a = l->agent;
        learn_rate(s, l, cost);
        sched_lease_close(s, l, CLOSED_RELEASED, true);
        sched_agent_forget_if_gone(s, a);
    }
    sched_flow_want(s, f);
}

// An agent that does not know yet that this was heard may mention the lease when it registers.
static void close_answered(struct scheduler *s, struct sched_lease *l) {
    if (l->task != NULL) {
        l->task->answered = true;
    }
    sched_lease_close(s, l, CLOSED_RELEASED, false);
}

enum err scheduler_result(struct scheduler *s, const char *agent, uint64_t task_id,
                          struct epoch epoch, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    struct sched_task *t = sched_task_find(s, task_id);
    struct sched_lease *l = a != NULL ? sched_lease_of(a, task_id, epoch) : NULL;
    bool earlier = epoch.term < s->options.term;
    if (earlier && sched_is_reconciling(s) && a != NULL && a->up) {
        if (l == NULL) {
            l = claim(s, a, task_id, epoch);
        }
        if (l != NULL && (l->claim || l->task != NULL)) {
            l->mentioned = true;
            return ERR_AGAIN;
        }
    } else if (t != NULL && epoch.term > 0) {
        int order = epoch_compare(epoch, t->newest);
        if (order == 0 || (order > 0 && earlier && t->claimable)) {
            finish(s, t, l);
            return OK;
        }
    }
    if (l != NULL) {
        close_answered(s, l);
    }
    return ERR_FENCED;
}

const char *scheduler_holder(const struct scheduler *s, uint64_t task_id, struct epoch epoch) {
    const struct sched_task *t = sched_task_find(s, task_id);
    const struct sched_lease *l = t != NULL ? t->lease : sched_claim_of(s, task_id);
    return l != NULL && epoch_compare(l->epoch, epoch) == 0 ? l->agent->name : NULL;
}

bool scheduler_lease_is_open(const struct scheduler *s, const char *agent, uint64_t task_id,
                             struct epoch epoch) {
    const struct sched_agent *a = sched_agent_find(s, agent);
    return a != NULL && (lease_among(a->leases, task_id, epoch) != NULL ||
                         lease_among(a->closing, task_id, epoch) != NULL);
}

bool scheduler_has_strays(const struct scheduler *s) {
    return s->n_strays > 0;
}

void scheduler_released(struct scheduler *s, const char *agent, uint64_t task_id,
                        struct epoch epoch, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    struct sched_lease *l = a != NULL ? sched_lease_of(a, task_id, epoch) : NULL;
    if (l != NULL) {
        close_answered(s, l);
    }
}

void scheduler_progress(struct scheduler *s, const char *agent, uint64_t task_id,
                        struct epoch epoch, uint64_t bytes, uint32_t objects, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    struct sched_lease *l = a != NULL ? sched_lease_of(a, task_id, epoch) : NULL;
    if (l == NULL || l->state == LEASE_LOST) {
        return;
    }
    l->done_bytes = bytes;
    l->done_objects = objects;
    if (bytes > 0 || objects > 0) {
        start(l, s->now_ms);
        l->progress_ms = s->now_ms;
    }
}

int64_t sched_lease_remaining_ms(const struct scheduler *s, const struct sched_lease *l) {
    uint64_t cost = l->task != NULL ? l->task->cost : 0;
    uint64_t done = done_cost(l) < cost ? done_cost(l) : cost;
    double elapsed = (double)(s->now_ms - l->started_ms);
    double rest = (double)(cost - done);
    double reported = (double)(l->progress_ms - l->started_ms);
    if (l->started && done > 0 && reported > 0) {
        double since = elapsed - reported;
        double left = rest * reported / (double)done - since;
        return (int64_t)(left > since ? left : since); // it stands still: as long again
    }
    double rate = l->agent->rate > 0 ? l->agent->rate : s->rate;
    double expected = rate > 0 ? rest / rate : 0;
    if (!l->started) {
        return (int64_t)expected;
    }
    // Overdue: it takes as long again.
    return (int64_t)(expected > elapsed ? expected - elapsed : elapsed);
}
