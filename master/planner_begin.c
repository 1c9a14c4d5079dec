// SPDX-License-Identifier: Apache-2.0
// A flow's plan begins, or goes on after a restart; and what its two roots are.
#include "common/log.h"
#include "common/rpc/location_message.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

struct plan *plan_new(struct planner *p, struct flow *f) {
    struct plan *pl = calloc(1, sizeof *pl);
    if (pl != NULL) {
        pl->planner = p;
        pl->flow = f;
        memcpy(pl->id, f->id, sizeof pl->id);
        pl->body.next_object = 1;
        f->plan = pl;
        DL_APPEND(p->plans, pl);
    }
    return pl;
}

bool plan_enter_scheduler(struct plan *pl) {
    const struct flow *f = pl->flow;
    struct core *core = pl->planner->core;
    struct scheduler_flow s = {
        .priority = f->spec->priority,
        .weight = f->spec->weight,
        .max_executors = f->spec->limits != NULL ? f->spec->limits->executors : 0,
        .restored = pl->restored,
        .source = f->source,
        .sink = f->sink,
    };
    memcpy(s.id, pl->id, sizeof s.id);
    enum err e = scheduler_flow_add(core->scheduler, &s, planner_mono_ms(pl->planner));
    if (e != OK) {
        struct failure failure = {0};
        (void)failure_set(&failure, e, "schedule", NULL, 0, NULL);
        plan_fail(pl, &failure);
        return false;
    }
    pl->in_scheduler = true;
    return true;
}

// ---- STAT of the roots ----
static void add_stat(struct work *w, bool source) {
    struct object_entry root = {.type = OBJECT_FILE};
    struct blob table = {0};
    if (entry_table(&root, &table) != OK) {
        w->failed = true;
        return;
    }
    Sluice__V1__TaskSpec spec;
    struct spec_places places;
    spec_init(w->plan, SLUICE__V1__TASK_KIND__STAT, &spec);
    spec_set_places(w->plan, &spec, &places, source, !source);
    // As rsync does: "link" is the link, "link/" what it leads to.
    spec.single = source && !w->plan->flow->source_is_contents;
    spec.objects.data = (uint8_t *)(uintptr_t)table.bytes;
    spec.objects.len = table.len;
    struct task_row row = task_row_new(w->plan, SLUICE__V1__TASK_KIND__STAT);
    row.objects = 1;
    work_put_task(w, &row, &spec);
    blob_free(&table);
}

static void add_root_directory(struct work *w, struct object_entry *e) {
    struct plan *pl = w->plan;
    struct walk_row walk = {.id = e->id};
    memcpy(walk.flow, pl->id, sizeof walk.flow);
    struct blob table = {0};
    if (entry_table(e, &table) != OK) {
        w->failed = true;
        return;
    }
    walk.entry = table;
    change_walk_put(w->change, &walk);
    struct task_row row = task_row_new(pl, SLUICE__V1__TASK_KIND__MKDIR);
    row.objects = 1;
    work_add_task(w, &row, table);
    blob_free(&table);
    pl->body.exact.objects_total++;
    pl->body.n_unlisted++;
    pl->frontier = true;
    w->adds = true;
}

static void add_single(struct work *w, struct object_entry *e) {
    struct plan *pl = w->plan;
    bool file = e->type == OBJECT_FILE;
    if (file && e->version.size > plan_large_bytes(pl)) {
        large_add(w, e);
        return;
    }
    struct blob table = {0};
    if (entry_table(e, &table) != OK) {
        w->failed = true;
        return;
    }
    struct task_row row =
        task_row_new(pl, file ? SLUICE__V1__TASK_KIND__BATCH : SLUICE__V1__TASK_KIND__LINK);
    row.objects = 1;
    row.bytes = file ? e->version.size : 0;
    work_add_task(w, &row, table);
    blob_free(&table);
    pl->body.exact.objects_total++;
    pl->body.exact.bytes_total += row.bytes;
}

// Makes the first tasks if enough is known. False: the flow cannot be.
static bool resolve_roots(struct work *w, struct failure *ret_failure) {
    struct plan *pl = w->plan;
    struct flow *f = pl->flow;
    struct core *core = pl->planner->core;
    struct object_table table;
    if (pl->body.resolved || pl->body.source.len == 0) {
        return true;
    }
    if (object_table_open(pl->body.source.bytes, pl->body.source.len, &table) != OK) {
        *ret_failure = out_of_memory("stat");
        return false;
    }
    struct object_entry e;
    object_table_get(&table, 0, &e);
    bool directory = e.type == OBJECT_DIRECTORY;
    bool ok = true;
    if (!directory && f->source_is_contents) {
        const ProtobufCBinaryData *path = location_message_path(f->spec->source);
        (void)failure_set(ret_failure, ERR_NOT_DIRECTORY, "stat", path->data, path->len,
                          "the source is not a directory");
        failure_remedy(ret_failure, "leave out the '/' at the end of the source");
        ok = false;
    } else if (directory || f->sink_is_named || pl->body.sink_known) {
        if (!f->source_is_contents && (directory || pl->body.sink_type == OBJECT_DIRECTORY)) {
            flow_sink_into_directory(core, f);
        }
        pl->body.resolved = true;
        e.id = pl->body.next_object++;
        e.path_len = 0;
        if (directory) {
            add_root_directory(w, &e);
        } else {
            add_single(w, &e);
        }
    }
    object_table_close(&table);
    return ok;
}

// True: it was fine, and what was found is in the plan.
static bool take_found(struct plan *pl, const struct outcome *o, struct failure *ret_failure) {
    bool source = o->task->spec->source != NULL;
    struct object_table table;
    if (object_table_open(o->m->found.data, o->m->found.len, &table) != OK) {
        (void)failure_set(ret_failure, ERR_PROTOCOL, "stat", NULL, 0,
                          "the agent's answer is no object table");
        return false;
    }
    bool ok = true;
    if (table.count == 0 && source) {
        const ProtobufCBinaryData *path = location_message_path(pl->flow->spec->source);
        (void)failure_set(ret_failure, ERR_NOT_FOUND, "stat", path->data, path->len,
                          "the source does not exist: no such file or directory");
        ok = false;
    } else if (source) {
        struct blob found = {o->m->found.data, o->m->found.len};
        blob_free(&pl->body.source);
        if (blob_copy(found, &pl->body.source) != OK) {
            *ret_failure = out_of_memory("stat");
            ok = false;
        }
    } else {
        struct object_entry e = {0};
        if (table.count > 0) {
            object_table_get(&table, 0, &e);
        }
        pl->body.sink_known = true;
        pl->body.sink_type = (uint8_t)e.type;
    }
    object_table_close(&table);
    return ok;
}

void stat_result(struct work *w, const struct outcome *o) {
    struct failure f = o->failure;
    struct plan *pl = w->plan;
    if (o->m == NULL || !o->done) {
        if (outcome_may_retry(o)) {
            work_retry(w, o, true);
            work_commit(w);
            return;
        }
        if (f.err == OK) {
            (void)failure_set(&f, ERR_INTERNAL, "stat", NULL, 0, "no answer and no reason");
        }
    } else if (take_found(pl, o, &f) && resolve_roots(w, &f)) {
        work_conclude(w, o->task, o->epoch);
        work_commit(w);
        return;
    }
    // Nothing of this is stored: after a crash it is found out again.
    plan_fail(pl, &f);
    work_free(w);
}

// ---- beginning ----
static void begin_anew(struct plan *pl) {
    struct work *w = work_new(pl);
    if (w == NULL) {
        return;
    }
    pl->begun = true;
    add_stat(w, true);
    if (!pl->flow->sink_is_named) {
        add_stat(w, false);
    }
    if (plan_enter_scheduler(pl)) {
        work_commit(w);
    } else {
        work_free(w);
    }
}

static void on_idle(void *arg, enum err result, const struct large_row *rows, size_t n_rows) {
    struct plan *pl = arg;
    struct core *core = pl->planner->core;
    pl->begun = true;
    if (result == OK && pl->flow != NULL && pl->abandoning) {
        plan_abandon_next(pl);
    } else if (result == OK && pl->flow != NULL) {
        pl->frontier = pl->body.n_unlisted > 0;
        if (plan_enter_scheduler(pl)) {
            for (size_t i = 0; i < n_rows && pl->flow != NULL; i++) {
                struct large *l = large_take(pl, &rows[i]);
                if (l != NULL) {
                    large_resume(l);
                    large_unref(l);
                }
            }
        }
    }
    plan_unref(pl);
    core_dispatch(core);
}

static void on_waiting(void *arg, enum err result, const struct task_row *rows, size_t n_rows) {
    struct plan *pl = arg;
    struct planner *p = pl->planner;
    if (result == OK && pl->flow != NULL) {
        for (size_t i = 0; i < n_rows; i++) {
            // Until the last lease of an earlier term has expired, if nobody tells earlier.
            int64_t deadline_ms = p->started_ms + p->core->options->hold_ms;
            struct work *w = work_new(pl);
            if (w == NULL) {
                break;
            }
            bool cleanup = rows[i].kind == SLUICE__V1__TASK_KIND__CLEANUP;
            for (size_t k = 0; cleanup && k < rows[i].n_leases; k++) {
                struct open_lease *o = calloc(1, sizeof *o);
                if (o == NULL) {
                    w->failed = true;
                    break;
                }
                o->task_id = rows[i].task_id;
                o->lease.epoch = rows[i].leases[k].epoch;
                memcpy(o->lease.agent, rows[i].leases[k].agent, sizeof o->lease.agent);
                o->deadline_ms = deadline_ms;
                DL_APPEND(pl->open, o);
            }
            waiting_add(w, &rows[i], rows[i].task_id, cleanup, deadline_ms);
            work_commit(w);
        }
    }
    plan_unref(pl);
}

static void on_partials(void *arg, enum err result, const struct walk_row *rows, size_t n_rows,
                        uint64_t n_all) {
    struct plan *pl = arg;
    (void)n_all;
    if (result == OK && pl->flow != NULL) {
        for (size_t i = 0; i < n_rows; i++) {
            struct directory *d = directory_add(pl, &rows[i]);
            if (d == NULL) {
                struct failure f = out_of_memory("restart");
                plan_fail(pl, &f);
                break;
            }
            d->restart = true;
        }
    }
    plan_unref(pl);
}

static void go_on(struct plan *pl, const struct plan_answer *answer) {
    struct database *d = pl->planner->core->database;
    enum { ALL = 1 << 20 };
    enum err e = plan_body_decode(answer->body, &pl->body);
    if (e != OK) {
        struct failure f = {0};
        (void)failure_set(&f, e, "restart", NULL, 0, "what is stored of the plan makes no sense");
        plan_fail(pl, &f);
        return;
    }
    pl->restored = true;
    pl->shown = answer->progress;
    pl->flow->progress = answer->progress;
    struct change *c = change_new();
    change_plan_restart(c, pl->id);
    database_commit(d, c, NULL, NULL);
    plan_ref(pl);
    database_walk_partials(d, pl->id, on_partials, pl);
    plan_ref(pl);
    database_tasks_waiting(d, pl->id, on_waiting, pl);
    plan_ref(pl);
    database_larges_load(d, pl->id, true, 0, ALL, on_idle, pl);
}

static void on_plan(void *arg, enum err result, const struct plan_answer *answer) {
    struct plan *pl = arg;
    if (pl->flow != NULL && result == OK) {
        if (answer->exists) {
            go_on(pl, answer);
        } else if (pl->abandoning) {
            plan_end(pl, NULL); // it never began
        } else {
            begin_anew(pl);
        }
    } else if (pl->flow != NULL && result != ERR_CANCELLED) {
        struct failure f = {0};
        (void)failure_set(&f, result, "load", NULL, 0, NULL);
        plan_fail(pl, &f);
    }
    struct core *core = pl->planner->core;
    plan_unref(pl);
    core_dispatch(core);
}

void plan_load_body(struct plan *pl) {
    plan_ref(pl);
    database_plan_load(pl->planner->core->database, pl->id, on_plan, pl);
}

void planner_flow_begin(struct planner *p, struct flow *f) {
    struct plan *pl = plan_new(p, f);
    if (pl == NULL) {
        struct failure failure = out_of_memory("plan");
        flow_planned_out(p->core, f, &failure);
        return;
    }
    plan_load_body(pl);
}
