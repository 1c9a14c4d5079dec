// SPDX-License-Identifier: Apache-2.0
// Every question and every write as a request, and how its answer is given.
#include "common/cleanup.h"
#include "master/database_request.h"

#include <stdlib.h>
#include <string.h>

// A request whose memory could not be had is answered at once: there is nothing to queue.
static struct request *new_query(struct database *d, enum query_kind kind, const char *flow,
                                 void *arg) {
    struct request *r = database_request_new(d, REQUEST_QUERY);
    if (r == NULL) {
        return NULL;
    }
    r->query.kind = kind;
    r->arg = arg;
    if (flow != NULL) {
        strncpy(r->query.flow, flow, sizeof r->query.flow - 1);
    }
    return r;
}

// ---- changes ----
static void deliver_change(struct request *r) {
    if (r->done.change != NULL) {
        r->done.change(r->arg, r->result);
    }
}

void database_commit(struct database *d, struct change *take_change,
                     void (*done)(void *arg, enum err result), void *arg) {
    struct request *r = database_request_new(d, REQUEST_CHANGE);
    if (r == NULL) {
        change_free(take_change);
        if (done != NULL) {
            done(arg, ERR_NO_MEMORY);
        }
        return;
    }
    r->change = take_change;
    r->deliver = deliver_change;
    r->done.change = done;
    r->arg = arg;
    database_request_write(d, r);
}

static bool copy_blob(struct arena *a, struct blob *b) {
    if (b->len == 0) {
        *b = (struct blob){0};
        return true;
    }
    b->bytes = arena_copy(a, b->bytes, b->len);
    return b->bytes != NULL;
}

static bool copy_text(struct arena *a, const char **text) {
    *text = arena_text(a, *text);
    return *text != NULL;
}

static bool copy_labels(struct arena *a, const struct flow_label **labels, size_t n) {
    struct flow_label *copy = arena_alloc(a, n * sizeof *copy);
    if (copy == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = (*labels)[i];
        if (!copy_text(a, &copy[i].key) || !copy_text(a, &copy[i].value)) {
            return false;
        }
    }
    *labels = copy;
    return true;
}

static void deliver_insert(struct request *r) {
    if (r->done.insert != NULL) {
        bool existed = r->result == OK && r->insert.existing[0] != '\0';
        r->done.insert(r->arg, r->result, existed ? r->insert.existing : NULL, r->insert.same);
    }
}

void database_flow_insert(struct database *d, const struct flow_row *row,
                          const struct flow_label *labels, size_t n_labels,
                          const struct flow_event_row *event, const char *callback_target,
                          struct blob callback,
                          void (*done)(void *arg, enum err result, const char *existing, bool same),
                          void *arg) {
    struct request *r = database_request_new(d, REQUEST_INSERT_FLOW);
    if (r == NULL) {
        goto out_of_memory;
    }
    struct flow_insert *i = &r->insert;
    i->row = *row;
    i->labels = labels;
    i->n_labels = n_labels;
    i->event = *event;
    i->callback_target = callback_target;
    i->callback = callback;
    if (callback_target != NULL &&
        (!copy_text(&r->arena, &i->callback_target) || !copy_blob(&r->arena, &i->callback))) {
        goto out_of_memory;
    }
    if (!copy_text(&r->arena, &i->row.owner) || !copy_text(&r->arena, &i->row.request_id) ||
        !copy_blob(&r->arena, &i->row.spec) || !copy_blob(&r->arena, &i->row.error) ||
        !copy_blob(&r->arena, &i->row.places) || !copy_blob(&r->arena, &i->row.tally) ||
        !copy_labels(&r->arena, &i->labels, n_labels) || !copy_text(&r->arena, &i->event.kind) ||
        !copy_blob(&r->arena, &i->event.message)) {
        goto out_of_memory;
    }
    r->deliver = deliver_insert;
    r->done.insert = done;
    r->arg = arg;
    database_request_write(d, r);
    return;
out_of_memory:
    database_request_free(r);
    if (done != NULL) {
        done(arg, ERR_NO_MEMORY, NULL, false);
    }
}

void database_flow_by_request(
    struct database *d, const char *owner, const char *request_id, struct blob spec,
    void (*done)(void *arg, enum err result, const char *existing, bool same), void *arg) {
    struct request *r = database_request_new(d, REQUEST_INSERT_FLOW);
    if (r != NULL) {
        r->insert.only_find = true;
        r->insert.row.owner = owner;
        r->insert.row.request_id = request_id;
        r->insert.row.spec = spec;
    }
    if (r == NULL || !copy_text(&r->arena, &r->insert.row.owner) ||
        !copy_text(&r->arena, &r->insert.row.request_id) ||
        !copy_blob(&r->arena, &r->insert.row.spec)) {
        database_request_free(r);
        done(arg, ERR_NO_MEMORY, NULL, false);
        return;
    }
    r->deliver = deliver_insert;
    r->done.insert = done;
    r->arg = arg;
    database_request_write(d, r);
}

// ---- flows, events, failed objects, outbox ----
static void deliver_flows(struct request *r) {
    r->done.flows(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

void database_flows_unfinished(struct database *d, const char *after_id, uint32_t limit,
                               database_flows_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_FLOWS_UNFINISHED, after_id, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.limit = limit;
    r->deliver = deliver_flows;
    r->done.flows = done;
    database_request_write(d, r);
}

void database_flow_get(struct database *d, const char *id, database_flows_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_FLOW, id, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.limit = 1;
    r->deliver = deliver_flows;
    r->done.flows = done;
    database_request_read(d, r);
}

void database_flows_list(struct database *d, const struct flow_filter *filter,
                         database_flows_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_FLOWS, filter->before_id, arg);
    if (r != NULL) {
        r->query.filter = *filter;
        r->query.limit = filter->limit;
    }
    if (r == NULL || !copy_text(&r->arena, &r->query.filter.owner) ||
        !copy_labels(&r->arena, &r->query.filter.labels, filter->n_labels)) {
        database_request_free(r);
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.filter.before_id = r->query.flow;
    r->deliver = deliver_flows;
    r->done.flows = done;
    database_request_read(d, r);
}

static void deliver_events(struct request *r) {
    r->done.events(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

void database_events_read(struct database *d, const char *flow, uint64_t from_seq, uint32_t limit,
                          database_events_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_EVENTS, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.from = from_seq;
    r->query.limit = limit;
    r->deliver = deliver_events;
    r->done.events = done;
    database_request_read(d, r);
}

static void deliver_failed(struct request *r) {
    r->done.failed(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

void database_failed_objects(struct database *d, const char *flow, uint64_t after_number,
                             uint32_t limit, database_failed_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_FAILED, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.from = after_number;
    r->query.limit = limit;
    r->deliver = deliver_failed;
    r->done.failed = done;
    database_request_read(d, r);
}

static void deliver_outbox(struct request *r) {
    r->done.outbox(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

static struct request *new_outbox_query(struct database *d, enum query_kind kind, uint64_t after_id,
                                        uint32_t limit, database_outbox_fn *done, void *arg) {
    struct request *r = new_query(d, kind, NULL, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return NULL;
    }
    r->query.from = after_id;
    r->query.limit = limit;
    r->deliver = deliver_outbox;
    r->done.outbox = done;
    return r;
}

void database_outbox_read(struct database *d, uint32_t limit, database_outbox_fn *done, void *arg) {
    struct request *r = new_outbox_query(d, QUERY_OUTBOX, 0, limit, done, arg);
    if (r != NULL) {
        database_request_write(d, r);
    }
}

void database_outbox_dead(struct database *d, uint64_t after_id, uint32_t limit,
                          database_outbox_fn *done, void *arg) {
    struct request *r = new_outbox_query(d, QUERY_OUTBOX_DEAD, after_id, limit, done, arg);
    if (r != NULL) {
        database_request_read(d, r);
    }
}

// ---- credentials ----
static void deliver_credentials(struct request *r) {
    r->done.credentials(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

void database_credentials(struct database *d, uint32_t limit, database_credentials_fn *done,
                          void *arg) {
    struct request *r = new_query(d, QUERY_CREDENTIALS, NULL, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.limit = limit;
    r->deliver = deliver_credentials;
    r->done.credentials = done;
    database_request_write(d, r);
}

// ---- the planner's ----
static void deliver_plan(struct request *r) {
    r->done.plan(r->arg, r->result, &r->query.plan);
}

void database_plan_load(struct database *d, const char *flow,
                        void (*done)(void *arg, enum err result, const struct plan_answer *plan),
                        void *arg) {
    struct request *r = new_query(d, QUERY_PLAN, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, &(struct plan_answer){0});
        return;
    }
    r->deliver = deliver_plan;
    r->done.plan = done;
    database_request_write(d, r);
}

static void deliver_tasks(struct request *r) {
    r->done.tasks(r->arg, r->result, &r->query.tasks);
}

void database_tasks_load(struct database *d, const char *flow, const struct tasks_wanted *wanted,
                         void (*done)(void *arg, enum err result, const struct tasks_answer *a),
                         void *arg) {
    struct request *r = new_query(d, QUERY_TASKS, flow, arg);
    uint64_t *skip =
        r == NULL ? NULL : arena_copy(&r->arena, wanted->skip, wanted->n_skip * sizeof *skip);
    if (skip == NULL) {
        database_request_free(r);
        done(arg, ERR_NO_MEMORY, &(struct tasks_answer){0});
        return;
    }
    r->query.wanted = *wanted;
    r->query.wanted.skip = skip;
    r->deliver = deliver_tasks;
    r->done.tasks = done;
    database_request_write(d, r);
}

static void deliver_waiting(struct request *r) {
    r->done.waiting(r->arg, r->result, r->query.rows, r->query.n_rows);
}

void database_tasks_waiting(struct database *d, const char *flow, database_tasks_fn *done,
                            void *arg) {
    struct request *r = new_query(d, QUERY_TASKS_WAITING, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0);
        return;
    }
    r->deliver = deliver_waiting;
    r->done.waiting = done;
    database_request_write(d, r);
}

static void deliver_walks(struct request *r) {
    r->done.walks(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.n_all);
}

static void ask_walks(struct database *d, enum query_kind kind, const char *flow, uint32_t limit,
                      database_walks_fn *done, void *arg) {
    struct request *r = new_query(d, kind, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, 0);
        return;
    }
    r->query.limit = limit;
    r->deliver = deliver_walks;
    r->done.walks = done;
    database_request_write(d, r);
}

void database_walk_frontier(struct database *d, const char *flow, uint32_t limit,
                            database_walks_fn *done, void *arg) {
    ask_walks(d, QUERY_WALK_FRONTIER, flow, limit, done, arg);
}

void database_walk_partials(struct database *d, const char *flow, database_walks_fn *done,
                            void *arg) {
    ask_walks(d, QUERY_WALK_PARTIALS, flow, UINT32_MAX, done, arg);
}

void database_walk_deepest(struct database *d, const char *flow, uint32_t limit,
                           database_walks_fn *done, void *arg) {
    ask_walks(d, QUERY_WALK_DEEPEST, flow, limit, done, arg);
}

static void deliver_larges(struct request *r) {
    r->done.larges(r->arg, r->result, r->query.rows, r->query.n_rows);
}

void database_larges_load(struct database *d, const char *flow, bool idle, uint64_t after,
                          uint32_t limit, database_larges_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_LARGES, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0);
        return;
    }
    r->query.object = idle ? 1 : 0;
    r->query.from = after;
    r->query.limit = limit;
    r->deliver = deliver_larges;
    r->done.larges = done;
    database_request_write(d, r);
}

static void deliver_acks(struct request *r) {
    r->done.acks(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.more);
}

void database_acks_load(struct database *d, const char *flow, uint64_t object, const char *agent,
                        uint64_t from_offset, uint32_t limit, database_acks_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_ACKS, flow, arg);
    if (r != NULL && agent != NULL) {
        r->query.text = arena_text(&r->arena, agent);
    }
    if (r == NULL || (agent != NULL && r->query.text == NULL)) {
        database_request_free(r);
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.object = object;
    r->query.from = from_offset;
    r->query.limit = limit;
    r->deliver = deliver_acks;
    r->done.acks = done;
    database_request_write(d, r);
}

static void deliver_writers(struct request *r) {
    r->done.writers(r->arg, r->result, r->query.rows, r->query.n_rows, r->query.n_all != 0);
}

void database_writers_load(struct database *d, const char *flow, uint64_t object,
                           void (*done)(void *arg, enum err result, const struct ack_row *rows,
                                        size_t n_rows, bool has_tasks),
                           void *arg) {
    struct request *r = new_query(d, QUERY_WRITERS, flow, arg);
    if (r == NULL) {
        done(arg, ERR_NO_MEMORY, NULL, 0, false);
        return;
    }
    r->query.object = object;
    r->query.limit = UINT32_MAX;
    r->deliver = deliver_writers;
    r->done.writers = done;
    database_request_write(d, r);
}

static void deliver_seen(struct request *r) {
    r->done.seen(r->arg, r->result, r->query.rows, r->query.n_rows);
}

void database_seen_load(struct database *d, const char *flow, uint64_t walk, const uint8_t *digests,
                        size_t n, database_seen_fn *done, void *arg) {
    struct request *r = new_query(d, QUERY_SEEN, flow, arg);
    if (r != NULL) {
        r->query.blob = (struct blob){digests, n * SEEN_BYTES};
    }
    if (r == NULL || !copy_blob(&r->arena, &r->query.blob)) {
        database_request_free(r);
        done(arg, ERR_NO_MEMORY, NULL, 0);
        return;
    }
    r->query.object = walk;
    r->deliver = deliver_seen;
    r->done.seen = done;
    database_request_write(d, r);
}
