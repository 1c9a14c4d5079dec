// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/loop.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/loop_impl.h"

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    struct job *next;
    void (*fn)(void *);
    void *arg;
};

struct loop {
    // Any thread.
    grpc_completion_queue *queue;
    grpc_channel *nowhere; // a channel that leads nowhere has a call ...
    grpc_call *bell;       // ... whose empty batches wake the queue
    struct event rung;
    _Atomic(struct job *) jobs; // latest first
    atomic_bool closing;        // the bell is gone; loop_free() looks for jobs itself
    // The loop's thread.
    struct {
        struct loop_timer *first, *last; // armed, by time
        bool stopping;
    } own;
};

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next, *prev;
    int64_t due_ms;
    bool armed;
    void (*fn)(void *);
    void *arg;
};

static _Thread_local const struct loop *current;

// ---- gRPC as a whole ----

static void log_message(gpr_log_func_args *args) {
    enum log_level level = args->severity == GPR_LOG_SEVERITY_ERROR ? LOG_WARN : LOG_DEBUG;
    log_event(level, "grpc_message", LOG_STR("text", args->message), LOG_STR("file", args->file),
              LOG_I64("line", args->line));
}

static void take_over_log(void) {
    gpr_set_log_function(log_message);
}

void grpc_hold(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, take_over_log);
    grpc_init();
}

void grpc_release(void) {
    grpc_shutdown();
}

// ---- jobs ----

static void run_jobs(struct loop *l) {
    struct job *todo = atomic_exchange(&l->jobs, NULL), *in_order = NULL;
    while (todo != NULL) {
        struct job *next = todo->next;
        todo->next = in_order;
        in_order = todo;
        todo = next;
    }
    while (in_order != NULL) {
        struct job *j = in_order;
        in_order = j->next;
        j->fn(j->arg);
        free(j);
    }
}

static void bell_rung(struct event *e, bool ok) {
    (void)ok;
    run_jobs(CONTAINER_OF(e, struct loop, rung));
}

void loop_post(struct loop *l, void (*fn)(void *), void *arg) {
    struct job *j = malloc(sizeof *j);
    if (j == NULL) {
        // A closure that is lost would leave its object waiting for ever.
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "post to a loop"));
        abort();
    }
    struct job *was = atomic_load(&l->jobs);
    do {
        *j = (struct job){.next = was, .fn = fn, .arg = arg};
    } while (!atomic_compare_exchange_weak(&l->jobs, &was, j));
    // Whoever found the list empty rings; @j may be gone by now.
    if (was == NULL && !atomic_load(&l->closing)) {
        grpc_call_start_batch(l->bell, NULL, 0, &l->rung, NULL);
    }
}

// ---- the loop ----

struct loop *loop_new(void) {
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    grpc_hold();
    l->queue = grpc_completion_queue_create_for_next(NULL);
    l->rung.fire = bell_rung;
    l->nowhere = grpc_lame_client_channel_create("bell", GRPC_STATUS_UNAVAILABLE, "bell");
    l->bell = grpc_channel_create_call(l->nowhere, NULL, 0, l->queue,
                                       grpc_slice_from_static_string("/bell"), NULL,
                                       gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return l;
}

grpc_completion_queue *loop_queue(struct loop *l) {
    return l->queue;
}

bool loop_is_current(const struct loop *l) {
    return current == l;
}

static void stop(void *arg) {
    ((struct loop *)arg)->own.stopping = true;
}

void loop_stop(struct loop *l) {
    loop_post(l, stop, l);
}

static void run_timers(struct loop *l) {
    int64_t now = loop_now_ms(l);
    struct loop_timer *t;
    while ((t = l->own.first) != NULL && t->due_ms <= now && !l->own.stopping) {
        loop_timer_disarm(t);
        t->fn(t->arg); // may free the timer, or arm it
    }
}

static gpr_timespec next_wake(const struct loop *l) {
    if (l->own.first == NULL) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    int64_t left = l->own.first->due_ms - loop_now_ms(l);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis(left > 0 ? left : 0, GPR_TIMESPAN));
}

void loop_run(struct loop *l) {
    const struct loop *outer = current;
    current = l;
    while (!l->own.stopping) {
        grpc_event e = grpc_completion_queue_next(l->queue, next_wake(l), NULL);
        if (e.type == GRPC_OP_COMPLETE) {
            struct event *event = e.tag;
            event->fire(event, e.success != 0);
        }
        run_timers(l);
    }
    l->own.stopping = false;
    current = outer;
}

void loop_free(struct loop *l) {
    if (l == NULL) {
        return;
    }
    const struct loop *outer = current;
    grpc_event e;
    current = l;
    atomic_store(&l->closing, true);
    run_jobs(l);
    grpc_call_unref(l->bell);
    grpc_channel_destroy(l->nowhere);
    grpc_completion_queue_shutdown(l->queue);
    while ((e = grpc_completion_queue_next(l->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL))
               .type != GRPC_QUEUE_SHUTDOWN) {
        if (e.type == GRPC_OP_COMPLETE) {
            struct event *event = e.tag;
            event->fire(event, e.success != 0);
        }
    }
    while (atomic_load(&l->jobs) != NULL) {
        run_jobs(l);
    }
    grpc_completion_queue_destroy(l->queue);
    current = outer;
    free(l);
    grpc_release();
}

// ---- timers ----

int64_t loop_now_ms(const struct loop *l) {
    struct timespec t;
    (void)l;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *), void *arg) {
    struct loop_timer *t = calloc(1, sizeof *t);
    if (t != NULL) {
        t->loop = l;
        t->fn = fn;
        t->arg = arg;
    }
    return t;
}

void loop_timer_arm(struct loop_timer *t, int64_t delay_ms) {
    struct loop *l = t->loop;
    loop_timer_disarm(t);
    t->due_ms = loop_now_ms(l) + (delay_ms > 0 ? delay_ms : 0);
    // From the end: most timers of a loop have the same delay.
    struct loop_timer *after = l->own.last;
    while (after != NULL && after->due_ms > t->due_ms) {
        after = after->prev;
    }
    t->prev = after;
    t->next = after != NULL ? after->next : l->own.first;
    *(t->prev != NULL ? &t->prev->next : &l->own.first) = t;
    *(t->next != NULL ? &t->next->prev : &l->own.last) = t;
    t->armed = true;
}

void loop_timer_disarm(struct loop_timer *t) {
    if (!t->armed) {
        return;
    }
    *(t->prev != NULL ? &t->prev->next : &t->loop->own.first) = t->next;
    *(t->next != NULL ? &t->next->prev : &t->loop->own.last) = t->prev;
    t->armed = false;
}

void loop_timer_free(struct loop_timer *t) {
    if (t != NULL) {
        loop_timer_disarm(t);
        free(t);
    }
}
