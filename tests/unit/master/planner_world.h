// SPDX-License-Identifier: Apache-2.0
// A small world for the planner: the real scheduler and database, and agents that are played
// over a source tree and a sink that exist only as tables. Everything goes on turn by turn, with
// a clock that the test moves, so that masters and agents can be killed anywhere.
#ifndef TESTS_UNIT_MASTER_PLANNER_WORLD_H
#define TESTS_UNIT_MASTER_PLANNER_WORLD_H

#include "common/rpc/failure_message.h"
#include "master/planner_impl.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NODES_MAX = 12000,
    TEMPS_MAX = 4096,
    LEAVES_MAX = 16,
    AGENTS = 3,
    RUNNING_MAX = 16,
    SLOTS = 4
};
enum { TURNS_MAX = 4000000, AHEAD_MS = 200 };
static const char FLOW[] = "01HZZZZZZZZZZZZZZZZZZZZZZA";

struct node {
    char path[64];
    enum object_type type;
    uint64_t size;
    int64_t version;
    int parent; // -1: the root
    // how it goes wrong
    int fails;         // so many times, retryable
    int full;          // so many times there is no room for a part of it
    bool fails_always; // not retryable
    bool list_fails;   // always, not retryable
    int is_corrupt;    // so many times, when its end is to be finished
    int bare;          // so many of its parts are told without digests
    // what became of it
    int delivered, made, meta;
    struct leaf {
        uint64_t generation;
        int agent, boot;
        bool synced;
    } leaves[LEAVES_MAX];
    uint64_t temp_generation; // of the large temporary that exists; 0: none
};

struct running {
    Sluice__V1__TaskSpec *spec;
    struct epoch epoch;
    uint32_t attempt;
    uint32_t directory; // LIST
    int child;
    bool began; // pages, or temporaries
    bool waits; // for a page to be committed
    bool yields;
};

struct sim_agent {
    char name[16];
    bool alive, told;
    int boot, incarnation, dead_turns;
    struct running *running[RUNNING_MAX];
};

struct world {
    char dir[64];
    struct clock_fake clock;
    struct master_options options;
    struct core core;
    struct flow flow;
    Sluice__V1__Location from;
    Sluice__V1__PosixLocation from_posix;
    struct loop_timer *turn;
    struct node *nodes;
    int n_nodes;
    enum object_type sink_type; // of what is at the destination before; 0: nothing
    struct sim_agent agents[AGENTS];
    char temps[TEMPS_MAX][TEMP_NAME_SIZE];
    int n_temps;
    uint64_t chance;
    // odds of an accident in a turn, one in so many; 0: never
    int odds_agent, odds_master, odds_reboot, odds_yield;
    int page_entries;
    int n_elsewhere;          // the first so many agents are of another site, "there"
    size_t hold_batches;      // nobody works on one until so many tasks are in memory
    uint64_t n_turns, budget; // of accidents
    int64_t ahead_ms;         // how long the database has had something to do, by our clock
    // what happened
    bool planned_out, abandoned, cancel, quiet, crash, dispatching;
    int n_failed, n_lists, n_pages, n_yields, n_masters, n_cleanups, n_fresh;
    uint64_t shown_done;
    struct failure held_up;           // the last that was shown
    uint64_t held_up_done;            // most bytes that were done by then
    uint64_t bytes_moved, bytes_bare; // bare: told without digests
    uint64_t first_batch, last_batch; // their tasks' ids, in the order in which they were planned
    uint32_t n_in_first, n_in_last;
    struct failure why;
};
static struct world *the; // the flow's stand-ins have no other way to it

static uint64_t chance(struct world *w, uint64_t n) {
    w->chance = w->chance * 6364136223846793005ULL + 1442695040888963407ULL;
    return (w->chance >> 33) % n;
}
static bool happens(struct world *w, int odds) {
    if (odds == 0 || w->budget == 0 || chance(w, (uint64_t)odds) != 0) {
        return false;
    }
    w->budget--;
    return true;
}

// ---- temporaries ----
static void temp_add(const char *flow, uint64_t id, uint64_t major, uint64_t minor) {
    assert_true(the->n_temps < TEMPS_MAX);
    temp_name(flow, id, major, minor, the->temps[the->n_temps++]);
}
static bool temp_remove(const char *flow, uint64_t id, uint64_t major, uint64_t minor) {
    char name[TEMP_NAME_SIZE];
    temp_name(flow, id, major, minor, name);
    bool found = false;
    for (int i = 0; i < the->n_temps; i++) {
        if (strcmp(the->temps[i], name) == 0) {
            memcpy(the->temps[i], the->temps[--the->n_temps], TEMP_NAME_SIZE);
            found = true;
            i--;
        }
    }
    return found;
}

// ---- the source ----
static int node_add(struct world *w, int parent, const char *name, enum object_type type,
                    uint64_t size) {
    assert_true(w->n_nodes < NODES_MAX);
    struct node *n = &w->nodes[w->n_nodes];
    *n = (struct node){.type = type, .size = size, .parent = parent};
    char path[160] = "";
    if (parent >= 0) {
        const char *above = w->nodes[parent].path;
        snprintf(path, sizeof path, "%s%s%s", above, above[0] == '\0' ? "" : "/", name);
    }
    assert_true(strlen(path) < sizeof n->path);
    memcpy(n->path, path, strlen(path) + 1);
    return w->n_nodes++;
}
static struct node *node_at(struct world *w, const uint8_t *path, size_t len) {
    for (int i = 0; i < w->n_nodes; i++) {
        if (strlen(w->nodes[i].path) == len && memcmp(w->nodes[i].path, path, len) == 0) {
            return &w->nodes[i];
        }
    }
    return NULL;
}
static struct object_entry entry_of_node(const struct node *n) {
    return (struct object_entry){.type = n->type,
                                 .mode = 0644,
                                 .version = {.size = n->size, .mtime_ns = n->version},
                                 .path = (const uint8_t *)n->path,
                                 .path_len = strlen(n->path),
                                 .target = (const uint8_t *)"t",
                                 .target_len = n->type == OBJECT_SYMLINK};
}

// ---- what stands for flow.c and dispatch.c ----
void __wrap_flow_progressed(struct core *c, struct flow *f);
void __wrap_flow_progressed(struct core *c, struct flow *f) {
    (void)c;
    assert_true(f->progress.bytes_done >= the->shown_done);
    assert_true(f->progress.bytes_done <= f->progress.bytes_total);
    assert_true(f->progress.objects_done <= f->progress.objects_total);
    the->shown_done = f->progress.bytes_done;
    if (f->held_up.err != OK) {
        the->held_up = f->held_up;
        the->held_up_done = f->progress.bytes_done;
    }
}
void __wrap_flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                           uint64_t objects);
void __wrap_flow_add_share(struct flow *f, const char *agent, uint64_t written, uint64_t read,
                           uint64_t objects) {
    (void)f;
    (void)agent;
    (void)read;
    (void)objects;
    the->bytes_moved += written;
}
void __wrap_flow_add_transport(struct flow *f, const char *transport);
void __wrap_flow_add_transport(struct flow *f, const char *transport) {
    (void)f;
    (void)transport;
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
    (void)c;
    (void)f;
    (void)path;
    (void)len;
    (void)agent;
    assert_int_not_equal(why->err, OK);
    the->n_failed++;
}
void __wrap_flow_planned_out(struct core *c, struct flow *f, const struct failure *why);
void __wrap_flow_planned_out(struct core *c, struct flow *f, const struct failure *why) {
    (void)c;
    (void)f;
    assert_false(the->planned_out);
    the->planned_out = true;
    if (why != NULL) {
        the->why = *why;
    }
}
void __wrap_flow_sink_into_directory(struct core *c, struct flow *f);
void __wrap_flow_sink_into_directory(struct core *c, struct flow *f) {
    (void)c;
    if (!f->sink_is_named) {
        f->sink_is_named = true;
        f->sink.root_len += (size_t)snprintf((char *)f->sink.root + f->sink.root_len, 16, "/src");
    }
}

static void run_command(struct world *w, const struct scheduler_command *cmd);
void __wrap_core_dispatch(struct core *c);
void __wrap_core_dispatch(struct core *c) {
    if (the->dispatching || the->crash || the->core.stopping) {
        return;
    }
    the->dispatching = true;
    for (;;) {
        struct scheduler_command cmd;
        int64_t wake_ms;
        scheduler_next_command(c->scheduler, clock_mono_ms(c->clock), &cmd, &wake_ms);
        if (cmd.kind == SCHED_NONE) {
            break;
        }
        run_command(the, &cmd);
    }
    the->dispatching = false;
}

#include "tests/unit/master/planner_world_agent.h"

static void on_abandoned(void *arg) {
    struct world *w = arg;
    w->abandoned = true;
}

static void run_command(struct world *w, const struct scheduler_command *cmd) {
    struct planner *p = w->core.planner;
    switch (cmd->kind) {
    case SCHED_ASSIGN: assign(w, cmd); break;
    case SCHED_YIELD: tell_running(w, cmd, true); break;
    case SCHED_REVOKE: tell_running(w, cmd, false); break;
    case SCHED_WANT_TASKS: planner_want_tasks(p, cmd->flow, cmd->n); break;
    case SCHED_UNRUNNABLE: planner_unrunnable(p, cmd->task_id, cmd->err); break;
    case SCHED_CLOSED:
        planner_lease_closed(p, cmd->task_id, cmd->epoch, cmd->agent, cmd->how);
        break;
    case SCHED_QUIET:
        if (w->cancel && !w->quiet) {
            w->quiet = true;
            planner_flow_abandon(p, &w->flow, on_abandoned, w);
        }
        break;
    case SCHED_NONE: break;
    }
}

// ---- turns ----
static bool is_over(const struct world *w) {
    return w->cancel ? w->abandoned : w->planned_out;
}

// The database works in real time: our clock stands still, and nobody does anything, until it has
// caught up. So nothing here depends on how fast the disk is.
static bool waits_for_database(struct world *w) {
    const struct plan *pl = w->flow.plan;
    bool busy = (pl != NULL && pl->n_pending > 0) || database_queued(w->core.database) > 0;
    w->ahead_ms = busy ? w->ahead_ms : 0;
    return w->ahead_ms >= AHEAD_MS;
}

static void take_turn(void *arg) {
    struct world *w = arg;
    struct core *c = &w->core;
    if (waits_for_database(w)) {
        loop_timer_arm(w->turn, 1);
        return;
    }
    assert_true(++w->n_turns < TURNS_MAX);
    clock_fake_advance(&w->clock, 20);
    w->ahead_ms += 20;
    int64_t now_ms = clock_mono_ms(c->clock);
    for (int i = 0; i < AGENTS; i++) {
        agent_turn(w, &w->agents[i], now_ms);
    }
    scheduler_tick(c->scheduler, now_ms);
    planner_leases_due(c->planner);
    __wrap_core_dispatch(c);
    if (is_over(w)) {
        loop_stop(c->loop);
    } else if (happens(w, w->odds_master)) {
        w->crash = true;
        loop_stop(c->loop);
    } else {
        loop_timer_arm(w->turn, w->n_turns % 4 == 0 ? 1 : 0);
    }
}

static void master_start(struct world *w) {
    struct core *c = &w->core;
    struct failure f = {0};
    *c = (struct core){.options = &w->options, .clock = &w->clock.clock};
    c->loop = loop_new();
    assert_non_null(c->loop);
    assert_ok(
        database_open(&(struct database_place){.state_dir = w->dir}, c->loop, &c->database, &f));
    assert_ok(database_raise_term(c->database, &c->term, c->cluster, &f));
    c->reconcile_until_ms = c->term > 1 ? clock_mono_ms(c->clock) + 500 : 0;
    const struct scheduler_options so = {.term = c->term,
                                         .hold_ms = w->options.hold_ms,
                                         .lost_after_ms = w->options.lost_after_ms,
                                         .park_ms = w->options.park_ms,
                                         .window = 24,
                                         .max_tasks = 1000,
                                         .reconcile_until_ms = c->reconcile_until_ms};
    assert_ok(scheduler_new(&so, &c->scheduler));
    assert_ok(planner_new(c, &c->planner));
    w->turn = loop_timer_new(c->loop, take_turn, w);
    w->crash = false;
    w->dispatching = false;
    for (int i = 0; i < AGENTS; i++) {
        w->agents[i].told = false;
    }
    w->n_masters++;
}

static void settle(void *arg) {
    struct world *w = arg;
    if (w->n_turns++ % 16 != 0) {
        loop_post(w->core.loop, settle, w);
    } else {
        loop_stop(w->core.loop);
    }
}

// What was queued is stored; nothing else survives.
static void master_kill(struct world *w) {
    struct core *c = &w->core;
    c->stopping = true;
    loop_timer_free(w->turn);
    database_stop(c->database);
    w->n_turns += w->n_turns % 16 == 0;
    settle(w);
    loop_run(c->loop);
    database_close(c->database);
    planner_free(c->planner);
    scheduler_free(c->scheduler);
    loop_free(c->loop);
    w->flow.plan = NULL;
}

static void world_run(struct world *w) {
    while (!is_over(w)) {
        master_start(w);
        if (w->cancel && w->quiet) {
            planner_flow_abandon(w->core.planner, &w->flow, on_abandoned, w);
        } else {
            planner_flow_begin(w->core.planner, &w->flow);
        }
        loop_timer_arm(w->turn, 0);
        loop_run(w->core.loop);
        master_kill(w);
    }
}

// ---- the world's beginning and end ----
static int world_set_up(void **state) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->nodes = calloc(NODES_MAX, sizeof *w->nodes);
    assert_non_null(w->nodes);
    the = w;
    snprintf(w->dir, sizeof w->dir, "/tmp/sluice-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    clock_fake_init(&w->clock, 1000000, 1700000000000);
    w->options = (struct master_options){.hold_ms = 3000,
                                         .lost_after_ms = 500,
                                         .park_ms = 60000,
                                         .part_bytes = 2 * LEAF,
                                         .large_bytes = 3 * LEAF,
                                         .spec_bytes_per_flow = 8 << 20,
                                         .task_retries = 5,
                                         .retries_per_flow = 1000000,
                                         .events_per_flow = 1000};
    w->chance = 42;
    w->budget = UINT64_MAX;
    w->page_entries = 50;
    for (int i = 0; i < AGENTS; i++) {
        snprintf(w->agents[i].name, sizeof w->agents[i].name, "agent-%d", i);
        w->agents[i].alive = true;
    }
    struct flow *f = &w->flow;
    memcpy(f->id, FLOW, sizeof FLOW);
    f->spec = calloc(1, sizeof *f->spec);
    assert_non_null(f->spec);
    sluice__v1__flow_spec__init(f->spec);
    sluice__v1__location__init(&w->from);
    sluice__v1__posix_location__init(&w->from_posix);
    w->from_posix.path.data = (uint8_t *)(uintptr_t) "/in/src/";
    w->from_posix.path.len = 8;
    w->from.kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    w->from.posix = &w->from_posix;
    f->spec->source = &w->from;
    f->spec->destination = &w->from;
    snprintf(f->source.site, sizeof f->source.site, "here");
    snprintf(f->source.volume, sizeof f->source.volume, "in");
    memcpy(f->source.root, "src", 3);
    f->source.root_len = 3;
    f->sink = f->source;
    snprintf(f->sink.volume, sizeof f->sink.volume, "out");
    memcpy(f->sink.root, "dst", 3);
    f->source_is_contents = true;
    f->sink_is_named = true;
    *state = w;
    return 0;
}

static int world_tear_down(void **state) {
    struct world *w = *state;
    for (int i = 0; i < AGENTS; i++) {
        agent_clear(&w->agents[i]);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w->flow.spec);
    free(w->nodes);
    free(w);
    return 0;
}

#endif
