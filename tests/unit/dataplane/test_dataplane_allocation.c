// SPDX-License-Identifier: Apache-2.0
// WRAP: malloc calloc realloc aligned_alloc strdup strndup asprintf
// TIMEOUT: 240
// Every allocation on the way of the bytes fails once: what is visible is whole, what was not
// delivered is not said to be, and nothing is left behind.
#include "common/cleanup.h"
#include "dataplane/sink_posix.h"
#include "dataplane/source_agent.h"
#include "dataplane/source_posix.h"
#include "dataplane/transfer.h"
#include "tests/lib/allocation.h"
#include "tests/lib/tree.h"
#include "tests/unit/dataplane/net_fixture.h"

static const char flow[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
static struct tree from, to;
static struct tree_table table;
static char buffer[64 << 10] __attribute__((aligned(4096)));

static int setup(void **state) {
    (void)state;
    tree_new(&from);
    tree_new(&to);
    tree_mkdir(&from, "d");
    tree_write(&from, "d/a", "aaaa", 4);
    tree_write(&from, "d/b", "", 0);
    assert_int_equal(symlinkat("a", from.fd, "d/l"), 0);
    tree_table_new(&table, &from, (const char *[]){"d/a", "d/b", "d/l", NULL});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tree_table_free(&table);
    tree_free(&from);
    tree_free(&to);
    return 0;
}

static bool is_told(enum err e, const struct failure *f) {
    if (e != OK) {
        assert_err(e, ERR_NO_MEMORY);
        assert_err(f->err, ERR_NO_MEMORY);
    }
    return e != OK;
}

// ---- listing ----

static enum err on_page(void *user, const uint8_t *bytes, size_t len, bool done) {
    (void)bytes;
    (void)len;
    *(bool *)user = done;
    return OK;
}

static enum err on_failed(void *user, const struct failure *f) {
    (void)user;
    fail_msg("%s", f->message); // lack of memory is not an entry's own failure
    return OK;
}

static void list(void) {
    bool done = false;
    struct failure f = {0};
    struct walk_options o = {.volume_fd = from.fd};
    struct walk_sink sink = {.page = on_page, .failed = on_failed, .user = &done};
    enum err e = walk_directory(&o, (const uint8_t *)"d", 1, &sink, &f);
    // fdopendir() allocates in libc, so that is not tried here.
    assert_int_equal(!is_told(e, &f), done);
}

static void a_listing_is_complete_or_fails(void **state) {
    (void)state;
    allocation_torture(list);
}

// ---- copying ----

static enum err run_batch(struct transfer_object *results, enum durability durability,
                          struct failure *f) {
    struct transfer_control control = {0};
    struct transfer_times times = {0};
    struct transfer_options o = {
        .table = &table.table,
        .digest = HASH_XXH3_128,
        .durability = durability,
        .flow = flow,
        .major = 1,
        .minor = 1,
        .buffer = buffer,
        .buffer_bytes = sizeof buffer,
        .control = &control,
        .times = &times,
    };
    const struct sink_posix_options so = {
        .volume_fd = to.fd, .root = (const uint8_t *)"out", .root_len = 3, .boot_id = "boot"};
    enum err e = source_posix_new(from.fd, NULL, 0, &table.table, &o.source, f);
    if (e == OK) {
        e = sink_posix_new(&so, &o.sink, f);
    }
    if (e == OK) {
        e = transfer_batch(&o, results, f);
    }
    sink_free(o.sink);
    source_free(o.source);
    return e;
}

// Of the object @i of the table: what is said of it, and what there is.
static void check_object(const struct transfer_object *r, uint32_t i) {
    static const char *const paths[] = {"out/d/a", "out/d/b", "out/d/l"};
    struct stat st;
    bool is_there = fstatat(to.fd, paths[i], &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (r->outcome == TRANSFER_DELIVERED) {
        assert_true(is_there);
    }
    if (r->outcome == TRANSFER_FAILED) {
        assert_err(r->failure.err, ERR_NO_MEMORY);
    }
    if (is_there && i == 0) {
        assert_int_equal(st.st_size, 4);
    }
}

static void copy(enum durability durability) {
    struct transfer_object results[3] = {0};
    struct failure f = {0};
    bool failed = is_told(run_batch(results, durability, &f), &f);
    atomic_store(&allocation.fail_at, 0);
    int n_there = 0;
    for (uint32_t i = 0; i < 3; i++) {
        check_object(&results[i], i);
        n_there += failed ? 0 : results[i].outcome == TRANSFER_DELIVERED;
    }
    int fd = openat(to.fd, "out/d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        assert_true(tree_count(&to, "out/d") <= 3);
        close(fd);
    }
    tree_clear(to.fd);
    assert_true(failed || n_there > 0);
}

static void copy_by_object(void) {
    copy(DURABILITY_OBJECT);
}

static void copy_by_task(void) {
    copy(DURABILITY_TASK);
}

static void what_is_not_delivered_is_not_said_to_be(void **state) {
    (void)state;
    allocation_torture(copy_by_object);
    allocation_torture(copy_by_task);
}

// ---- another agent ----

static struct net net;
static struct source_agent_peer peer;

// The server's threads allocate as well, so that it is not always the same one that fails.
static void read_remotely(void) {
    struct source_agent_options o = {.pool = net.pool,
                                     .peers = &peer,
                                     .n_peers = 1,
                                     .objects = net.table,
                                     .objects_len = net.table_len,
                                     .task_id = NET_TASK,
                                     .digest = HASH_XXH3_128};
    struct source_range range = {.length = SOURCE_TO_END};
    struct source *s = NULL;
    struct source_found found;
    struct source_closed closed = {0};
    struct failure f = {0};
    size_t len = 1, done = 0;
    uint64_t hole = 0;
    enum err e = source_agent_new(&o, &s, &f);
    if (e == OK) {
        e = source_open(s, &range, &found, &f);
    }
    if (e == OK) {
        while (e == OK && len > 0) {
            e = source_read(s, buffer, sizeof buffer, &len, &hole, &f);
            done += e == OK ? len : 0;
        }
        enum err close_e = source_close(s, &closed, e == OK ? &f : NULL);
        e = e != OK ? e : close_e;
    }
    if (e == OK) {
        assert_int_equal(done, 200000);
        assert_int_equal(closed.n_leaves, 1);
    } else {
        assert_err(f.err, e);
    }
    source_free(s);
}

static void a_remote_read_is_whole_or_fails(void **state) {
    static const char *address;
    static uint8_t ticket[TICKET_MAX_BYTES];
    (void)state;
    net_init(&net);
    net_add_file(&net, "f", 200000);
    net_seal(&net);
    address = data_server_address(net.server);
    peer = (struct source_agent_peer){.name = NET_SOURCE,
                                      .addresses = &address,
                                      .n_addresses = 1,
                                      .ticket = ticket,
                                      .ticket_len = net_sign(&net, ticket)};
    for (int n = 1; n <= 60; n++) {
        atomic_store(&allocation.for_ever, false);
        atomic_store(&allocation.calls, 0);
        atomic_store(&allocation.fail_at, n);
        read_remotely();
        atomic_store(&allocation.fail_at, 0);
    }
    read_remotely(); // all is well again
    net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_listing_is_complete_or_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_delivered_is_not_said_to_be, setup, teardown),
        cmocka_unit_test(a_remote_read_is_whole_or_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
