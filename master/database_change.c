// SPDX-License-Identifier: Apache-2.0
// Changes: rows as plain values. Which number goes where is agreed with database_sqlite_rows.c.
#include "common/cleanup.h"
#include "master/database_impl.h"

#include <stdlib.h>
#include <string.h>

struct change *change_new(void) {
    struct change *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->last = &c->first;
    }
    return c;
}

void change_free(struct change *c) {
    if (c != NULL) {
        arena_deinit(&c->arena);
        free(c);
    }
}

static const char *change_text(struct change *c, const char *text) {
    const char *copy = arena_text(&c->arena, text);
    if (copy == NULL) {
        c->out_of_memory = true;
    }
    return copy;
}

static struct blob change_blob(struct change *c, struct blob b) {
    if (b.len == 0) {
        return (struct blob){0};
    }
    struct blob copy = {.bytes = arena_copy(&c->arena, b.bytes, b.len), .len = b.len};
    if (copy.bytes == NULL) {
        c->out_of_memory = true;
    }
    return copy;
}

// Appends a row; NULL when out of memory, which the change remembers.
static struct row *add_row(struct change *c, enum row_kind kind, const char *text) {
    if (c == NULL) {
        return NULL;
    }
    struct row *r = arena_alloc(&c->arena, sizeof *r);
    if (r == NULL) {
        c->out_of_memory = true;
        return NULL;
    }
    r->kind = kind;
    if (text != NULL) {
        r->texts[0] = change_text(c, text);
        r->n_texts = 1;
    }
    *c->last = r;
    c->last = &r->next;
    return r;
}

static void row_text(struct change *c, struct row *r, const char *text) {
    r->texts[r->n_texts++] = change_text(c, text);
}

static void row_number(struct row *r, uint64_t n) {
    r->numbers[r->n_numbers++] = (int64_t)n;
}

static void row_blob(struct change *c, struct row *r, struct blob b) {
    r->blobs[r->n_blobs++] = change_blob(c, b);
}

void change_flow(struct change *c, const struct flow_row *f) {
    struct row *r = add_row(c, ROW_FLOW, f->id);
    if (r == NULL) {
        return;
    }
    row_number(r, f->state);
    row_number(r, f->phase);
    row_number(r, f->outcome);
    row_number(r, f->holders);
    row_number(r, f->cancel_wanted);
    row_number(r, f->cleanup_pending);
    row_number(r, (uint64_t)f->started_ms);
    row_number(r, (uint64_t)f->ended_ms);
    row_number(r, f->last_seq);
    row_blob(c, r, f->error);
    row_blob(c, r, f->places);
    row_blob(c, r, f->tally);
}

void change_event(struct change *c, const char *flow, const struct flow_event_row *e,
                  uint32_t kept) {
    const uint32_t every = kept / 8; // so many may come before it is looked at again
    struct row *r = add_row(c, ROW_EVENT, flow);
    if (r == NULL) {
        return;
    }
    row_text(c, r, e->kind);
    row_number(r, e->seq);
    row_number(r, (uint64_t)e->at_ms);
    row_number(r, e->thin);
    row_blob(c, r, e->message);
    if (e->seq % every == 0) {
        struct row *thin = add_row(c, ROW_EVENT_THIN, flow);
        if (thin != NULL) {
            row_number(thin, kept - every);
        }
    }
}

void change_outbox_add(struct change *c, const char *flow, uint64_t seq, bool thin,
                       const char *target, struct blob body) {
    struct row *r = add_row(c, ROW_OUTBOX_ADD, flow);
    if (r != NULL) {
        row_text(c, r, target);
        row_number(r, seq);
        row_number(r, thin);
        row_blob(c, r, body);
    }
}

void change_outbox_done(struct change *c, const char *flow, uint64_t outbox_id) {
    struct row *r = add_row(c, ROW_OUTBOX_DONE, flow);
    if (r != NULL) {
        row_number(r, outbox_id);
    }
}

void change_outbox_later(struct change *c, uint64_t outbox_id, int64_t not_before_ms) {
    struct row *r = add_row(c, ROW_OUTBOX_LATER, NULL);
    if (r != NULL) {
        row_number(r, outbox_id);
        row_number(r, (uint64_t)not_before_ms);
    }
}

void change_outbox_dead(struct change *c, const char *flow, uint64_t outbox_id, const char *error,
                        int64_t now_ms, uint32_t kept) {
    struct row *r = add_row(c, ROW_OUTBOX_DEAD, flow);
    if (r != NULL) {
        row_text(c, r, error);
        row_number(r, outbox_id);
        row_number(r, (uint64_t)now_ms);
        row_number(r, kept);
    }
}

void change_outbox_revive(struct change *c, const char *flow, uint64_t seq) {
    struct row *r = add_row(c, ROW_OUTBOX_REVIVE, flow);
    if (r != NULL) {
        row_number(r, seq);
    }
}

void change_credential_put(struct change *c, const struct credential_row *row) {
    struct row *r = add_row(c, ROW_CREDENTIAL_PUT, row->name);
    if (r != NULL) {
        row_number(r, (uint64_t)row->updated_ms);
        row_blob(c, r, row->sealed);
    }
}

void change_credential_remove(struct change *c, const char *name) {
    (void)add_row(c, ROW_CREDENTIAL_REMOVE, name);
}

enum { PROGRESS_NUMBERS = 19 };

// Stored as the numbers themselves, so that a later version may append some.
static void progress_numbers(const struct flow_progress *p,
                             uint8_t ret_bytes[PROGRESS_NUMBERS * 8]) {
    const uint64_t n[PROGRESS_NUMBERS] = {
        p->bytes_done,     p->bytes_total,     p->bytes_resent,  p->objects_done,  p->objects_total,
        p->objects_failed, p->objects_skipped, p->cpu_us_source, p->cpu_us_sink,   p->walk_us,
        p->read_us,        p->hash_us,         p->send_us,       p->receive_us,    p->write_us,
        p->sync_us,        p->wait_us,         p->listing,       p->store_retries,
    };
    for (size_t i = 0; i < ARRAY_LEN(n) * 8; i++) {
        ret_bytes[i] = (uint8_t)(n[i / 8] >> (i % 8 * 8));
    }
}

void change_plan(struct change *c, const char *flow, struct blob body,
                 const struct flow_progress *progress) {
    struct row *r = add_row(c, ROW_PLAN, flow);
    if (r != NULL) {
        uint8_t numbers[PROGRESS_NUMBERS * 8];
        progress_numbers(progress, numbers);
        row_blob(c, r, body);
        row_blob(c, r, (struct blob){numbers, sizeof numbers});
    }
}

void change_plan_end(struct change *c, const char *flow) {
    add_row(c, ROW_PLAN_END, flow);
}

void change_plan_abandon(struct change *c, const char *flow) {
    add_row(c, ROW_PLAN_ABANDON, flow);
}

void change_plan_restart(struct change *c, const char *flow) {
    add_row(c, ROW_PLAN_RESTART, flow);
}

static void task_columns(struct change *c, struct row *r, const struct task_row *t) {
    row_text(c, r, t->avoid);
    row_number(r, t->task_id);
    row_number(r, t->kind);
    row_number(r, t->stage);
    row_number(r, t->rank);
    row_number(r, t->status);
    row_number(r, t->attempt);
    row_number(r, (uint64_t)t->not_before_ms);
    row_number(r, t->object);
    row_number(r, t->walk);
    row_number(r, t->generation);
    row_number(r, t->bytes);
    row_number(r, t->objects);
}

void change_task_put(struct change *c, const struct task_row *t) {
    struct row *r = add_row(c, ROW_TASK_PUT, t->flow);
    if (r != NULL) {
        task_columns(c, r, t);
        row_blob(c, r, t->spec);
    }
}

void change_task_state(struct change *c, const struct task_row *t) {
    struct row *r = add_row(c, ROW_TASK_STATE, t->flow);
    if (r != NULL) {
        task_columns(c, r, t);
    }
}

void change_task_remove(struct change *c, uint64_t task_id) {
    struct row *r = add_row(c, ROW_TASK_REMOVE, NULL);
    if (r != NULL) {
        row_number(r, task_id);
    }
}

void change_tasks_of_object_remove(struct change *c, const char *flow, uint64_t object) {
    struct row *r = add_row(c, ROW_TASKS_OF_OBJECT_REMOVE, flow);
    if (r != NULL) {
        row_number(r, object);
    }
}

void change_tasks_drop(struct change *c, const char *flow, uint64_t walk, uint64_t generation) {
    struct row *r = add_row(c, ROW_TASKS_DROP, flow);
    if (r != NULL) {
        row_number(r, walk);
        row_number(r, generation);
    }
}

void change_lease_add(struct change *c, const char *flow, uint64_t task_id, struct epoch epoch,
                      const char *agent) {
    struct row *r = add_row(c, ROW_LEASE_ADD, flow);
    if (r != NULL) {
        row_text(c, r, agent);
        row_number(r, task_id);
        row_number(r, epoch.term);
        row_number(r, epoch.counter);
    }
}

void change_lease_remove(struct change *c, uint64_t task_id, struct epoch epoch) {
    struct row *r = add_row(c, ROW_LEASE_REMOVE, NULL);
    if (r != NULL) {
        row_number(r, task_id);
        row_number(r, epoch.term);
        row_number(r, epoch.counter);
    }
}

static void walk_columns(struct row *r, const struct walk_row *w) {
    row_number(r, w->id);
    row_number(r, w->state);
    row_number(r, w->task);
    row_number(r, w->depth);
    row_number(r, w->attempt);
    row_number(r, w->partial);
    row_number(r, w->generation);
    row_number(r, w->counts.objects);
    row_number(r, w->counts.bytes);
    row_number(r, w->counts.objects_done);
    row_number(r, w->counts.bytes_done);
    row_number(r, w->counts.failed);
    row_number(r, w->counts.skipped);
}

void change_walk_put(struct change *c, const struct walk_row *w) {
    struct row *r = add_row(c, ROW_WALK_PUT, w->flow);
    if (r != NULL) {
        walk_columns(r, w);
        row_blob(c, r, w->entry);
    }
}

void change_walk_state(struct change *c, const struct walk_row *w) {
    struct row *r = add_row(c, ROW_WALK_STATE, w->flow);
    if (r != NULL) {
        walk_columns(r, w);
    }
}

void change_walk_remove(struct change *c, const char *flow, uint64_t id) {
    struct row *r = add_row(c, ROW_WALK_REMOVE, flow);
    if (r != NULL) {
        row_number(r, id);
    }
}

void change_large_put(struct change *c, const struct large_row *l) {
    struct row *r = add_row(c, ROW_LARGE_PUT, l->flow);
    if (r == NULL) {
        return;
    }
    row_number(r, l->object);
    row_number(r, l->state);
    row_number(r, l->size);
    row_number(r, l->acked_bytes);
    row_number(r, l->next_offset);
    row_number(r, l->generation);
    row_number(r, l->attempt);
    row_number(r, l->fresh);
    row_number(r, l->opened);
    row_number(r, (uint64_t)l->quiet_ms);
    row_blob(c, r, l->entry);
    row_blob(c, r, l->receipt);
}

void change_large_fresh(struct change *c, const char *flow, uint64_t object) {
    struct row *r = add_row(c, ROW_LARGE_FRESH, flow);
    if (r != NULL) {
        row_number(r, object);
    }
}

void change_large_remove(struct change *c, const char *flow, uint64_t object) {
    struct row *r = add_row(c, ROW_LARGE_REMOVE, flow);
    if (r != NULL) {
        row_number(r, object);
    }
}

void change_ack_add(struct change *c, const struct ack_row *a) {
    struct row *r = add_row(c, ROW_ACK_ADD, a->flow);
    if (r != NULL) {
        row_text(c, r, a->agent);
        row_text(c, r, a->boot_id);
        row_number(r, a->object);
        row_number(r, a->offset);
        row_number(r, a->length);
        row_number(r, a->synced);
        row_blob(c, r, a->leaves);
        row_blob(c, r, a->receipt);
    }
}

void change_acks_drop_unsynced(struct change *c, const char *flow, uint64_t object,
                               const char *agent) {
    struct row *r = add_row(c, ROW_ACKS_DROP_UNSYNCED, flow);
    if (r != NULL) {
        row_text(c, r, agent);
        row_number(r, object);
    }
}

void change_acks_drop(struct change *c, const char *flow, uint64_t object) {
    struct row *r = add_row(c, ROW_ACKS_DROP, flow);
    if (r != NULL) {
        row_number(r, object);
    }
}

void change_seen_add(struct change *c, const char *flow, uint64_t walk,
                     const uint8_t digest[SEEN_BYTES]) {
    struct row *r = add_row(c, ROW_SEEN_ADD, flow);
    if (r != NULL) {
        row_number(r, walk);
        row_blob(c, r, (struct blob){digest, SEEN_BYTES});
    }
}

void change_seen_drop(struct change *c, const char *flow, uint64_t walk) {
    struct row *r = add_row(c, ROW_SEEN_DROP, flow);
    if (r != NULL) {
        row_number(r, walk);
    }
}

void change_acks_synced(struct change *c, const char *flow, uint64_t object, const char *agent,
                        const char *boot_id) {
    struct row *r = add_row(c, ROW_ACKS_SYNCED, flow);
    if (r != NULL) {
        row_text(c, r, agent);
        row_text(c, r, boot_id);
        row_number(r, object);
    }
}

void change_object_failed(struct change *c, const char *flow, uint64_t object, uint64_t walk,
                          uint64_t generation, struct blob path, struct blob failure) {
    struct row *r = add_row(c, ROW_OBJECT_FAILED, flow);
    if (r != NULL) {
        row_number(r, object);
        row_number(r, walk);
        row_number(r, generation);
        row_blob(c, r, path);
        row_blob(c, r, failure);
    }
}

void change_failed_drop(struct change *c, const char *flow, uint64_t walk, uint64_t generation) {
    struct row *r = add_row(c, ROW_FAILED_DROP, flow);
    if (r != NULL) {
        row_number(r, walk);
        row_number(r, generation);
    }
}
