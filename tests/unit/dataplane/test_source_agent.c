// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 240
#include "net_fixture.h"

#include "dataplane/source_agent.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

// Peers of a test: the real server, and others.
struct peers {
    struct source_agent_peer list[3];
    const char *addresses[3];
    uint8_t tickets[3][TICKET_MAX_BYTES];
    size_t n;
};

static void add_peer(struct net *n, struct peers *p, const char *name, const char *address) {
    struct source_agent_peer *peer = &p->list[p->n];

    p->addresses[p->n] = address;
    (void)snprintf(n->ticket.source, sizeof(n->ticket.source), "%s", name);
    *peer = (struct source_agent_peer){.name = name,
                                       .addresses = &p->addresses[p->n],
                                       .n_addresses = 1,
                                       .ticket = p->tickets[p->n],
                                       .ticket_len = net_sign(n, p->tickets[p->n])};
    p->n++;
}

static struct source *open_source(struct net *n, const struct peers *p, int64_t stall_ms) {
    struct source *s;

    assert_ok(source_agent_new(&(struct source_agent_options){.pool = n->pool,
                                                              .peers = p->list,
                                                              .n_peers = p->n,
                                                              .objects = n->table,
                                                              .objects_len = n->table_len,
                                                              .task_id = NET_TASK,
                                                              .digest = HASH_XXH3_128,
                                                              .stall_ms = stall_ms},
                               &s, NULL));
    return s;
}

static void many_files_arrive_exactly_and_the_connection_is_kept(void **state) {
    enum { FILES = 600 };
    static const size_t sizes[] = {0, 1, 100, 4096, 20000, 70000, 300000};
    struct net n;
    struct peers p = {0};
    struct source_range ranges[FILES];

    (void)state;
    net_init(&n);
    for (uint32_t i = 0; i < FILES; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "f%u", i);
        net_add_file(&n, name, sizes[i % 7]);
        ranges[i] = (struct source_range){.index = i, .length = SOURCE_TO_END};
    }
    net_seal(&n);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    for (int round = 0; round < 2; round++) { // the second on the connection of the first
        struct source *s = open_source(&n, &p, 0);
        assert_string_equal(source_agent_peer_name(s), "");
        assert_ok(source_expect(s, ranges, FILES / 2, NULL));
        for (uint32_t i = 0; i < FILES / 2; i++) {
            net_check_range(s, &ranges[i], round ? 1000 : 65536);
        }
        assert_ok(source_expect(s, ranges + FILES / 2, FILES / 2, NULL));
        for (uint32_t i = FILES / 2; i < FILES; i++) {
            net_check_range(s, &ranges[i], 65536);
        }
        net_check_range(s, &ranges[3], 65536); // not announced
        assert_string_equal(source_agent_peer_name(s), NET_SOURCE);
        source_free(s);
    }
    net_deinit(&n);
}

static void large_ranges_have_their_digests(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;

    (void)state;
    net_init(&n);
    net_add_file(&n, "large", 13 * MIB + 5);
    net_seal(&n);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, 0);
    net_check_range(s, &(struct source_range){.length = SOURCE_TO_END}, 1 * MIB);
    net_check_range(s, &(struct source_range){.offset = 4 * MIB, .length = 8 * MIB}, 100001);
    net_check_range(s, &(struct source_range){.offset = 12 * MIB, .length = MIB + 5}, 256 * 1024);
    source_free(s);
    net_deinit(&n);
}

static void a_range_closed_early_does_not_disturb_the_next(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;
    struct source_range ranges[] = {{.index = 0, .length = SOURCE_TO_END},
                                    {.index = 1, .length = SOURCE_TO_END},
                                    {.index = 0, .length = 4 * MIB}};
    struct source_found found;
    struct source_closed closed;
    uint8_t buf[1000];
    size_t len;
    uint64_t hole;

    (void)state;
    net_init(&n);
    net_add_file(&n, "large", 50 * MIB);
    net_add_file(&n, "small", 900 * 1000);
    net_seal(&n);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, 0);
    assert_ok(source_expect(s, ranges, 3, NULL));
    assert_ok(source_open(s, &ranges[0], &found, NULL));
    assert_ok(source_read(s, buf, sizeof(buf), &len, &hole, NULL));
    assert_ok(source_close(s, &closed, NULL));
    assert_true(data_server_bytes_served(n.server) < 50 * MIB); // it was cancelled
    assert_ok(source_open(s, &ranges[1], &found, NULL));
    assert_ok(source_close(s, &closed, NULL));
    net_check_range(s, &ranges[2], 65536);
    source_free(s);
    net_deinit(&n);
}

static void holes_stay_holes(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;
    struct object_entry e;
    struct source_found found;
    struct source_closed closed;
    struct source_range range = {.length = SOURCE_TO_END};
    uint8_t buf[65536];
    char path[128];
    uint64_t hole_bytes = 0, all = 0;
    struct leaf_hasher *hasher = leaf_hasher_new(HASH_XXH3_128);
    const uint8_t *digests;
    size_t n_leaves;
    int fd;

    (void)state;
    net_init(&n);
    net_add_file(&n, "x", 0);
    (void)snprintf(path, sizeof(path), "%s/x", n.dir);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "end", 3, (off_t)(40 * MIB)), 3);
    close(fd);
    net_seal(&n);
    assert_true(n.objects.count == 1);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, 0);
    // The table says that it is empty.
    assert_err(source_open(s, &range, &found, NULL), ERR_SOURCE_CHANGED);
    range.accept_changed = true;
    assert_ok(source_open(s, &range, &found, NULL));
    e = found.entry;
    for (;;) {
        size_t len;
        uint64_t hole;
        assert_ok(source_read(s, buf, sizeof(buf), &len, &hole, NULL));
        if (len == 0 && hole == 0) {
            break;
        }
        assert_ok(leaf_hasher_update_zeros(hasher, hole));
        assert_ok(leaf_hasher_update(hasher, buf, len));
        hole_bytes += hole;
        all += hole + len;
    }
    assert_int_equal(all, e.version.size);
    assert_ok(source_close(s, &closed, NULL));
    assert_ok(leaf_hasher_finish(hasher, &digests, &n_leaves));
    assert_int_equal(closed.n_leaves, 11);
    assert_memory_equal(closed.leaf_digests, digests, 11 * 16);
    assert_true(hole_bytes == 0 || hole_bytes >= 39 * MIB); // 0: a file system without holes
    leaf_hasher_free(hasher);
    source_free(s);
    net_deinit(&n);
}

static void what_is_wrong_with_one_object_is_said_of_that_one(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;
    struct source_range ranges[4];
    struct source_found found;
    struct failure f = {0};
    char path[128];

    (void)state;
    net_init(&n);
    net_add_file(&n, "gone", 10);
    net_add_file(&n, "link", 10);
    net_add_file(&n, "longer", 10);
    net_add_file(&n, "well", 10);
    net_seal(&n);
    (void)snprintf(path, sizeof(path), "%s/gone", n.dir);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/link", n.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("well", path), 0);
    (void)snprintf(path, sizeof(path), "%s/longer", n.dir);
    assert_int_equal(truncate(path, 20), 0);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, 0);
    for (uint32_t i = 0; i < 4; i++) {
        ranges[i] = (struct source_range){.index = i, .length = SOURCE_TO_END};
    }
    assert_ok(source_expect(s, ranges, 4, NULL));
    assert_err(source_open(s, &ranges[0], &found, &f), ERR_NOT_FOUND);
    assert_int_equal(f.object_len, 4);
    assert_memory_equal(f.object, "gone", 4);
    assert_err(source_open(s, &ranges[1], &found, &f), ERR_SOURCE_CHANGED);
    assert_err(source_open(s, &ranges[2], &found, &f), ERR_SOURCE_CHANGED);
    net_check_range(s, &ranges[3], 100);
    source_free(s);
    net_deinit(&n);
}

// ---- peers that fail ----

// A source agent that answers the first READ of a large file up to some byte, then does
// something bad. On its own thread.
enum badness {
    BREAKS_OFF,
    FALLS_SILENT,
    SENDS_RUBBISH,
    BREAKS_BEFORE_GREETING,
    KEEPS_THE_END, // sends all digests, also that of the last leaf, and breaks off
};
struct bad_peer {
    struct net *n;
    struct listener *listener;
    pthread_t thread;
    enum badness badness;
    size_t good_bytes;
    int n_connections;
};

static void send_new_digests(struct conn *c, const struct frame_header *read,
                             const struct leaf_hasher *hasher, size_t *n_sent) {
    struct frame_header h = {.type = FRAME_DIGEST, .request = read->request};
    const uint8_t *digests;
    size_t n_leaves;

    leaf_hasher_complete(hasher, &digests, &n_leaves);
    if (n_leaves > *n_sent) {
        h.offset = read->offset + *n_sent * LEAF_BYTES;
        h.length = (uint32_t)(16 * (n_leaves - *n_sent));
        assert_ok(conn_put(c, &h, digests + 16 * *n_sent, NULL));
        *n_sent = n_leaves;
    }
}

static void answer_badly(struct bad_peer *b, struct conn *c) {
    struct frame_header h;
    struct frame_header out = {.type = FRAME_TASK_OPEN};
    struct object_table table;
    struct object_entry e;
    uint8_t buf[FRAME_OBJECT_BYTES], *bytes = malloc(256 * 1024);
    struct leaf_hasher *hasher = leaf_hasher_new(HASH_XXH3_128);
    size_t n_sent = 0;

    assert_ok(conn_receive(c, 0, &h, NULL));
    assert_int_equal(h.type, FRAME_OPEN_TASK);
    assert_ok(conn_put(c, &out, NULL, NULL));
    do {
        assert_ok(conn_receive(c, 0, &h, NULL));
    } while (h.type != FRAME_READ);
    assert_ok(object_table_open(b->n->table, b->n->table_len, &table));
    object_table_get(&table, 0, &e);
    out = (struct frame_header){.type = FRAME_OBJECT, .request = h.request};
    out.offset = h.offset;
    out.aux = e.version.size - h.offset;
    out.length = (uint32_t)frame_object_encode(&e, buf);
    assert_ok(conn_put(c, &out, buf, NULL));
    for (size_t at = 0; at < b->good_bytes; at += 256 * 1024) {
        size_t len = b->good_bytes - at < 256 * 1024 ? b->good_bytes - at : 256 * 1024;
        for (size_t i = 0; i < len; i++) {
            bytes[i] = net_byte(h.offset + at + i);
        }
        assert_ok(leaf_hasher_update(hasher, bytes, len));
        out = (struct frame_header){.type = FRAME_DATA,
                                    .request = h.request,
                                    .offset = h.offset + at,
                                    .length = (uint32_t)len};
        assert_ok(conn_put(c, &out, bytes, NULL));
        send_new_digests(c, &h, hasher, &n_sent);
    }
    if (b->badness == KEEPS_THE_END) {
        const uint8_t *digests;
        size_t n_leaves;
        assert_ok(leaf_hasher_finish(hasher, &digests, &n_leaves));
        send_new_digests(c, &h, hasher, &n_sent);
    }
    if (b->badness == SENDS_RUBBISH) {
        assert_ok(conn_put(c, &(struct frame_header){.type = 999}, NULL, NULL));
    }
    assert_ok(conn_flush(c, NULL));
    while (b->badness == FALLS_SILENT && conn_receive(c, 0, &h, NULL) == OK) {
        // until the other gives up
    }
    object_table_close(&table);
    leaf_hasher_free(hasher);
    free(bytes);
}

static void *run_bad_peer(void *arg) {
    struct bad_peer *b = arg;
    struct wire *w;

    while (listener_accept(b->listener, &w) == OK) {
        struct conn *c;
        b->n_connections++;
        assert_ok(conn_new(w, &c));
        if (b->badness != BREAKS_BEFORE_GREETING) {
            assert_ok(conn_welcome(c, NET_CLUSTER, "bad", NULL));
            answer_badly(b, c);
        }
        conn_free(c);
    }
    return NULL;
}

static void fails_over(enum badness badness, size_t good_bytes, int64_t stall_ms, size_t cap) {
    struct net n;
    struct peers p = {0};
    struct bad_peer b = {.badness = badness, .good_bytes = good_bytes};
    struct source *s;

    net_init(&n);
    net_add_file(&n, "large", 13 * MIB + 5);
    net_add_file(&n, "next", 1000);
    net_seal(&n);
    b.n = &n;
    assert_ok(transport_listen(n.transport, "bad", &b.listener, NULL));
    assert_int_equal(pthread_create(&b.thread, NULL, run_bad_peer, &b), 0);
    add_peer(&n, &p, "bad", "bad");
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, stall_ms);
    assert_ok(source_expect(
        s,
        (struct source_range[]){{.length = SOURCE_TO_END}, {.index = 1, .length = SOURCE_TO_END}},
        2, NULL));
    net_check_range(s, &(struct source_range){.length = SOURCE_TO_END}, cap);
    net_check_range(s, &(struct source_range){.index = 1, .length = SOURCE_TO_END}, cap);
    assert_string_equal(source_agent_peer_name(s), NET_SOURCE);
    // Only what was not checked yet was sent again.
    assert_true(data_server_bytes_served(n.server) <=
                13 * MIB + 1005 - good_bytes / LEAF_BYTES * LEAF_BYTES);
    source_free(s);
    listener_abort(b.listener);
    pthread_join(b.thread, NULL);
    assert_int_equal(b.n_connections, 1);
    listener_free(b.listener);
    net_deinit(&n);
}

static void a_peer_that_breaks_off_is_replaced_in_the_middle(void **state) {
    (void)state;
    fails_over(BREAKS_OFF, 5 * MIB + 77, 0, 100000);
    fails_over(BREAKS_OFF, 8 * MIB, 0, 65536);
    fails_over(BREAKS_OFF, 13 * MIB + 5, 0, 65536);
    fails_over(BREAKS_OFF, 0, 0, 65536);
}

static void a_peer_that_keeps_the_end_to_itself_is_replaced(void **state) {
    (void)state;
    fails_over(KEEPS_THE_END, 13 * MIB + 5, 0, 65536);
}

static void a_peer_that_falls_silent_is_replaced(void **state) {
    (void)state;
    fails_over(FALLS_SILENT, 5 * MIB + 77, 5000, 65536); // the other must not seem silent
}

static void a_peer_that_sends_rubbish_is_replaced(void **state) {
    (void)state;
    fails_over(SENDS_RUBBISH, 9 * MIB, 0, 65536);
}

static void a_peer_that_cannot_greet_is_replaced(void **state) {
    (void)state;
    fails_over(BREAKS_BEFORE_GREETING, 0, 0, 65536);
}

static void when_nobody_is_left_the_source_is_lost_and_says_why(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;
    struct source_found found;
    struct failure f = {0};

    (void)state;
    net_init(&n);
    net_add_file(&n, "x", 10);
    net_seal(&n);
    add_peer(&n, &p, "nobody", "nowhere");
    add_peer(&n, &p, "somebody", data_server_address(n.server)); // but source-1 answers there
    s = open_source(&n, &p, 0);
    assert_err(source_open(s, &(struct source_range){.length = 10}, &found, &f), ERR_UNREACHABLE);
    assert_non_null(strstr(f.message, "no source agent is left"));
    assert_err(source_open(s, &(struct source_range){.length = 10}, &found, &f), ERR_UNREACHABLE);
    source_free(s);
    net_deinit(&n);
}

static void *run_abort(void *arg) {
    source_abort(arg);
    return NULL;
}

static void an_abort_ends_a_wait(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;
    struct listener *listener;
    struct source_found found;
    pthread_t thread;

    (void)state;
    net_init(&n);
    net_add_file(&n, "x", 10);
    net_seal(&n);
    assert_ok(transport_listen(n.transport, "mute", &listener, NULL)); // nobody accepts
    add_peer(&n, &p, "mute", "mute");
    s = open_source(&n, &p, 0);
    assert_int_equal(pthread_create(&thread, NULL, run_abort, s), 0);
    assert_err(source_open(s, &(struct source_range){.length = 10}, &found, NULL), ERR_CANCELLED);
    pthread_join(thread, NULL);
    source_free(s);
    listener_free(listener);
    net_deinit(&n);
}

static void an_idle_connection_that_died_costs_no_failure(void **state) {
    struct net n;
    struct peers p = {0};
    struct source *s;

    (void)state;
    net_init(&n);
    net_add_file(&n, "x", 10);
    net_seal(&n);
    add_peer(&n, &p, NET_SOURCE, data_server_address(n.server));
    s = open_source(&n, &p, 0);
    net_check_range(s, &(struct source_range){.length = 10}, 10);
    source_free(s);
    data_server_free(n.server);
    n.server = net_server(&n, NET_SOURCE);
    p.addresses[0] = data_server_address(n.server);
    s = open_source(&n, &p, 0);
    net_check_range(s, &(struct source_range){.length = 10}, 10);
    source_free(s);
    net_deinit(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_files_arrive_exactly_and_the_connection_is_kept),
        cmocka_unit_test(large_ranges_have_their_digests),
        cmocka_unit_test(a_range_closed_early_does_not_disturb_the_next),
        cmocka_unit_test(holes_stay_holes),
        cmocka_unit_test(what_is_wrong_with_one_object_is_said_of_that_one),
        cmocka_unit_test(a_peer_that_breaks_off_is_replaced_in_the_middle),
        cmocka_unit_test(a_peer_that_keeps_the_end_to_itself_is_replaced),
        cmocka_unit_test(a_peer_that_falls_silent_is_replaced),
        cmocka_unit_test(a_peer_that_sends_rubbish_is_replaced),
        cmocka_unit_test(a_peer_that_cannot_greet_is_replaced),
        cmocka_unit_test(when_nobody_is_left_the_source_is_lost_and_says_why),
        cmocka_unit_test(an_abort_ends_a_wait),
        cmocka_unit_test(an_idle_connection_that_died_costs_no_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
