// SPDX-License-Identifier: Apache-2.0
#include "agent/executor.h"

#include "agent/cpu_mark.h"
#include "agent/journal.h"
#include "agent/store_streams.h"
#include "agent/stream_tuner.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <string.h>
#include <unistd.h>

enum { BUFFER_ALIGN = 4096 };

struct slot {
    struct executor *executor;
    pthread_t thread;
    bool is_started;
    void *buffer;
};

struct executor {
    struct executor_options options; // constant
    uint32_t n_slots;
    struct slot *slots;
    pthread_mutex_t lock;
    pthread_cond_t work;
    // under the lock
    struct lease *first, **last; // all held, in the order of assignment
    size_t n_held, n_running;
    bool stop;
    struct stream_tuner tuner;
    // running tasks whose number the tuner chooses: between agents and files, with object stores
    uint32_t n_moving, n_moving_with_store;
    uint64_t bytes_ended; // moved by leases that are not held any more
    struct cpu_mark cpu;
    struct store_streams store_streams;
    struct cpu_mark store_cpu;
    uint64_t store_looked_us; // when that was marked
};

// ---- the list; under the lock ----

static struct lease *find(struct executor *e, uint64_t task_id, uint64_t term, uint64_t counter) {
    struct lease *l = e->first;
    while (l != NULL && !lease_is(l, task_id, term, counter)) {
        l = l->next;
    }
    return l;
}

static void add(struct executor *e, struct lease *l) {
    *e->last = l;
    e->last = &l->next;
    e->n_held++;
}

static void take_out(struct executor *e, const struct lease *l) {
    struct lease **p = &e->first;
    while (*p != l) {
        p = &(*p)->next;
    }
    *p = l->next;
    if (*p == NULL) {
        e->last = p;
    }
    e->n_held--;
}

static struct lease *first_waiting(struct executor *e) {
    struct lease *l = e->first;
    while (l != NULL && l->is_running) {
        l = l->next;
    }
    return l;
}

static bool moves_data(const struct lease *l) {
    const Sluice__V1__TaskSpec *s = l->message->spec;
    return s->kind == SLUICE__V1__TASK_KIND__BATCH || s->kind == SLUICE__V1__TASK_KIND__PART;
}

// A flow that was given a number of streams has that many, whatever the others do.
static bool is_fixed(const struct lease *l) {
    return l->message->spec->streams > 0;
}

static uint32_t n_moving_of(const struct executor *e, const char *flow) {
    uint32_t n = 0;
    for (const struct lease *l = e->first; l != NULL; l = l->next) {
        n += l->is_running && moves_data(l) && strcmp(l->message->spec->flow_id, flow) == 0;
    }
    return n;
}

static bool has_stream(const struct executor *e, const struct lease *l) {
    const Sluice__V1__TaskSpec *s = l->message->spec;
    if (!moves_data(l)) {
        return true;
    }
    if (is_fixed(l)) {
        return n_moving_of(e, s->flow_id) < s->streams;
    }
    if (!l->is_with_store) {
        return e->n_moving < e->tuner.n;
    }
    return e->n_moving_with_store < store_streams_n(&e->store_streams, e->tuner.n);
}

static void mark_processors(struct executor *e) {
    (void)cpu_busy_since(&e->store_cpu);
    e->store_looked_us = clock_mono_us();
}

// The next that may run now.
static struct lease *next_to_run(struct executor *e) {
    struct lease *l = e->first;
    while (l != NULL && (l->is_running || !has_stream(e, l))) {
        l = l->next;
    }
    return l;
}

static void count_moving(struct executor *e, const struct lease *l, bool is_begin) {
    if (moves_data(l) && !is_fixed(l)) {
        uint32_t *n = l->is_with_store ? &e->n_moving_with_store : &e->n_moving;
        *n += is_begin ? 1U : (uint32_t)-1;
        if (l->is_with_store && is_begin && *n == 1) { // what was before tells nothing
            mark_processors(e);
        }
    }
}

// ---- the end of a lease; without the lock ----

// It is not in the list any more. Frees it.
static void tell_stopped(struct executor *e, struct lease *l, bool is_idle) {
    const Sluice__V1__Lease *m = l->message;
    log_event(LOG_INFO, lease_stopped(l) == LEASE_FENCED ? "lease_fenced" : "lease_stopped",
              LOG_STR("flow", m->spec->flow_id), LOG_U64("task", m->spec->task_id),
              LOG_U64("term", m->epoch->term), LOG_U64("counter", m->epoch->counter));
    e->options.stopped(e->options.user, m->spec->task_id, m->epoch->term, m->epoch->counter);
    lease_free(l);
    if (is_idle) {
        e->options.idle(e->options.user);
    }
}

static void log_result(const struct lease *l, const Sluice__V1__TaskResult *r) {
    const Sluice__V1__TaskSpec *s = l->message->spec;
    const char *event = r->failure != NULL ? "task_failed"
                        : r->done          ? "task_done"
                                           : "task_returned";
    if (lease_stopped(l) == LEASE_FENCED && r->failure != NULL) {
        event = "lease_fenced";
    }
    log_event(r->failure != NULL ? LOG_WARN : LOG_INFO, event, LOG_STR("flow", s->flow_id),
              LOG_U64("task", s->task_id), LOG_STR("kind", run_kind_name(s->kind)),
              LOG_U64("objects", atomic_load(&l->control.objects)),
              LOG_U64("bytes", r->bytes_moved),
              LOG_F64("seconds", (double)(clock_mono_us() - l->started_us) / 1e6),
              LOG_STR("path", l->control.path),
              LOG_STR("transport", r->transport[0] == '\0' ? NULL : r->transport),
              LOG_STR("source_agent", r->source_agent[0] == '\0' ? NULL : r->source_agent),
              LOG_STR("code", r->failure == NULL ? NULL : r->failure->code),
              LOG_STR("reason", r->failure == NULL ? NULL : r->failure->message));
}

// ---- slots ----

// Runs it, tells how it ended, frees it.
static void run_lease(struct executor *e, const struct slot *s, struct lease *l) {
    Sluice__V1__TaskResult *result = NULL;
    const Sluice__V1__Lease *m = l->message;
    uint64_t number = 0;
    l->started_us = clock_mono_us();
    if (moves_data(l)) {
        l->control.kept = under_way_begin(e->options.under_way, m->spec->task_id, m->epoch->term,
                                          m->epoch->counter);
    }
    enum run_end end =
        run_task(e->options.tools, l, s->buffer, (size_t)e->options.buffer_bytes, &result);
    if (end == RUN_RESULT) {
        log_result(l, result);
        enum err kept = journal_append(e->options.journal, result);
        if (kept != OK) { // the master leases it again; what was done is found at the sink
            log_event(LOG_ERROR, "result_lost", LOG_U64("task", l->message->spec->task_id),
                      LOG_STR("code", err_name(kept)));
            end = RUN_STOPPED;
        } else {
            number = result->number;
        }
        task_result_free(result);
    }
    under_way_end(e->options.under_way, l->control.kept, number);
    pthread_mutex_lock(&e->lock);
    take_out(e, l);
    e->n_running--;
    count_moving(e, l, false);
    if (!is_fixed(l)) {
        e->bytes_ended += atomic_load(&l->control.bytes);
    }
    if (moves_data(l)) {
        pthread_cond_signal(&e->work); // for one that waited for a stream
    }
    bool is_idle = e->n_held == 0;
    pthread_mutex_unlock(&e->lock);
    if (end == RUN_STOPPED) {
        tell_stopped(e, l, is_idle);
        return;
    }
    lease_free(l);
    if (is_idle) {
        e->options.idle(e->options.user);
    }
}

static bool waits_for_stream(const struct lease *l) {
    return !l->is_running && moves_data(l) && !is_fixed(l);
}

static void look_at_processors(struct executor *e) {
    if (clock_mono_us() - e->store_looked_us >= STORE_STREAMS_LOOK_MS * UINT64_C(1000)) {
        store_streams_sample(&e->store_streams, cpu_busy_since(&e->store_cpu));
        e->store_looked_us = clock_mono_us();
    }
}

// With the lock. Nothing may run now.
static void wait_for_work(struct executor *e) {
    bool is_store_full = false;
    for (const struct lease *l = e->first; l != NULL && !is_store_full; l = l->next) {
        is_store_full = waits_for_stream(l) && l->is_with_store;
    }
    if (!is_store_full) {
        pthread_cond_wait(&e->work, &e->lock);
        return;
    }
    uint64_t until_us = clock_mono_us() + STORE_STREAMS_LOOK_MS * UINT64_C(1000);
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                             .tv_nsec = (long)(until_us % 1000000) * 1000};
    (void)pthread_cond_timedwait(&e->work, &e->lock, &until);
    look_at_processors(e);
}

static void *slot_thread(void *arg) {
    struct slot *s = arg;
    struct executor *e = s->executor;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        struct lease *l = next_to_run(e);
        if (l == NULL && e->stop) {
            break;
        }
        if (l == NULL) {
            wait_for_work(e);
            continue;
        }
        l->is_running = true;
        e->n_running++;
        count_moving(e, l, true);
        pthread_mutex_unlock(&e->lock);
        run_lease(e, s, l);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

enum err executor_new(const struct executor_options *o, struct executor **ret_executor,
                      struct failure *ret_failure) {
    struct executor *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "executor", NULL, 0, NULL);
    }
    e->options = *o;
    e->last = &e->first;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    stream_tuner_init(&e->tuner, processors > 0 ? (uint32_t)processors : 1, o->slots);
    (void)cpu_busy_since(&e->cpu);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    e->slots = calloc(o->slots, sizeof *e->slots);
    bool ok = e->slots != NULL;
    for (uint32_t i = 0; ok && i < o->slots; i++) {
        struct slot *s = &e->slots[i];
        s->executor = e;
        e->n_slots = i + 1;
        ok = posix_memalign(&s->buffer, BUFFER_ALIGN, (size_t)o->buffer_bytes) == 0 &&
             pthread_create(&s->thread, NULL, slot_thread, s) == 0;
        s->is_started = ok;
    }
    if (!ok) {
        executor_free(e);
        enum err err = failure_set(ret_failure, ERR_NO_MEMORY, "executor", NULL, 0,
                                   "no memory for %u slots of %llu bytes", o->slots,
                                   (unsigned long long)o->buffer_bytes);
        failure_remedy(ret_failure, "configure fewer slots, or a smaller buffer");
        return err;
    }
    *ret_executor = e;
    return OK;
}

void executor_free(struct executor *e) {
    if (e == NULL) {
        return;
    }
    (void)executor_revoke_all(e, LEASE_REVOKED);
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (uint32_t i = 0; i < e->n_slots; i++) {
        if (e->slots[i].is_started) {
            pthread_join(e->slots[i].thread, NULL);
        }
        free(e->slots[i].buffer);
    }
    free(e->slots);
    pthread_cond_destroy(&e->work);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

// ---- commands ----

static bool is_store(const struct executor *e, const Sluice__V1__Place *p, enum volume_use use) {
    struct s3_store *store = NULL;
    return p != NULL &&
           volumes_store(e->options.tools->volumes, p->volume, use, &store, NULL) == OK &&
           store != NULL;
}

enum err executor_assign(struct executor *e, const Sluice__V1__Lease *m) {
    struct lease *l = NULL;
    enum err err = lease_new(m, e->options.hold, &l);
    if (err != OK) {
        return err;
    }
    l->is_with_store =
        is_store(e, m->spec->source, VOLUME_READ) || is_store(e, m->spec->sink, VOLUME_WRITE);
    pthread_mutex_lock(&e->lock);
    if (find(e, m->spec->task_id, m->epoch->term, m->epoch->counter) != NULL) {
        err = ERR_EXISTS;
    } else if (e->n_held >= EXECUTOR_MAX_LEASES) {
        err = ERR_FULL;
    } else {
        add(e, take_ptr(l));
        pthread_cond_signal(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    lease_free(l);
    return err;
}

bool executor_revoke(struct executor *e, uint64_t task_id, uint64_t term, uint64_t counter,
                     enum lease_stop why) {
    struct lease *waiting = NULL;
    pthread_mutex_lock(&e->lock);
    struct lease *l = find(e, task_id, term, counter);
    if (l != NULL) {
        lease_stop(l, why);
        if (!l->is_running) {
            take_out(e, l);
            waiting = l;
        }
    }
    bool is_idle = e->n_held == 0;
    pthread_mutex_unlock(&e->lock);
    if (waiting != NULL) {
        tell_stopped(e, waiting, is_idle);
    }
    return l != NULL;
}

void executor_yield(struct executor *e, uint64_t task_id, uint64_t term, uint64_t counter) {
    pthread_mutex_lock(&e->lock);
    struct lease *l = find(e, task_id, term, counter);
    bool waits = l != NULL && !l->is_running;
    if (l != NULL && l->is_running) {
        lease_yield(l);
    }
    pthread_mutex_unlock(&e->lock);
    if (waits) {
        (void)executor_revoke(e, task_id, term, counter, LEASE_REVOKED);
    }
}

void executor_revoke_waiting(struct executor *e) {
    for (;;) {
        pthread_mutex_lock(&e->lock);
        struct lease *l = first_waiting(e);
        if (l != NULL) {
            lease_stop(l, LEASE_REVOKED);
            take_out(e, l);
        }
        bool is_idle = e->n_held == 0;
        pthread_mutex_unlock(&e->lock);
        if (l == NULL) {
            return;
        }
        tell_stopped(e, l, is_idle);
    }
}

size_t executor_revoke_all(struct executor *e, enum lease_stop why) {
    size_t n = 0;
    pthread_mutex_lock(&e->lock);
    for (struct lease *l = e->first; l != NULL; l = l->next) {
        n += atomic_load(&l->stop) == LEASE_GOES_ON;
        lease_stop(l, why);
    }
    pthread_mutex_unlock(&e->lock);
    executor_revoke_waiting(e);
    return n;
}

static void log_move(const struct stream_move *m) {
    log_event(LOG_INFO, "streams_changed", LOG_U64("from", m->from), LOG_U64("to", m->to),
              LOG_F64("bytes_per_s_before", m->rate_before), LOG_F64("bytes_per_s", m->rate),
              LOG_STR("reason", m->reason));
}

void executor_tune(struct executor *e) {
    struct stream_sample s = {.now_us = clock_mono_us()};
    struct stream_move m;
    pthread_mutex_lock(&e->lock);
    bool waits = false;
    s.bytes = e->bytes_ended;
    for (struct lease *l = e->first; l != NULL; l = l->next) {
        waits = waits || waits_for_stream(l);
        s.bytes += is_fixed(l) ? 0 : atomic_load(&l->control.bytes);
    }
    s.is_full = waits && e->n_moving + e->n_moving_with_store >= e->tuner.n;
    s.n_least = e->n_moving_with_store;
    s.cpu_busy = cpu_busy_since(&e->cpu);
    bool moved = stream_tuner_sample(&e->tuner, &s, &m);
    if (moved) {
        pthread_cond_broadcast(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    if (moved) {
        log_move(&m);
    }
}

size_t executor_held(struct executor *e) {
    pthread_mutex_lock(&e->lock);
    size_t n = e->n_held;
    pthread_mutex_unlock(&e->lock);
    return n;
}

size_t executor_running(struct executor *e) {
    pthread_mutex_lock(&e->lock);
    size_t n = e->n_running;
    pthread_mutex_unlock(&e->lock);
    return n;
}

void executor_each(struct executor *e, void (*each)(void *user, const struct lease *l),
                   void *user) {
    pthread_mutex_lock(&e->lock);
    for (const struct lease *l = e->first; l != NULL; l = l->next) {
        each(user, l);
    }
    pthread_mutex_unlock(&e->lock);
}
