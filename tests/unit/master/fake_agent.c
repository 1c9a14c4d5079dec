// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/master/fake_agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 200000, POLL_MS = 2, MAX_STORAGES = 8 };

struct fake_cluster cluster;
static uint8_t written[MAX_STORAGES][16]; // the nonce that lies in each storage

// ---- waiting ----

struct waiting {
    bool (*holds)(const void *arg);
    const void *arg;
    struct loop_timer *poll;
    int64_t end_ms;
    bool late;
};

static void look(void *arg) {
    struct waiting *w = arg;
    w->late = loop_now_ms(cluster.loop) > w->end_ms;
    if (w->late || w->holds(w->arg)) {
        loop_stop(cluster.loop);
    } else {
        loop_timer_arm(w->poll, POLL_MS);
    }
}

void wait_until(bool (*holds)(const void *arg), const void *arg) {
    struct waiting w = {.holds = holds, .arg = arg};
    w.end_ms = loop_now_ms(cluster.loop) + PATIENCE_MS;
    w.poll = loop_timer_new(cluster.loop, look, &w);
    assert_non_null(w.poll);
    loop_timer_arm(w.poll, 0);
    loop_run(cluster.loop);
    loop_timer_free(w.poll);
    assert_false(w.late);
}

// ---- the cluster ----

void cluster_start(int64_t lost_after_ms) {
    memset(&cluster, 0, sizeof(cluster));
    memset(written, 0, sizeof(written));
    cluster.options = (struct master_options){.hold_ms = 10 * lost_after_ms,
                                              .heartbeat_ms = 100,
                                              .lost_after_ms = lost_after_ms,
                                              .park_ms = 60000,
                                              .agents = 16};
    cluster.loop = loop_new();
    assert_non_null(cluster.loop);
    struct core *c = &cluster.core;
    c->options = &cluster.options;
    c->clock = &clock_system;
    c->loop = cluster.loop;
    c->term = 3;
    ident_new(clock_wall_ms(c->clock), c->cluster);
    assert_ok(signing_key_generate(&c->key));
    struct scheduler_options so = {.term = c->term,
                                   .hold_ms = cluster.options.hold_ms,
                                   .lost_after_ms = lost_after_ms,
                                   .park_ms = 60000,
                                   .window = 100,
                                   .max_tasks = 1000};
    assert_ok(scheduler_new(&so, &c->scheduler));
    assert_ok(agents_new(c, &c->agents));
    cluster.server = rpc_server_new(&cluster.loop, 1);
    assert_non_null(cluster.server);
    agent_service_add(cluster.server, c);
    int port = 0;
    struct failure f = {0};
    assert_ok(rpc_server_listen(cluster.server, "127.0.0.1:0", NULL, &port, &f));
    rpc_server_start(cluster.server);
    snprintf(cluster.address, sizeof(cluster.address), "127.0.0.1:%d", port);
    cluster.channel = rpc_channel_new(cluster.address, NULL);
    assert_non_null(cluster.channel);
}

static void drained(void *arg) {
    *(bool *)arg = true;
}

static bool is_true(const void *arg) {
    return *(const bool *)arg;
}

void cluster_stop(void) {
    bool is_drained = false;
    struct core *c = &cluster.core;
    c->stopping = true;
    rpc_server_drain(cluster.server, 0, drained, &is_drained);
    wait_until(is_true, &is_drained);
    rpc_channel_free(cluster.channel);
    rpc_server_free(cluster.server);
    agents_free(c->agents);
    scheduler_free(c->scheduler);
    loop_timer_free(c->dispatch.wake);
    signing_key_free(c->key);
    loop_free(cluster.loop);
}

// ---- an agent ----

static void say(struct fake_agent *a, Sluice__V1__AgentMessage *m) {
    assert_true(rpc_send(a->call, &m->base));
}

static void prove(struct fake_agent *a, const Sluice__V1__ProveVolume *m) {
    if (m->remove) {
        return;
    }
    Sluice__V1__VolumeProof p = SLUICE__V1__VOLUME_PROOF__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    assert_int_equal(m->nonce.len, 16);
    p.volume = m->volume;
    p.nonce = m->nonce;
    static char full[] = "no space left on device";
    if (m->write && a->is_full) {
        p.error = full;
    } else if (m->write) {
        memcpy(written[a->storage], m->nonce.data, 16);
        p.wrote = true;
    } else {
        p.seen = (ProtobufCBinaryData){16, written[a->storage]};
    }
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_VOLUME_PROOF;
    message.volume_proof = &p;
    say(a, &message);
}

static struct fake_lease lease_of(const Sluice__V1__LeaseRef *l) {
    return (struct fake_lease){l->task_id, l->epoch->term, l->epoch->counter, 0};
}

static void add(struct fake_lease *to, size_t *n, struct fake_lease l) {
    assert_true(*n < FAKE_MAX_LEASES);
    to[(*n)++] = l;
}

static void assigned(struct fake_agent *a, const Sluice__V1__Lease *m) {
    add(a->assigned, &a->n_assigned,
        (struct fake_lease){m->spec->task_id, m->epoch->term, m->epoch->counter, 0});
    if (m->n_sources > 0) {
        snprintf(a->source, sizeof(a->source), "%s", m->sources[0]->agent);
        a->ticket_len = m->sources[0]->ticket.len;
        assert_true(a->ticket_len <= sizeof(a->ticket));
        memcpy(a->ticket, m->sources[0]->ticket.data, a->ticket_len);
    }
}

static void arrived(struct rpc *r, const ProtobufCMessage *base) {
    struct fake_agent *a = rpc_user(r);
    const Sluice__V1__MasterMessage *m = (const Sluice__V1__MasterMessage *)base;
    assert_int_equal(m->term, cluster.core.term);
    switch ((int)m->kind_case) {
    case SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME:
        a->welcomed = true;
        a->committed = m->welcome->committed_through;
        memcpy(a->ticket_key, m->welcome->ticket_public_key.data, SIGNING_KEY_BYTES);
        for (size_t i = 0; i < m->welcome->n_refused; i++) {
            add(a->refused, &a->n_refused, lease_of(m->welcome->refused[i]));
        }
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_ASSIGN: assigned(a, m->assign); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE:
        add(a->revoked, &a->n_revoked, lease_of(m->revoke->leases[0]));
        break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_COMMITTED: a->committed = m->committed->through; break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_PROVE_VOLUME: prove(a, m->prove_volume); break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_PING: a->pinged = m->ping->heard; break;
    case SLUICE__V1__MASTER_MESSAGE__KIND_GOODBYE:
        snprintf(a->goodbye, sizeof(a->goodbye), "%s", m->goodbye->reason);
        break;
    default: break;
    }
}

static void ended(struct rpc *r, const struct rpc_status *status) {
    struct fake_agent *a = rpc_user(r);
    (void)status;
    a->call = NULL;
    a->closed = true;
}

static const struct rpc_method session = {.path = "/sluice.v1.AgentService/Session",
                                          .input = &sluice__v1__master_message__descriptor,
                                          .input_stream = true,
                                          .message = arrived,
                                          .closed = ended};

void fake_init(struct fake_agent *a, const char *name, const char *site, int storage) {
    memset(a, 0, sizeof(*a));
    snprintf(a->name, sizeof(a->name), "%s", name);
    snprintf(a->site, sizeof(a->site), "%s", site);
    ident_new(clock_wall_ms(&clock_system), a->incarnation);
    a->storage = storage;
    a->writable = true;
    a->root = "/data";
    a->next_number = 1;
}

void fake_dial(struct fake_agent *a) {
    a->closed = a->welcomed = false;
    a->goodbye[0] = '\0';
    a->call = rpc_call(cluster.loop, cluster.channel, &session, 0, true, a);
    assert_non_null(a->call);
    Sluice__V1__Volume v = SLUICE__V1__VOLUME__INIT, *volumes[1] = {&v};
    Sluice__V1__Register m = SLUICE__V1__REGISTER__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    Sluice__V1__LeaseRef refs[FAKE_MAX_LEASES], *leases[FAKE_MAX_LEASES];
    Sluice__V1__Epoch epochs[FAKE_MAX_LEASES];
    uint8_t key[SIGNING_KEY_BYTES] = {7};
    char address[] = "127.0.0.1:9", *addresses[1] = {address}, data[] = "data";
    v.name = data;
    v.root = (ProtobufCBinaryData){strlen(a->root), (uint8_t *)a->root};
    v.readable = true;
    v.writable = a->writable;
    for (size_t i = 0; i < a->n_holds; i++) {
        sluice__v1__lease_ref__init(&refs[i]);
        sluice__v1__epoch__init(&epochs[i]);
        refs[i].task_id = a->holds[i].task_id;
        epochs[i].term = a->holds[i].term;
        epochs[i].counter = a->holds[i].counter;
        refs[i].epoch = &epochs[i];
        refs[i].result = a->holds[i].result;
        leases[i] = &refs[i];
    }
    m.agent = a->name;
    m.site = a->site;
    m.incarnation = a->incarnation;
    m.n_volumes = 1;
    m.volumes = volumes;
    m.n_data_addresses = 1;
    m.data_addresses = addresses;
    m.public_key = (ProtobufCBinaryData){sizeof(key), key};
    m.slots = 2;
    m.n_leases = a->n_holds;
    m.leases = leases;
    m.next_number = a->next_number;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_REGISTER;
    message.register_ = &m;
    say(a, &message);
}

void fake_up(struct fake_agent *a) {
    fake_dial(a);
    wait_until(is_welcome, a);
}

void fake_beat(struct fake_agent *a, uint64_t sequence) {
    Sluice__V1__Heartbeat m = SLUICE__V1__HEARTBEAT__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    m.sequence = sequence;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_HEARTBEAT;
    message.heartbeat = &m;
    say(a, &message);
}

void fake_result(struct fake_agent *a, uint64_t number, const struct fake_lease *l) {
    Sluice__V1__TaskResult m = SLUICE__V1__TASK_RESULT__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    epoch.term = l->term;
    epoch.counter = l->counter;
    ref.task_id = l->task_id;
    ref.epoch = &epoch;
    m.number = number;
    m.lease = &ref;
    m.done = true;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_RESULT;
    message.result = &m;
    say(a, &message);
}

void fake_stopped(struct fake_agent *a, const struct fake_lease *l) {
    Sluice__V1__Stopped m = SLUICE__V1__STOPPED__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT, *refs[1] = {&ref};
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    epoch.term = l->term;
    epoch.counter = l->counter;
    ref.task_id = l->task_id;
    ref.epoch = &epoch;
    m.n_leases = 1;
    m.leases = refs;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_STOPPED;
    message.stopped = &m;
    say(a, &message);
}

void fake_leave(struct fake_agent *a) {
    Sluice__V1__Draining m = SLUICE__V1__DRAINING__INIT;
    Sluice__V1__AgentMessage message = SLUICE__V1__AGENT_MESSAGE__INIT;
    message.kind_case = SLUICE__V1__AGENT_MESSAGE__KIND_DRAINING;
    message.draining = &m;
    say(a, &message);
    rpc_half_close(a->call);
}

void fake_cut(struct fake_agent *a) {
    rpc_cancel(a->call);
    wait_until(is_closed, a);
}

bool is_welcome(const void *agent) {
    return ((const struct fake_agent *)agent)->welcomed;
}

bool is_closed(const void *agent) {
    return ((const struct fake_agent *)agent)->closed;
}

bool has_lease(const void *agent) {
    return ((const struct fake_agent *)agent)->n_assigned > 0;
}
