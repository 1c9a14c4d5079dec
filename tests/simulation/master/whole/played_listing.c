// SPDX-License-Identifier: Apache-2.0
// List calls: the agent's end, and the master's as in agent_list.c.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

enum { STREAM_WINDOW = 4 };

// ---- the agent's end ----
static void page_free(void *ptr) {
    struct page_message *pm = ptr;
    stream_unref(pm->stream);
    free(pm);
}

void listing_begins(struct world *w, uint32_t i, struct held *h) {
    struct stream *l = must(calloc(1, sizeof *l));
    *l = (struct stream){.world = w,
                         .refs = 1,
                         .id = ++w->n_streams,
                         .term = w->term,
                         .task = h->spec->task_id,
                         .epoch = h->epoch,
                         .agent = i};
    h->stream = l;
    h->next = h->child = 0;
    h->pages_sent = h->pages_done = 0;
    h->last_sent = h->asleep = false;
    work_step_in(w, i, h, 1);
}

void list_again(struct world *w, uint32_t i, struct held *h) {
    h->stream->over = true;
    stream_unref(h->stream);
    h->stream = NULL;
    listing_begins(w, i, h);
}

void listing_step(struct world *w, uint32_t i, struct held *h) {
    const struct agent *a = &w->agents[i];
    if (one_in(w, w->odds_stream)) {
        list_again(w, i, h);
        return;
    }
    if (h->last_sent || h->pages_sent - h->pages_done >= STREAM_WINDOW) {
        h->asleep = true;
        return;
    }
    struct object_entry e = held_entry(h, h->next);
    struct page_message *pm = must(calloc(1, sizeof *pm));
    *pm = (struct page_message){.stream = h->stream,
                                .first = h->pages_sent == 0,
                                .directory = h->next,
                                .node = node_of_path(e.path, e.path_len),
                                .from = h->child};
    h->stream->refs++;
    uint32_t left = node_children(w, pm->node) - h->child;
    pm->n = left < w->page_entries ? left : w->page_entries;
    pm->failed = w->nodes[pm->node].list_fails;
    h->child += pm->n;
    if (pm->n == left) {
        pm->directory_done = true;
        h->next++;
        h->child = 0;
        pm->last = h->last_sent = h->next == h->table.count;
    }
    h->pages_sent++;
    int64_t at_ms = w->now_ms > a->cut_until_ms ? w->now_ms : a->cut_until_ms;
    struct event *m = event_at(w, at_ms + a->latency_ms, message_page);
    m->agent = i;
    m->ptr = pm;
    m->drop = page_free;
    m->to_master = true;
    work_step_in(w, i, h, w->o.watch_memory ? 150 : w->o.uniform ? 1 : between(w, 1, 20));
}

void message_page_reply(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    if (!a->alive || agent_is_stopped(w, e)) {
        return;
    }
    for (uint32_t k = 0; k < a->n_held; k++) {
        struct held *h = a->held[k];
        if (h->stream == NULL || h->stream->id != e->session) {
            continue;
        }
        h->pages_done = e->number;
        if (e->task == 2) {
            agent_stop_told(w, e->agent, h->spec->task_id, h->epoch);
        }
        if (e->task != 0) {
            held_drop(a, k);
            agent_start_waiting(w, e->agent);
        } else if (h->asleep) {
            h->asleep = false;
            work_step_in(w, e->agent, h, 1);
        }
        return;
    }
}

// ---- the master's end ----
void stream_unref(struct stream *l) {
    if (l != NULL && --l->refs == 0) {
        free(l);
    }
}

static void reply(struct stream *l, bool done, bool stop) {
    struct world *w = l->world;
    if (l->over || !w->up || l->term != w->term) {
        return;
    }
    l->over = done || stop;
    struct agent *a = &w->agents[l->agent];
    int64_t at_ms = w->now_ms > a->cut_until_ms ? w->now_ms : a->cut_until_ms;
    struct event *e = event_at(w, at_ms + a->latency_ms, message_page_reply);
    e->agent = l->agent;
    e->session = l->id;
    e->number = l->committed;
    e->task = done ? 1 : stop ? 2 : 0;
}

static void list_concluded(void *arg) {
    struct stream *l = arg;
    l->committed++;
    reply(l, true, false);
    stream_unref(l);
}

static bool list_conclude(struct world *w, struct stream *l) {
    const char *name = w->agents[l->agent].name;
    enum err e = scheduler_result(w->core.scheduler, name, l->task, l->epoch, w->now_ms);
    trace("listed", l->agent, l->task, l->epoch.counter << 8 | e);
    if (e != OK) {
        return false;
    }
    result_accepted(w, l->task, l->epoch);
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = l->epoch.term;
    epoch.counter = l->epoch.counter;
    lease.task_id = l->task;
    lease.epoch = &epoch;
    m.lease = &lease;
    m.done = true;
    planner_result(w->core.planner, name, &m, list_concluded, l);
    core_dispatch(&w->core);
    return true;
}

static void page_stored(void *arg, enum err result) {
    struct stream *l = arg;
    struct world *w = l->world;
    bool here = w->up && l->term == w->term;
    bool last = here && result == OK && l->last && l->committed + 1 == l->received;
    if (last && list_conclude(w, l)) {
        return;
    }
    l->committed++;
    reply(l, false, result != OK || last);
    stream_unref(l);
}

static void add_children(struct world *w, const struct page_message *pm,
                         struct object_table_builder *b) {
    for (uint32_t i = 0; i < pm->n; i++) {
        char path[256];
        struct object_entry child;
        node_entry(w, node_child(w, pm->node, pm->from + i), path, &child);
        if (object_table_add(b, &child) != OK) {
            abort();
        }
    }
}

void message_page(struct world *w, struct event *e) {
    struct page_message *pm = e->ptr;
    struct stream *l = pm->stream;
    if (!w->up || l->term != w->term || l->over) {
        return;
    }
    const char *holder = scheduler_holder(w->core.scheduler, l->task, l->epoch);
    if (holder == NULL || strcmp(holder, w->agents[l->agent].name) != 0 || l->last) {
        reply(l, false, true);
        return;
    }
    struct object_table_builder b;
    object_table_init(&b);
    add_children(w, pm, &b);
    Sluice__V1__ListPage page = SLUICE__V1__LIST_PAGE__INIT;
    Sluice__V1__LeaseRef lease = SLUICE__V1__LEASE_REF__INIT;
    struct failure_message fm;
    const uint8_t *bytes;
    if (object_table_bytes(&b, &bytes, &page.entries.len) != OK) {
        abort();
    }
    page.entries.data = (uint8_t *)(uintptr_t)bytes;
    page.lease = pm->first ? &lease : NULL;
    page.directory = pm->directory;
    page.directory_done = pm->directory_done;
    page.last = pm->last;
    if (pm->failed) {
        char path[256];
        struct object_entry entry;
        struct failure f = {0};
        node_entry(w, pm->node, path, &entry);
        (void)failure_set(&f, ERR_DENIED, "opendir", path, entry.path_len, NULL);
        failure_to_message(&f, "", &fm);
        page.failure = &fm.message;
    }
    l->received++;
    l->refs++;
    l->last = pm->last;
    planner_page(w->core.planner, w->agents[l->agent].name, l->task, l->epoch, &page, page_stored,
                 l);
    object_table_deinit(&b);
    core_dispatch(&w->core);
}
