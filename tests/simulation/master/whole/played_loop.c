// SPDX-License-Identifier: Apache-2.0
// Stands for the core's loop, and for flow.c and dispatch.c.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

struct post {
    struct post *next;
    void (*fn)(void *);
    void *arg;
};
static struct post *posts, **last_post = &posts;
enum { ENDLESS = 10000000 };

void __wrap_loop_post(struct loop *l, void (*fn)(void *), void *arg);
void __wrap_loop_post(struct loop *l, void (*fn)(void *), void *arg) {
    struct post *p = must(malloc(sizeof *p));
    (void)l;
    *p = (struct post){.fn = fn, .arg = arg};
    *last_post = p;
    last_post = &p->next;
}

void played_posts_run(struct world *w) {
    (void)w;
    for (uint32_t n = 0; posts != NULL; n++) {
        struct post *p = posts;
        if (n == ENDLESS) {
            violated("one thing is posted after the other, and no time passes");
        }
        posts = p->next;
        if (posts == NULL) {
            last_post = &posts;
        }
        p->fn(p->arg);
        free(p);
    }
}

void played_loop_reset(struct world *w) {
    (void)w;
    while (posts != NULL) {
        struct post *p = posts;
        posts = p->next;
        free(p);
    }
    last_post = &posts;
}

struct loop_timer {
    void (*fn)(void *);
    void *arg;
    struct event *event;
};

struct loop_timer *__wrap_loop_timer_new(struct loop *l, void (*fn)(void *), void *arg);
struct loop_timer *__wrap_loop_timer_new(struct loop *l, void (*fn)(void *), void *arg) {
    struct loop_timer *t = must(calloc(1, sizeof *t));
    (void)l;
    t->fn = fn;
    t->arg = arg;
    return t;
}
void __wrap_loop_timer_disarm(struct loop_timer *t);
void __wrap_loop_timer_disarm(struct loop_timer *t) {
    if (t->event != NULL) {
        event_cancel(the, t->event);
        t->event = NULL;
    }
}
static void timer_due(struct world *w, struct event *e) {
    struct loop_timer *t = e->ptr;
    (void)w;
    t->event = NULL;
    t->fn(t->arg);
}
void __wrap_loop_timer_arm(struct loop_timer *t, int64_t delay_ms);
void __wrap_loop_timer_arm(struct loop_timer *t, int64_t delay_ms) {
    __wrap_loop_timer_disarm(t);
    t->event = event_in(the, delay_ms, timer_due);
    t->event->ptr = t;
    t->event->to_master = true;
}
void __wrap_loop_timer_free(struct loop_timer *t);
void __wrap_loop_timer_free(struct loop_timer *t) {
    if (t != NULL) {
        __wrap_loop_timer_disarm(t);
        free(t);
    }
}

// ---- flow.c ----
void __wrap_flow_progressed(struct core *c, struct flow *f);
void __wrap_flow_progressed(struct core *c, struct flow *f) {
    const struct flow_progress *p = &f->progress, *b = &the->shown;
    (void)c;
    if (p->bytes_done < b->bytes_done || p->objects_done < b->objects_done ||
        p->bytes_resent < b->bytes_resent) {
        violated("progress runs backwards: %llu after %llu bytes, %llu after %llu objects",
                 (unsigned long long)p->bytes_done, (unsigned long long)b->bytes_done,
                 (unsigned long long)p->objects_done, (unsigned long long)b->objects_done);
    }
    if (p->bytes_done > p->bytes_total || p->objects_done > p->objects_total) {
        violated("more is done than there is");
    }
    if (p->objects_done > b->objects_done || p->bytes_done > b->bytes_done) {
        the->last_progress_ms = the->now_ms;
    }
    the->shown = *p;
}
void __wrap_flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                           uint64_t objects);
void __wrap_flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                           uint64_t objects) {
    (void)f, (void)agent, (void)written, (void)read, (void)objects;
}
void __wrap_flow_add_transport(struct flow *f, const char *transport);
void __wrap_flow_add_transport(struct flow *f, const char *transport) {
    (void)f, (void)transport;
}
void __wrap_flow_set_phase(struct core *c, struct flow *f, enum flow_phase phase);
void __wrap_flow_set_phase(struct core *c, struct flow *f, enum flow_phase phase) {
    (void)c;
    f->phase = phase;
}
void __wrap_flow_object_failed(struct core *c, struct flow *f, const uint8_t *path, size_t len,
                               const struct failure *why, const char *agent);
void __wrap_flow_object_failed(struct core *c, struct flow *f, const uint8_t *path, size_t len,
                               const struct failure *why, const char *agent) {
    const struct node *n = &the->nodes[node_of_path(path, len)];
    (void)c, (void)f, (void)agent;
    trace("failed", 0, node_of_path(path, len), why->err);
    the->n_failed++;
    if (!n->fails_always && !n->list_fails && n->n_failed < 5) {
        violated("node %u fails (%s: %s) after %u attempts", node_of_path(path, len),
                 err_name(why->err), why->message, n->n_failed);
    }
}
void __wrap_flow_planned_out(struct core *c, struct flow *f, const struct failure *why);
void __wrap_flow_planned_out(struct core *c, struct flow *f, const struct failure *why) {
    (void)c, (void)f;
    if (the->planned_out) {
        violated("the flow ends twice");
    }
    trace("planned out", 0, the->temps.count, 0);
    if (the->temps.count > 0 && why == NULL) {
        const struct temp *t =
            CONTAINER_OF(hash_index_each(&the->temps, NULL), struct temp, by_name);
        violated("the flow ends with %zu temporaries, one of object %llu (%llu.%llu)",
                 the->temps.count, (unsigned long long)t->object, (unsigned long long)t->major,
                 (unsigned long long)t->minor);
    }
    the->planned_out = true;
    the->over = true;
    if (why != NULL) {
        the->why = *why;
    }
}
void __wrap_flow_sink_into_directory(struct core *c, struct flow *f);
void __wrap_flow_sink_into_directory(struct core *c, struct flow *f) {
    (void)c, (void)f;
}
