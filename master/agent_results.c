// SPDX-License-Identifier: Apache-2.0
// Results: each is judged by the scheduler, stored by the planner, and then committed to the
// agent, which keeps it in its journal until then. Numbers are committed in their order.
#include "common/cleanup.h"
#include "common/log.h"
#include "master/agents_impl.h"
#include "master/planner.h"

#include <stdlib.h>
#include <utlist.h>

static void say_committed(struct agent *a) {
    Sluice__V1__Committed m = SLUICE__V1__COMMITTED__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    m.through = a->committed_through;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_COMMITTED;
    message.committed = &m;
    (void)agent_send(a, &message); // else the next Welcome says it
}

static void result_free(struct agent_result *r) {
    if (r->kept != NULL) {
        sluice__v1__task_result__free_unpacked(r->kept, NULL);
    }
    free(r);
}

static void is_committed(struct agent_result *r) {
    struct agent *a = r->agent;
    r->committed = true;
    if (a == NULL) { // its numbers began again
        result_free(r);
        return;
    }
    bool more = false;
    while (a->results != NULL && a->results->committed) {
        struct agent_result *first = a->results;
        a->committed_through = first->number;
        DL_DELETE(a->results, first);
        result_free(first);
        more = true;
    }
    if (more) {
        say_committed(a);
    }
}

static void stored(void *arg) {
    struct agent_result *r = arg;
    is_committed(r);
}

static struct agent_result *find(const struct agent *a, uint64_t number) {
    struct agent_result *r;
    DL_FOREACH(a->results, r) {
        if (r->number >= number) {
            return r->number == number ? r : NULL;
        }
    }
    return NULL;
}

bool agent_result_was_judged(const struct agent *a, uint64_t number) {
    const struct agent_result *r = find(a, number);
    return number <= a->committed_through || (r != NULL && r->kept == NULL);
}

static int by_number(const struct agent_result *a, const struct agent_result *b) {
    return a->number < b->number ? -1 : a->number > b->number;
}

static struct agent_result *result_new(struct agent *a, uint64_t number) {
    struct agent_result *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->agent = a;
    r->number = number;
    if (a->results == NULL || a->results->prev->number < number) {
        DL_APPEND(a->results, r);
    } else {
        DL_INSERT_INORDER(a->results, r, by_number);
    }
    return r;
}

static Sluice__V1__TaskResult *copy(const Sluice__V1__TaskResult *m) {
    size_t len = sluice__v1__task_result__get_packed_size(m);
    AUTO(auto_free) uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        return NULL;
    }
    sluice__v1__task_result__pack(m, bytes);
    return sluice__v1__task_result__unpack(NULL, len, bytes);
}

static struct epoch epoch_of(const Sluice__V1__TaskResult *m) {
    const Sluice__V1__LeaseRef *l = m->lease;
    return l != NULL && l->epoch != NULL ? (struct epoch){l->epoch->term, l->epoch->counter}
                                         : (struct epoch){0, 0};
}

static void log_fenced(const struct agent *a, const Sluice__V1__TaskResult *m) {
    struct epoch e = epoch_of(m);
    log_event(LOG_INFO, "result_fenced", LOG_STR("agent", a->name),
              LOG_U64("task", m->lease != NULL ? m->lease->task_id : 0), LOG_U64("term", e.term),
              LOG_U64("counter", e.counter), LOG_U64("number", m->number));
}

// ERR_AGAIN: it cannot be judged before the time to reconcile is over.
static enum err judge(struct agent *a, struct agent_result *r, const Sluice__V1__TaskResult *m) {
    struct core *c = a->agents->core;
    struct epoch epoch = epoch_of(m);
    uint64_t task_id = m->lease != NULL ? m->lease->task_id : 0;
    if (m->released && m->n_objects == 0 && m->done_bytes == 0) {
        planner_moved(c->planner, task_id, epoch, m->bytes_moved);
        scheduler_released(c->scheduler, a->name, task_id, epoch, agents_now_ms(a->agents));
        is_committed(r);
        return OK;
    }
    enum err e = scheduler_result(c->scheduler, a->name, task_id, epoch, agents_now_ms(a->agents));
    if (e == OK) {
        planner_result(c->planner, a->name, m, stored, r);
    } else if (e == ERR_FENCED) {
        log_fenced(a, m);
        planner_moved(c->planner, task_id, epoch, m->bytes_moved);
        is_committed(r); // nothing is to be stored of it
    }
    return e;
}

void agent_result_arrived(struct agent *a, const Sluice__V1__TaskResult *m) {
    if (find(a, m->number) != NULL) {
        return; // told again after a reconnection, and under way already
    }
    if (m->number <= a->committed_through) {
        say_committed(a); // the same, and done
        return;
    }
    struct agent_result *r = result_new(a, m->number);
    if (r == NULL) {
        agent_hang_up(a, "out of memory"); // it tells it again
        return;
    }
    if (judge(a, r, m) != ERR_AGAIN) {
        return;
    }
    r->kept = copy(m);
    if (r->kept == NULL) {
        DL_DELETE(a->results, r);
        free(r);
        agent_hang_up(a, "out of memory");
    }
}

static struct agent_result *first_kept(const struct agent *a) {
    struct agent_result *r;
    DL_FOREACH(a->results, r) {
        if (r->kept != NULL) {
            return r;
        }
    }
    return NULL;
}

void agent_results_judge_kept(struct agents *as) {
    struct agent *a;
    DL_FOREACH(as->all, a) {
        struct agent_result *r;
        while ((r = first_kept(a)) != NULL) {
            Sluice__V1__TaskResult *m = take_ptr(r->kept);
            if (judge(a, r, m) == ERR_AGAIN) { // the clock stood still: once more
                r->kept = m;
                loop_timer_arm(as->reconcile, 1);
                return;
            }
            sluice__v1__task_result__free_unpacked(m, NULL);
        }
    }
}

void agent_results_reset(struct agent *a) {
    struct agent_result *r, *next;
    DL_FOREACH_SAFE(a->results, r, next) {
        DL_DELETE(a->results, r);
        if (r->kept != NULL || r->committed) {
            result_free(r);
        } else {
            r->agent = NULL; // the planner has it
        }
    }
    a->committed_through = 0;
}

void agent_results_free(struct agent *a) {
    struct agent_result *r, *next;
    DL_FOREACH_SAFE(a->results, r, next) {
        DL_DELETE(a->results, r);
        result_free(r);
    }
}
