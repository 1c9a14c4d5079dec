// SPDX-License-Identifier: Apache-2.0
// Stands for database.c: one writer that commits in groups, one reader, and answers that come
// later. What was not committed when the master dies is lost; what was committed and not
// answered stays.
#include "master/database_request.h"
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP = 512 };
struct queue {
    struct request *first, **last;
    bool busy;
};
static struct {
    struct store *store;
    struct queue writer, reader;
    struct request *unanswered; // committed
    bool closing;
    size_t n_unanswered;
} d;

static void put(struct queue *q, struct request *r) {
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}
static struct request *take(struct queue *q, size_t n) {
    struct request *first = q->first, **end = &q->first;
    while (*end != NULL && n-- > 0) {
        end = &(*end)->next;
    }
    if (first == NULL) {
        return NULL;
    }
    q->first = *end;
    *end = NULL;
    if (q->first == NULL) {
        q->last = &q->first;
    }
    return first;
}

static void deliver_all(struct request *r) {
    while (r != NULL) {
        struct request *next = r->next;
        d.n_unanswered--;
        if (r->deliver != NULL) {
            r->deliver(r);
        }
        database_request_free(r);
        r = next;
    }
}
static void cancel_all(void *arg) {
    struct request *r = arg;
    for (struct request *each = r; each != NULL; each = each->next) {
        each->result = ERR_CANCELLED;
        d.n_unanswered++;
    }
    deliver_all(r);
}

static event_fn writes, reads;

static void answered(struct world *w, struct event *e) {
    struct request *r = e->ptr;
    (void)w;
    e->ptr = NULL;
    deliver_all(r);
}

static void execute(struct request *r) {
    struct failure f = {0};
    if (r->kind == REQUEST_CHANGE) {
        r->result = r->change == NULL || r->change->out_of_memory
                        ? ERR_NO_MEMORY
                        : d.store->ops->apply(d.store, r->change, &f);
    } else {
        r->result = d.store->ops->read(d.store, &r->query, &r->answer, &f);
    }
    if (r->result != OK) {
        violated("the database refuses: %s", f.message);
    }
}

static void run_group(struct world *w, struct queue *q, size_t n, bool write) {
    struct failure f = {0};
    struct request *group = take(q, n);
    if (group == NULL) {
        q->busy = false;
        return;
    }
    if (d.store->ops->begin(d.store, &f) != OK) {
        violated("begin: %s", f.message);
    }
    for (struct request *r = group; r != NULL; r = r->next) {
        execute(r);
        d.n_unanswered++;
    }
    if (d.store->ops->commit(d.store, &f) != OK) {
        violated("commit: %s", f.message);
    }
    int64_t slow = w->o.faults ? between(w, 0, 15) : 0;
    struct event *a = event_in(w, slow, answered);
    a->ptr = group;
    a->to_master = true;
    event_in(w, slow + (write ? 1 : 0), write ? writes : reads)->to_master = true;
}
static void writes(struct world *w, struct event *e) {
    (void)e;
    run_group(w, &d.writer, GROUP, true);
}
static void reads(struct world *w, struct event *e) {
    (void)e;
    run_group(w, &d.reader, 1, false);
}

static void refuse(struct request *r) {
    r->next = NULL;
    loop_post(NULL, cancel_all, r);
}

static void enqueue(struct queue *q, struct request *r, event_fn *fn) {
    if (d.closing) {
        refuse(r);
        return;
    }
    put(q, r);
    if (!q->busy) {
        q->busy = true;
        struct event *e = event_in(the, the->o.faults ? between(the, 0, 5) : 1, fn);
        e->to_master = true;
    }
}
void __wrap_database_request_write(struct database *database, struct request *r);
void __wrap_database_request_write(struct database *database, struct request *r) {
    (void)database;
    enqueue(&d.writer, r, writes);
}
void __wrap_database_request_read(struct database *database, struct request *r);
void __wrap_database_request_read(struct database *database, struct request *r) {
    (void)database;
    enqueue(&d.reader, r, reads);
}
size_t __wrap_database_queued(const struct database *database);
size_t __wrap_database_queued(const struct database *database) {
    (void)database;
    return 0;
}

bool played_database_is_idle(void) {
    return d.writer.first == NULL && d.reader.first == NULL && d.n_unanswered == 0;
}
struct store *played_store(void) {
    return d.store;
}

void played_database_open(struct world *w) {
    struct failure f = {0};
    memset(&d, 0, sizeof d);
    d.writer.last = &d.writer.first;
    d.reader.last = &d.reader.first;
    if (w->o.sqlite == NULL) {
        d.store = memory_store_new();
    } else if (store_sqlite_open(w->o.sqlite, STORE_WRITER, &d.store, &f) != OK) {
        violated("%s", f.message);
    }
}

// All that waits is answered with ERR_CANCELLED; the store stays.
void played_database_crash(struct world *w) {
    d.closing = true;
    for (size_t i = 0; i < w->events.n;) {
        struct event *e = CONTAINER_OF(w->events.nodes[i], struct event, node);
        if (e->fn == answered || e->fn == writes || e->fn == reads) {
            struct request *group = e->ptr;
            for (struct request *r = group; r != NULL; r = r->next) {
                d.n_unanswered--;
            }
            e->ptr = NULL;
            event_cancel(w, e);
            if (group != NULL) {
                loop_post(NULL, cancel_all, group);
            }
            i = 0;
        } else {
            i++;
        }
    }
    struct request *r;
    while ((r = take(&d.writer, SIZE_MAX)) != NULL || (r = take(&d.reader, SIZE_MAX)) != NULL) {
        loop_post(NULL, cancel_all, r);
    }
    played_posts_run(w);
    d.writer.busy = d.reader.busy = false;
    d.closing = false;
}

void played_database_close(struct world *w) {
    (void)w;
    d.store->ops->free(d.store);
    d.store = NULL;
}
