// SPDX-License-Identifier: Apache-2.0
// Whole masters in this process, as clients see them.
#include "master/master.h"

#include "common/log.h"
#include "common/rpc/rpc.h"
#include "sluice/v1/cluster_service.pb-c.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 120000 };

static struct {
    char dir[64], state_dir[128], port_file[128], other_dir[128];
    struct master_options options;
    struct master *master;
    struct rpc_channel *channel;
} w;

static void set_options(struct master_options *o, const char *state_dir) {
    *o = (struct master_options){.name = "m",
                                 .listen = "127.0.0.1:0",
                                 .state_dir = state_dir,
                                 .log_level = "error",
                                 .hold_ms = 2000,
                                 .heartbeat_ms = 200,
                                 .lost_after_ms = 1000,
                                 .reconcile_ms = 100,
                                 .park_ms = 1000,
                                 .part_bytes = 256 << 20,
                                 .large_bytes = 256 << 20,
                                 .flows_queued = 10,
                                 .flows_active = 2,
                                 .tasks_in_memory = 1000,
                                 .tasks_per_flow = 100,
                                 .spec_bytes_per_flow = 1 << 20,
                                 .watchers = 10,
                                 .agents = 10,
                                 .calls = 100,
                                 .events_per_flow = 16,
                                 .message_bytes = 1 << 20,
                                 .task_retries = 3,
                                 .retries_per_flow = 1000000};
}

static int setup(void **state) {
    struct failure f = {0};
    (void)state;
    memset(&w, 0, sizeof w);
    strcpy(w.dir, "/tmp/test_master_XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.state_dir, sizeof w.state_dir, "%s/state", w.dir);
    snprintf(w.other_dir, sizeof w.other_dir, "%s/other", w.dir);
    snprintf(w.port_file, sizeof w.port_file, "%s/port", w.dir);
    set_options(&w.options, w.state_dir);
    w.options.port_file = w.port_file;
    log_set_level(LOG_ERROR);
    assert_ok(master_start(&w.options, &clock_system, &w.master, &f));
    w.channel = rpc_channel_new(master_address(w.master), NULL);
    assert_non_null(w.channel);
    return 0;
}

static int teardown(void **state) {
    char command[128];
    (void)state;
    rpc_channel_free(w.channel);
    master_stop(w.master);
    assert_int_not_equal(access(w.port_file, F_OK), 0);
    snprintf(command, sizeof command, "rm -rf %s", w.dir);
    return system(command);
}

static enum err ask(const char *path, const ProtobufCMessage *input,
                    const ProtobufCMessageDescriptor *output, ProtobufCMessage **ret_reply,
                    struct failure *f) {
    return rpc_unary(w.channel, path, input, output, TIMEOUT_MS, ret_reply, f);
}

static void it_serves_and_says_where(void **state) {
    (void)state;
    char text[128] = "";
    FILE *file = fopen(w.port_file, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
    assert_string_equal(text, master_address(w.master));
    Sluice__V1__GetClusterRequest m = SLUICE__V1__GET_CLUSTER_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct failure f = {0};
    assert_ok(ask("/sluice.v1.ClusterService/GetCluster", &m.base, &sluice__v1__cluster__descriptor,
                  &reply, &f));
    const Sluice__V1__Cluster *c = (const Sluice__V1__Cluster *)reply;
    assert_int_equal(c->term, 1);
    assert_int_equal(strlen(c->id), 26);
    assert_int_equal(c->ticket_public_key.len, 32);
    assert_int_equal(c->n_limits, 8);
    assert_string_equal(c->limits[3]->name, "events_per_flow");
    assert_int_equal(c->limits[3]->now, 0);
    assert_int_equal(c->limits[3]->limit, 16);
    assert_string_equal(c->limits[6]->name, "calls");
    assert_int_equal(c->limits[6]->now, 1); // this one
    assert_int_equal(c->limits[6]->limit, 100);
    assert_string_equal(c->limits[7]->name, "message_bytes");
    assert_int_equal(c->limits[7]->limit, 1 << 20);
    protobuf_c_message_free_unpacked(reply, NULL);
}

static void the_term_rises_with_each_start(void **state) {
    (void)state;
    struct failure f = {0};
    rpc_channel_free(w.channel);
    master_stop(w.master);
    assert_ok(master_start(&w.options, &clock_system, &w.master, &f));
    w.channel = rpc_channel_new(master_address(w.master), NULL);
    Sluice__V1__GetClusterRequest m = SLUICE__V1__GET_CLUSTER_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    assert_ok(ask("/sluice.v1.ClusterService/GetCluster", &m.base, &sluice__v1__cluster__descriptor,
                  &reply, &f));
    assert_int_equal(((const Sluice__V1__Cluster *)reply)->term, 2);
    protobuf_c_message_free_unpacked(reply, NULL);
}

static void two_masters_live_in_one_process(void **state) {
    (void)state;
    struct failure f = {0};
    struct master_options o;
    struct master *m = NULL;
    set_options(&o, w.other_dir);
    assert_ok(master_start(&o, &clock_system, &m, &f));
    assert_string_not_equal(master_address(m), master_address(w.master));
    master_stop(m);
}

static void a_second_master_on_the_same_state_is_refused(void **state) {
    (void)state;
    struct failure f = {0};
    struct master_options o;
    struct master *m = NULL;
    set_options(&o, w.state_dir);
    assert_err(master_start(&o, &clock_system, &m, &f), ERR_LOCKED);
    assert_true(f.remedy[0] != '\0');
}

static void a_port_in_use_is_named(void **state) {
    (void)state;
    struct failure f = {0};
    struct master_options o;
    struct master *m = NULL;
    char text[2048];
    set_options(&o, w.other_dir);
    o.listen = master_address(w.master);
    assert_err(master_start(&o, &clock_system, &m, &f), ERR_BUSY_PORT);
    failure_format(&f, text, sizeof text);
    assert_non_null(strstr(text, o.listen));
}

static void an_impossible_state_dir_is_named(void **state) {
    (void)state;
    struct failure f = {0};
    struct master_options o;
    struct master *m = NULL;
    set_options(&o, "/proc/none/state");
    assert_int_not_equal(master_start(&o, &clock_system, &m, &f), OK);
    assert_true(f.object_len > 0);
}

static void what_is_unknown_is_refused_with_a_failure(void **state) {
    (void)state;
    static char nothing[] = "nothing", nowhere[] = "nowhere";
    static uint8_t path[] = "/x";
    struct failure f = {0};
    ProtobufCMessage *reply = NULL;
    Sluice__V1__GetFlowRequest get = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    get.flow_id = nothing;
    assert_err(
        ask("/sluice.v1.FlowService/GetFlow", &get.base, &sluice__v1__flow__descriptor, &reply, &f),
        ERR_NOT_FOUND);
    Sluice__V1__SubmitFlowRequest m = SLUICE__V1__SUBMIT_FLOW_REQUEST__INIT;
    Sluice__V1__FlowSpec spec = SLUICE__V1__FLOW_SPEC__INIT;
    Sluice__V1__Location l = SLUICE__V1__LOCATION__INIT;
    Sluice__V1__PosixLocation p = SLUICE__V1__POSIX_LOCATION__INIT;
    p.site = nowhere;
    p.path = (ProtobufCBinaryData){2, path};
    l.kind_case = SLUICE__V1__LOCATION__KIND_POSIX;
    l.posix = &p;
    spec.source = spec.destination = &l;
    m.spec = &spec;
    assert_err(ask("/sluice.v1.FlowService/SubmitFlow", &m.base,
                   &sluice__v1__submit_flow_response__descriptor, &reply, &f),
               ERR_NOT_FOUND);
    assert_non_null(strstr(f.message, nowhere));
    spec.run_as = nowhere;
    assert_err(ask("/sluice.v1.FlowService/SubmitFlow", &m.base,
                   &sluice__v1__submit_flow_response__descriptor, &reply, &f),
               ERR_UNIMPLEMENTED);
    assert_non_null(strstr(f.message, "run_as"));
}

static void an_empty_cluster_lists_nothing(void **state) {
    (void)state;
    struct failure f = {0};
    ProtobufCMessage *reply = NULL;
    Sluice__V1__ListFlowsRequest flows = SLUICE__V1__LIST_FLOWS_REQUEST__INIT;
    assert_ok(ask("/sluice.v1.FlowService/ListFlows", &flows.base,
                  &sluice__v1__list_flows_response__descriptor, &reply, &f));
    assert_int_equal(((const Sluice__V1__ListFlowsResponse *)reply)->n_flows, 0);
    protobuf_c_message_free_unpacked(reply, NULL);
    Sluice__V1__ListAgentsRequest agents = SLUICE__V1__LIST_AGENTS_REQUEST__INIT;
    assert_ok(ask("/sluice.v1.ClusterService/ListAgents", &agents.base,
                  &sluice__v1__list_agents_response__descriptor, &reply, &f));
    assert_int_equal(((const Sluice__V1__ListAgentsResponse *)reply)->n_agents, 0);
    protobuf_c_message_free_unpacked(reply, NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_serves_and_says_where),
        TEST(the_term_rises_with_each_start),
        TEST(two_masters_live_in_one_process),
        TEST(a_second_master_on_the_same_state_is_refused),
        TEST(a_port_in_use_is_named),
        TEST(an_impossible_state_dir_is_named),
        TEST(what_is_unknown_is_refused_with_a_failure),
        TEST(an_empty_cluster_lists_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
