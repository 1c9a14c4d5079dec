// SPDX-License-Identifier: Apache-2.0
// What the session says.
#include "agent/session_impl.h"
#include "common/cleanup.h"
#include "common/daemon.h"

#include <string.h>

static bool send(struct session *s, Sluice__V1__AgentMessage *m) {
    return s->call != NULL && rpc_send(s->call, &m->base);
}

// ---- volumes ----

// Storage behind the messages of all volumes.
struct volume_list {
    size_t n;
    Sluice__V1__Volume messages[AGENT_MAX_VOLUMES];
    Sluice__V1__Volume *pointers[AGENT_MAX_VOLUMES];
    struct volume_status status[AGENT_MAX_VOLUMES];
};

static struct volume_list *volume_list_new(struct volumes *v) {
    struct volume_list *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->n = volumes_count(v);
    for (size_t i = 0; i < l->n; i++) {
        struct volume_status *st = &l->status[i];
        Sluice__V1__Volume *m = &l->messages[i];
        volumes_get(v, i, st);
        sluice__v1__volume__init(m);
        m->name = (char *)st->name;
        m->root = (ProtobufCBinaryData){strlen(st->root), (uint8_t *)st->root};
        m->readable = st->readable;
        m->writable = st->writable;
        m->bytes_free = st->bytes_free;
        m->bytes_total = st->bytes_total;
        m->error = st->error;
        m->generation = st->generation;
        m->kind = st->is_store ? (char *)(uintptr_t) "s3" : m->kind;
        l->pointers[i] = m;
    }
    return l;
}

// ---- leases ----

enum { REGISTER_MAX_LEASES = 2 * EXECUTOR_MAX_LEASES };

// Storage behind the references, and the progress, of leases.
struct lease_list {
    size_t n, cap;
    struct lease_item {
        Sluice__V1__LeaseRef ref;
        Sluice__V1__Epoch epoch;
        Sluice__V1__LeaseProgress progress;
    } * items;
    void **pointers; // to refs, or to progresses
    bool failed;     // no memory
};

// NULL: no more.
static struct lease_item *lease_list_add(struct lease_list *l, uint64_t task_id, uint64_t term,
                                         uint64_t counter) {
    if (l->n == REGISTER_MAX_LEASES || l->failed) {
        return NULL;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 64 : 2 * l->cap;
        struct lease_item *items = realloc(l->items, cap * sizeof *items);
        if (items == NULL) {
            l->failed = true;
            return NULL;
        }
        l->items = items;
        l->cap = cap;
    }
    struct lease_item *i = &l->items[l->n++];
    sluice__v1__lease_ref__init(&i->ref);
    sluice__v1__epoch__init(&i->epoch);
    sluice__v1__lease_progress__init(&i->progress);
    i->ref.task_id = task_id;
    i->epoch.term = term;
    i->epoch.counter = counter;
    return i;
}

static void add_held(void *user, const struct lease *l) {
    const Sluice__V1__Lease *m = l->message;
    (void)lease_list_add(user, m->spec->task_id, m->epoch->term, m->epoch->counter);
}

static void add_running(void *user, const struct lease *l) {
    const Sluice__V1__Lease *m = l->message;
    struct lease_item *i = NULL;
    if (l->is_running) {
        i = lease_list_add(user, m->spec->task_id, m->epoch->term, m->epoch->counter);
    }
    if (i != NULL) {
        i->progress.bytes = atomic_load(&l->control.bytes);
        i->progress.objects = atomic_load(&l->control.objects);
    }
}

static void add_left(void *user, uint64_t task_id, uint64_t term, uint64_t counter,
                     uint64_t bytes) {
    struct lease_item *i = lease_list_add(user, task_id, term, counter);
    if (i != NULL) {
        i->progress.bytes = bytes;
    }
}

static void add_kept(void *user, uint64_t number, uint64_t task_id, uint64_t term,
                     uint64_t counter) {
    struct lease_item *i = lease_list_add(user, task_id, term, counter);
    if (i != NULL) {
        i->ref.result = number;
    }
}

// After the last was added: the items do not move any more.
static bool lease_list_link(struct lease_list *l, bool progress) {
    l->pointers = calloc(l->n + 1, sizeof *l->pointers);
    if (l->pointers == NULL || l->failed) {
        return false;
    }
    for (size_t i = 0; i < l->n; i++) {
        struct lease_item *item = &l->items[i];
        item->ref.epoch = &item->epoch;
        item->progress.lease = &item->ref;
        l->pointers[i] = progress ? (void *)&item->progress : (void *)&item->ref;
    }
    return true;
}

static void lease_list_deinit(struct lease_list *l) {
    free(l->items);
    free(l->pointers);
}

// ---- messages ----

bool session_send_register(struct session *s) {
    const struct agent_options *a = s->options.agent;
    Sluice__V1__Register m = SLUICE__V1__REGISTER__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    char host[DAEMON_HOST_SIZE];
    struct lease_list leases = {0}, left = {0};
    AUTO(auto_free) struct volume_list *volumes = volume_list_new(s->parts.volumes);
    daemon_host_name(host);
    // A lease whose result is kept is not given up either: the result follows the Welcome.
    executor_each(s->parts.executor, add_held, &leases);
    journal_each_lease(s->parts.journal, add_kept, &leases);
    under_way_each_left(s->parts.under_way, add_left, &left);
    bool ok = volumes != NULL && lease_list_link(&leases, false) && lease_list_link(&left, true);
    if (ok) {
        m.agent = (char *)a->name;
        m.site = (char *)a->site;
        m.incarnation = (char *)s->options.incarnation->id;
        m.boot_id = (char *)s->options.incarnation->boot_id;
        m.version = SLUICE_VERSION;
        m.highest_term = s->term;
        m.n_volumes = volumes->n;
        m.volumes = volumes->pointers;
        m.n_data_addresses = s->parts.n_data_addresses;
        m.data_addresses = (char **)s->parts.data_addresses;
        m.public_key = (ProtobufCBinaryData){SIGNING_KEY_BYTES, (uint8_t *)s->options.public_key};
        m.slots = a->slots;
        m.n_leases = leases.n;
        m.leases = (Sluice__V1__LeaseRef **)leases.pointers;
        m.n_interrupted = left.n;
        m.interrupted = (Sluice__V1__LeaseProgress **)left.pointers;
        m.next_number = journal_next_number(s->parts.journal);
        m.host = host;
        m.pid = (uint32_t)getpid();
        m.cluster_id = s->cluster;
        message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_REGISTER;
        message.register_ = &m;
        ok = send(s, &message);
    }
    lease_list_deinit(&leases);
    lease_list_deinit(&left);
    return ok;
}

void session_send_heartbeat(struct session *s) {
    Sluice__V1__Heartbeat m = SLUICE__V1__HEARTBEAT__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    struct lease_list leases = {0};
    AUTO(auto_free)
    struct volume_list *volumes = s->volumes_changed ? volume_list_new(s->parts.volumes) : NULL;
    executor_each(s->parts.executor, add_running, &leases);
    if (lease_list_link(&leases, true)) {
        m.n_leases = leases.n;
        m.leases = (Sluice__V1__LeaseProgress **)leases.pointers;
    } // else: still a sign of life
    if (volumes != NULL) {
        m.n_volumes = volumes->n;
        m.volumes = volumes->pointers;
        s->volumes_changed = false;
    }
    struct usage usage;
    usage_sample(&s->usage, &usage);
    m.cpu_percent = usage.cpu_percent;
    m.memory_bytes = usage.memory_bytes;
    m.load1 = usage.load1;
    m.running = (uint32_t)executor_running(s->parts.executor);
    m.bytes_served = s->options.bytes_served(s->options.user);
    m.sequence = ++s->last_beat;
    s->beats[m.sequence % SESSION_BEATS] =
        (struct beat){m.sequence, clock_mono_ms(s->options.clock)};
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_HEARTBEAT;
    message.heartbeat = &m;
    (void)send(s, &message); // false: `closed` comes
    lease_list_deinit(&leases);
}

void session_send_results(struct session *s) {
    while (s->call != NULL && rpc_queued_bytes(s->call) < SESSION_QUEUE_BYTES) {
        Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
        Sluice__V1__TaskResult *r = NULL;
        if (journal_next(s->parts.journal, s->sent_through, &r) != OK) {
            return; // none, or no memory: then the next tick tries again
        }
        message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_RESULT;
        message.result = r;
        bool ok = send(s, &message);
        if (ok) {
            s->sent_through = r->number;
        }
        sluice__v1__task_result__free_unpacked(r, NULL);
        if (!ok) {
            return;
        }
    }
}

void session_send_stopped(struct session *s, uint64_t task_id, uint64_t term, uint64_t counter) {
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__LeaseRef *refs[1] = {&ref};
    Sluice__V1__Stopped m = SLUICE__V1__STOPPED__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    epoch.term = term;
    epoch.counter = counter;
    ref.task_id = task_id;
    ref.epoch = &epoch;
    m.n_leases = 1;
    m.leases = refs;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_STOPPED;
    message.stopped = &m;
    if (s->call == NULL) {
        return; // the next Register tells it
    }
    uint64_t bytes = under_way_take_left(s->parts.under_way, task_id, term, counter);
    m.n_bytes = 1;
    m.bytes = &bytes;
    (void)send(s, &message);
}

void session_send_proof(struct session *s, const struct volume_proof *p) {
    Sluice__V1__VolumeProof m = SLUICE__V1__VOLUME_PROOF__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    m.volume = (char *)p->volume;
    m.nonce = (ProtobufCBinaryData){p->nonce_len, (uint8_t *)p->nonce};
    m.wrote = p->wrote;
    m.seen = (ProtobufCBinaryData){p->seen_len, (uint8_t *)p->seen};
    m.error = (char *)p->error;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_VOLUME_PROOF;
    message.volume_proof = &m;
    (void)send(s, &message);
}

void session_send_draining(struct session *s) {
    Sluice__V1__Draining m = SLUICE__V1__DRAINING__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_DRAINING;
    message.draining = &m;
    if (s->state == SESSION_UP) {
        (void)send(s, &message);
    }
}
