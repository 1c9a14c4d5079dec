// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_options.h"

#include "agent/agent.h"
#include "common/config.h"
#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/scratch.h"

#include <stdio.h>
#include <string.h>

static const char least[] = "name: n1\n"
                            "site: alpha\n"
                            "state_dir: /tmp/x\n"
                            "volumes:\n"
                            "  - {name: data, root: /}\n";

// Reads @text and more of it; the config is released by the caller.
static enum err read_text(const char *first, const char *more, struct config **ret_config,
                          struct agent_options *ret_options, struct failure *f) {
    char text[2048];
    (void)snprintf(text, sizeof text, "%s%s", first, more);
    *ret_config = NULL;
    enum err e = config_parse("agent.yaml", text, strlen(text), ret_config, f);
    return e == OK ? agent_options_read(*ret_config, ret_options, f) : e;
}

// It is refused, and the message holds @line ("line 6") and @word.
static void refused(const char *first, const char *more, const char *line, const char *word) {
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    char message[2048];
    assert_err(read_text(first, more, &c, &o, &f), ERR_CONFIG);
    failure_format(&f, message, sizeof message);
    if (strstr(message, line) == NULL || strstr(message, word) == NULL) {
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", message, line, word);
    }
    config_free(c);
}

static void the_least_configuration_has_usable_defaults(void **state) {
    (void)state;
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    assert_ok(read_text(least, "", &c, &o, &f));
    assert_string_equal(o.name, "n1");
    assert_string_equal(o.data_listen, "127.0.0.1:0");
    assert_true(o.slots > 0);
    assert_int_equal(o.buffer_bytes, 512 << 10);
    assert_int_equal(o.stall_ms, 30000);
    assert_int_equal(o.data_idle_ms, 60000);
    assert_int_equal(o.direct_from_bytes, 0);
    assert_int_equal(o.data_connections, 1024);
    assert_int_equal(o.n_volumes, 1);
    assert_true(o.volumes[0].readable && o.volumes[0].writable);
    assert_false(o.tls);
    config_free(c);
}

static void modes_and_addresses_are_read(void **state) {
    (void)state;
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    assert_ok(read_text(
        least,
        "  - {name: in, root: /usr, mode: read}\n"
        "  - {name: out, root: /var, mode: write}\n"
        "slots: 3\nbuffer: 1MiB\nstall: 2s\ndata_idle: 1s\ndirect: 64MiB\ndata_connections: 9\n"
        "data_addresses: ['127.0.0.1:0', '[::1]:7']\n",
        &c, &o, &f));
    assert_true(o.volumes[1].readable && !o.volumes[1].writable);
    assert_true(!o.volumes[2].readable && o.volumes[2].writable);
    assert_int_equal(o.n_data_addresses, 2);
    assert_int_equal(o.slots, 3);
    assert_int_equal(o.buffer_bytes, 1 << 20);
    assert_int_equal(o.stall_ms, 2000);
    assert_int_equal(o.data_idle_ms, 1000);
    assert_int_equal(o.direct_from_bytes, 64 << 20);
    assert_int_equal(o.data_connections, 9);
    config_free(c);
}

static void errors_name_the_file_the_line_and_the_key(void **state) {
    (void)state;
    refused(least, "slots: 0\n", "line 6", "slots");
    refused(least, "stall: 1ms\n", "line 6", "stall");
    refused(least, "data_idle: 110s\n", "line 6", "data_idle");
    refused(least, "data_connections: 0\n", "line 6", "data_connections");
    refused(least, "slotz: 4\n", "line 6", "slotz");
    refused(least, "  - {name: data, root: /usr}\n", "line 6", "two volumes");
    refused(least, "  - {name: b, root: usr}\n", "line 6", "absolute");
    refused(least, "  - {name: b, root: /usr, mode: ro}\n", "line 6", "mode");
    refused(least, "  - {name: 'a b', root: /usr}\n", "line 6", "not a name");
    refused(least, "  - {root: /usr}\n", "line 6", "name");
    refused(least, "master: nowhere\n", "line 6", "HOST:PORT");
    refused(least, "buffer: 100KB\n", "line 6", "buffer");
    refused(least, "log_level: loud\n", "line 6", "loud");
    refused("name: a\nsite: b\nstate_dir: /x\n", "", "agent.yaml", "volume");
    refused("site: b\nstate_dir: /x\n", "", "agent.yaml", "name");
}

static void without_tls_only_loopback_is_allowed(void **state) {
    (void)state;
    refused(least, "master: 10.0.0.1:7400\n", "line 6", "tls");
    refused(least, "data_listen: 0.0.0.0:7500\n", "line 6", "tls");
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    static const char tls[] = "master: head:7400\n"
                              "data_listen: 0.0.0.0:0\n"
                              "data_addresses: ['node1:0']\n"
                              "tls: {certificate: c.pem, key: k.pem, ca: ca.pem}\n";
    assert_ok(read_text(least, tls, &c, &o, &f));
    assert_true(o.tls);
    assert_string_equal(o.tls_ca, "ca.pem");
    config_free(c);
    refused(least, "data_listen: 0.0.0.0:0\ntls: {certificate: c.pem, key: k.pem, ca: ca.pem}\n",
            "line 6", "data_addresses");
}

static void rdma_is_off_until_it_is_agreed_to_that_nothing_is_encrypted(void **state) {
    (void)state;
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    assert_ok(read_text(least, "", &c, &o, &f));
    assert_int_equal(o.n_rails, 0);
    config_free(c);
    assert_ok(read_text(
        least,
        "rdma: {listen: '10.1.0.7:0', security: auth, pool: 128MiB, retry: 5s, connect: 9s}\n", &c,
        &o, &f));
    assert_int_equal(o.n_rails, 1);
    assert_string_equal(o.rails[0], "10.1.0.7:0");
    assert_int_equal(o.rdma_pool_bytes, 128 << 20);
    assert_int_equal(o.rdma_retry_ms, 5000);
    assert_int_equal(o.rdma_connect_ms, 9000);
    config_free(c);
    assert_ok(read_text(least,
                        "rdma: {listen: '10.1.0.7:0', rails: ['10.2.0.7:0', '10.3.0.7:9']"
                        ", security: auth}\n",
                        &c, &o, &f));
    assert_int_equal(o.n_rails, 3);
    assert_string_equal(o.rails[2], "10.3.0.7:9");
    config_free(c);
    refused(least, "rdma: {listen: 'a:0', rails: ['0.0.0.0:0'], security: auth}\n", "line 6",
            "one interface");
    refused(least, "rdma: {listen: '10.1.0.7:0'}\n", "line 6", "not encrypted");
    refused(least, "rdma: {listen: '10.1.0.7:0', security: tls}\n", "line 6", "not encrypted");
    refused(least, "rdma: {security: auth}\n", "line 6", "listen");
    refused(least, "rdma: {listen: '0.0.0.0:0', security: auth}\n", "line 6", "one interface");
    refused(least, "rdma: {listen: here, security: auth}\n", "line 6", "HOST:PORT");
    refused(least, "rdma: {listen: 'a:0', security: auth, pool: 1MiB}\n", "line 6", "pool");
}

static void a_root_that_is_missing_is_named_with_its_remedy(void **state) {
    (void)state;
    struct agent_options o;
    struct failure f = {0};
    struct config *c = NULL;
    char message[2048];
    assert_ok(read_text(least, "  - {name: lost, root: /no/such/root}\n", &c, &o, &f));
    assert_err(agent_check(&o, &f), ERR_NOT_FOUND);
    failure_format(&f, message, sizeof message);
    assert_non_null(strstr(message, "/no/such/root"));
    assert_non_null(strstr(message, "lost"));
    assert_non_null(strstr(message, "create"));
    config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_configuration_has_usable_defaults),
        cmocka_unit_test(modes_and_addresses_are_read),
        cmocka_unit_test(errors_name_the_file_the_line_and_the_key),
        cmocka_unit_test(without_tls_only_loopback_is_allowed),
        cmocka_unit_test(rdma_is_off_until_it_is_agreed_to_that_nothing_is_encrypted),
        cmocka_unit_test(a_root_that_is_missing_is_named_with_its_remedy),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
