// SPDX-License-Identifier: Apache-2.0
#include "s3_ends.h"

#include "common/cleanup.h"

struct scripted_store scripted;
struct s3_store *tested_store;

int s3_ends_start(void **state) {
    (void)state;
    scripted_store_start(&scripted);
    tested_store = scripted.store;
    return 0;
}

static void use_own_store(void) {
    if (tested_store != scripted.store) {
        s3_store_free(tested_store);
    }
    tested_store = scripted.store;
}

int s3_ends_stop(void **state) {
    (void)state;
    use_own_store();
    scripted_store_stop(&scripted);
    return 0;
}

int s3_ends_setup(void **state) {
    (void)state;
    use_own_store();
    scripted_store_rules(&scripted, "[]");
    scripted_store_settings(&scripted, "{}");
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 1, 1, s3_temp);
    return 0;
}

void s3_ends_new_store(const struct s3_store_options *like) {
    struct s3_store_options o = *like;
    o.name = "s";
    o.endpoint = scripted.endpoint;
    o.region = "us-east-1";
    o.credentials = (struct s3_credentials_options){.access_key = "key", .secret_key = "secret"};
    use_own_store();
    assert_ok(s3_store_new(&o, &tested_store, NULL));
}

struct object_entry s3_file(const char *path, uint64_t size) {
    return (struct object_entry){
        .id = 1,
        .type = OBJECT_FILE,
        .mode = 0640,
        .uid = 12,
        .gid = 34,
        .version = {.size = size, .mtime_ns = 1234567890123456789},
        .path = (const uint8_t *)path,
        .path_len = strlen(path),
        .is_key = !object_path_is_valid((const uint8_t *)path, strlen(path)),
    };
}

struct s3_client *s3_new_client(void) {
    struct s3_client *c = NULL;
    assert_ok(s3_client_new(tested_store, NULL, &c, NULL));
    return c;
}

static struct sink *new_sink(bool never_replaces) {
    struct sink_s3_options o = {.take_client = s3_new_client(),
                                .root = (const uint8_t *)"b",
                                .root_len = 1,
                                .never_replaces = never_replaces};
    struct sink *s;
    assert_ok(sink_s3_new(&o, &s, NULL));
    return s;
}

struct sink *s3_new_sink(void) {
    return new_sink(false);
}

struct sink *s3_new_careful_sink(void) {
    return new_sink(true);
}

char s3_temp[TEMP_NAME_SIZE];
enum err s3_results[16];
struct failure s3_failures[16];

static void on_each(void *user, uint32_t tag, enum err result, const struct failure *failure) {
    (void)user;
    s3_results[tag] = result;
    s3_failures[tag] = *failure;
}

void s3_put(struct sink *s, const char *path, const void *bytes, size_t len, uint32_t tag) {
    struct object_entry e = s3_file(path, len);
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 1, 1, s3_temp);
    s3_results[tag] = ERR_COUNT;
    assert_ok(sink_begin(s, &e, s3_temp, NULL));
    assert_ok(sink_write(s, 0, bytes, len, NULL));
    assert_ok(sink_stage(s, tag, NULL));
}

void s3_finish(struct sink *s) {
    assert_ok(sink_finish_staged(s, DURABILITY_OBJECT, on_each, NULL, NULL));
}

void assert_object(const char *key, const void *bytes, size_t len) {
    size_t n = 0;
    AUTO(auto_free) uint8_t *body = scripted_store_get(&scripted, key, &n);
    assert_non_null(body);
    assert_int_equal(n, len);
    assert_memory_equal(body, bytes, len);
}

static enum err on_page(void *user, const uint8_t *bytes, size_t len, bool done) {
    struct s3_listing *l = user;
    struct object_table t;
    assert_ok(object_table_open(bytes, len, &t));
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        if (l->all.count < OBJECT_TABLE_MAX_OBJECTS) {
            assert_ok(object_table_add(&l->all, &e));
        }
    }
    object_table_close(&t);
    l->n_pages++;
    l->n_done += done;
    return OK;
}

static enum err on_failed(void *user, const struct failure *f) {
    (void)user;
    (void)f;
    return OK;
}

void s3_list(const char *root, const char *path, uint64_t look_bytes, struct s3_listing *l,
             struct object_table *ret_table) {
    struct s3_client *c;
    const uint8_t *bytes;
    size_t len;
    struct walk_sink sink = {on_page, on_failed, l};
    assert_ok(s3_client_new(tested_store, NULL, &c, NULL));
    struct walk_s3_options o = {.client = c,
                                .root = (const uint8_t *)root,
                                .root_len = strlen(root),
                                .look_bytes = look_bytes};
    *l = (struct s3_listing){0};
    object_table_init(&l->all);
    assert_ok(walk_s3_directory(&o, (const uint8_t *)path, strlen(path), &sink, NULL));
    assert_int_equal(l->n_done, 1);
    s3_client_free(c);
    assert_ok(object_table_bytes(&l->all, &bytes, &len));
    assert_ok(object_table_open(bytes, len, ret_table));
}

void s3_unlist(struct s3_listing *l, struct object_table *t) {
    object_table_close(t);
    object_table_deinit(&l->all);
}

// The index of @path in the table.
uint32_t s3_find(const struct object_table *t, const char *path) {
    for (uint32_t i = 0; i < t->count; i++) {
        struct object_entry e;
        object_table_get(t, i, &e);
        if (e.path_len == strlen(path) && memcmp(e.path, path, e.path_len) == 0) {
            return i;
        }
    }
    fail_msg("%s is not listed", path);
    return 0;
}

void s3_source(const char *root, const struct object_table *table, struct source **ret_source) {
    struct source_s3_options o = {.take_client = s3_new_client(),
                                  .root = (const uint8_t *)root,
                                  .root_len = strlen(root),
                                  .table = table,
                                  .digest = HASH_XXH3_128,
                                  .reads_tags = true};
    assert_ok(source_s3_new(&o, ret_source, NULL));
}

enum err s3_read_all(struct source *s, const struct source_range *r, uint8_t *to, size_t cap,
                     size_t *ret_len, struct source_found *ret_found, struct failure *f) {
    struct source_closed closed;
    enum err e = source_open(s, r, ret_found, f);
    *ret_len = 0;
    if (e != OK) {
        return e;
    }
    for (;;) {
        size_t n;
        uint64_t hole;
        e = source_read(s, to + *ret_len, cap - *ret_len + (*ret_len == cap), &n, &hole, f);
        if (e != OK || n == 0) {
            break;
        }
        *ret_len += n;
    }
    enum err closing = source_close(s, &closed, f);
    return e != OK ? e : closing;
}

void assert_sent(const char *text, const char *name, const char *value) {
    AUTO(auto_free) char *sent = scripted_store_sent(&scripted, text, name);
    if (value == NULL) {
        assert_null(sent);
    } else {
        assert_non_null(sent);
        assert_string_equal(sent, value);
    }
}

void assert_says(const struct failure *f, enum err e, const char *object, const char *text,
                 const char *remedy) {
    assert_err(f->err, e);
    assert_non_null(strstr(f->message, text));
    assert_non_null(strstr(f->remedy, remedy));
    assert_int_equal(f->object_len, strlen(object));
    assert_memory_equal(f->object, object, f->object_len);
}
