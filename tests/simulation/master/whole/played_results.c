// SPDX-License-Identifier: Apache-2.0
// The master's end of results, as in agent_results.c.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

static struct kept *kept_of(struct agent *a, uint64_t number) {
    size_t low = 0, high = a->n_kept;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (a->kept[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < a->n_kept && a->kept[low]->number == number ? a->kept[low] : NULL;
}

bool result_was_judged(const struct world *w, struct agent *a, uint64_t number) {
    const struct kept *k = kept_of(a, number);
    return k == NULL || number <= a->committed_through ||
           (k->term == w->term && k->state != KEPT_NEW && k->state != KEPT_AGAIN);
}

static void is_stored(struct world *w, uint32_t i, struct kept *k) {
    struct agent *a = &w->agents[i];
    uint64_t before = a->committed_through;
    k->state = KEPT_STORED;
    for (size_t n = 0; n < a->n_kept; n++) {
        const struct kept *each = a->kept[n];
        if (each->number <= a->committed_through || each->term != w->term ||
            each->state == KEPT_NEW) {
            continue;
        }
        if (each->state != KEPT_STORED) {
            break;
        }
        a->committed_through = each->number;
    }
    if (a->committed_through > before && a->master_session != 0) {
        to_agent(w, i, message_committed)->number = a->committed_through;
    }
}

// It is kept until its agent was told, which is after this; a master that dies says nothing.
static void stored(void *arg) {
    struct kept *k = arg;
    is_stored(the, k->agent, k);
}

void result_accepted(struct world *w, uint64_t task, struct epoch epoch) {
    struct known_task *t = known_task(w, task);
    // One of an earlier term that this master has not heard of may be open: it is waited for.
    w->n_older += epoch_compare(epoch, t->newest) != 0 ? 1 : 0;
    if (epoch_compare(epoch, t->newest) > 0 ||
        (t->newest.term == w->term && epoch_compare(epoch, t->newest) != 0)) {
        violated("task %llx ends under epoch %llu.%llu; the newest is %llu.%llu",
                 (unsigned long long)task, (unsigned long long)epoch.term,
                 (unsigned long long)epoch.counter, (unsigned long long)t->newest.term,
                 (unsigned long long)t->newest.counter);
    }
    w->n_tasks_done++;
    if (w->o.uniform) { // else it is kept, to find a second end
        known_task_forget(w, task);
    } else {
        if (t->accepted == w->term) {
            violated("task %llx ends twice", (unsigned long long)task);
        }
        t->accepted = w->term;
    }
}

static enum err judge(struct world *w, uint32_t i, struct kept *k) {
    struct agent *a = &w->agents[i];
    const Sluice__V1__TaskResult *m = &k->m;
    struct epoch epoch = {k->epoch.term, k->epoch.counter};
    k->term = w->term;
    trace("judged", i, k->lease.task_id, k->number << 8 | (m->released ? 1 : 0));
    if (m->released && m->n_objects == 0 && m->done_bytes == 0) {
        scheduler_released(w->core.scheduler, a->name, k->lease.task_id, epoch, w->now_ms);
        is_stored(w, i, k);
        return OK;
    }
    enum err e = scheduler_result(w->core.scheduler, a->name, k->lease.task_id, epoch, w->now_ms);
    trace("result", i, k->lease.task_id,
          epoch.counter << 16 | (uint64_t)e << 1 | (uint64_t)m->done);
    k->state = e == ERR_AGAIN ? KEPT_AGAIN : KEPT_STORING;
    if (e == OK) {
        result_accepted(w, k->lease.task_id, epoch);
        planner_result(w->core.planner, a->name, m, stored, k);
    } else if (e == ERR_FENCED) {
        is_stored(w, i, k);
    }
    return e;
}

void message_result(struct world *w, struct event *e) {
    if (!master_heard(w, e)) {
        return;
    }
    struct agent *a = &w->agents[e->agent];
    struct kept *k = kept_of(a, e->number);
    if (k == NULL || (k->term == w->term && k->state != KEPT_NEW)) {
        if (k != NULL && k->state == KEPT_STORED && e->number <= a->committed_through) {
            to_agent(w, e->agent, message_committed)->number = a->committed_through;
        }
        return;
    }
    (void)judge(w, e->agent, k);
    core_dispatch(&w->core);
}

void results_judge_kept(struct world *w, struct event *e) {
    if (!w->up || e->number != w->term) {
        return;
    }
    scheduler_tick(w->core.scheduler, w->now_ms);
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        for (size_t n = 0; n < a->n_kept; n++) {
            struct kept *k = a->kept[n];
            if (k->term == w->term && k->state == KEPT_AGAIN && judge(w, i, k) == ERR_AGAIN) {
                violated("a result cannot be judged after the time to reconcile");
            }
        }
    }
    core_dispatch(&w->core);
}
