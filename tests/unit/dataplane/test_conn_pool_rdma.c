// SPDX-License-Identifier: Apache-2.0
// RDMA beside TCP: which is taken, what happens when it fails, and when it is tried again. RDMA is
// played by a second transport within the process.
#include "net_fixture.h"

#include "dataplane/rdma_rail.h"
#include "dataplane/source_agent.h"
#include "dataplane/transport_impl.h"
#include "dataplane/transport_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Another transport under the name "rdma".
struct played {
    struct transport transport; // first member
    struct transport *inner;
    const char *down; // the address that cannot be reached; "": none can
    int n_dialled;
    int64_t timeout_ms; // of the last dial
};

struct pair {
    struct net net;
    struct played rdma;
    struct data_server *server, *server2; // over "rdma": two rails
    struct conn_pool *pool;
    char address[WIRE_ADDRESS_MAX + 8], address2[WIRE_ADDRESS_MAX + 8];
    const char *addresses[3]; // the first rail, TCP, the second rail
};

static enum err played_dial(struct transport *t, const char *address, int64_t timeout_ms,
                            const _Atomic bool *cancelled, struct wire **ret_wire,
                            struct failure *ret_failure) {
    struct played *p = (struct played *)(void *)t;

    p->n_dialled++;
    p->timeout_ms = timeout_ms;
    if (p->down && (!*p->down || strcmp(p->down, address) == 0)) {
        return failure_set(ret_failure, ERR_UNREACHABLE, "connect", address, strlen(address),
                           "the port is down");
    }
    return transport_dial(p->inner, address, timeout_ms, cancelled, ret_wire, ret_failure);
}

static enum err played_listen(struct transport *t, const char *address, struct listener **ret,
                              struct failure *ret_failure) {
    return transport_listen(((struct played *)(void *)t)->inner, address, ret, ret_failure);
}

static void played_destroy(struct transport *t) {
    transport_free(((struct played *)(void *)t)->inner);
}

static const struct transport_ops played_ops = {
    .name = "rdma", .dial = played_dial, .listen = played_listen, .destroy = played_destroy};

static enum err open_volume(void *user, const char *volume, int *ret_fd, struct failure *f) {
    const struct net *n = user;

    (void)volume;
    *ret_fd = open(n->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd >= 0 ? OK : failure_errno(f, errno, "open", n->dir, strlen(n->dir));
}

static struct data_server *serve(struct pair *p) {
    struct data_server *s;

    assert_ok(data_server_new(&(struct data_server_options){.transport = &p->rdma.transport,
                                                            .listen = "there:0",
                                                            .agent = NET_SOURCE,
                                                            .open_volume = open_volume,
                                                            .user = &p->net},
                              &s, NULL));
    data_server_set_authority(s, NET_CLUSTER, p->net.master_public);
    return s;
}

static int setup(void **state) {
    struct pair *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    net_init(&p->net);
    p->rdma.transport.ops = &played_ops;
    assert_ok(transport_memory_new(&p->rdma.inner));
    p->server = serve(p);
    p->server2 = serve(p);
    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = p->net.transport,
                                                        .rdma = &p->rdma.transport,
                                                        .cluster = NET_CLUSTER,
                                                        .agent = NET_EXECUTOR,
                                                        .key = p->net.executor,
                                                        .rdma_dial_ms = 7000,
                                                        .rest_ms = 60 * 60 * 1000},
                            &p->pool));
    (void)snprintf(p->address, sizeof(p->address), "rdma:%s", data_server_address(p->server));
    p->addresses[0] = p->address;
    p->addresses[1] = data_server_address(p->net.server);
    (void)snprintf(p->address2, sizeof(p->address2), "rdma:%s", data_server_address(p->server2));
    p->addresses[2] = p->address2;
    *state = p;
    return 0;
}

static int teardown(void **state) {
    struct pair *p = *state;

    conn_pool_free(p->pool);
    data_server_free(p->server);
    data_server_free(p->server2);
    transport_free(&p->rdma.transport);
    net_deinit(&p->net);
    free(p);
    return 0;
}

static enum err take(struct pair *p, enum conn_choice choice, size_t n_addresses,
                     struct conn **ret_conn) {
    bool reused;

    return conn_pool_take(p->pool,
                          &(struct conn_pool_target){.agent = NET_SOURCE,
                                                     .addresses = p->addresses,
                                                     .n_addresses = n_addresses,
                                                     .choice = choice,
                                                     .timeout_ms = 60000},
                          ret_conn, &reused, NULL);
}

static void expect(struct pair *p, enum conn_choice choice, const char *transport) {
    struct conn *c;

    assert_ok(take(p, choice, 2, &c));
    assert_string_equal(conn_transport(c), transport);
    conn_pool_drop(p->pool, c);
}

static void rdma_is_taken_where_both_have_it(void **state) {
    expect(*state, CONN_AUTO, "rdma");
    expect(*state, CONN_NO_RDMA, "memory");
    expect(*state, CONN_RDMA_ONLY, "rdma");
}

static void rdma_has_less_time_to_answer_as_there_is_another_way(void **state) {
    struct pair *p = *state;

    expect(p, CONN_AUTO, "rdma");
    assert_int_equal(p->rdma.timeout_ms, 7000);
}

static void an_idle_connection_of_the_other_kind_is_not_used(void **state) {
    struct pair *p = *state;
    struct conn *c;

    assert_ok(take(p, CONN_NO_RDMA, 2, &c));
    conn_pool_give(p->pool, c);
    expect(p, CONN_AUTO, "rdma");
    assert_ok(take(p, CONN_AUTO, 2, &c));
    conn_pool_give(p->pool, c);
    expect(p, CONN_NO_RDMA, "memory");
}

static void rdma_that_fails_rests(void **state) {
    struct pair *p = *state;

    p->rdma.down = "";
    expect(p, CONN_AUTO, "memory");
    expect(p, CONN_AUTO, "memory");
    assert_int_equal(p->rdma.n_dialled, 1);
    p->rdma.down = NULL;
    expect(p, CONN_AUTO, "memory"); // it rests still
    assert_int_equal(p->rdma.n_dialled, 1);
}

static void rdma_alone_may_be_asked_for(void **state) {
    struct pair *p = *state;
    struct conn *c;

    p->rdma.down = "";
    expect(p, CONN_AUTO, "memory");
    assert_err(take(p, CONN_RDMA_ONLY, 2, &c), ERR_UNREACHABLE);
    p->rdma.down = NULL;
    expect(p, CONN_RDMA_ONLY, "rdma"); // it does not rest for that
    expect(p, CONN_AUTO, "rdma");      // and is back for all
    p->addresses[0] = p->addresses[1];
    assert_err(take(p, CONN_RDMA_ONLY, 2, &c), ERR_UNREACHABLE);
}

static void without_another_address_there_is_none(void **state) {
    struct pair *p = *state;
    struct conn *c;

    p->rdma.down = "";
    assert_err(take(p, CONN_AUTO, 1, &c), ERR_UNREACHABLE);
}

// ---- several rails ----

static const char *rail(const char *address) {
    return address + strlen(CONN_RDMA_PREFIX);
}

static void rails_are_used_in_parallel(void **state) {
    struct pair *p = *state;
    struct conn *c[4];
    int first = 0;

    for (int i = 0; i < 4; i++) {
        assert_ok(take(p, CONN_AUTO, 3, &c[i]));
        assert_string_equal(conn_transport(c[i]), "rdma");
        first += strcmp(conn_peer(c[i]), rail(p->address)) == 0;
    }
    assert_int_equal(first, 2);
    conn_pool_give(p->pool, c[0]); // of the first rail: that is used least now
    assert_ok(take(p, CONN_AUTO, 3, &c[0]));
    assert_string_equal(conn_peer(c[0]), rail(p->address));
    assert_int_equal(p->rdma.n_dialled, 4); // the idle one was taken
    for (int i = 0; i < 4; i++) {
        conn_pool_drop(p->pool, c[i]);
    }
}

static void a_failed_rail_is_dropped_and_the_others_are_used(void **state) {
    struct pair *p = *state;
    struct conn *c;

    p->rdma.down = rail(p->address);
    for (int i = 0; i < 3; i++) {
        assert_ok(take(p, CONN_AUTO, 3, &c));
        assert_string_equal(conn_peer(c), rail(p->address2));
        conn_pool_drop(p->pool, c);
    }
    assert_int_equal(p->rdma.n_dialled, 4); // the failed one once
    p->rdma.down = "";
    assert_ok(take(p, CONN_AUTO, 3, &c));
    assert_string_equal(conn_transport(c), "memory"); // no rail is left
    conn_pool_drop(p->pool, c);
}

static void a_rail_that_breaks_is_dropped_and_comes_back(void **state) {
    struct pair *p = *state;
    struct conn_pool *pool;
    struct conn *c;
    struct failure f = {.err = ERR_PEER_LOST};
    const struct conn_pool_target target = {
        .agent = NET_SOURCE, .addresses = p->addresses, .n_addresses = 3, .timeout_ms = 60000};
    bool reused;

    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = p->net.transport,
                                                        .rdma = &p->rdma.transport,
                                                        .cluster = NET_CLUSTER,
                                                        .agent = NET_EXECUTOR,
                                                        .key = p->net.executor,
                                                        .rest_ms = 1},
                            &pool));
    assert_ok(conn_pool_take(pool, &target, &c, &reused, NULL));
    assert_string_equal(conn_peer(c), rail(p->address));
    conn_pool_rest_rdma(pool, &target, c, &f);
    conn_pool_drop(pool, c);
    for (int i = 0; i < 10000; i++) { // until a millisecond has passed
        assert_ok(conn_pool_take(pool, &target, &c, &reused, NULL));
        assert_string_equal(conn_transport(c), "rdma");
        bool is_back = strcmp(conn_peer(c), rail(p->address)) == 0;
        conn_pool_drop(pool, c);
        if (is_back) {
            break;
        }
        assert_true(i < 9999);
    }
    conn_pool_free(pool);
}

static bool rests(const struct rdma_rails *r, const char *agent, int64_t now_ms) {
    const char *address = "address";

    return rdma_rail_choose(r, agent, &address, 1, false, now_ms) == RDMA_RAIL_NONE;
}

static void rests_become_longer_and_end(void **state) {
    struct rdma_rails *r = calloc(1, sizeof(*r));
    struct failure f = {.err = ERR_PEER_LOST};
    int64_t now = 0, rest = 1000;
    char name[16];

    (void)state;
    assert_non_null(r);
    r->rest_ms = 1000;
    for (int i = 0; i < 7; i++) {
        assert_false(rests(r, "a", now));
        rdma_rail_failed(r, "a", "address", now, 0, &f);
        rdma_rail_failed(r, "a", "address", now, 0, &f); // another connection, at the same time
        assert_true(rests(r, "a", now + rest - 1));
        assert_false(rests(r, "a", now + rest));
        assert_false(rests(r, "b", now));
        now += rest;
        rest = rest < 16000 ? 2 * rest : 16000;
    }
    rdma_rail_worked(r, "a", "address");
    rdma_rail_failed(r, "a", "address", now, 1, &f);
    assert_false(rests(r, "a", now + 1000)); // short again
    rdma_rail_use(r, "used", "address");
    for (int i = 0; i < 2 * RDMA_RAILS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "agent%d", i);
        rdma_rail_failed(r, name, "address", now + i, 0, &f);
    }
    assert_int_equal(r->n, RDMA_RAILS_MAX); // the last ones, and what is used
    assert_true(rests(r, name, now + 2 * RDMA_RAILS_MAX));
    rdma_rail_leave(r, "used", "address");
    assert_int_equal(r->n, RDMA_RAILS_MAX - 1);
    free(r);
}

static void an_object_goes_on_over_tcp_from_the_byte_where_rdma_broke(void **state) {
    enum { SIZE = 20 * 1024 * 1024 };
    struct pair *p = *state;
    uint8_t ticket[TICKET_MAX_BYTES], *buf = malloc(1 << 20);
    struct source_agent_peer peer = {
        .name = NET_SOURCE, .addresses = p->addresses, .n_addresses = 2, .ticket = ticket};
    struct source_closed closed;
    struct source_found found;
    struct source *s;
    uint64_t hole, pos = 0;
    size_t len;

    assert_non_null(buf);
    net_add_file(&p->net, "file", SIZE);
    net_seal(&p->net);
    peer.ticket_len = net_sign(&p->net, ticket);
    assert_ok(source_agent_new(&(struct source_agent_options){.pool = p->pool,
                                                              .peers = &peer,
                                                              .n_peers = 1,
                                                              .objects = p->net.table,
                                                              .objects_len = p->net.table_len,
                                                              .task_id = NET_TASK,
                                                              .digest = HASH_XXH3_128},
                               &s, NULL));
    assert_ok(source_open(s, &(struct source_range){.length = SOURCE_TO_END}, &found, NULL));
    assert_string_equal(source_capabilities(s)->transport, "rdma");
    do {
        assert_ok(source_read(s, buf, 1 << 20, &len, &hole, NULL));
        assert_int_equal(hole, 0);
        for (size_t i = 0; i < len; i += 997) {
            assert_int_equal(buf[i], net_byte((size_t)pos + i));
        }
        pos += len;
        if (pos > SIZE / 2 && p->server) {
            data_server_free(p->server);
            p->server = NULL;
        }
    } while (len > 0);
    assert_int_equal(pos, SIZE);
    assert_ok(source_close(s, &closed, NULL));
    assert_int_equal(closed.n_leaves, SIZE / LEAF_BYTES);
    assert_string_equal(source_capabilities(s)->transport, "memory");
    assert_int_equal(p->rdma.n_dialled, 1);
    source_free(s);
    free(buf);
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(rdma_is_taken_where_both_have_it),
        T(rdma_has_less_time_to_answer_as_there_is_another_way),
        T(an_idle_connection_of_the_other_kind_is_not_used),
        T(rdma_that_fails_rests),
        T(rdma_alone_may_be_asked_for),
        T(without_another_address_there_is_none),
        T(rails_are_used_in_parallel),
        T(a_failed_rail_is_dropped_and_the_others_are_used),
        T(a_rail_that_breaks_is_dropped_and_comes_back),
        cmocka_unit_test(rests_become_longer_and_end),
        T(an_object_goes_on_over_tcp_from_the_byte_where_rdma_broke),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
