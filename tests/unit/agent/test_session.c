// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 300
// A whole agent against a master that the test plays.
#include "agent/agent.h"

#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/fake_master.h"
#include "tests/unit/agent/task_message.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct scratch scratch;
static struct fake_master *master;
static struct agent_options options;
static struct agent *agent;
static char master_address[32];
static char state_dir[128];

static void start_agent(void) {
    struct failure f = {0};
    (void)snprintf(master_address, sizeof master_address, "127.0.0.1:%d", master->port);
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", scratch.path);
    options = (struct agent_options){
        .name = "a1",
        .site = "alpha",
        .master = master_address,
        .state_dir = state_dir,
        .data_listen = "127.0.0.1:0",
        .volumes = {{.name = "data", .root = scratch.path, .readable = true, .writable = true}},
        .n_volumes = 1,
        .slots = 2,
        .buffer_bytes = 64 << 10,
        .log_level = "error",
    };
    enum err e = agent_start(&options, &clock_system, &agent, &f);
    if (e != OK) {
        fail_msg("%s", f.message);
    }
}

static void end_agent(void) {
    struct pollfd p = {.fd = agent_drained_fd(agent), .events = POLLIN};
    agent_drain(agent);
    assert_int_equal(poll(&p, 1, 60000), 1);
    agent_free(agent);
    agent = NULL;
}

static int setup(void **state) {
    (void)state;
    scratch_begin(&scratch);
    assert_int_equal(mkdir(scratch_path(&scratch, "tree"), 0755), 0);
    master = fake_master_new(0, 5);
    start_agent();
    tally_wait(master->heartbeats, 2);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (agent != NULL) {
        end_agent();
    }
    fake_master_free(master);
    scratch_end(&scratch);
    return 0;
}

static void new_master(uint64_t term) {
    int port = master->port;
    fake_master_free(master);
    master = fake_master_new(port, term);
}

// A task that makes one directory, under lease (task, term 5, counter task).
static void assign_mkdir(uint64_t task, const char *name) {
    struct task_message t;
    task_begin(&t, SLUICE__V1__TASK_KIND__MKDIR, task);
    task_add_entry(&t, name, OBJECT_DIRECTORY, NULL);
    t.epoch.term = 5;
    fake_master_assign(master, task_lease(&t, NULL, "tree"));
    task_end(&t);
}

static void a_task_is_run_and_its_result_sent(void **state) {
    (void)state;
    assign_mkdir(1, "d");
    tally_wait(master->results, 1);
    assert_true(master->result->done);
    assert_int_equal(access(scratch_path(&scratch, "tree/d"), F_OK), 0);
}

static void it_registers_again_after_the_connection_is_lost(void **state) {
    (void)state;
    fake_master_hang_up(master);
    tally_wait(master->registers, 2);
    assign_mkdir(1, "d");
    tally_wait(master->results, 1);
}

static void results_are_sent_again_until_they_are_committed(void **state) {
    (void)state;
    atomic_store(&master->commits, false);
    assign_mkdir(1, "d");
    assign_mkdir(2, "e");
    tally_wait(master->results, 2);
    fake_master_hang_up(master);
    tally_wait(master->results, 4);
    assert_int_equal(master->n_registered_leases, 2);
    new_master(6); // it forgot all but its database, which has none of it
    tally_wait(master->results, 2);
    fake_master_hang_up(master);
    tally_wait(master->registers, 2);
    assert_int_equal(master->n_registered_leases, 0);
}

static void results_outlive_the_agent(void **state) {
    (void)state;
    atomic_store(&master->commits, false);
    assign_mkdir(1, "d");
    tally_wait(master->results, 1);
    uint64_t number = master->last_result;
    fake_master_free(master); // nobody is there to commit: draining does not wait for it
    end_agent();
    master = fake_master_new(0, 6);
    start_agent();
    tally_wait(master->results, 1);
    assert_int_equal(master->last_result, number);
    assert_int_equal(master->result->lease->task_id, 1);
}

static void a_lower_term_is_refused(void **state) {
    (void)state;
    new_master(4);
    tally_wait(master->closed, 1); // it hung up after our Welcome
    tally_wait(master->registers, 1);
    new_master(5);
    assign_mkdir(1, "d"); // lost: nobody is connected yet
    tally_wait(master->heartbeats, 1);
    assign_mkdir(2, "e");
    tally_wait(master->results, 1);
    assert_int_equal(master->result->lease->task_id, 2);
}

static void the_highest_term_outlives_the_agent(void **state) {
    (void)state;
    end_agent();
    new_master(4);
    start_agent();
    tally_wait(master->closed, 1);
    atomic_store(&master->term, 7);
    tally_wait(master->heartbeats, 1);
}

static void an_unknown_lease_is_confirmed_as_stopped(void **state) {
    (void)state;
    Sluice__V1__MasterMessage m = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__Revoke revoke = SLUICE__V1__REVOKE__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__LeaseRef *refs[] = {&ref};
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    ref.task_id = 99;
    ref.epoch = &epoch;
    revoke.n_leases = 1;
    revoke.leases = refs;
    m.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE;
    m.revoke = &revoke;
    fake_master_send(master, &m);
    tally_wait(master->stopped, 1);
    assert_int_equal(master->stopped_task, 99);
}

static void assign_list(uint64_t task) {
    struct task_message t;
    task_begin(&t, SLUICE__V1__TASK_KIND__LIST, task);
    task_add_entry(&t, "", OBJECT_DIRECTORY, NULL);
    task_add_entry(&t, "missing", OBJECT_DIRECTORY, NULL);
    task_add_entry(&t, "sub", OBJECT_DIRECTORY, NULL);
    t.epoch.term = 5;
    fake_master_assign(master, task_lease(&t, "tree", NULL));
    task_end(&t);
}

static void make_files(const char *dir, int n) {
    char name[64];
    for (int i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "%s/f%d", dir, i);
        scratch_write(&scratch, name, "x", 1);
    }
}

static void a_listing_comes_in_pages(void **state) {
    (void)state;
    assert_int_equal(mkdir(scratch_path(&scratch, "tree/sub"), 0755), 0);
    make_files("tree/sub", 1500);
    make_files("tree", 3);
    assign_list(1);
    tally_wait(master->pages, 4); // of "", of "missing" (its failure), two of "sub"
    assert_int_equal(master->n_entries, 4 + 1500);
    assign_mkdir(2, "d"); // the agent is free again
    tally_wait(master->results, 1);
    assert_int_equal(master->result->lease->task_id, 2);
}

static void a_listing_that_is_revoked_ends(void **state) {
    (void)state;
    atomic_store(&master->takes_pages, false);
    assign_list(1);
    tally_wait(master->pages, 1);
    Sluice__V1__MasterMessage m = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__Revoke revoke = SLUICE__V1__REVOKE__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__LeaseRef *refs[] = {&ref};
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = 5;
    epoch.counter = 1;
    ref.task_id = 1;
    ref.epoch = &epoch;
    revoke.n_leases = 1;
    revoke.leases = refs;
    m.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE;
    m.revoke = &revoke;
    fake_master_send(master, &m);
    tally_wait(master->stopped, 1);
    assert_int_equal(master->stopped_task, 1);
}

static void without_confirmation_leases_are_fenced(void **state) {
    (void)state;
    atomic_store(&master->hold_ms, 300);
    fake_master_hang_up(master);
    tally_wait(master->registers, 2);
    atomic_store(&master->takes_pages, false);
    assign_list(1);
    tally_wait(master->pages, 1);
    atomic_store(&master->welcomes, false);
    atomic_store(&master->confirms, false);
    tally_wait(master->lists_closed, 1); // the agent gave the listing up by itself
    atomic_store(&master->welcomes, true);
    tally_wait(master->results, 1);
    assert_string_equal(master->result->failure->code, "FENCED");
    assert_true(master->result->released);
}

static void a_volume_is_proven(void **state) {
    (void)state;
    uint8_t nonce[16] = "0123456789abcde";
    Sluice__V1__MasterMessage m = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__ProveVolume p = SLUICE__V1__PROVE_VOLUME__INIT;
    p.volume = (char *)"data";
    p.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    m.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_PROVE_VOLUME;
    m.prove_volume = &p;
    fake_master_send(master, &m); // read what is not there
    tally_wait(master->proofs, 1);
    assert_string_equal(master->seen, "");
    p.write = true;
    fake_master_send(master, &m);
    tally_wait(master->proofs, 2);
    p.write = false;
    fake_master_send(master, &m);
    tally_wait(master->proofs, 3);
    assert_memory_equal(master->seen, nonce, sizeof nonce);
    p.remove = true;
    fake_master_send(master, &m);
    p.remove = false;
    fake_master_send(master, &m);
    tally_wait(master->proofs, 4);
    assert_string_equal(master->seen, "");
}

static void draining_is_told_and_ends_the_session(void **state) {
    (void)state;
    end_agent();
    tally_wait(master->drainings, 1);
    tally_wait(master->closed, 1);
}

static void a_second_agent_is_kept_off_the_state_directory(void **state) {
    (void)state;
    struct agent *second = NULL;
    struct failure f = {0};
    assert_err(agent_start(&options, &clock_system, &second, &f), ERR_LOCKED);
    assert_non_null(strstr(f.remedy, "state_dir"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_task_is_run_and_its_result_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(it_registers_again_after_the_connection_is_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(results_are_sent_again_until_they_are_committed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(results_outlive_the_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lower_term_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_highest_term_outlives_the_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_lease_is_confirmed_as_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listing_comes_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listing_that_is_revoked_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(without_confirmation_leases_are_fenced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_volume_is_proven, setup, teardown),
        cmocka_unit_test_setup_teardown(draining_is_told_and_ends_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_agent_is_kept_off_the_state_directory, setup,
                                        teardown),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
