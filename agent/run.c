// SPDX-License-Identifier: Apache-2.0
#include "agent/run.h"

#include "agent/credential_table.h"
#include "agent/journal.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "dataplane/s3_client.h"
#include "dataplane/s3_tags.h"
#include "dataplane/sink_posix.h"
#include "dataplane/sink_s3.h"
#include "dataplane/source_agent.h"
#include "dataplane/source_posix.h"
#include "dataplane/source_s3.h"

#include <string.h>

struct run_kind {
    const char *name;
    enum err (*fn)(struct run *r);
};

static const struct run_kind kinds[] = {
    [SLUICE__V1__TASK_KIND__LIST] = {"list", run_list},
    [SLUICE__V1__TASK_KIND__MKDIR] = {"mkdir", run_mkdir},
    [SLUICE__V1__TASK_KIND__BATCH] = {"batch", run_batch},
    [SLUICE__V1__TASK_KIND__OPEN] = {"open", run_open},
    [SLUICE__V1__TASK_KIND__PART] = {"part", run_part},
    [SLUICE__V1__TASK_KIND__FINISH] = {"finish", run_finish},
    [SLUICE__V1__TASK_KIND__ABORT] = {"abort", run_abort},
    [SLUICE__V1__TASK_KIND__LINK] = {"link", run_link},
    [SLUICE__V1__TASK_KIND__DIRMETA] = {"dirmeta", run_dirmeta},
    [SLUICE__V1__TASK_KIND__DELETE] = {"delete", run_delete},
    [SLUICE__V1__TASK_KIND__VERIFY] = {"verify", run_verify},
    [SLUICE__V1__TASK_KIND__CLEANUP] = {"cleanup", run_cleanup},
    [SLUICE__V1__TASK_KIND__SYNC] = {"sync", run_sync},
    [SLUICE__V1__TASK_KIND__STAT] = {"stat", run_stat},
};

static const struct run_kind *find_kind(Sluice__V1__TaskKind kind) {
    if ((int)kind < 0 || (size_t)kind >= ARRAY_LEN(kinds) || kinds[kind].fn == NULL) {
        return NULL;
    }
    return &kinds[kind];
}

const char *run_kind_name(Sluice__V1__TaskKind kind) {
    const struct run_kind *k = find_kind(kind);
    return k == NULL ? "unknown" : k->name;
}

enum err run_open_root(struct run *r, const Sluice__V1__Place *p, enum volume_use use,
                       int *ret_fd) {
    if (p == NULL) {
        return failure_set(&r->failure, ERR_INVALID, "task", NULL, 0,
                           "the task lacks the place where it is to be done");
    }
    return volumes_root(r->tools->volumes, p->volume, use, ret_fd, &r->failure);
}

enum err run_find_store(struct run *r, const Sluice__V1__Place *p, enum volume_use use,
                        struct s3_store **ret_store) {
    *ret_store = NULL;
    return p != NULL ? volumes_store(r->tools->volumes, p->volume, use, ret_store, &r->failure)
                     : OK;
}

enum err run_find_keys(struct run *r, const char *volume, struct s3_credentials *storage,
                       const struct s3_credentials **ret_keys) {
    const Sluice__V1__Lease *m = r->lease->message;
    *ret_keys = NULL;
    if (m->n_credentials == 0) {
        return OK;
    }
    enum err e = credential_table_choose(r->tools->credentials, volume, m->credentials,
                                         m->n_credentials, storage, &r->failure);
    if (e == OK) {
        *ret_keys = storage;
    }
    return e == ERR_NOT_FOUND ? OK : e;
}

enum err run_open_client(struct run *r, const char *volume, struct s3_store *store,
                         struct s3_client **ret_client) {
    struct s3_credentials storage = {0};
    const struct s3_credentials *keys = NULL;
    enum err e = run_find_keys(r, volume, &storage, &keys);
    if (e == OK) {
        e = s3_client_new(store, keys, ret_client, &r->failure);
    }
    s3_credentials_wipe(&storage);
    if (e == OK) {
        s3_client_count_retries(*ret_client, &r->store_retries);
    }
    return e;
}

static void abort_source(void *source) {
    source_abort(source);
}

static void abort_sink(void *sink) {
    sink_abort(sink);
}

static enum err open_local_source(struct run *r) {
    const Sluice__V1__Place *p = r->spec->source;
    struct s3_store *store = NULL;
    enum err e = run_find_store(r, p, VOLUME_READ, &store);
    if (e == OK && store != NULL) {
        struct s3_client *client = NULL;
        struct s3_store *sink = NULL;
        e = run_open_client(r, p->volume, store, &client);
        if (e == OK) {
            e = run_find_store(r, r->spec->sink, VOLUME_WRITE, &sink);
        }
        const Sluice__V1__StoreOptions *wanted = r->spec->store;
        struct source_s3_options o = {
            .take_client = client,
            .root = p->root.data,
            .root_len = p->root.len,
            .table = &r->table,
            .digest = r->digest,
            .reads_tags = sink != NULL && (wanted == NULL || wanted->n_tags == 0),
        };
        return e == OK ? source_s3_new(&o, &r->source, &r->failure) : e;
    }
    if (e == OK) {
        e = run_open_root(r, p, VOLUME_READ, &r->source_fd);
    }
    if (e == OK) {
        e = source_posix_new(r->source_fd, p->root.data, p->root.len, &r->table, &r->source,
                             &r->failure);
    }
    if (e == OK) {
        source_posix_read_direct(r->source, r->tools->direct_from_bytes);
    }
    return e;
}

static enum err open_remote_source(struct run *r) {
    const Sluice__V1__Lease *m = r->lease->message;
    struct source_agent_peer *peers = calloc(m->n_sources, sizeof *peers);
    r->peers = peers;
    if (peers == NULL) {
        return failure_set(&r->failure, ERR_NO_MEMORY, "open source", NULL, 0, NULL);
    }
    for (size_t i = 0; i < m->n_sources; i++) {
        const Sluice__V1__SourceAgent *a = m->sources[i];
        peers[i] = (struct source_agent_peer){
            .name = a->agent,
            .addresses = (const char *const *)a->data_addresses,
            .n_addresses = a->n_data_addresses,
            .ticket = a->ticket.data,
            .ticket_len = a->ticket.len,
        };
    }
    enum conn_choice choice = CONN_AUTO;
    if (r->spec->transport == SLUICE__V1__TRANSPORT_CHOICE__TRANSPORT_TCP) {
        choice = CONN_NO_RDMA;
    } else if (r->spec->transport == SLUICE__V1__TRANSPORT_CHOICE__TRANSPORT_RDMA) {
        choice = CONN_RDMA_ONLY;
    }
    struct source_agent_options o = {
        .choice = choice,
        .pool = r->tools->pool,
        .peers = peers,
        .n_peers = m->n_sources,
        .objects = r->spec->objects.data,
        .objects_len = r->spec->objects.len,
        .task_id = r->spec->task_id,
        .digest = r->digest,
        .stall_ms = r->tools->stall_ms,
    };
    return source_agent_new(&o, &r->source, &r->failure);
}

enum err run_open_source(struct run *r) {
    const Sluice__V1__Lease *m = r->lease->message;
    bool is_local = m->n_sources == 0;
    for (size_t i = 0; i < m->n_sources; i++) {
        is_local = is_local || strcmp(m->sources[i]->agent, r->tools->agent) == 0;
    }
    enum err e = is_local ? open_local_source(r) : open_remote_source(r);
    if (e == OK) {
        lease_add_interrupt(r->lease, abort_source, r->source);
    }
    return e;
}

static enum err open_store_sink(struct run *r, struct s3_store *store) {
    struct s3_client *client = NULL;
    enum err e = run_open_client(r, r->spec->sink->volume, store, &client);
    if (e != OK) {
        return e;
    }
    const Sluice__V1__StoreOptions *wanted = r->spec->store;
    for (size_t i = 0; wanted != NULL && i < wanted->n_tags; i++) {
        e = s3_tags_add(&r->tagging, wanted->tags[i]->key, wanted->tags[i]->value);
        if (e != OK) {
            s3_client_free(client);
            return failure_set(&r->failure, e, "task", NULL, 0, "the tags cannot be encoded");
        }
    }
    struct sink_s3_options o = {
        .tagging = r->tagging,
        .storage_class = wanted != NULL ? wanted->storage_class : NULL,
        .encryption = wanted != NULL ? wanted->encryption : NULL,
        .kms_key = wanted != NULL ? wanted->kms_key : NULL,
        .take_client = client,
        .root = r->spec->sink->root.data,
        .root_len = r->spec->sink->root.len,
        .fence = {lease_may_act, r->lease},
        .never_replaces = r->spec->if_none_match,
    };
    return sink_s3_new(&o, &r->sink, &r->failure);
}

static enum err open_posix_sink(struct run *r) {
    const Sluice__V1__Place *p = r->spec->sink;
    enum err e = run_open_root(r, p, VOLUME_WRITE, &r->sink_fd);
    if (e != OK) {
        return e;
    }
    struct sink_posix_options o = {
        .volume_fd = r->sink_fd,
        .root = p->root.data,
        .root_len = p->root.len,
        .fence = {lease_may_act, r->lease},
        .boot_id = r->tools->boot_id,
        .queues = r->tools->queues,
        .direct_from_bytes = r->tools->direct_from_bytes,
        .never_replaces = r->spec->if_none_match,
    };
    return sink_posix_new(&o, &r->sink, &r->failure);
}

enum err run_open_sink(struct run *r) {
    struct s3_store *store = NULL;
    enum err e = run_find_store(r, r->spec->sink, VOLUME_WRITE, &store);
    if (e == OK) {
        e = store != NULL ? open_store_sink(r, store) : open_posix_sink(r);
    }
    if (e == OK) {
        lease_add_interrupt(r->lease, abort_sink, r->sink);
    }
    return e;
}

struct transfer_options run_transfer_options(struct run *r) {
    const Sluice__V1__Lease *m = r->lease->message;
    return (struct transfer_options){
        .source = r->source,
        .sink = r->sink,
        .table = &r->table,
        .digest = r->digest,
        .durability = r->durability,
        .flow = r->spec->flow_id,
        .major = m->epoch->term,
        .minor = m->epoch->counter,
        // A later attempt finds what an earlier one delivered before it was lost.
        .skip_identical = r->spec->skip_identical || m->attempt > 1,
        .bytes_per_s = m->bytes_per_s,
        .buffer = r->buffer,
        .buffer_bytes = r->buffer_bytes,
        .control = &r->lease->control,
        .times = &r->times,
    };
}

void run_temp_name(const struct run *r, const struct object_entry *e,
                   char ret_name[TEMP_NAME_SIZE]) {
    const Sluice__V1__Epoch *epoch = r->lease->message->epoch;
    temp_name(r->spec->flow_id, e->id, epoch->term, epoch->counter, ret_name);
}

void run_large_temp_name(const struct run *r, const struct object_entry *e,
                         char ret_name[TEMP_NAME_SIZE]) {
    temp_name(r->spec->flow_id, e->id, 0, r->spec->generation, ret_name);
}

enum err run_object_failed(struct run *r, uint32_t index, const struct failure *f) {
    struct object_entry e;
    object_table_get(&r->table, index, &e);
    log_event(LOG_WARN, "object_failed", LOG_STR("flow", r->spec->flow_id),
              LOG_U64("task", r->spec->task_id), LOG_STR("kind", run_kind_name(r->spec->kind)),
              LOG_PATH("path", e.path, e.path_len), LOG_FAILURE(f));
    return task_result_object_failed(r->result, index, f, r->tools->agent);
}

bool run_error_ends_task(enum err e) {
    return e == ERR_FENCED || e == ERR_CANCELLED || e == ERR_NO_MEMORY || e == ERR_NO_SPACE ||
           e == ERR_QUOTA || e == ERR_READ_ONLY || e == ERR_STALE || e == ERR_PEER_LOST ||
           e == ERR_UNREACHABLE || e == ERR_TIMEOUT;
}

static enum err begin(struct run *r) {
    const Sluice__V1__TaskSpec *s = r->spec;
    switch (s->digest) {
    case SLUICE__V1__DIGEST_ALGORITHM__SHA_256: r->digest = HASH_SHA256; break;
    case SLUICE__V1__DIGEST_ALGORITHM__XXH3_128:
    case SLUICE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_UNSPECIFIED:
    case _SLUICE__V1__DIGEST_ALGORITHM_IS_INT_SIZE:
    default: r->digest = HASH_XXH3_128; break;
    }
    switch (s->durability) {
    case SLUICE__V1__DURABILITY__NONE: r->durability = DURABILITY_NONE; break;
    case SLUICE__V1__DURABILITY__TASK: r->durability = DURABILITY_TASK; break;
    case SLUICE__V1__DURABILITY__OBJECT:
    case SLUICE__V1__DURABILITY__DURABILITY_UNSPECIFIED:
    case _SLUICE__V1__DURABILITY_IS_INT_SIZE:
    default: r->durability = DURABILITY_OBJECT; break;
    }
    enum err e = object_table_open(s->objects.data, s->objects.len, &r->table);
    if (e != OK) {
        return failure_set(&r->failure, e, "task", NULL, 0,
                           "the task's object table cannot be read");
    }
    return OK;
}

static void release(struct run *r) {
    if (r->source != NULL) {
        lease_remove_interrupt(r->lease, r->source);
        source_free(r->source);
    }
    free(r->peers);
    if (r->sink != NULL) {
        lease_remove_interrupt(r->lease, r->sink);
        sink_free(r->sink);
    }
    if (r->source_fd >= 0) {
        close(r->source_fd);
    }
    if (r->sink_fd >= 0) {
        close(r->sink_fd);
    }
    free(r->tagging);
    object_table_close(&r->table);
}

// While we received, the source read and hashed: only what is left of that time is the network's.
// What it did while we hashed and wrote cost us nothing.
static void split_receiving(struct transfer_times *t, const struct source_spent *spent) {
    uint64_t theirs = spent->read_us + spent->hash_us;
    if (theirs == 0) {
        return;
    }
    uint64_t ours = theirs < t->receive_us ? theirs : t->receive_us;
    uint64_t read = (uint64_t)((double)ours * (double)spent->read_us / (double)theirs);
    t->receive_us -= ours;
    t->read_us += read;
    t->hash_us += ours - read;
}

// What the source can tell about itself, before it is released.
static enum err describe_source(struct run *r) {
    if (r->source == NULL) {
        return OK;
    }
    const struct source_capabilities *c = source_capabilities(r->source);
    const char *no_path = r->lease->control.no_path;
    enum err e = task_result_set_text(&r->result->transport, no_path ? no_path : c->transport);
    if (e == OK && c->is_agent) {
        e = task_result_set_text(&r->result->source_agent, source_agent_peer_name(r->source));
    }
    const struct source_spent spent = source_remote_spent(r->source);
    r->result->cpu_us_source = spent.cpu_us;
    split_receiving(&r->times, &spent);
    return e;
}

static bool did_something(const Sluice__V1__TaskResult *m) {
    for (size_t i = 0; i < m->n_objects; i++) {
        if (m->objects[i]->outcome != SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED) {
            return true;
        }
    }
    return m->done_bytes > 0;
}

// @e is how the kind's function ended.
static enum run_end conclude(struct run *r, enum err e) {
    Sluice__V1__TaskResult *m = r->result;
    enum lease_stop stop = lease_stopped(r->lease);
    if (e == OK) {
        m->done = task_result_is_complete(m) && (r->spec->kind != SLUICE__V1__TASK_KIND__PART ||
                                                 m->done_bytes == r->spec->length);
        return RUN_RESULT;
    }
    if (stop == LEASE_REVOKED) { // whatever it failed with: it was told to
        m->released = true;
        m->retryable = true;
        return did_something(m) ? RUN_RESULT : RUN_STOPPED;
    }
    if (stop == LEASE_FENCED) {
        (void)failure_set(&r->failure, ERR_FENCED, "lease", NULL, 0,
                          "the master was not heard for too long");
        m->released = true;
    }
    if (r->failure.err == OK) {
        (void)failure_set(&r->failure, e, "task", NULL, 0, NULL);
    }
    if (task_result_fail(m, &r->failure, r->tools->agent) != OK) {
        return RUN_STOPPED;
    }
    // Not the task's fault: its master, or a listing's, wants no more of it under this lease.
    m->released = m->released || r->failure.err == ERR_FENCED || r->failure.err == ERR_CANCELLED;
    m->retryable = m->retryable || m->released;
    return RUN_RESULT;
}

enum run_end run_task(const struct run_tools *tools, struct lease *l, void *buffer,
                      size_t buffer_bytes, Sluice__V1__TaskResult **ret_result) {
    struct run r = {
        .tools = tools,
        .lease = l,
        .spec = l->message->spec,
        .buffer = buffer,
        .buffer_bytes = buffer_bytes,
        .source_fd = -1,
        .sink_fd = -1,
    };
    uint64_t cpu = clock_thread_cpu_us();
    const struct run_kind *kind = find_kind(r.spec->kind);
    *ret_result = NULL;
    r.result = task_result_new(l->message);
    if (r.result == NULL) {
        return RUN_STOPPED;
    }
    enum err e = begin(&r);
    if (e == OK && kind == NULL) {
        e = failure_set(&r.failure, ERR_UNIMPLEMENTED, "task", NULL, 0,
                        "this agent does not know tasks of kind %d", (int)r.spec->kind);
        failure_remedy(&r.failure, "run agents and master of the same version");
    }
    if (e == OK && !lease_may_act(l)) {
        e = failure_set(&r.failure, ERR_FENCED, "lease", NULL, 0, NULL);
    }
    if (e == OK) {
        e = kind->fn(&r);
    }
    enum err described = describe_source(&r);
    release(&r);
    if (described == OK) {
        r.result->store_retries = r.store_retries;
        described = task_result_set_times(r.result, &r.times);
    }
    enum run_end end = conclude(&r, e == OK ? described : e);
    r.result->bytes_moved = atomic_load(&l->control.bytes);
    r.result->cpu_us = clock_thread_cpu_us() - cpu;
    task_result_trim(r.result, JOURNAL_RESULT_MAX_BYTES - 1024);
    if (end == RUN_RESULT) {
        *ret_result = r.result;
    } else {
        task_result_free(r.result);
    }
    return end;
}
