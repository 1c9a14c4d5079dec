// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/fake_master.h"

#include "common/object_table.h"
#include "common/ticket.h"
#include "tests/lib/loopback.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(struct fake_master *m, Sluice__V1__MasterMessage *message) {
    message->term = atomic_load(&m->term);
    if (m->session != NULL) {
        (void)rpc_send(m->session, &message->base);
    }
}

static void welcome(struct fake_master *m) {
    uint8_t key[SIGNING_KEY_BYTES];
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__Welcome w = SLUICE__V1__WELCOME__INIT;
    signing_key_public(m->key, key);
    w.cluster_id = (char *)m->cluster;
    w.term = atomic_load(&m->term);
    w.ticket_public_key = (ProtobufCBinaryData){sizeof key, key};
    w.hold_ms = atomic_load(&m->hold_ms);
    w.heartbeat_ms = 50;
    w.committed_through = m->committed;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_WELCOME;
    message.welcome = &w;
    say(m, &message);
}

static void confirm(struct fake_master *m, uint64_t sequence) {
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__Ping p = SLUICE__V1__PING__INIT;
    p.heard = sequence;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_PING;
    message.ping = &p;
    if (atomic_load(&m->confirms)) {
        say(m, &message);
    }
}

static void take_result(struct fake_master *m, const Sluice__V1__TaskResult *r) {
    size_t len = sluice__v1__task_result__get_packed_size(r);
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    (void)sluice__v1__task_result__pack(r, bytes);
    pthread_mutex_lock(&m->lock);
    if (m->result != NULL) {
        sluice__v1__task_result__free_unpacked(m->result, NULL);
    }
    m->result = sluice__v1__task_result__unpack(NULL, len, bytes);
    m->last_result = r->number;
    bool commits = atomic_load(&m->commits);
    m->committed = commits ? r->number : m->committed;
    pthread_mutex_unlock(&m->lock);
    free(bytes);
    if (commits) {
        Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
        Sluice__V1__Committed c = SLUICE__V1__COMMITTED__INIT;
        c.through = r->number;
        message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_COMMITTED;
        message.committed = &c;
        say(m, &message);
    }
    tally_add(m->results, 1);
}

// A lease that ends just now is told twice: as held, and as that of a kept result.
static uint64_t distinct_leases(const Sluice__V1__Register *r) {
    uint64_t n = 0;
    for (size_t i = 0; i < r->n_leases; i++) {
        size_t k = 0;
        while (k < i && r->leases[k]->task_id != r->leases[i]->task_id) {
            k++;
        }
        n += k == i;
    }
    return n;
}

static void session_message(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__AgentMessage *a = (const Sluice__V1__AgentMessage *)message;
    if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_REGISTER) {
        m->session = r;
        pthread_mutex_lock(&m->lock);
        m->n_registered_leases = distinct_leases(a->register_);
        m->registered_results = 0;
        for (size_t i = 0; i < a->register_->n_leases; i++) {
            m->registered_results += a->register_->leases[i]->result;
        }
        assert_int_equal(a->register_->public_key.len, SIGNING_KEY_BYTES);
        memcpy(m->agent_key, a->register_->public_key.data, SIGNING_KEY_BYTES);
        pthread_mutex_unlock(&m->lock);
        if (atomic_load(&m->welcomes)) {
            welcome(m);
        }
        tally_add(m->registers, 1);
    } else if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_HEARTBEAT) {
        confirm(m, a->heartbeat->sequence);
        tally_add(m->heartbeats, 1);
    } else if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_RESULT) {
        take_result(m, a->result);
    } else if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_STOPPED) {
        pthread_mutex_lock(&m->lock);
        m->stopped_task = a->stopped->leases[0]->task_id;
        pthread_mutex_unlock(&m->lock);
        tally_add(m->stopped, a->stopped->n_leases);
    } else if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_DRAINING) {
        tally_add(m->drainings, 1);
    } else if (a->kind_case == SLUICE__V1__AGENT_MESSAGE__KIND_VOLUME_PROOF) {
        pthread_mutex_lock(&m->lock);
        memset(m->seen, 0, sizeof m->seen);
        if (a->volume_proof->seen.len > 0) {
            memcpy(m->seen, a->volume_proof->seen.data, a->volume_proof->seen.len);
        }
        pthread_mutex_unlock(&m->lock);
        tally_add(m->proofs, 1);
    }
}

static void session_half_closed(struct rpc *r) {
    rpc_finish(r, 0, NULL);
}

static void session_closed(struct rpc *r, const struct rpc_status *status) {
    struct fake_master *m = rpc_server_user(r);
    (void)status;
    if (m->session == r) {
        m->session = NULL;
    }
    tally_add(m->closed, 1);
}

static void list_opened(struct rpc *r) {
    struct fake_master *m = rpc_server_user(r);
    m->n_pages = 0;
}

static void list_message(struct rpc *r, const ProtobufCMessage *message) {
    struct fake_master *m = rpc_server_user(r);
    const Sluice__V1__ListPage *p = (const Sluice__V1__ListPage *)message;
    Sluice__V1__ListReply reply = SLUICE__V1__LIST_REPLY__INIT;
    struct object_table table = {0};
    if (p->entries.len > 0 && object_table_open(p->entries.data, p->entries.len, &table) == OK) {
        pthread_mutex_lock(&m->lock);
        m->n_entries += table.count;
        pthread_mutex_unlock(&m->lock);
        object_table_close(&table);
    }
    m->n_pages++;
    reply.pages_committed = m->n_pages;
    reply.done = p->last;
    if (atomic_load(&m->takes_pages)) {
        (void)rpc_send(r, &reply.base);
    }
    tally_add(m->pages, 1);
}

static void list_closed(struct rpc *r, const struct rpc_status *status) {
    struct fake_master *m = rpc_server_user(r);
    (void)status;
    tally_add(m->lists_closed, 1);
}

static const struct rpc_method session_method = {
    .path = "/sluice.v1.AgentService/Session",
    .input = &sluice__v1__agent_message__descriptor,
    .input_stream = true,
    .message = session_message,
    .half_closed = session_half_closed,
    .closed = session_closed,
};
static const struct rpc_method list_method = {
    .path = "/sluice.v1.AgentService/List",
    .input = &sluice__v1__list_page__descriptor,
    .input_stream = true,
    .opened = list_opened,
    .message = list_message,
    .closed = list_closed,
};

static void *run_loop(void *arg) {
    loop_run(arg);
    return NULL;
}

static void make_tallies(struct fake_master *m) {
    m->registers = tally_new();
    m->heartbeats = tally_new();
    m->results = tally_new();
    m->stopped = tally_new();
    m->drainings = tally_new();
    m->proofs = tally_new();
    m->pages = tally_new();
    m->closed = tally_new();
    m->lists_closed = tally_new();
}

struct fake_master *fake_master_new(int port, uint64_t term) {
    static const uint8_t key[SIGNING_KEY_BYTES] = {7};
    struct fake_master *m = calloc(1, sizeof *m);
    struct failure f = {0};
    char address[LOOPBACK_SIZE];
    assert_non_null(m);
    m->cluster = FAKE_CLUSTER;
    assert_ok(signing_key_from_private(key, &m->key));
    atomic_init(&m->term, term);
    atomic_init(&m->commits, true);
    atomic_init(&m->confirms, true);
    atomic_init(&m->takes_pages, true);
    atomic_init(&m->welcomes, true);
    atomic_init(&m->hold_ms, 30000);
    make_tallies(m);
    pthread_mutex_init(&m->lock, NULL);
    m->loop = loop_new();
    assert_non_null(m->loop);
    m->server = rpc_server_new(&m->loop, 1);
    rpc_server_add(m->server, &session_method, m);
    rpc_server_add(m->server, &list_method, m);
    own_loopback(port, address);
    assert_ok(rpc_server_listen(m->server, address, NULL, &m->port, &f));
    rpc_server_start(m->server);
    assert_int_equal(pthread_create(&m->thread, NULL, run_loop, m->loop), 0);
    return m;
}

static void drained(void *arg) {
    struct fake_master *m = arg;
    loop_stop(m->loop);
}

static void drain(void *arg) {
    struct fake_master *m = arg;
    rpc_server_drain(m->server, 0, drained, m);
}

void fake_master_free(struct fake_master *m) {
    loop_post(m->loop, drain, m);
    pthread_join(m->thread, NULL);
    rpc_server_free(m->server);
    loop_free(m->loop);
    if (m->result != NULL) {
        sluice__v1__task_result__free_unpacked(m->result, NULL);
    }
    struct tally *tallies[] = {m->registers, m->heartbeats, m->results,
                               m->stopped,   m->drainings,  m->proofs,
                               m->pages,     m->closed,     m->lists_closed};
    for (size_t i = 0; i < sizeof tallies / sizeof tallies[0]; i++) {
        tally_free(tallies[i]);
    }
    signing_key_free(m->key);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

struct outgoing {
    struct fake_master *master;
    Sluice__V1__MasterMessage *message;
};

static void send_outgoing(void *arg) {
    struct outgoing *o = arg;
    say(o->master, o->message);
    sluice__v1__master_message__free_unpacked(o->message, NULL);
    free(o);
}

void fake_master_send(struct fake_master *m, const Sluice__V1__MasterMessage *message) {
    size_t len = sluice__v1__master_message__get_packed_size(message);
    uint8_t *bytes = malloc(len + 1);
    struct outgoing *o = malloc(sizeof *o);
    assert_true(bytes != NULL && o != NULL);
    (void)sluice__v1__master_message__pack(message, bytes);
    o->master = m;
    o->message = sluice__v1__master_message__unpack(NULL, len, bytes);
    free(bytes);
    assert_non_null(o->message);
    loop_post(m->loop, send_outgoing, o);
}

void fake_master_assign(struct fake_master *m, Sluice__V1__Lease *l) {
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_ASSIGN;
    message.assign = l;
    fake_master_send(m, &message);
}

static void hang_up(void *arg) {
    struct fake_master *m = arg;
    if (m->session != NULL) {
        rpc_cancel(m->session);
    }
}

void fake_master_hang_up(struct fake_master *m) {
    loop_post(m->loop, hang_up, m);
}
