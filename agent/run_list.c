// SPDX-License-Identifier: Apache-2.0
// LIST: the directories of the task, one after the other, page by page to the master.
#include "agent/run.h"

#include "common/log.h"
#include "dataplane/walk.h"
#include "dataplane/walk_s3.h"

#include <string.h>

struct listing {
    struct run *run;
    struct list_stream *stream;
    uint32_t directory; // index in the table
    bool is_last;       // of the task
    bool told_last;     // the page with `last` is sent
    bool is_root;       // the directory at hand is the volume's root
    uint64_t since_us;  // when walking went on
};

static enum err send(struct listing *l, struct list_page *p) {
    struct run *r = l->run;
    uint64_t now = clock_mono_us();
    p->directory = l->directory;
    p->last = p->directory_done && l->is_last;
    p->walk_us = now - l->since_us;
    r->times.walk_us += p->walk_us;
    enum err e = list_stream_send(l->stream, p, &r->failure);
    l->since_us = clock_mono_us(); // waiting for the master is not walking
    r->times.wait_us += l->since_us - now;
    l->told_last = l->told_last || (e == OK && p->last);
    return e;
}

// Does the page hold the file of a proof that two agents see the same volume? Such lie in the
// volume's root for a moment and are nobody's data.
static bool is_proof(const struct object_entry *e) {
    static const char prefix[] = ".sluice-proof-";
    return e->path_len > sizeof prefix - 1 && memcmp(e->path, prefix, sizeof prefix - 1) == 0;
}

static enum err send_without_proofs(struct listing *l, struct list_page *p) {
    struct object_table table;
    struct object_table_builder rest;
    struct object_entry e;
    uint32_t n_proofs = 0;
    enum err err = object_table_open(p->entries, p->entries_len, &table);
    if (err != OK) {
        return failure_set(&l->run->failure, err, "List", NULL, 0, NULL);
    }
    object_table_init(&rest);
    for (uint32_t i = 0; err == OK && i < table.count; i++) {
        object_table_get(&table, i, &e);
        n_proofs += is_proof(&e);
        err = is_proof(&e) ? OK : object_table_add(&rest, &e);
    }
    if (err == OK && n_proofs > 0) {
        err = object_table_bytes(&rest, &p->entries, &p->entries_len);
    }
    if (err == OK) {
        err = send(l, p);
    } else {
        (void)failure_set(&l->run->failure, err, "List", NULL, 0, NULL);
    }
    object_table_deinit(&rest);
    object_table_close(&table);
    return err;
}

static enum err page_found(void *user, const uint8_t *table, size_t len, bool directory_done) {
    struct listing *l = user;
    struct list_page p = {.entries = table, .entries_len = len, .directory_done = directory_done};
    return l->is_root ? send_without_proofs(l, &p) : send(l, &p);
}

static void log_failed(const struct run *r, const struct failure *f) {
    log_event(LOG_WARN, "listing_failed", LOG_STR("flow", r->spec->flow_id),
              LOG_U64("task", r->spec->task_id), LOG_FAILURE(f));
}

static enum err entry_failed(void *user, const struct failure *f) {
    struct listing *l = user;
    struct list_page p = {.failure = f};
    log_failed(l->run, f);
    return send(l, &p);
}

// A directory's failure is a page, too; anything else that is wrong ends the task.
static enum err list_one(struct listing *l, const struct walk_options *o,
                         const struct walk_s3_options *in_store) {
    const struct walk_sink sink = {page_found, entry_failed, l};
    struct run *r = l->run;
    struct object_entry e;
    struct failure f = {0};
    object_table_get(&r->table, l->directory, &e);
    l->is_root = o->root_len == 0 && e.path_len == 0;
    l->since_us = clock_mono_us();
    enum err err = in_store->client != NULL
                       ? walk_s3_directory(in_store, e.path, e.path_len, &sink, &f)
                       : walk_directory(o, e.path, e.path_len, &sink, &f);
    if (err == OK || l->told_last || r->failure.err != OK) { // done, or the stream failed
        return r->failure.err;
    }
    log_failed(r, &f);
    if (err == ERR_NO_MEMORY || err == ERR_UNAUTHENTICATED) { // the rest would meet it, too
        r->failure = f;
        return err;
    }
    struct list_page p = {.failure = &f, .directory_done = true};
    return send(l, &p);
}

static void abort_client(void *client) {
    s3_client_abort(client);
}

// The directory, or the store, that is listed.
static enum err open_place(struct run *r, const Sluice__V1__Place *p, struct s3_client **client) {
    enum volume_use use = r->spec->source != NULL ? VOLUME_READ : VOLUME_WRITE;
    struct s3_store *store = NULL;
    enum err e = run_find_store(r, p, use, &store);
    if (e != OK || store == NULL) {
        return e != OK ? e : run_open_root(r, p, use, &r->source_fd);
    }
    e = run_open_client(r, p->volume, store, client);
    if (e == OK) {
        lease_add_interrupt(r->lease, abort_client, *client);
    }
    return e;
}

static void close_place(struct run *r, struct s3_client *client) {
    if (client != NULL) {
        lease_remove_interrupt(r->lease, client);
        s3_client_free(client);
    }
}

enum err run_list(struct run *r) {
    const Sluice__V1__Place *p = r->spec->source != NULL ? r->spec->source : r->spec->sink;
    struct listing l = {.run = r};
    struct s3_client *client = NULL;
    enum err e = open_place(r, p, &client);
    if (e != OK) {
        return e;
    }
    e = list_stream_new(r->tools->lists, r->lease->message, r->tools->agent, &l.stream);
    if (e != OK) {
        close_place(r, client);
        return failure_set(&r->failure, e, "List", NULL, 0, NULL);
    }
    struct walk_s3_options in_store = {
        .client = client,
        .root = p->root.data,
        .root_len = p->root.len,
        .single = r->spec->single,
        .look_bytes = r->spec->skip_identical ? 0 : r->spec->part_bytes,
    };
    lease_add_interrupt(r->lease, list_stream_interrupt, l.stream);
    struct walk_options o = {
        .volume_fd = r->source_fd,
        .root = p->root.data,
        .root_len = p->root.len,
        .single = r->spec->single,
    };
    for (uint32_t i = 0; e == OK && i < r->table.count; i++) {
        l.directory = i;
        l.is_last = i + 1 == r->table.count;
        e = list_one(&l, &o, &in_store);
        atomic_fetch_add(&r->lease->control.objects, 1);
    }
    if (e == OK && !l.told_last) { // no directory at all
        struct list_page end = {.directory_done = true};
        l.is_last = true;
        l.since_us = clock_mono_us();
        e = send(&l, &end);
    }
    if (e == OK) {
        e = list_stream_finish(l.stream, &r->failure);
    }
    lease_remove_interrupt(r->lease, l.stream);
    list_stream_free(l.stream);
    close_place(r, client);
    return e;
}
