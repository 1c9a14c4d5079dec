// SPDX-License-Identifier: Apache-2.0
// WRAP: malloc calloc realloc aligned_alloc strdup strndup asprintf
// Every allocation of the lowest layer fails once: the caller is told, and nothing is lost.
#include "common/cleanup.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/hash.h"
#include "common/location.h"
#include "common/log.h"
#include "common/object_table.h"
#include "common/rpc/location_message.h"
#include "common/rpc/message_json.h"
#include "common/rpc/unpack.h"
#include "common/ticket.h"
#include "tests/lib/allocation.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/sluice-memory-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void path_in(char path[128], const char *name) {
    snprintf(path, 128, "%s/%s", dir, name);
}

// Was it for lack of memory, and is that what the user is told?
static bool is_told(enum err e, const struct failure *f) {
    if (e != OK) {
        assert_err(e, ERR_NO_MEMORY);
        assert_err(f->err, ERR_NO_MEMORY);
    }
    return e != OK;
}

// ---- tables ----

static enum err build_table(struct object_table_builder *b) {
    uint8_t path[600];
    memset(path, 'a', sizeof path);
    for (uint64_t i = 1; i <= 4; i++) {
        const struct object_entry e = {
            .id = i, .type = OBJECT_FILE, .path = path, .path_len = sizeof path};
        uint32_t count = b->count;
        enum err err = object_table_add(b, &e);
        if (err != OK) {
            assert_int_equal(b->count, count);
            return err;
        }
    }
    return OK;
}

static void make_table(void) {
    struct object_table_builder b;
    struct object_table t;
    const uint8_t *bytes = NULL;
    size_t len = 0;
    object_table_init(&b);
    enum err e = build_table(&b);
    if (e == OK) {
        e = object_table_bytes(&b, &bytes, &len);
    }
    if (e == OK) {
        e = object_table_open(bytes, len, &t);
    }
    if (e == OK) {
        assert_int_equal(t.count, 4);
        object_table_close(&t);
    } else {
        assert_err(e, ERR_NO_MEMORY);
    }
    object_table_deinit(&b);
}

static void a_table_is_whole_or_not_made(void **state) {
    (void)state;
    allocation_torture(make_table);
}

// ---- configuration ----

static void read_config(void) {
    static const char text[] = "name: node1\n"
                               "list: [a, b]\n"
                               "map: {size: 64KiB, yes: true}\n"
                               "items:\n"
                               "  - name: data\n"
                               "  - name: more\n";
    struct config *c = NULL;
    struct config_node *map = NULL;
    struct failure f = {0};
    const char *name = NULL;
    if (is_told(config_parse("torture.yaml", text, sizeof text - 1, &c, &f), &f)) {
        return;
    }
    assert_ok(config_string(config_root(c), "name", &name, &f));
    assert_string_equal(name, "node1");
    assert_ok(config_mapping(config_root(c), "map", &map, &f));
    assert_non_null(map);
    assert_err(config_check_unknown(c, &f), ERR_CONFIG);
    config_free(c);
}

static void load_config(void) {
    struct config *c = NULL;
    struct failure f = {0};
    char path[128];
    path_in(path, "config.yaml");
    if (!is_told(config_load(path, &c, &f), &f)) {
        config_free(c);
    }
}

static void a_configuration_is_read_or_not(void **state) {
    char path[128];
    (void)state;
    allocation_torture(read_config);
    path_in(path, "config.yaml");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "name: x\n", 8), 8);
    close(fd);
    allocation_torture(load_config);
}

// ---- locations ----

static const char *location_of_the_turn;

static void read_location(void) {
    struct location l, again;
    struct location_message m;
    struct failure f = {0};
    size_t len = 0;
    if (is_told(location_parse(location_of_the_turn, strlen(location_of_the_turn), &l, &f), &f)) {
        return;
    }
    location_to_message(&l, &m);
    if (!is_told(location_from_message(&m.message, &again, &f), &f)) {
        assert_true(location_equal(&l, &again));
        location_deinit(&again);
    }
    free(location_text(&l, &len));
    free(location_printable(&l));
    location_deinit(&l);
}

static void a_location_is_whole_or_not_made(void **state) {
    static const char *const texts[] = {"hpc/n1:/a/b", "s3+m://bucket/key", "https://host/x"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        location_of_the_turn = texts[i];
        allocation_torture(read_location);
    }
}

// ---- hashing, keys, messages ----

static void hash_leaves(void) {
    static const uint8_t bytes[1 << 20];
    struct leaf_hasher *l = leaf_hasher_new(HASH_SHA256);
    struct hash *tree = NULL;
    const uint8_t *digests;
    size_t n;
    if (l == NULL) {
        return;
    }
    enum err e = leaf_hasher_update(l, bytes, sizeof bytes);
    if (e == OK) {
        e = leaf_hasher_update_zeros(l, 40 * LEAF_BYTES);
    }
    if (e == OK) {
        e = leaf_hasher_finish(l, &digests, &n);
    }
    if (e == OK) {
        assert_int_equal(n, 41);
        e = tree_digest_begin(HASH_SHA256, sizeof bytes, &tree);
    }
    if (e == OK) {
        struct digest d;
        tree_digest_end(tree, &d);
    } else {
        assert_err(e, ERR_NO_MEMORY);
    }
    leaf_hasher_free(l);
}

static void keep_key(void) {
    struct signing_key *k = NULL;
    struct failure f = {0};
    char path[128];
    path_in(path, "key");
    unlink(path);
    if (!is_told(signing_key_load_or_create(path, &k, &f), &f)) {
        signing_key_free(k);
        assert_int_equal(access(path, F_OK), 0);
    }
}

static void unpack_message(void) {
    static const char data[] = "\x0a\x0b\x0a\x03hpc\x1a\x04/a\xff\xfe";
    ProtobufCMessage *m = NULL;
    enum err e = message_unpack(&sluice__v1__location__descriptor, (const uint8_t *)data,
                                sizeof data - 1, 1 << 20, &m);
    if (e != OK) {
        assert_err(e, ERR_NO_MEMORY);
        return;
    }
    json_decref(message_to_json(m)); // NULL is fine
    protobuf_c_message_free_unpacked(m, NULL);
}

static void digests_keys_and_messages_are_whole_or_not_made(void **state) {
    (void)state;
    allocation_torture(hash_leaves);
    allocation_torture(keep_key);
    allocation_torture(unpack_message);
}

// ---- files and the log ----

static void write_port_file(void) {
    struct failure f = {0};
    char path[128];
    path_in(path, "port");
    is_told(daemon_write_port_file(path, "127.0.0.1:0", 4711, &f), &f);
}

static void write_log(void) {
    static uint8_t name[9000]; // longer than a line has room for at first, and not UTF-8
    struct failure f = {0};
    char path[128];
    path_in(path, "log");
    memset(name, 0xfe, sizeof name);
    if (!is_told(log_open(path, "torture", "x", &f), &f)) {
        log_event(LOG_ERROR, "told", LOG_PATH("path", name, sizeof name), LOG_STR("text", "x"));
    }
    atomic_store(&allocation.fail_at, 0); // stderr again, whatever happened
    assert_ok(log_open(NULL, NULL, NULL, NULL));
}

static void lines_are_whole_or_counted(void **state) {
    char path[128];
    (void)state;
    allocation_torture(write_port_file);
    allocation_torture(write_log);
    path_in(path, "log");
    FILE *log = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    assert_non_null(log);
    while ((n = getline(&line, &cap, log)) > 0) {
        assert_int_equal(line[0], '{');
        assert_memory_equal(line + n - 2, "}\n", 2);
    }
    free(line);
    fclose(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_whole_or_not_made),
        cmocka_unit_test(a_configuration_is_read_or_not),
        cmocka_unit_test(a_location_is_whole_or_not_made),
        cmocka_unit_test(digests_keys_and_messages_are_whole_or_not_made),
        cmocka_unit_test(lines_are_whole_or_counted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
