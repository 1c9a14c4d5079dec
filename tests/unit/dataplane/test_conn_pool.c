// SPDX-License-Identifier: Apache-2.0
#include "net_fixture.h"

#include "dataplane/transport.h"

#include <stdlib.h>
#include <string.h>

static int setup(void **state) {
    struct net *n = malloc(sizeof(*n));

    assert_non_null(n);
    net_init(n);
    *state = n;
    return 0;
}

static int teardown(void **state) {
    net_deinit(*state);
    free(*state);
    return 0;
}

static struct conn *take(struct conn_pool *p, struct net *n, bool *ret_reused) {
    const char *addresses[] = {"nobody is here", data_server_address(n->server)};
    struct conn *c;

    assert_ok(conn_pool_take(
        p,
        &(struct conn_pool_target){
            .agent = NET_SOURCE, .addresses = addresses, .n_addresses = 2, .timeout_ms = 60000},
        &c, ret_reused, NULL));
    return c;
}

static void a_connection_given_back_is_used_again(void **state) {
    struct net *n = *state;
    bool reused;
    struct conn *c = take(n->pool, n, &reused); // from the second address

    assert_false(reused);
    assert_string_equal(conn_agent(c), NET_SOURCE);
    conn_pool_give(n->pool, c);
    assert_ptr_equal(take(n->pool, n, &reused), c);
    assert_true(reused);
    conn_free(c);
}

static void one_that_the_peer_closed_is_not(void **state) {
    struct net *n = *state;
    bool reused;
    struct conn *c = take(n->pool, n, &reused);

    conn_pool_give(n->pool, c);
    net_restart(n, 0, 0);
    c = take(n->pool, n, &reused);
    assert_false(reused);
    conn_free(c);
}

static void no_more_than_the_limit_are_kept(void **state) {
    struct net *n = *state;
    struct conn_pool *p;
    struct conn *c[3];
    bool reused;

    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = n->transport,
                                                        .cluster = NET_CLUSTER,
                                                        .agent = NET_EXECUTOR,
                                                        .key = n->executor,
                                                        .max_idle = 2},
                            &p));
    for (int i = 0; i < 3; i++) {
        c[i] = take(p, n, &reused);
        assert_false(reused);
    }
    for (int i = 0; i < 3; i++) {
        conn_pool_give(p, c[i]);
    }
    for (int i = 0; i < 3; i++) {
        c[i] = take(p, n, &reused);
        assert_true(reused == (i < 2));
    }
    for (int i = 0; i < 3; i++) {
        conn_free(c[i]);
    }
    conn_pool_free(p);
}

static void one_that_was_idle_for_too_long_is_closed(void **state) {
    struct net *n = *state;
    struct conn_pool *p;
    struct conn *c;
    struct wire *w;
    struct listener *l;
    bool reused;

    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = n->transport,
                                                        .cluster = NET_CLUSTER,
                                                        .agent = NET_EXECUTOR,
                                                        .key = n->executor,
                                                        .idle_ms = 1},
                            &p));
    c = take(p, n, &reused);
    conn_pool_give(p, c);
    // A wait that ends for want of anything to see makes time pass.
    assert_ok(transport_listen(n->transport, "mute", &l, NULL));
    assert_ok(transport_dial(n->transport, "mute", 1000, NULL, &w, NULL));
    assert_err(wire_wait_readable(w, 20), ERR_TIMEOUT);
    wire_close(w);
    listener_free(l);
    c = take(p, n, &reused);
    assert_false(reused);
    conn_free(c);
    conn_pool_free(p);
}

static void another_agent_at_the_address_is_refused(void **state) {
    struct net *n = *state;
    const char *address = data_server_address(n->server);
    struct conn *c;
    struct failure f = {0};
    bool reused;

    assert_err(conn_pool_take(n->pool,
                              &(struct conn_pool_target){.agent = "source-2",
                                                         .addresses = &address,
                                                         .n_addresses = 1,
                                                         .timeout_ms = 60000},
                              &c, &reused, &f),
               ERR_DENIED);
    assert_non_null(strstr(f.message, NET_SOURCE));
}

static void a_cancelled_dial_does_not_wait_for_a_mute_peer(void **state) {
    struct net *n = *state;
    const char *address = "mute";
    const _Atomic bool cancelled = true;
    struct listener *l;
    struct conn *c;
    bool reused;

    assert_ok(transport_listen(n->transport, address, &l, NULL));
    assert_err(conn_pool_take(n->pool,
                              &(struct conn_pool_target){.agent = NET_SOURCE,
                                                         .addresses = &address,
                                                         .n_addresses = 1,
                                                         .timeout_ms = 60000,
                                                         .cancelled = &cancelled},
                              &c, &reused, NULL),
               ERR_CANCELLED);
    listener_free(l);
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_connection_given_back_is_used_again),
        T(one_that_the_peer_closed_is_not),
        T(no_more_than_the_limit_are_kept),
        T(one_that_was_idle_for_too_long_is_closed),
        T(another_agent_at_the_address_is_refused),
        T(a_cancelled_dial_does_not_wait_for_a_mute_peer),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
