// SPDX-License-Identifier: Apache-2.0
// Nobody gets in: who is served by the data server, and who is not.
#include "net_fixture.h"

#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

static int setup(void **state) {
    struct net *n = malloc(sizeof(*n));

    assert_non_null(n);
    net_init(n);
    net_add_file(n, "a", 1000);
    net_seal(n);
    *state = n;
    return 0;
}

static int teardown(void **state) {
    net_deinit(*state);
    free(*state);
    return 0;
}

static enum err no_volume(void *user, const char *volume, int *ret_fd, struct failure *f) {
    (void)user;
    (void)ret_fd;
    return failure_set(f, ERR_NO_VOLUME, "open volume", volume, strlen(volume), NULL);
}

static void nobody_is_served_before_there_is_an_authority(void **state) {
    struct net *n = *state;
    const struct data_server_options o = {
        .transport = n->transport,
        .listen = n->listen,
        .agent = "alone",
        .open_volume = no_volume,
    };
    struct data_server *s;
    const char *address;
    struct conn *c;
    bool reused;
    struct failure f = {0};

    assert_ok(data_server_new(&o, &s, NULL));
    address = data_server_address(s);
    assert_err(conn_pool_take(n->pool,
                              &(struct conn_pool_target){.agent = "alone",
                                                         .addresses = &address,
                                                         .n_addresses = 1,
                                                         .timeout_ms = 60000},
                              &c, &reused, &f),
               ERR_AGAIN);
    assert_non_null(strstr(f.message, "not registered"));
    data_server_free(s);
}

static void another_cluster_is_refused(void **state) {
    struct net *n = *state;
    const char *address = data_server_address(n->server);
    struct conn *c;
    bool reused;

    conn_pool_set_cluster(n->pool, "another");
    assert_err(conn_pool_take(n->pool,
                              &(struct conn_pool_target){.agent = NET_SOURCE,
                                                         .addresses = &address,
                                                         .n_addresses = 1,
                                                         .timeout_ms = 60000},
                              &c, &reused, NULL),
               ERR_DENIED);
}

// The ticket as the test changed it is refused with @code.
static void expect_bad_ticket(struct net *n, enum err code) {
    struct conn *c = net_connect(n);

    net_send_open(n, c, NULL, 0, NULL, 0, NULL);
    net_expect_refusal(c, code);
    conn_free(c);
    assert_int_equal(data_server_bytes_served(n->server), 0);
}

static void a_ticket_for_others_is_refused(void **state) {
    struct net *n = *state;
    const struct ticket right = n->ticket;

    strcpy(n->ticket.executor, "executor-2");
    expect_bad_ticket(n, ERR_DENIED);
    n->ticket = right;
    strcpy(n->ticket.source, "source-2");
    expect_bad_ticket(n, ERR_DENIED);
    n->ticket = right;
    strcpy(n->ticket.cluster, "another");
    expect_bad_ticket(n, ERR_DENIED);
    n->ticket = right;
    n->ticket.digest = 77;
    expect_bad_ticket(n, ERR_UNIMPLEMENTED);
}

static void an_expired_ticket_is_refused(void **state) {
    struct net *n = *state;

    n->ticket.expires_ms = clock_wall_ms(&clock_system) - 1;
    expect_bad_ticket(n, ERR_DENIED);
}

static void a_ticket_of_another_master_is_refused(void **state) {
    struct net *n = *state;
    struct signing_key *right = n->master;

    assert_ok(signing_key_generate(&n->master));
    expect_bad_ticket(n, ERR_DENIED);
    signing_key_free(n->master);
    n->master = right;
}

static void a_ticket_for_another_task_is_refused(void **state) {
    struct net *n = *state;
    uint8_t ticket[TICKET_MAX_BYTES];
    size_t len = net_sign(n, ticket);
    struct conn *c = net_connect(n);

    n->ticket.task_id++; // what OPEN_TASK says
    net_send_open(n, c, ticket, len, NULL, 0, NULL);
    net_expect_refusal(c, ERR_DENIED);
    conn_free(c);
}

static void a_ticket_that_was_cut_or_changed_is_refused(void **state) {
    struct net *n = *state;
    uint8_t ticket[TICKET_MAX_BYTES];
    size_t len = net_sign(n, ticket);
    struct conn *c = net_connect(n);

    net_send_open(n, c, ticket, len - 1, NULL, 0, NULL);
    net_expect_refusal(c, ERR_INVALID);
    conn_free(c);
    c = net_connect(n);
    ticket[60] ^= 1;
    net_send_open(n, c, ticket, len, NULL, 0, NULL);
    net_expect_refusal(c, ERR_DENIED);
    conn_free(c);
}

static void who_does_not_hold_the_key_is_refused(void **state) {
    struct net *n = *state;
    struct conn *c = net_connect(n);

    net_send_open(n, c, NULL, 0, NULL, 0, n->master);
    net_expect_refusal(c, ERR_DENIED);
    conn_free(c);
}

static void other_objects_than_those_of_the_ticket_are_refused(void **state) {
    struct net *n = *state;
    struct conn *c = net_connect(n);
    uint8_t *other = malloc(n->table_len);

    assert_non_null(other);
    memcpy(other, n->table, n->table_len);
    other[n->table_len - 1] ^= 1; // another name
    net_send_open(n, c, NULL, 0, other, n->table_len, NULL);
    net_expect_refusal(c, ERR_DENIED);
    free(other);
    conn_free(c);
}

static void a_volume_that_is_not_there_is_named(void **state) {
    struct net *n = *state;

    strcpy(n->ticket.volume, "nothing");
    expect_bad_ticket(n, ERR_NO_VOLUME);
}

static void the_right_ticket_is_accepted(void **state) {
    struct net *n = *state;

    conn_free(net_open_task(n));
}

static void who_shows_no_ticket_does_not_stay(void **state) {
    struct net *n = *state;
    struct frame_header h = {.type = FRAME_PING};
    struct conn *c;
    enum err e = OK;

    net_restart(n, 0, 300);
    c = net_connect_in_time(n);
    while (!e && h.type != FRAME_GOAWAY) { // it is never idle
        h = (struct frame_header){.type = FRAME_PING};
        e = conn_put(c, &h, NULL, NULL);
        e = e ? e : conn_flush(c, NULL);
        e = e ? e : conn_receive(c, 0, &h, NULL);
    }
    assert_true(!e || e == ERR_PEER_LOST);
    conn_free(c);
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nobody_is_served_before_there_is_an_authority),
        T(another_cluster_is_refused),
        T(a_ticket_for_others_is_refused),
        T(an_expired_ticket_is_refused),
        T(a_ticket_of_another_master_is_refused),
        T(a_ticket_for_another_task_is_refused),
        T(a_ticket_that_was_cut_or_changed_is_refused),
        T(who_does_not_hold_the_key_is_refused),
        T(other_objects_than_those_of_the_ticket_are_refused),
        T(a_volume_that_is_not_there_is_named),
        T(the_right_ticket_is_accepted),
        T(who_shows_no_ticket_does_not_stay),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
