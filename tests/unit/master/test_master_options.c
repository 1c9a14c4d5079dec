// SPDX-License-Identifier: Apache-2.0
#include "master/master_options.h"

#include "common/config.h"
#include "tests/lib/test.h"

#include <string.h>

static enum err read_text(const char *text, struct master_options *o, struct failure *f,
                          struct config **ret_config) {
    *ret_config = NULL;
    enum err e = config_parse("master.yaml", text, strlen(text), ret_config, f);
    return e == OK ? master_options_read(*ret_config, o, f) : e;
}

static void refused(const char *text, const char *word) {
    struct master_options o;
    struct failure f = {0};
    struct config *c;
    char told[2048];
    assert_err(read_text(text, &o, &f, &c), ERR_CONFIG);
    failure_format(&f, told, sizeof told);
    if (strstr(told, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, told);
    }
    config_free(c);
}

static void a_state_dir_is_enough(void **state) {
    (void)state;
    struct master_options o;
    struct failure f = {0};
    struct config *c;
    assert_ok(read_text("state_dir: /x\n", &o, &f, &c));
    assert_string_equal(o.state_dir, "/x");
    assert_string_equal(o.listen, "127.0.0.1:7400");
    assert_string_equal(o.name, "master");
    assert_false(o.tls);
    assert_int_equal(o.hold_ms, 30000);
    assert_int_equal(o.part_bytes, 256 << 20);
    assert_int_equal(o.large_bytes, 256 << 20);
    assert_int_equal(o.flows_queued, 10000);
    config_free(c);
}

static void every_key_is_read(void **state) {
    (void)state;
    struct master_options o;
    struct failure f = {0};
    struct config *c;
    assert_ok(read_text("name: m1\nlisten: 0.0.0.0:0\nstate_dir: /x\nport_file: /x/port\n"
                        "log_file: /x/log\nlog_level: debug\nhold: 4s\nheartbeat: 500ms\n"
                        "lost_after: 2s\nreconcile: 3s\npark: 1min\npart_bytes: 16MiB\n"
                        "large_bytes: 8MiB\ntls: {certificate: c, key: k, ca: a}\n"
                        "limits: {flows_queued: 1, flows_active: 2, tasks_in_memory: 100,"
                        " tasks_per_flow: 50, spec_bytes_per_flow: 1MiB, watchers: 5, agents: 6, "
                        "calls: 16, message_bytes: 2MiB, events_per_flow: 16, task_retries: 7,"
                        " retries_per_flow: 8}\n",
                        &o, &f, &c));
    assert_string_equal(o.name, "m1");
    assert_string_equal(o.port_file, "/x/port");
    assert_int_equal(o.hold_ms, 4000);
    assert_int_equal(o.heartbeat_ms, 500);
    assert_int_equal(o.park_ms, 60000);
    assert_int_equal(o.part_bytes, 16 << 20);
    assert_int_equal(o.large_bytes, 8 << 20);
    assert_true(o.tls);
    assert_string_equal(o.tls_ca, "a");
    assert_int_equal(o.flows_queued, 1);
    assert_int_equal(o.spec_bytes_per_flow, 1 << 20);
    assert_int_equal(o.watchers, 5);
    assert_int_equal(o.calls, 16);
    assert_int_equal(o.message_bytes, 2 << 20);
    assert_int_equal(o.events_per_flow, 16);
    assert_int_equal(o.task_retries, 7);
    assert_int_equal(o.retries_per_flow, 8);
    config_free(c);
}

static void without_a_state_dir_it_says_so(void **state) {
    (void)state;
    refused("name: m\n", "state_dir");
}

static void a_misspelt_key_is_named_with_its_line(void **state) {
    (void)state;
    refused("state_dir: /x\nlisten_on: 127.0.0.1:0\n", "listen_on");
    refused("state_dir: /x\nlisten_on: 127.0.0.1:0\n", "master.yaml");
}

static void plaintext_beyond_this_machine_is_refused(void **state) {
    (void)state;
    refused("state_dir: /x\nlisten: 0.0.0.0:1\n", "tls");
    refused("state_dir: /x\nlisten: node7:1\n", "tls");
}

static void an_address_without_a_port_is_refused(void **state) {
    (void)state;
    refused("state_dir: /x\nlisten: localhost\n", "listen");
    refused("state_dir: /x\nlisten: 127.0.0.1:80000\n", "listen");
}

static void a_part_is_a_whole_number_of_leaves(void **state) {
    (void)state;
    refused("state_dir: /x\npart_bytes: 5MiB\n", "part_bytes");
    refused("state_dir: /x\npart_bytes: 2GiB\n", "part_bytes");
}

static void a_bound_of_messages_has_room_for_those_of_agents(void **state) {
    (void)state;
    struct master_options o;
    struct failure f = {0};
    struct config *c;
    assert_ok(read_text("state_dir: /x\nlimits: {message_bytes: 1MiB}\n", &o, &f, &c));
    assert_int_equal(o.message_bytes, 1 << 20);
    config_free(c);
    assert_ok(read_text("state_dir: /x\n", &o, &f, &c));
    assert_int_equal(o.message_bytes, 4 << 20);
    config_free(c);
    refused("state_dir: /x\nlimits: {message_bytes: 1048575}\n", "a page of its listing");
    refused("state_dir: /x\nlimits: {message_bytes: 64MiB}\n", "message_bytes");
}

static void times_must_fit_together(void **state) {
    (void)state;
    refused("state_dir: /x\nlost_after: 1s\nheartbeat: 1s\n", "lost_after");
    refused("state_dir: /x\nhold: 2s\nlost_after: 3s\n", "hold");
    refused("state_dir: /x\nhold: soon\n", "hold");
}

static void callbacks_need_hosts_and_a_secret(void **state) {
    (void)state;
    struct master_options o;
    struct failure f = {0};
    struct config *c;
    assert_ok(read_text("state_dir: /x\n", &o, &f, &c));
    assert_int_equal(o.callbacks.n_hosts, 0);
    config_free(c);
    assert_ok(read_text("state_dir: /x\ncallbacks: {hosts: [a.org, \"b:80\"], secret_file: /s,"
                        " ca_file: /ca, timeout: 2s, connect_timeout: 1s, backoff: 3s,"
                        " backoff_max: 4s, attempts: 5, concurrent: 6, dead_kept: 7}\n",
                        &o, &f, &c));
    assert_int_equal(o.callbacks.n_hosts, 2);
    assert_string_equal(o.callbacks.hosts[1], "b:80");
    assert_string_equal(o.callbacks.secret_file, "/s");
    assert_string_equal(o.callbacks.ca_file, "/ca");
    assert_int_equal(o.callbacks.timeout_ms, 2000);
    assert_int_equal(o.callbacks.connect_timeout_ms, 1000);
    assert_int_equal(o.callbacks.backoff_ms, 3000);
    assert_int_equal(o.callbacks.backoff_max_ms, 4000);
    assert_int_equal(o.callbacks.attempts, 5);
    assert_int_equal(o.callbacks.concurrent, 6);
    assert_int_equal(o.callbacks.dead_kept, 7);
    config_free(c);
    refused("state_dir: /x\ncallbacks: {secret_file: /s}\n", "hosts");
    refused("state_dir: /x\ncallbacks: {hosts: [a]}\n", "secret_file");
    refused("state_dir: /x\ncallbacks: {hosts: [\"http://a\"], secret_file: /s}\n", "hosts");
    refused("state_dir: /x\ncallbacks: {hosts: [a], secret_file: /s, attempts: 0}\n", "attempts");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_dir_is_enough),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(without_a_state_dir_it_says_so),
        cmocka_unit_test(a_misspelt_key_is_named_with_its_line),
        cmocka_unit_test(plaintext_beyond_this_machine_is_refused),
        cmocka_unit_test(an_address_without_a_port_is_refused),
        cmocka_unit_test(a_part_is_a_whole_number_of_leaves),
        cmocka_unit_test(a_bound_of_messages_has_room_for_those_of_agents),
        cmocka_unit_test(times_must_fit_together),
        cmocka_unit_test(callbacks_need_hosts_and_a_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
