// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/whole/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct world *the;
static jmp_buf broken;

enum { TRACES = 1 << 18, TRACES_SHOWN = 100 };
static struct trace {
    int64_t at_ms;
    const char *what;
    uint32_t agent;
    uint64_t a, b;
} traces[TRACES];
static uint64_t n_traces;

void trace(const char *what, uint32_t agent, uint64_t a, uint64_t b) {
    traces[n_traces++ % TRACES] = (struct trace){the->now_ms, what, agent, a, b};
}

void violated(const char *fmt, ...) {
    va_list args;
    uint64_t shown = getenv("SLUICE_SIMULATION_TRACE") != NULL ? TRACES : TRACES_SHOWN;
    uint64_t first = n_traces > shown ? n_traces - shown : 0;
    for (uint64_t i = first; i < n_traces; i++) {
        const struct trace *t = &traces[i % TRACES];
        printf("  %9lld %-14s a%-4u %llx %llx\n", (long long)t->at_ms, t->what, t->agent,
               (unsigned long long)t->a, (unsigned long long)t->b);
    }
    printf("VIOLATION seed %llu at %lld ms, event %llu: ", (unsigned long long)the->seed,
           (long long)the->now_ms, (unsigned long long)the->n_events);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    longjmp(broken, 1);
}

uint64_t chance(struct world *w, uint64_t n) {
    uint64_t x = w->random += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return (x ^ (x >> 31)) % n;
}
bool one_in(struct world *w, uint32_t odds) {
    return odds != 0 && w->now_ms < w->faults_until_ms && chance(w, odds) == 0;
}
int64_t between(struct world *w, int64_t low, int64_t high) {
    return low + (int64_t)chance(w, (uint64_t)(high - low + 1));
}
void *must(void *p) {
    if (p == NULL) {
        abort();
    }
    return p;
}

// ---- events ----
static bool is_before(const struct heap_node *a, const struct heap_node *b) {
    const struct event *x = CONTAINER_OF(a, struct event, node);
    const struct event *y = CONTAINER_OF(b, struct event, node);
    return x->at_ms != y->at_ms ? x->at_ms < y->at_ms : x->order < y->order;
}

struct event *event_at(struct world *w, int64_t at_ms, event_fn *fn) {
    struct event *e = w->spare;
    if (e != NULL) {
        w->spare = e->ptr;
    } else {
        e = must(malloc(sizeof *e));
        w->n_allocated++;
        if (ordered_heap_reserve(&w->events, 1) != OK) {
            abort();
        }
    }
    *e = (struct event){
        .at_ms = at_ms > w->now_ms ? at_ms : w->now_ms, .order = w->n_order++, .fn = fn};
    ordered_heap_put(&w->events, &e->node);
    return e;
}
struct event *event_in(struct world *w, int64_t in_ms, event_fn *fn) {
    return event_at(w, w->now_ms + in_ms, fn);
}
static void event_free(struct world *w, struct event *e) {
    if (e->drop != NULL && e->ptr != NULL) {
        e->drop(e->ptr);
    }
    e->drop = NULL;
    e->ptr = w->spare;
    w->spare = e;
}
void event_cancel(struct world *w, struct event *e) {
    ordered_heap_take(&w->events, &e->node);
    event_free(w, e);
}

static bool step(struct world *w) {
    struct heap_node *n = ordered_heap_first(&w->events);
    if (n == NULL) {
        return false;
    }
    struct event *e = CONTAINER_OF(n, struct event, node);
    w->now_ms = e->at_ms;
    if (e->to_master && w->now_ms < w->master_stopped_until_ms) {
        e->at_ms = w->master_stopped_until_ms; // in the order of before
        ordered_heap_moved(&w->events, n);
        return true;
    }
    w->n_events++;
    ordered_heap_take(&w->events, n);
    e->fn(w, e);
    event_free(w, e);
    played_posts_run(w);
    return true;
}

// ---- a seed ----
static int64_t clock_now(const struct clock *c) {
    return CONTAINER_OF(c, const struct world, clock)->now_ms;
}
static int64_t clock_wall(const struct clock *c) {
    return clock_now(c) + 1700000000000;
}

static void flow_new_for(struct world *w) {
    struct flow *f = &w->flow;
    memcpy(f->id, "01HZZZZZZZZZZZZZZZZZZZZZZA", IDENT_SIZE);
    f->spec = must(calloc(1, sizeof *f->spec));
    sluice__v1__flow_spec__init(f->spec);
    memcpy(f->source.site, "a", 2);
    memcpy(f->sink.site, w->o.two_sites ? "b" : "a", 2);
    memcpy(f->source.volume, "in", 3);
    memcpy(f->sink.volume, "out", 4);
    memcpy(f->source.root, "src", 3);
    memcpy(f->sink.root, "dst", 3);
    f->source.root_len = f->sink.root_len = 3;
    f->source_is_contents = f->sink_is_named = true;
}

static void options_of(struct world *w) {
    uint32_t slots = w->o.n_agents * w->o.slots;
    uint32_t window = w->o.uniform ? slots * 4 : 256 + (uint32_t)chance(w, 1024);
    w->options = (struct master_options){.hold_ms = 10000,
                                         .lost_after_ms = 3000,
                                         .reconcile_ms = 2000,
                                         .heartbeat_ms = HEARTBEAT_MS,
                                         .park_ms = 3600000,
                                         .part_bytes = (2 + chance(w, 6)) * LEAF,
                                         .large_bytes = 24 * LEAF,
                                         .tasks_in_memory = 100000,
                                         .tasks_per_flow = window < 200 ? 200 : window,
                                         .spec_bytes_per_flow = 4 << 20,
                                         .task_retries = 5,
                                         .retries_per_flow = 1000000,
                                         .events_per_flow = 1000};
}

static void agents_new(struct world *w) {
    w->agents = must(calloc(w->o.n_agents, sizeof *w->agents));
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        snprintf(a->name, sizeof a->name, "agent-%u", i);
        a->reads = !w->o.two_sites || i % 2 == 0;
        a->writes = !w->o.two_sites || i % 2 == 1;
        a->latency_ms = w->o.faults ? between(w, 1, 60) : 1;
        a->bytes_per_ms = 20000;
        if (w->o.faults && chance(w, 8) == 0) {
            a->bytes_per_ms /= 10;
        }
        if ((int)i == w->o.slow_executor || (int)i == w->o.slow_source) {
            a->bytes_per_ms /= 10;
        }
        event_in(w, between(w, 0, 500), NULL)->agent = i;
    }
}

static void agent_starts(struct world *w, struct event *e) {
    if (w->o.absent == 0 || e->agent != w->o.absent) {
        agent_start(w, e->agent);
    }
}

static void world_free(struct world *w) {
    struct heap_node *n;
    while ((n = ordered_heap_first(&w->events)) != NULL) {
        event_cancel(w, CONTAINER_OF(n, struct event, node));
    }
    while (w->spare != NULL) {
        struct event *e = w->spare;
        w->spare = e->ptr;
        free(e);
    }
    ordered_heap_deinit(&w->events);
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        struct agent *a = &w->agents[i];
        while (a->n_held > 0) {
            held_drop(a, 0);
        }
        for (size_t k = 0; k < a->n_kept; k++) {
            kept_free(a->kept[k]);
        }
        free(a->kept);
    }
    struct hash_node *h, *next;
    for (h = hash_index_each(&w->tasks, NULL); h != NULL; h = next) {
        next = hash_index_each(&w->tasks, h);
        hash_index_remove(&w->tasks, h);
        free(CONTAINER_OF(h, struct known_task, by_id));
    }
    hash_index_deinit(&w->tasks);
    tree_free(w);
    free(w->flow.spec);
    free(w->agents);
    free(w);
}

static void check_is_alive(struct world *w) {
    int64_t since =
        w->last_progress_ms > w->faults_until_ms ? w->last_progress_ms : w->faults_until_ms;
    if (w->now_ms - since > PATIENCE_MS) {
        for (uint32_t i = 0; i < w->o.n_agents; i++) {
            const struct agent *a = &w->agents[i];
            printf("  %s: %s, session %llu (master's %llu), %u leases, %zu results, the master "
                   "counts %u\n",
                   a->name, a->alive ? "alive" : "dead", (unsigned long long)a->session,
                   (unsigned long long)a->master_session, a->n_held, a->n_kept,
                   w->up ? scheduler_leases_of(w->core.scheduler, a->name) : 0);
        }
        violated("nothing moves any more: %llu of %llu objects, %u tasks, %u directories, stage %u",
                 (unsigned long long)w->flow.progress.objects_done,
                 (unsigned long long)w->flow.progress.objects_total,
                 w->flow.plan != NULL ? (unsigned)((struct plan *)w->flow.plan)->n_tasks : 0,
                 w->flow.plan != NULL ? (unsigned)((struct plan *)w->flow.plan)->body.n_unlisted
                                      : 0,
                 w->flow.plan != NULL ? ((struct plan *)w->flow.plan)->body.stage : 99);
    }
}

static void watch_memory(const struct world *w) {
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0, resident = 0;
    if (f != NULL && fscanf(f, "%lu %lu", &pages, &resident) == 2) {
        const struct plan *pl = w->flow.plan;
        printf("%llu objects done, %llu found; RSS %lu MiB, of which %zu MiB are the played "
               "database; %zu tasks in the planner\n",
               (unsigned long long)w->shown.objects_done,
               (unsigned long long)w->shown.objects_total, resident * 4 / 1024,
               memory_store_bytes(played_store()) >> 20, pl != NULL ? pl->n_tasks : 0);
        fflush(stdout);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
}

static void add_up(const struct world *w, struct world_tally *tally) {
    tally->n_events += w->n_events;
    tally->n_tasks += w->n_tasks_done;
}

bool world_run(const struct options *o, uint64_t seed, struct world_tally *tally) {
    struct world *w = must(calloc(1, sizeof *w));
    the = w;
    n_traces = 0;
    played_loop_reset(w);
    orders_forget();
    w->o = *o;
    w->seed = seed;
    w->random = seed * 0x2545f4914f6cdd1dULL;
    w->clock = (struct clock){clock_now, clock_wall};
    w->now_ms = 1000000;
    ordered_heap_init(&w->events, is_before);
    if (hash_index_init(&w->tasks) != OK || hash_index_init(&w->temps) != OK) {
        abort();
    }
    if (setjmp(broken) != 0) {
        add_up(the, tally);
        return false; // what it had is lost: the process ends soon
    }
    if (o->faults) {
        w->o.two_sites = chance(w, 2) == 0;
    }
    options_of(w);
    tree_new(w);
    flow_new_for(w);
    agents_new(w);
    for (size_t i = 0; i < w->events.n; i++) {
        CONTAINER_OF(w->events.nodes[i], struct event, node)->fn = agent_starts;
    }
    played_database_open(w);
    w->last_progress_ms = w->now_ms;
    if (o->faults) {
        faults_begin(w);
    }
    master_start(w);
    while (!w->over) {
        if (!step(w)) {
            violated("nothing is left to happen");
        }
        if (w->o.watch_memory && w->shown.objects_done >= w->n_watched) {
            w->n_watched += w->n_nodes / 20;
            watch_memory(w);
        }
        if (w->n_events % 1024 == 0) {
            check_is_alive(w);
        }
    }
    tally->makespan_ms = w->now_ms - 1000000;
    world_settle(w);
    tree_check_end(w);
    if (w->up) {
        master_kill(w);
    }
    if (o->sqlite == NULL && memory_store_rows(played_store()) > 0) {
        violated("%zu rows are left in the database", memory_store_rows(played_store()));
    }
    add_up(w, tally);
    played_database_close(w);
    world_free(w);
    return true;
}

// After the flow's end: what was on its way comes, and changes nothing.
void world_settle(struct world *w) {
    int64_t until_ms = w->now_ms + (w->o.faults ? 150000 : 20000);
    while (w->now_ms < until_ms && step(w)) {
    }
}
