// SPDX-License-Identifier: Apache-2.0
// Pages of listings become tasks and directories to list, one transaction for each page.
//
// A directory that fits one page is listed in one transaction. One of several pages may be
// interrupted; it is then listed again under a new generation: what was never leased of the old
// one goes, its counters are taken back, and large objects and directories, which are worth too
// much to begin again, are known by their digests (`seen`).
#include "common/hash.h"
#include "common/log.h"
#include "common/rpc/failure_message.h"
#include "master/planner_impl.h"

#include <stdlib.h>
#include <string.h>

struct page {
    struct page *next;
    struct plan *plan;
    struct listing *listing;
    Sluice__V1__ListPage *message; // a copy
    bool begins;                   // the first of a stream
    bool *seen;                    // of the entries; NULL: none was
    void (*committed)(void *arg, enum err result);
    void *arg;
};

// ---- directories ----
struct directory *directory_find(struct plan *pl, uint64_t id) {
    struct directory *d;
    DL_FOREACH(pl->directories, d) {
        if (d->row.id == id) {
            return d;
        }
    }
    return NULL;
}

struct directory *directory_add(struct plan *pl, const struct walk_row *row) {
    struct directory *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->row = *row;
        d->row.entry = (struct blob){0};
        DL_APPEND(pl->directories, d);
    }
    return d;
}

void directory_remove(struct plan *pl, struct directory *d) {
    DL_DELETE(pl->directories, d);
    free(d);
}

// ---- answering ----
struct answer {
    void (*committed)(void *arg, enum err result);
    void *arg;
    enum err result;
};

static void give_answer(void *arg) {
    struct answer *a = arg;
    a->committed(a->arg, a->result);
    free(a);
}

static void answer_later(struct planner *p, void (*committed)(void *arg, enum err result),
                         void *arg, enum err result) {
    struct answer *a = calloc(1, sizeof *a);
    if (a == NULL) {
        committed(arg, ERR_NO_MEMORY);
        return;
    }
    *a = (struct answer){committed, arg, result};
    loop_post(p->core->loop, give_answer, a);
}

static void page_free(struct page *page) {
    if (page->message != NULL) {
        sluice__v1__list_page__free_unpacked(page->message, NULL);
    }
    free(page->seen);
    free(page);
}

static void page_refuse(struct page *page, enum err why) {
    answer_later(page->plan->planner, page->committed, page->arg, why);
    page_free(page);
}

void listing_free(struct plan *pl, struct listing *l) {
    if (!l->gone || l->busy) {
        return;
    }
    while (l->first != NULL) {
        struct page *page = l->first;
        l->first = page->next;
        page_refuse(page, ERR_FENCED);
    }
    for (size_t i = 0; i < l->n_directories; i++) {
        struct directory *d = l->directories[i];
        if (d == NULL) {
            continue;
        }
        d->listing = NULL;
        if (!d->row.partial || d->row.state == WALK_DONE) {
            directory_remove(pl, d);
        }
    }
    for (int i = 0; i < GROW_COUNT; i++) {
        object_table_deinit(&l->growing[i].table);
    }
    struct planned_task *t;
    DL_FOREACH(pl->tasks, t) {
        if (t->listing == l) {
            t->listing = NULL;
        }
    }
    DL_DELETE(pl->listings, l);
    free(l->directories);
    free(l);
}

// ---- a listing that begins again ----
static void subtract(struct flow_progress *p, const struct walk_counts *c) {
    p->objects_total -= c->objects;
    p->bytes_total -= c->bytes;
    p->objects_done -= c->objects_done;
    p->bytes_done -= c->bytes_done;
    p->objects_failed -= c->failed;
    p->objects_skipped -= c->skipped;
}

static void begin_again(struct work *w, struct listing *l, struct directory *d) {
    struct plan *pl = w->plan;
    struct core *core = pl->planner->core;
    log_event(LOG_INFO, "listing_begins_again", LOG_STR("flow", pl->id),
              LOG_U64("directory", d->row.id), LOG_U64("objects", d->row.counts.objects));
    subtract(&pl->body.exact, &d->row.counts);
    d->row.counts = (struct walk_counts){0};
    d->row.generation++;
    for (int i = 0; i < GROW_COUNT; i++) {
        if (l->growing[i].table.count > 0 && l->growing[i].row.walk == d->row.id) {
            grow_forget(&l->growing[i]); // its row goes with the others
        }
    }
    change_tasks_drop(w->change, pl->id, d->row.id, d->row.generation);
    change_failed_drop(w->change, pl->id, d->row.id, d->row.generation);
    struct planned_task *t, *next;
    DL_FOREACH_SAFE(pl->tasks, t, next) {
        if (t->row.walk != d->row.id || t->row.generation >= d->row.generation) {
            continue;
        }
        t->row.walk = UINT64_MAX;
        if (t->n_leases == 0 && !t->concluded) {
            scheduler_task_drop(core->scheduler, t->row.task_id, planner_mono_ms(pl->planner));
            planned_task_free(t);
        }
    }
}

// ---- entries ----
static void entry_digest(const struct object_entry *e, uint8_t ret_digest[SEEN_BYTES]) {
    uint8_t whole[32];
    sha256(e->path, e->path_len, whole);
    memcpy(ret_digest, whole, SEEN_BYTES);
}

static bool is_large(const struct plan *pl, const struct object_entry *e) {
    return e->type == OBJECT_FILE && e->version.size > plan_large_bytes(pl);
}

static bool is_remembered(const struct plan *pl, const struct object_entry *e) {
    return e->type == OBJECT_DIRECTORY || is_large(pl, e);
}

static void add_directory(struct work *w, struct listing *l, const struct directory *parent,
                          const struct object_entry *e) {
    struct plan *pl = w->plan;
    struct blob table = {0};
    if (entry_table(e, &table) != OK) {
        w->failed = true;
        return;
    }
    struct walk_row row = {.id = e->id, .depth = parent->row.depth + 1, .entry = table};
    memcpy(row.flow, pl->id, sizeof row.flow);
    change_walk_put(w->change, &row);
    blob_free(&table);
    // Not of a listing that may be begun again: once seen, it is not made a second time.
    grow_add(w, l, GROW_MKDIR, e, 0, 0);
    pl->body.exact.objects_total++;
    pl->body.n_unlisted++;
    pl->frontier = true;
    w->adds = true;
}

static void add_entry(struct work *w, struct listing *l, struct directory *d,
                      struct object_entry *e) {
    struct plan *pl = w->plan;
    uint64_t walk = d->row.partial ? d->row.id : 0;
    uint64_t generation = d->row.partial ? d->row.generation : 0;
    e->id = pl->body.next_object++;
    if (is_remembered(pl, e) && d->row.partial) {
        uint8_t digest[SEEN_BYTES];
        entry_digest(e, digest);
        change_seen_add(w->change, pl->id, d->row.id, digest);
    }
    if (e->type == OBJECT_DIRECTORY) {
        add_directory(w, l, d, e);
        return;
    }
    if (is_large(pl, e)) {
        large_add(w, e);
        return;
    }
    bool file = e->type == OBJECT_FILE;
    grow_add(w, l, file ? GROW_BATCH : GROW_LINK, e, walk, generation);
    struct task_row row = {.walk = walk, .generation = generation};
    struct walk_counts add = {.objects = 1, .bytes = file ? e->version.size : 0};
    (void)plan_count(pl, &row, &add); // the directory's row is stored with the page
}

// An entry that could not be looked at, or the directory itself.
static void entry_failed(struct work *w, const struct directory *d, const Sluice__V1__Failure *m,
                         bool whole) {
    struct plan *pl = w->plan;
    struct failure f;
    failure_from_message(m, &f);
    struct task_row row = {.walk = !whole && d->row.partial ? d->row.id : 0,
                           .generation = d->row.generation};
    uint64_t id = d->row.id;
    if (!whole) {
        id = pl->body.next_object++;
        struct walk_counts add = {.objects = 1};
        work_count(w, &row, &add);
    }
    work_object_failed(w, id, m->object.data, m->object.len, &f, m->agent, &row);
}

static void directory_done(struct work *w, struct directory *d) {
    if (d->row.partial || d->row.generation > 0) {
        change_seen_drop(w->change, w->plan->id, d->row.id);
    }
    d->row.partial = false;
    d->row.state = WALK_DONE;
    w->plan->body.n_unlisted--;
}

// A directory that could not be listed: again, or it has failed. False: and the flow with it.
static bool directory_failed(struct work *w, const struct page *page, struct directory *d) {
    const Sluice__V1__Failure *m = page->message->failure;
    struct plan *pl = w->plan;
    struct failure f;
    failure_from_message(m, &f);
    if (err_retry_class(f.err) != RETRY_NEVER && plan_may_retry(pl, d->row.attempt + 1, f.err)) {
        d->row.attempt++;
        plan_count_retry(pl, &f, m->agent);
        d->row.state = WALK_FRONTIER;
        d->row.task = 0;
        d->restart = true;
        d->listing = NULL;
        page->listing->directories[page->message->directory] = NULL;
        pl->frontier = true;
        w->adds = true;
        return true;
    }
    if (d->row.depth == 0) {
        plan_fail(pl, &f);
        return false;
    }
    entry_failed(w, d, m, true);
    directory_done(w, d);
    return true;
}

// How much of a page goes into batches: tasks are cut by what is known, not by what was seen.
static void look_ahead(struct work *w, const struct page *page, const struct object_table *table) {
    for (uint32_t i = 0; i < table->count; i++) {
        struct object_entry e;
        object_table_get(table, i, &e);
        bool is_new = page->seen == NULL || !page->seen[i];
        if (is_new && e.type == OBJECT_FILE && !is_large(w->plan, &e)) {
            w->ahead.objects++;
            w->ahead.bytes += e.version.size;
        }
    }
    w->ends_walk = page->message->directory_done && w->plan->body.n_unlisted == 1;
}

static bool apply_entries(struct work *w, struct page *page, struct directory *d) {
    const Sluice__V1__ListPage *m = page->message;
    struct object_table table;
    if (m->entries.len == 0) {
        return true;
    }
    if (object_table_open(m->entries.data, m->entries.len, &table) != OK) {
        return false;
    }
    look_ahead(w, page, &table);
    for (uint32_t i = 0; i < table.count; i++) {
        struct object_entry e;
        object_table_get(&table, i, &e);
        if (page->seen == NULL || !page->seen[i]) {
            add_entry(w, page->listing, d, &e);
        }
    }
    object_table_close(&table);
    return true;
}

static struct directory *directory_of(const struct page *page) {
    const struct listing *l = page->listing;
    return page->message->directory < l->n_directories ? l->directories[page->message->directory]
                                                       : NULL;
}

static bool is_wanted(const struct page *page, const struct directory *d) {
    (void)page;
    return d != NULL && d->row.state == WALK_LISTING;
}

// One transaction. The page is freed.
static void page_apply(struct page *page) {
    struct plan *pl = page->plan;
    struct listing *l = page->listing;
    const Sluice__V1__ListPage *m = page->message;
    struct directory *d = directory_of(page);
    struct work *w = work_new(pl);
    if (w == NULL) {
        l->busy = false;
        page_refuse(page, ERR_NO_MEMORY);
        listing_free(pl, l);
        return;
    }
    w->listing = l;
    w->page_committed = page->committed;
    w->arg = page->arg;
    bool ok = true;
    if (is_wanted(page, d)) {
        if (d->restart && d->row.partial) {
            begin_again(w, l, d);
        }
        d->restart = false;
        bool failed = m->failure != NULL && m->directory_done;
        d->row.partial = d->row.partial || !m->directory_done;
        ok = apply_entries(w, page, d);
        if (ok && failed) {
            ok = directory_failed(w, page, d);
        } else if (ok && m->failure != NULL) {
            entry_failed(w, d, m->failure, false);
        }
        if (ok && m->directory_done && !failed) {
            directory_done(w, d);
        }
        if (ok) {
            change_walk_state(w->change, &d->row);
        }
    }
    pl->body.exact.walk_us += m->walk_us;
    grow_store_all(w, l, m->last || pl->drained);
    page_free(page);
    if (pl->flow == NULL) {
        work_free(w);
    } else {
        w->failed = w->failed || !ok;
        work_commit(w);
    }
}

// ---- what was seen before ----
static void on_seen(void *arg, enum err result, const bool *seen, size_t n) {
    struct page *page = arg;
    struct plan *pl = page->plan;
    struct core *core = pl->planner->core;
    struct listing *l = page->listing;
    struct object_table table;
    bool ok =
        result == OK && pl->flow != NULL && !l->gone &&
        object_table_open(page->message->entries.data, page->message->entries.len, &table) == OK;
    if (ok) {
        size_t at = 0;
        for (uint32_t i = 0; i < table.count; i++) {
            struct object_entry e;
            object_table_get(&table, i, &e);
            if (is_remembered(pl, &e) && at < n) {
                page->seen[i] = seen[at++];
            }
        }
        object_table_close(&table);
        page_apply(page);
    } else {
        l->busy = false;
        page_refuse(page, ERR_FENCED);
        listing_free(pl, l);
    }
    plan_unref(pl);
    core_dispatch(core);
}

// True: the question is on its way.
static bool ask_seen(struct page *page) {
    struct plan *pl = page->plan;
    struct object_table table;
    const ProtobufCBinaryData *entries = &page->message->entries;
    if (entries->len == 0 || object_table_open(entries->data, entries->len, &table) != OK) {
        return false;
    }
    uint8_t *digests = calloc(table.count + 1, SEEN_BYTES);
    page->seen = calloc(table.count + 1, sizeof *page->seen);
    size_t n = 0;
    for (uint32_t i = 0; digests != NULL && page->seen != NULL && i < table.count; i++) {
        struct object_entry e;
        object_table_get(&table, i, &e);
        if (is_remembered(pl, &e)) {
            entry_digest(&e, digests + n++ * SEEN_BYTES);
        }
    }
    object_table_close(&table);
    if (n > 0) {
        uint64_t walk = directory_of(page)->row.id;
        plan_ref(pl);
        database_seen_load(pl->planner->core->database, pl->id, walk, digests, n, on_seen, page);
    }
    free(digests);
    return n > 0;
}

void page_next(struct plan *pl, struct listing *l) {
    if (l->gone || pl->flow == NULL) {
        l->gone = true;
        listing_free(pl, l);
        return;
    }
    if (l->busy || l->first == NULL) {
        return;
    }
    struct page *page = l->first;
    l->first = page->next;
    if (l->first == NULL) {
        l->last = &l->first;
    }
    l->busy = true;
    for (size_t i = 0; page->begins && i < l->n_directories; i++) {
        if (l->directories[i] != NULL) {
            l->directories[i]->restart = true;
        }
    }
    struct directory *d = directory_of(page);
    bool again = is_wanted(page, d) && (d->row.generation > 0 || (d->restart && d->row.partial));
    if (!again || !ask_seen(page)) {
        page_apply(page);
    }
}

void planner_page(struct planner *p, const char *agent, uint64_t task_id, struct epoch epoch,
                  const Sluice__V1__ListPage *m, void (*committed)(void *arg, enum err result),
                  void *arg) {
    (void)agent;
    struct planned_task *t = planner_task(p, task_id);
    bool newest = t != NULL && !t->concluded && t->listing != NULL && t->plan->flow != NULL &&
                  t->n_leases > 0 && epoch_compare(t->leases[t->n_leases - 1].epoch, epoch) == 0;
    if (!newest) {
        answer_later(p, committed, arg, ERR_FENCED);
        return;
    }
    struct page *page = calloc(1, sizeof *page);
    size_t len = sluice__v1__list_page__get_packed_size(m);
    uint8_t *bytes = malloc(len + 1);
    if (page != NULL && bytes != NULL) {
        sluice__v1__list_page__pack(m, bytes);
        page->message = sluice__v1__list_page__unpack(NULL, len, bytes);
    }
    free(bytes);
    if (page == NULL || page->message == NULL) {
        free(page);
        answer_later(p, committed, arg, ERR_NO_MEMORY);
        return;
    }
    page->plan = t->plan;
    page->listing = t->listing;
    page->begins = m->lease != NULL;
    page->committed = committed;
    page->arg = arg;
    *t->listing->last = page;
    t->listing->last = &page->next;
    page_next(t->plan, t->listing);
}
