// SPDX-License-Identifier: Apache-2.0
// clang-format off
// WRAP: planner_flow_begin planner_flow_abandon scheduler_flow_pause scheduler_flow_resume scheduler_flow_remove agents_resolve core_dispatch
// clang-format on
#include "tests/unit/master/flow_world.h"

#include "master/callback_body.h"
#include "master/callback_signature.h"
#include "master/callback_target.h"
#include "master/callbacks.h"

#include <inttypes.h>
#include <jansson.h>

// ---- the signature ----
static void a_signature_is_that_of_the_time_and_the_body(void **state) {
    (void)state;
    struct callback_secret s = {.len = 16};
    memcpy(s.bytes, "0123456789abcdef", 16);
    char text[CALLBACK_SIGNATURE_SIZE];
    assert_ok(callback_sign(&s, 1700000000, "{\"a\":1}", 7, text));
    assert_string_equal(
        text, "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23");
}

static void write_secret(const char *path, const char *text) {
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void a_secret_ends_before_its_line_break_and_is_long_enough(void **state) {
    (void)state;
    struct callback_secret s;
    struct failure f = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/secret", w.dir);
    write_secret(path, "0123456789abcdef\n");
    assert_ok(callback_secret_read(path, &s, &f));
    assert_int_equal(s.len, 16);
    write_secret(path, "0123456789abcde\n");
    assert_err(callback_secret_read(path, &s, &f), ERR_CONFIG);
    snprintf(path, sizeof path, "%s/none", w.dir);
    assert_err(callback_secret_read(path, &s, &f), ERR_NOT_FOUND);
}

// ---- retries ----
static void delays_double_up_to_a_limit_and_keep_at_least_half(void **state) {
    (void)state;
    const struct callback_options o = {.backoff_ms = 1000, .backoff_max_ms = 6000};
    const int64_t full[] = {1000, 2000, 4000, 6000, 6000};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(callback_delay_ms(&o, i + 1, 0), full[i]);
        assert_int_equal(callback_delay_ms(&o, i + 1, UINT32_MAX), full[i] / 2);
    }
    assert_int_equal(callback_delay_ms(&o, 1000000, 0), 6000);
}

// ---- targets ----
static void only_listed_hosts_may_be_called(void **state) {
    (void)state;
    const struct callback_options o = {.hosts = {"hooks.example.org", "10.0.0.1:8080", "[::1]"},
                                       .n_hosts = 3};
    const struct {
        const char *url;
        enum err want;
    } cases[] = {
        {"https://hooks.example.org", OK},
        {"https://HOOKS.example.org:8443/a?b=c", OK},
        {"http://10.0.0.1:8080/x", OK},
        {"http://[::1]:99/", OK},
        {"http://10.0.0.1/x", ERR_DENIED},
        {"http://10.0.0.1:80801/x", ERR_INVALID},
        {"https://evil.example.org", ERR_DENIED},
        {"https://hooks.example.org.evil.org/", ERR_DENIED},
        {"https://hooks.example.org@evil.org/", ERR_INVALID},
        {"https://evil.org\\@hooks.example.org/", ERR_INVALID},
        {"https://hooks.example.org/a b", ERR_INVALID},
        {"https://hooks.example.org/\r\nX: y", ERR_INVALID},
        {"https://hooks.example.org/#x", ERR_INVALID},
        {"https://hooks.example.org:/", ERR_INVALID},
        {"https://", ERR_INVALID},
        {"ftp://hooks.example.org/", ERR_INVALID},
        {"hooks.example.org", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct failure f = {0};
        enum err e = callback_target_check(cases[i].url, &o, &f);
        if (e != cases[i].want) {
            fail_msg("%s: %s, not %s", cases[i].url, err_name(e), err_name(cases[i].want));
        }
        assert_true(e == OK || f.remedy[0] != '\0');
    }
    const struct callback_options off = {0};
    struct failure f = {0};
    assert_err(callback_target_check("http://hooks.example.org/", &off, &f), ERR_UNIMPLEMENTED);
}

static void hosts_are_names_or_addresses_with_or_without_a_port(void **state) {
    (void)state;
    assert_true(callback_host_is_valid("a.b-c.d"));
    assert_true(callback_host_is_valid("a:1"));
    assert_true(callback_host_is_valid("[fe80::1]:65535"));
    assert_false(callback_host_is_valid(""));
    assert_false(callback_host_is_valid("a:0"));
    assert_false(callback_host_is_valid("a:65536"));
    assert_false(callback_host_is_valid("http://a"));
    assert_false(callback_host_is_valid("*.a"));
    assert_false(callback_host_is_valid("[fe80::1"));
}

// ---- the outbox ----
static struct {
    bool read;
    size_t n;
    uint64_t ids[8], seqs[8];
    int64_t not_before_ms[8];
    char bodies[8][1024];
} outbox;

static void on_outbox(void *arg, enum err result, const struct outbox_row *rows, size_t n,
                      bool more) {
    (void)arg;
    (void)more;
    assert_ok(result);
    outbox.n = n;
    for (size_t i = 0; i < n && i < 8; i++) {
        outbox.ids[i] = rows[i].id;
        outbox.seqs[i] = rows[i].seq;
        outbox.not_before_ms[i] = rows[i].not_before_ms;
        snprintf(outbox.bodies[i], sizeof outbox.bodies[i], "%.*s", (int)rows[i].body.len,
                 (const char *)rows[i].body.bytes);
    }
    outbox.read = true;
}

static bool is_read(void) {
    return outbox.read;
}

static void read_outbox(bool dead) {
    outbox.read = false;
    if (dead) {
        database_outbox_dead(w.core.database, 0, 8, on_outbox, NULL);
    } else {
        database_outbox_read(w.core.database, 8, on_outbox, NULL);
    }
    until(is_read);
}

static void on_committed(void *arg, enum err result) {
    (void)arg;
    assert_ok(result);
    w.answered = true;
}

static void commit(struct change *c) {
    w.answered = false;
    database_commit(w.core.database, c, on_committed, NULL);
    until(is_answered);
}

static void add(const char *flow, uint64_t seq, bool thin) {
    struct change *c = change_new();
    char body[24];
    snprintf(body, sizeof body, "%" PRIu64, seq);
    change_outbox_add(c, flow, seq, thin, "http://x/",
                      (struct blob){(const uint8_t *)body, strlen(body)});
    commit(c);
}

static void done(const char *flow, uint64_t id) {
    struct change *c = change_new();
    change_outbox_done(c, flow, id);
    commit(c);
}

static void one_of_a_flow_has_its_turn_and_the_next_when_it_is_done(void **state) {
    (void)state;
    add("f", 1, false);
    add("f", 2, false);
    add("g", 1, false);
    read_outbox(false);
    assert_int_equal(outbox.n, 2);
    assert_int_equal(outbox.seqs[0], 1);
    uint64_t first = outbox.ids[0];
    struct change *c = change_new();
    change_outbox_later(c, first, 5000);
    commit(c);
    read_outbox(false);
    assert_int_equal(outbox.n, 2); // g's goes first now, and f's second still waits
    assert_int_equal(outbox.ids[1], first);
    assert_int_equal(outbox.not_before_ms[1], 5000);
    done("f", first);
    read_outbox(false);
    assert_int_equal(outbox.n, 2);
    assert_int_equal(outbox.seqs[0], 2);
}

static void only_the_newest_progress_waits_and_a_change_takes_its_place(void **state) {
    (void)state;
    add("f", 1, false);
    add("f", 2, true);
    add("f", 3, true);
    read_outbox(false);
    assert_int_equal(outbox.n, 1);
    done("f", outbox.ids[0]);
    read_outbox(false);
    assert_int_equal(outbox.n, 1);
    assert_int_equal(outbox.seqs[0], 3);
    uint64_t being_sent = outbox.ids[0];
    add("f", 4, true);
    add("f", 5, false);
    done("f", being_sent);
    read_outbox(false);
    assert_int_equal(outbox.n, 1);
    assert_int_equal(outbox.seqs[0], 5);
    done("f", outbox.ids[0]);
    read_outbox(false);
    assert_int_equal(outbox.n, 0);
}

static void die(const char *flow, uint64_t id, int64_t at_ms) {
    struct change *c = change_new();
    change_outbox_dead(c, flow, id, "answered 500", at_ms, 2);
    commit(c);
}

static void the_dead_are_kept_up_to_a_number_and_can_be_revived(void **state) {
    (void)state;
    for (uint64_t seq = 1; seq <= 4; seq++) {
        add("f", seq, false);
    }
    for (int64_t i = 1; i <= 3; i++) {
        read_outbox(false);
        assert_int_equal(outbox.n, 1);
        assert_int_equal(outbox.seqs[0], i);
        die("f", outbox.ids[0], i);
    }
    read_outbox(true);
    assert_int_equal(outbox.n, 2);
    assert_int_equal(outbox.seqs[0], 2);
    assert_int_equal(outbox.seqs[1], 3);
    struct change *c = change_new();
    change_outbox_revive(c, "f", 3);
    commit(c);
    read_outbox(true);
    assert_int_equal(outbox.n, 1);
    read_outbox(false);
    assert_int_equal(outbox.seqs[0], 3);
}

// ---- flows ----
static struct flow *submit_with_callback(void) {
    static char url[] = "http://hooks.example.org/x";
    w.options.callbacks = (struct callback_options){.hosts = {"hooks.example.org"}, .n_hosts = 1};
    callback_url = url;
    return accepted("r");
}

static void assert_event(size_t i, const char *event) {
    json_error_t error;
    json_t *body = json_loads(outbox.bodies[i], 0, &error);
    assert_non_null(body);
    char id[CALLBACK_ID_SIZE];
    callback_id(w.id, outbox.seqs[i], id);
    assert_string_equal(json_string_value(json_object_get(body, "event")), event);
    assert_string_equal(json_string_value(json_object_get(body, "id")), id);
    assert_string_equal(json_string_value(json_object_get(body, "flow")), w.id);
    json_decref(body);
}

static void an_accepted_flow_and_its_callback_are_stored_together(void **state) {
    (void)state;
    submit_with_callback();
    read_outbox(false);
    assert_int_equal(outbox.n, 1);
    assert_event(0, "started");
}

static void a_repeated_request_causes_no_second_callback(void **state) {
    (void)state;
    submit_with_callback();
    submit_with_callback();
    assert_true(w.existed);
    read_outbox(false);
    assert_int_equal(outbox.n, 1);
    done(w.id, outbox.ids[0]);
    read_outbox(false);
    assert_int_equal(outbox.n, 0);
}

static void each_change_of_state_is_called_back(void **state) {
    (void)state;
    static const char *const events[] = {"started", "suspended", "started", "terminated"};
    struct flow *f = submit_with_callback();
    w.answered = false;
    flow_suspend(&w.core, f, 1, "", on_done, NULL);
    until(is_answered);
    w.answered = false;
    flow_resume(&w.core, f, 1, on_done, NULL);
    until(is_answered);
    w.answered = false;
    flow_terminate(&w.core, f, "", on_done, NULL);
    until(is_answered);
    until(is_forgotten);
    for (size_t i = 0; i < 4; i++) {
        read_outbox(false);
        assert_int_equal(outbox.n, 1);
        assert_event(0, events[i]);
        done(w.id, outbox.ids[0]);
    }
    read_outbox(false);
    assert_int_equal(outbox.n, 0);
}

static bool asked, found;

static bool has_progress(void) {
    if (found) {
        return true;
    }
    if (!asked) {
        asked = true;
        outbox.read = false;
        database_outbox_read(w.core.database, 8, on_outbox, NULL);
    } else if (outbox.read) {
        asked = false;
        found = outbox.n == 1 && strstr(outbox.bodies[0], "\"progress\"") != NULL;
    }
    return found;
}

static void progress_is_called_back_when_it_moves(void **state) {
    (void)state;
    struct flow *f = submit_with_callback();
    read_outbox(false);
    done(w.id, outbox.ids[0]);
    f->progress.bytes_done = f->progress.bytes_total = 77;
    flow_progressed(&w.core, f);
    until(has_progress);
    assert_event(0, "progress");
    assert_non_null(strstr(outbox.bodies[0], "\"bytes_done\":77"));
}

static void a_body_is_json_whatever_the_failure_names(void **state) {
    (void)state;
    struct flow *f = submit_with_callback();
    char *text = NULL;
    json_error_t error;
    (void)failure_set(&f->error, ERR_NO_SPACE, "write", "a\xff\"\n", 4, "disk \"full\"");
    snprintf(f->error_agent, sizeof f->error_agent, "b1");
    assert_ok(callback_body(f, 9, 1700000000123, false, &text));
    json_t *body = json_loads(text, 0, &error);
    assert_non_null(body);
    assert_string_equal(json_string_value(json_object_get(body, "at")), "2023-11-14T22:13:20.123Z");
    json_t *e = json_object_get(body, "error");
    assert_string_equal(json_string_value(json_object_get(e, "path")), "a\xef\xbf\xbd\"\n");
    assert_string_equal(json_string_value(json_object_get(e, "code")), "NO_SPACE");
    assert_string_equal(json_string_value(json_object_get(e, "agent")), "b1");
    json_decref(body);
    free(text);
    f->state = FLOW_PREPARED;
    assert_ok(callback_body(f, 9, 0, false, &text));
    assert_null(text);
    f->state = FLOW_STARTED;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signature_is_that_of_the_time_and_the_body),
        cmocka_unit_test(delays_double_up_to_a_limit_and_keep_at_least_half),
        cmocka_unit_test(only_listed_hosts_may_be_called),
        cmocka_unit_test(hosts_are_names_or_addresses_with_or_without_a_port),
        TEST(a_secret_ends_before_its_line_break_and_is_long_enough),
        TEST(one_of_a_flow_has_its_turn_and_the_next_when_it_is_done),
        TEST(only_the_newest_progress_waits_and_a_change_takes_its_place),
        TEST(the_dead_are_kept_up_to_a_number_and_can_be_revived),
        TEST(an_accepted_flow_and_its_callback_are_stored_together),
        TEST(a_repeated_request_causes_no_second_callback),
        TEST(each_change_of_state_is_called_back),
        TEST(progress_is_called_back_when_it_moves),
        TEST(a_body_is_json_whatever_the_failure_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
