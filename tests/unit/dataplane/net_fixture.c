// SPDX-License-Identifier: Apache-2.0
#include "net_fixture.h"

#include "common/clock.h"
#include "dataplane/object_stat.h"
#include "dataplane/transport_memory.h"
#include "dataplane/transport_rdma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err open_volume(void *user, const char *volume, int *ret_fd, struct failure *f) {
    const struct net *n = user;

    if (strcmp(volume, "data") != 0) {
        return failure_set(f, ERR_NO_VOLUME, "open volume", volume, strlen(volume), NULL);
    }
    *ret_fd = open(n->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd >= 0 ? OK : failure_errno(f, errno, "open volume", n->dir, strlen(n->dir));
}

static struct data_server *make_server(struct net *n, const char *agent, uint32_t max_connections,
                                       int64_t idle_ms) {
    const struct data_server_options o = {.transport = n->transport,
                                          .listen = n->listen,
                                          .agent = agent,
                                          .max_connections = max_connections,
                                          .idle_ms = idle_ms,
                                          .open_volume = open_volume,
                                          .user = n};
    struct data_server *s;

    assert_ok(data_server_new(&o, &s, NULL));
    data_server_set_authority(s, NET_CLUSTER, n->master_public);
    return s;
}

struct data_server *net_server(struct net *n, const char *agent) {
    return make_server(n, agent, 0, 0);
}

void net_restart(struct net *n, uint32_t max_connections, int64_t idle_ms) {
    data_server_free(n->server);
    n->server = make_server(n, NET_SOURCE, max_connections, idle_ms);
}

struct wire *net_dial(struct net *n) {
    struct wire *w;

    assert_ok(
        transport_dial(n->transport, data_server_address(n->server), 60 * 1000, NULL, &w, NULL));
    return w;
}

static void make_transport(struct net *n) {
    const char *rdma = getenv("SLUICE_TEST_RDMA");

    (void)snprintf(n->listen, sizeof(n->listen), "%s:0", rdma ? rdma : "mem");
    if (rdma) {
        assert_ok(transport_rdma_new(&(struct transport_rdma_options){0}, &n->transport, NULL));
    } else {
        assert_ok(transport_memory_new(&n->transport));
    }
}

void net_init(struct net *n) {
    memset(n, 0, sizeof(*n));
    strcpy(n->dir, "/tmp/sluice-net-XXXXXX");
    assert_non_null(mkdtemp(n->dir));
    assert_ok(signing_key_generate(&n->master));
    assert_ok(signing_key_generate(&n->executor));
    signing_key_public(n->master, n->master_public);
    make_transport(n);
    n->server = net_server(n, NET_SOURCE);
    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = n->transport,
                                                        .cluster = NET_CLUSTER,
                                                        .agent = NET_EXECUTOR,
                                                        .key = n->executor},
                            &n->pool));
    object_table_init(&n->objects);
}

void net_deinit(struct net *n) {
    char command[128];

    conn_pool_free(n->pool);
    data_server_free(n->server);
    transport_free(n->transport);
    signing_key_free(n->master);
    signing_key_free(n->executor);
    object_table_deinit(&n->objects);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", n->dir);
    assert_int_equal(system(command), 0);
}

uint8_t net_byte(size_t at) {
    return (uint8_t)(at * 2654435761U >> 13);
}

void net_add_file(struct net *n, const char *name, size_t size) {
    char path[256];
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    struct object_entry e;
    struct stat st;
    int fd;

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = net_byte(i);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", n->dir, name);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    assert_int_equal(fstat(fd, &st), 0);
    close(fd);
    free(bytes);
    assert_ok(object_from_stat(&st, &e));
    e.path = (const uint8_t *)name;
    e.path_len = strlen(name);
    assert_ok(object_table_add(&n->objects, &e));
}

void net_seal(struct net *n) {
    assert_ok(object_table_bytes(&n->objects, &n->table, &n->table_len));
    n->ticket = (struct ticket){.cluster = NET_CLUSTER,
                                .flow = NET_FLOW,
                                .revision = 1,
                                .task_id = NET_TASK,
                                .term = 1,
                                .counter = 1,
                                .executor = NET_EXECUTOR,
                                .source = NET_SOURCE,
                                .direction = TICKET_READ,
                                .digest = HASH_XXH3_128,
                                .expires_ms = clock_wall_ms(&clock_system) + 3600 * 1000,
                                .volume = "data"};
    signing_key_public(n->executor, n->ticket.executor_key);
    sha256(n->table, n->table_len, n->ticket.objects_sha256);
}

size_t net_sign(struct net *n, uint8_t buf[TICKET_MAX_BYTES]) {
    size_t len;

    assert_ok(ticket_sign(&n->ticket, n->master, buf, TICKET_MAX_BYTES, &len));
    return len;
}

static enum err dial(struct net *n, struct conn **ret_conn) {
    const char *address = data_server_address(n->server);
    const struct conn_pool_target t = {.agent = NET_SOURCE,
                                       .addresses = &address,
                                       .n_addresses = 1,
                                       .timeout_ms = 60 * 1000,
                                       .fresh = true};
    bool reused;

    return conn_pool_take(n->pool, &t, ret_conn, &reused, NULL);
}

struct conn *net_connect(struct net *n) {
    struct conn *c;

    assert_ok(dial(n, &c));
    return c;
}

struct conn *net_connect_in_time(struct net *n) {
    int64_t until_ms = clock_mono_ms(&clock_system) + 200 * 1000;
    struct conn *c = NULL;

    while (dial(n, &c) != OK) {
        assert_true(clock_mono_ms(&clock_system) < until_ms);
    }
    return c;
}

void net_send_open(struct net *n, struct conn *c, const uint8_t *ticket, size_t ticket_len,
                   const uint8_t *table, size_t table_len, const struct signing_key *key) {
    uint8_t own_ticket[TICKET_MAX_BYTES], proof[SIGNATURE_BYTES], text[FRAME_PROOF_TEXT_MAX];
    struct frame_header h = {.type = FRAME_OPEN_TASK, .aux = n->ticket.task_id};
    struct frame_open_task open;
    uint8_t *payload;
    size_t len;

    if (!ticket) {
        ticket_len = net_sign(n, own_ticket);
        ticket = own_ticket;
    }
    len = conn_proof_text(c, false, NET_CLUSTER, NET_EXECUTOR, ticket, ticket_len, text);
    assert_ok(signing_key_sign(key ? key : n->executor, text, len, proof));
    open = (struct frame_open_task){.ticket = ticket,
                                    .ticket_len = ticket_len,
                                    .objects = table ? table : n->table,
                                    .objects_len = table ? table_len : n->table_len,
                                    .proof = proof};
    payload = malloc(frame_open_task_bytes(&open));
    assert_non_null(payload);
    h.length = (uint32_t)frame_open_task_encode(&open, payload);
    assert_ok(conn_put(c, &h, payload, NULL));
    assert_ok(conn_flush(c, NULL));
    free(payload);
}

struct conn *net_open_task(struct net *n) {
    struct conn *c = net_connect(n);
    struct frame_header h;

    net_send_open(n, c, NULL, 0, NULL, 0, NULL);
    assert_ok(conn_receive(c, 0, &h, NULL));
    assert_int_equal(h.type, FRAME_TASK_OPEN);
    return c;
}

void net_send_read(struct conn *c, uint64_t request, uint32_t index, uint64_t offset,
                   uint64_t length) {
    const struct frame_read r = {.task_id = NET_TASK, .index = index};
    uint8_t buf[FRAME_READ_BYTES];
    struct frame_header h = {
        .type = FRAME_READ, .request = request, .offset = offset, .aux = length};

    h.length = (uint32_t)frame_read_encode(&r, buf);
    assert_ok(conn_put(c, &h, buf, NULL));
    assert_ok(conn_flush(c, NULL));
}

void net_expect_refusal(struct conn *c, enum err code) {
    struct frame_header h;
    uint8_t buf[FRAME_FAILURE_MAX];
    struct failure f;

    assert_ok(conn_receive(c, 0, &h, NULL));
    assert_int_equal(h.type, FRAME_ERROR);
    assert_true(h.length <= sizeof(buf));
    assert_ok(conn_receive_payload(c, buf, h.length, NULL));
    assert_ok(frame_failure_decode(buf, h.length, &f));
    assert_err(f.err, code);
    assert_true(strlen(f.message) > 0);
}

void net_check_range(struct source *s, const struct source_range *range, size_t cap) {
    struct source_found found;
    struct source_closed closed;
    struct failure f = {0};
    struct leaf_hasher *hasher = leaf_hasher_new(HASH_XXH3_128);
    uint8_t *buf = malloc(cap);
    uint64_t at = range->offset;
    const uint8_t *digests;
    size_t n_leaves;
    enum err e = source_open(s, range, &found, &f);

    if (e) {
        fail_msg("open: %s: %s", err_name(e), f.message);
    }
    assert_non_null(buf);
    assert_non_null(hasher);
    for (;;) {
        size_t len = 0;
        uint64_t hole = 0;
        e = source_read(s, buf, cap, &len, &hole, &f);
        if (e) {
            fail_msg("read at %llu: %s: %s", (unsigned long long)at, err_name(e), f.message);
        }
        if (len == 0 && hole == 0) {
            break;
        }
        if (hole > 0) {
            assert_ok(leaf_hasher_update_zeros(hasher, hole));
        }
        for (size_t i = 0; i < len; i++) {
            if (buf[i] != net_byte(at + i)) {
                fail_msg("byte %llu differs", (unsigned long long)(at + i));
            }
        }
        assert_ok(leaf_hasher_update(hasher, buf, len));
        at += len + hole;
    }
    assert_int_equal(at, range->length == SOURCE_TO_END ? found.entry.version.size
                                                        : range->offset + range->length);
    e = source_close(s, &closed, &f);
    if (e) {
        fail_msg("close: %s: %s", err_name(e), f.message);
    }
    assert_ok(leaf_hasher_finish(hasher, &digests, &n_leaves));
    assert_int_equal(closed.n_leaves, n_leaves);
    if (n_leaves > 0) {
        assert_memory_equal(closed.leaf_digests, digests, n_leaves * 16);
    }
    assert_true(object_version_equal(&closed.version, &found.entry.version));
    leaf_hasher_free(hasher);
    free(buf);
}
