// SPDX-License-Identifier: Apache-2.0
// What agents do under their leases, step by step: at each step an agent may be stopped or
// killed, and before each it looks whether it may act.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

enum { OBJECTS_AT_A_TIME = 64, STREAM_WINDOW = 4 };

static void step_in(struct world *w, uint32_t i, struct held *h, int64_t in_ms) {
    struct event *e = event_in(w, in_ms, work_step);
    h->run = ++w->n_runs;
    e->agent = i;
    e->number = h->run;
}

static bool is_batch(const struct held *h) {
    return h->spec->kind == SLUICE__V1__TASK_KIND__BATCH;
}
static bool has_temps(const struct held *h) {
    return is_batch(h) || h->spec->kind == SLUICE__V1__TASK_KIND__LINK;
}
static bool has_objects(const struct held *h) {
    return has_temps(h) || h->spec->kind == SLUICE__V1__TASK_KIND__MKDIR ||
           h->spec->kind == SLUICE__V1__TASK_KIND__DIRMETA;
}

static int64_t duration_ms(const struct world *w, uint32_t i, const struct held *h,
                           uint64_t bytes) {
    double rate = w->agents[i].bytes_per_ms;
    if (h->source != UINT32_MAX && w->agents[h->source].bytes_per_ms < rate) {
        rate = w->agents[h->source].bytes_per_ms;
    }
    return 1 + (int64_t)((double)bytes / rate);
}

static struct object_entry entry_of(const struct held *h, uint32_t index) {
    struct object_entry e;
    object_table_get(&h->table, index, &e);
    return e;
}

// ---- results ----
static struct kept *result_new(struct world *w, uint32_t i, const struct held *h) {
    struct kept *k = must(calloc(1, sizeof *k));
    sluice__v1__task_result__init(&k->m);
    sluice__v1__lease_ref__init(&k->lease);
    sluice__v1__epoch__init(&k->epoch);
    sluice__v1__receipt__init(&k->receipt);
    object_table_init(&k->found);
    k->epoch.term = h->epoch.term;
    k->epoch.counter = h->epoch.counter;
    k->lease.task_id = h->spec->task_id;
    k->lease.epoch = &k->epoch;
    k->m.lease = &k->lease;
    snprintf(k->boot, sizeof k->boot, "boot-%u", w->agents[i].boot);
    k->m.boot_id = k->boot;
    return k;
}

static void fill(struct failure_message *m, enum err e, const char *operation) {
    struct failure f = {0};
    (void)failure_set(&f, e, operation, "x", 1, NULL);
    failure_to_message(&f, "", m);
}

static Sluice__V1__ObjectResult *object_result(struct world *w, uint32_t i, struct held *h,
                                               uint32_t index) {
    if (h->result == NULL) {
        h->result = result_new(w, i, h);
        h->result->objects = must(calloc(h->table.count + 1, sizeof *h->result->objects));
        h->result->pointers = must(calloc(h->table.count + 1, sizeof *h->result->pointers));
        fill(&h->result->object_failure, ERR_PEER_LOST, "read");
    }
    struct kept *k = h->result;
    Sluice__V1__ObjectResult *o = &k->objects[k->m.n_objects];
    sluice__v1__object_result__init(o);
    o->index = index;
    k->pointers[k->m.n_objects++] = o;
    k->m.objects = k->pointers;
    return o;
}

bool work_did_something(const struct held *h) {
    return h->spec->kind == SLUICE__V1__TASK_KIND__PART ? h->next > 0 : h->result != NULL;
}

static void part_result(struct held *h, struct kept *k) {
    uint64_t left = h->spec->length;
    uint64_t done = h->next * LEAF;
    k->m.done_bytes = done < left ? done : left;
    k->m.done = k->m.done_bytes == left;
    k->digests = must(calloc(h->next + 1, 16));
    k->m.leaf_digests.data = k->digests;
    k->m.leaf_digests.len = h->next * 16;
    k->m.bytes_moved = k->m.done_bytes;
    k->m.receipt = &k->receipt;
}

struct kept *work_result(struct world *w, uint32_t i, struct held *h) {
    struct kept *k = h->result != NULL ? h->result : result_new(w, i, h);
    h->result = NULL;
    if (has_objects(h) && k->objects != NULL && h->next < h->table.count) {
        h->result = k;
        for (uint32_t n = h->next; n < h->table.count; n++) {
            object_result(w, i, h, n)->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED;
        }
        h->result = NULL;
    }
    if (h->spec->kind == SLUICE__V1__TASK_KIND__PART) {
        part_result(h, k);
    }
    return k;
}

static void lease_ends(struct world *w, uint32_t i, struct held *h, struct kept *k) {
    struct agent *a = &w->agents[i];
    uint32_t at;
    if (held_of(a, h->spec->task_id, h->epoch, &at) != h) {
        violated("%s lost a lease", a->name);
    }
    result_keep(w, i, k);
    held_drop(a, at);
    agent_start_waiting(w, i);
}

static void lease_fails(struct world *w, uint32_t i, struct held *h, enum err why, bool retryable) {
    struct kept *k = work_result(w, i, h);
    k->m.done = false;
    k->m.retryable = retryable;
    fill(&k->failure, why, "write");
    k->m.failure = &k->failure.message;
    lease_ends(w, i, h, k);
}

// ---- listings ----
static void page_free(void *ptr) {
    struct page_message *pm = ptr;
    stream_unref(pm->stream);
    free(pm);
}

static void list_begin(struct world *w, uint32_t i, struct held *h) {
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
    step_in(w, i, h, 1);
}

void list_again(struct world *w, uint32_t i, struct held *h) {
    h->stream->over = true;
    stream_unref(h->stream);
    h->stream = NULL;
    list_begin(w, i, h);
}

static void list_step(struct world *w, uint32_t i, struct held *h) {
    const struct agent *a = &w->agents[i];
    if (one_in(w, w->odds_stream)) {
        list_again(w, i, h);
        return;
    }
    if (h->last_sent || h->pages_sent - h->pages_done >= STREAM_WINDOW) {
        h->asleep = true;
        return;
    }
    struct object_entry e = entry_of(h, h->next);
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
    step_in(w, i, h, w->o.watch_memory ? 150 : w->o.uniform ? 1 : between(w, 1, 20));
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
            step_in(w, e->agent, h, 1);
        }
        return;
    }
}

// ---- whole objects ----
static void object_begins(struct world *w, uint32_t i, struct held *h) {
    struct object_entry e = entry_of(h, h->next);
    uint32_t n = node_of_path(e.path, e.path_len);
    h->opened = w->nodes[n].version;
    h->temp = has_temps(h);
    if (h->temp) {
        (void)temp_add(w, e.id, h->epoch.term, h->epoch.counter);
    }
    step_in(w, i, h, is_batch(h) ? duration_ms(w, i, h, node_size(w, n, h->opened)) : 1);
}

void work_leave(struct world *w, struct held *h) {
    if (h->temp) {
        (void)temp_remove(w, entry_of(h, h->next).id, h->epoch.term, h->epoch.counter);
        h->temp = false;
    }
}

static bool had_enough(struct node *n) {
    n->n_failed = n->n_failed < UINT8_MAX ? (uint8_t)(n->n_failed + 1) : n->n_failed;
    return true;
}

static void deliver(struct world *w, const struct held *h, uint32_t n, struct kept *k,
                    Sluice__V1__ObjectResult *o) {
    struct node *node = &w->nodes[n];
    bool compares = h->spec->skip_identical || h->attempt > 1;
    bool fails = node->fails_always || (one_in(w, w->odds_failure) && had_enough(node));
    o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED;
    if (has_temps(h) && fails) {
        o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED;
        o->retryable = !node->fails_always;
        o->failure = &k->object_failure.message;
    } else if (is_batch(h) && compares && node->final_version == h->opened) {
        o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
    } else if (has_temps(h)) {
        o->bytes = node_size(w, n, h->opened);
        k->m.bytes_moved += o->bytes;
        node_renamed(w, n, h->opened, "rename");
    } else if (h->spec->kind == SLUICE__V1__TASK_KIND__MKDIR) {
        node->made = true;
    } else {
        node->meta = true;
    }
}

static void check_meta(const struct world *w, uint32_t n) {
    for (uint32_t k = 0; k < node_children(w, n); k++) {
        uint32_t child = node_child(w, n, k);
        const struct node *c = &w->nodes[child];
        if (child >= w->o.n_directories) {
            break;
        }
        if (!c->meta && !c->list_fails) {
            violated("directory %u has its metadata before %u below it", n, child);
        }
    }
}

static void objects_step(struct world *w, uint32_t i, struct held *h) {
    for (int n = 0; n < (has_temps(h) ? 1 : OBJECTS_AT_A_TIME) && h->next < h->table.count; n++) {
        struct object_entry e = entry_of(h, h->next);
        uint32_t node = node_of_path(e.path, e.path_len);
        if (h->spec->kind == SLUICE__V1__TASK_KIND__DIRMETA) {
            check_meta(w, node);
        }
        Sluice__V1__ObjectResult *o = object_result(w, i, h, h->next);
        deliver(w, h, node, h->result, o);
        work_leave(w, h);
        h->next++;
    }
    if (h->next < h->table.count && !h->yields) {
        object_begins(w, i, h);
        return;
    }
    struct kept *k = work_result(w, i, h);
    k->m.done = h->next == h->table.count;
    lease_ends(w, i, h, k);
}

// ---- large objects ----
static struct inode *inode_new(struct world *w, uint32_t node) {
    uint32_t n = (uint32_t)((node_size(w, node, w->nodes[node].version) + LEAF - 1) / LEAF);
    struct inode *in = must(calloc(1, sizeof *in + n * sizeof in->leaves[0]));
    in->node = node;
    in->refs = 1;
    in->n_leaves = n;
    in->serial = ++w->n_inodes;
    return in;
}

// The inode that the receipt of OPEN means, under the temporary's name; NULL: it is gone.
static struct inode *inode_meant(struct world *w, const struct held *h, uint64_t *ret_serial) {
    if (h->spec->n_receipts != 1 || h->spec->receipts[0]->opaque.len != sizeof *ret_serial) {
        violated("a task of a large object has no receipt");
    }
    memcpy(ret_serial, h->spec->receipts[0]->opaque.data, sizeof *ret_serial);
    struct temp *t = temp_find(w, entry_of(h, 0).id, 0, h->spec->generation);
    return t != NULL && t->inode->serial == *ret_serial ? t->inode : NULL;
}

static void open_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct object_entry e = entry_of(h, 0);
    struct node *node = &w->nodes[n];
    if (node->version != e.version.mtime_ns) {
        lease_fails(w, i, h, ERR_SOURCE_CHANGED, false);
        return;
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    if (h->attempt > 1 && node->final_version == node->version) {
        h->result = k;
        k->objects = must(calloc(1, sizeof *k->objects));
        k->pointers = must(calloc(1, sizeof *k->pointers));
        object_result(w, i, h, 0)->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
        h->result = NULL;
    } else {
        struct temp *t = temp_add(w, e.id, 0, h->spec->generation);
        inode_unref(t->inode);
        t->inode = inode_new(w, n);
        k->digests = must(malloc(sizeof t->inode->serial));
        memcpy(k->digests, &t->inode->serial, sizeof t->inode->serial);
        k->receipt.opaque.data = k->digests;
        k->receipt.opaque.len = sizeof t->inode->serial;
        k->m.receipt = &k->receipt;
    }
    lease_ends(w, i, h, k);
}

static void part_write(struct world *w, uint32_t i, struct held *h) {
    const struct agent *a = &w->agents[i];
    uint64_t at = h->spec->offset / LEAF + h->next;
    if (h->inode->finished) {
        violated("%s writes into node %u, which is finished", a->name, h->inode->node);
    }
    if (at >= h->inode->n_leaves) {
        violated("a part ends behind its object");
    }
    leaf_write(&h->inode->leaves[at], h->opened, i, a->boot);
}

static void part_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    uint64_t leaves = (h->spec->length + LEAF - 1) / LEAF;
    uint64_t serial;
    if (h->inode == NULL) { // it opens both ends
        h->inode = inode_meant(w, h, &serial);
        if (h->inode == NULL) {
            lease_fails(w, i, h, ERR_DEST_CHANGED, false);
            return;
        }
        h->inode->refs++;
        h->opened = w->nodes[n].version;
    } else {
        part_write(w, i, h);
        h->next++;
    }
    if (w->nodes[n].version != entry_of(h, 0).version.mtime_ns) {
        h->next = 0; // what was read is of two versions
        lease_fails(w, i, h, ERR_SOURCE_CHANGED, false);
    } else if (h->next == leaves || (h->yields && h->next > 0)) {
        lease_ends(w, i, h, work_result(w, i, h));
    } else if (one_in(w, w->odds_failure) && had_enough(&w->nodes[n])) {
        lease_fails(w, i, h, ERR_PEER_LOST, true);
    } else {
        step_in(w, i, h, duration_ms(w, i, h, LEAF));
    }
}

static void sync_step(struct world *w, uint32_t i, struct held *h) {
    uint64_t serial;
    struct inode *in = inode_meant(w, h, &serial);
    if (in == NULL) {
        lease_fails(w, i, h, ERR_DEST_CHANGED, false);
        return;
    }
    for (uint32_t k = 0; k < in->n_leaves; k++) {
        leaf_sync(&in->leaves[k], i, w->agents[i].boot);
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    lease_ends(w, i, h, k);
}

// Nobody may write into it any more, and all that it should hold is in it, synced.
static void check_finish(struct world *w, const struct held *h, const struct inode *in) {
    uint32_t version = (uint32_t)entry_of(h, 0).version.mtime_ns;
    if (!h->spec->has_digest) {
        violated("FINISH without a digest");
    }
    for (uint32_t k = 0; k < in->n_leaves; k++) {
        if (in->leaves[k].version != version || !in->leaves[k].synced) {
            violated("node %u is finished with leaf %u %s", in->node, k,
                     in->leaves[k].version == 0         ? "missing"
                     : in->leaves[k].version != version ? "of another version"
                                                        : "not synced");
        }
    }
    for (uint32_t i = 0; i < w->o.n_agents && !h->spec->copy_to_fresh; i++) {
        const struct agent *a = &w->agents[i];
        for (uint32_t k = 0; k < a->n_held; k++) {
            if (a->held[k]->inode == in) { // even if it may not act: it may be about to
                violated("node %u is finished in place while %s has it open", in->node, a->name);
            }
        }
    }
}

static void finish_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct object_entry e = entry_of(h, 0);
    uint64_t serial;
    struct inode *in = inode_meant(w, h, &serial);
    if (in == NULL && w->finals[n] != serial) {
        lease_fails(w, i, h, ERR_DEST_CHANGED, false);
        return;
    }
    if (in != NULL) {
        check_finish(w, h, in);
        in->finished = !h->spec->copy_to_fresh;
        w->n_fresh += h->spec->copy_to_fresh ? 1 : 0;
        node_renamed(w, n, (uint32_t)e.version.mtime_ns, "finish");
        w->finals[n] = serial;
        (void)temp_remove(w, e.id, 0, h->spec->generation);
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    lease_ends(w, i, h, k);
}

// ---- the rest ----
static void stat_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct kept *k = result_new(w, i, h);
    char path[256];
    struct object_entry found;
    if (h->spec->source != NULL) {
        node_entry(w, n, path, &found);
        if (object_table_add(&k->found, &found) != OK) {
            abort();
        }
    }
    const uint8_t *bytes;
    if (object_table_bytes(&k->found, &bytes, &k->m.found.len) != OK) {
        abort();
    }
    k->m.found.data = (uint8_t *)(uintptr_t)bytes;
    k->m.done = true;
    lease_ends(w, i, h, k);
}

static void removal_step(struct world *w, uint32_t i, struct held *h) {
    bool cleanup = h->spec->kind == SLUICE__V1__TASK_KIND__CLEANUP;
    for (uint32_t n = 0; n < h->table.count; n++) {
        uint64_t id = entry_of(h, n).id;
        for (size_t k = 0; cleanup && k < h->spec->n_stale; k++) {
            (void)temp_remove(w, id, h->spec->stale[k]->term, h->spec->stale[k]->counter);
        }
        if (!cleanup) {
            (void)temp_remove(w, id, 0, h->spec->generation);
        }
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    lease_ends(w, i, h, k);
}

// ---- steps ----
void work_begins(struct world *w, uint32_t i, struct held *h) {
    if (h->spec->kind == SLUICE__V1__TASK_KIND__LIST) {
        list_begin(w, i, h);
    } else if (has_objects(h)) {
        object_begins(w, i, h);
    } else {
        step_in(w, i, h, w->o.faults ? between(w, 1, 30) : 1);
    }
}

// It was stopped after it had looked whether it may act: it does what it was about to do.
static void acts_late(struct world *w, uint32_t i, struct held *h) {
    w->n_late++;
    trace("acts late", i, h->spec->task_id, h->epoch.counter);
    if (h->temp && h->spec->kind == SLUICE__V1__TASK_KIND__BATCH) {
        struct object_entry e = entry_of(h, h->next);
        if (temp_remove(w, e.id, h->epoch.term, h->epoch.counter)) {
            node_renamed(w, node_of_path(e.path, e.path_len), h->opened, "late rename");
        }
        h->temp = false;
    } else if (h->inode != NULL) {
        part_write(w, i, h);
    }
}

void work_step(struct world *w, struct event *e) {
    struct agent *a = &w->agents[e->agent];
    struct held *h = NULL;
    for (uint32_t k = 0; k < a->n_held && h == NULL; k++) {
        h = a->held[k]->run == e->number ? a->held[k] : NULL;
    }
    if (h == NULL) {
        return;
    }
    if (w->now_ms < a->stopped_until_ms && agent_may_act(w, a, h) && one_in(w, w->odds_late)) {
        e->sent_ms = 1;
    }
    if (agent_is_stopped(w, e)) {
        return;
    }
    if (!agent_may_act(w, a, h)) {
        if (e->sent_ms == 1) {
            acts_late(w, e->agent, h);
        }
        agent_check_hold(w, e->agent);
        return;
    }
    uint32_t n = 0;
    if (h->table.count > 0) {
        struct object_entry first = entry_of(h, 0);
        n = node_of_path(first.path, first.path_len);
    }
    switch ((int)h->spec->kind) {
    case SLUICE__V1__TASK_KIND__LIST: list_step(w, e->agent, h); break;
    case SLUICE__V1__TASK_KIND__OPEN: open_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__PART: part_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__SYNC: sync_step(w, e->agent, h); break;
    case SLUICE__V1__TASK_KIND__FINISH: finish_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__STAT: stat_step(w, e->agent, h, n); break;
    case SLUICE__V1__TASK_KIND__CLEANUP:
    case SLUICE__V1__TASK_KIND__ABORT: removal_step(w, e->agent, h); break;
    default: objects_step(w, e->agent, h); break;
    }
}
