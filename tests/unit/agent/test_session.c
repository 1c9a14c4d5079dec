// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 300
// A whole agent against a master that the test plays.
#include "agent/agent.h"

#include "common/hash.h"
#include "common/log.h"
#include "tests/lib/loopback.h"
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
static char state_dir[128];
static const struct clock *clock_of_agents;

static struct agent *start(struct agent_options *o, const char *name, char *dir, size_t dir_size,
                           const struct fake_master *m) {
    static char addresses[2][LOOPBACK_SIZE];
    static unsigned next;
    char *address = addresses[next++ % 2];
    struct failure f = {0};
    struct agent *a = NULL;
    own_loopback(m->port, address);
    (void)snprintf(dir, dir_size, "%s/state-%s", scratch.path, name);
    *o = (struct agent_options){
        .name = name,
        .site = "alpha",
        .master = address,
        .state_dir = dir,
        .data_listen = "127.0.0.1:0",
        .volumes = {{.name = "data", .root = scratch.path, .readable = true, .writable = true}},
        .n_volumes = 1,
        .slots = 2,
        .buffer_bytes = 64 << 10,
        .log_level = "error",
    };
    enum err e = agent_start(o, clock_of_agents, &a, &f);
    if (e != OK) {
        fail_msg("%s", f.message);
    }
    return a;
}

static void start_agent(void) {
    agent = start(&options, "a1", state_dir, sizeof state_dir, master);
}

static void end(struct agent *a) {
    struct pollfd p = {.fd = agent_drained_fd(a), .events = POLLIN};
    agent_drain(a);
    assert_int_equal(poll(&p, 1, 60000), 1);
    agent_free(a);
}

static void end_agent(void) {
    end(agent);
    agent = NULL;
}

static int setup(void **state) {
    (void)state;
    clock_of_agents = &clock_system;
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

static uint64_t registered_leases(void) {
    pthread_mutex_lock(&master->lock);
    uint64_t n = master->n_registered_leases;
    pthread_mutex_unlock(&master->lock);
    return n;
}

static void revoke_lease(uint64_t task, uint64_t term, uint64_t counter) {
    Sluice__V1__MasterMessage m = SLUICE__V1__MASTER_MESSAGE__INIT;
    Sluice__V1__Revoke revoke = SLUICE__V1__REVOKE__INIT;
    Sluice__V1__LeaseRef ref = SLUICE__V1__LEASE_REF__INIT;
    Sluice__V1__LeaseRef *refs[] = {&ref};
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    epoch.term = term;
    epoch.counter = counter;
    ref.task_id = task;
    ref.epoch = &epoch;
    revoke.n_leases = 1;
    revoke.leases = refs;
    m.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_REVOKE;
    m.revoke = &revoke;
    fake_master_send(master, &m);
}

// More than once, if the thread that ran a task is not yet done with its lease.
static void reconnect_until_no_lease_is_registered(void) {
    uint64_t n = 1;
    do {
        revoke_lease(99, 0, 0); // is answered after all that was said before has arrived
        tally_wait(master->stopped, n);
        fake_master_hang_up(master);
        tally_wait(master->registers, ++n);
    } while (registered_leases() > 0);
}

static void results_are_sent_again_until_they_are_committed(void **state) {
    (void)state;
    atomic_store(&master->commits, false);
    assign_mkdir(1, "d");
    assign_mkdir(2, "e");
    tally_wait(master->results, 2);
    fake_master_hang_up(master);
    tally_wait(master->results, 4);
    assert_int_equal(registered_leases(), 2);
    pthread_mutex_lock(&master->lock);
    assert_int_equal(master->registered_results, 1 + 2); // it says which results it keeps
    pthread_mutex_unlock(&master->lock);
    new_master(6); // it forgot all but its database, which has none of it
    tally_wait(master->results, 2);
    reconnect_until_no_lease_is_registered();
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
    tally_wait(master->heartbeats, 1);
    assign_mkdir(1, "d");
    tally_wait(master->results, 1);
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
    revoke_lease(99, 0, 0);
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
    tally_wait(master->results, 1);
    assert_int_equal(master->result->lease->task_id, 1);
    assign_mkdir(2, "d"); // the agent is free again
    tally_wait(master->results, 2);
    assert_int_equal(master->result->lease->task_id, 2);
}

static void a_listing_that_is_revoked_ends(void **state) {
    (void)state;
    atomic_store(&master->takes_pages, false);
    assign_list(1);
    tally_wait(master->pages, 1);
    revoke_lease(1, 5, 1);
    tally_wait(master->stopped, 1);
    assert_int_equal(master->stopped_task, 1);
}

static void without_confirmation_leases_are_fenced(void **state) {
    (void)state;
    static struct clock_fake clock;
    end_agent();
    clock_fake_init(&clock, 1000000, clock_wall_ms(&clock_system));
    clock_of_agents = &clock.clock;
    start_agent();
    tally_wait(master->registers, 2);
    atomic_store(&master->takes_pages, false);
    assign_list(1);
    tally_wait(master->pages, 1);
    atomic_store(&master->welcomes, false);
    atomic_store(&master->confirms, false);
    clock_fake_advance(&clock, 60000);
    tally_wait(master->lists_closed, 1); // the agent gave the listing up by itself
    atomic_store(&master->welcomes, true);
    fake_master_hang_up(master); // if it waits for its Welcome, by a clock that stands still
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

// Signs that the agent of `master` may read the task's objects from a2, and says where that is.
static void add_source(struct task_message *t, const struct agent *a2, Sluice__V1__SourceAgent *s,
                       uint8_t *ticket_bytes) {
    static char *addresses[1];
    struct ticket ticket = {
        .cluster = FAKE_CLUSTER,
        .flow = TEST_FLOW,
        .task_id = t->spec.task_id,
        .term = t->epoch.term,
        .counter = t->epoch.counter,
        .executor = "a1",
        .source = "a2",
        .direction = TICKET_READ,
        .digest = HASH_XXH3_128,
        .expires_ms = clock_wall_ms(&clock_system) + 60000,
        .volume = "data",
        .root = "tree",
        .root_len = 4,
    };
    memcpy(ticket.executor_key, master->agent_key, SIGNING_KEY_BYTES);
    sha256(t->spec.objects.data, t->spec.objects.len, ticket.objects_sha256);
    sluice__v1__source_agent__init(s);
    s->ticket.data = ticket_bytes;
    assert_ok(ticket_sign(&ticket, master->key, ticket_bytes, TICKET_MAX_BYTES, &s->ticket.len));
    addresses[0] = (char *)agent_data_address(a2);
    s->agent = (char *)"a2";
    s->n_data_addresses = 1;
    s->data_addresses = addresses;
}

static void a_batch_is_fetched_from_another_agent(void **state) {
    (void)state;
    struct fake_master *other = fake_master_new(0, 5);
    struct agent_options o2;
    char dir[128];
    uint8_t bytes[TICKET_MAX_BYTES];
    struct agent *a2 = start(&o2, "a2", dir, sizeof dir, other);
    tally_wait(other->heartbeats, 1);
    scratch_write(&scratch, "tree/f", "from afar", 9);
    struct task_message t;
    Sluice__V1__SourceAgent source, *sources[] = {&source};
    task_begin(&t, SLUICE__V1__TASK_KIND__BATCH, 1);
    task_add(&t, "f", scratch_path(&scratch, "tree/f"));
    t.epoch.term = 5;
    task_lease(&t, "tree", "copy");
    add_source(&t, a2, &source, bytes);
    t.lease.n_sources = 1;
    t.lease.sources = sources;
    fake_master_assign(master, &t.lease);
    tally_wait(master->results, 1);
    if (master->result->failure != NULL) {
        fail_msg("%s", master->result->failure->message);
    }
    assert_true(master->result->done);
    assert_int_equal(master->result->objects[0]->outcome,
                     SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED);
    assert_string_equal(master->result->source_agent, "a2");
    assert_string_equal(master->result->transport, "tcp");
    size_t len = 0;
    char *got = scratch_read(&scratch, "copy/f", &len);
    assert_string_equal(got, "from afar");
    free(got);
    task_end(&t);
    end(a2);
    fake_master_free(other);
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
        cmocka_unit_test_setup_teardown(a_batch_is_fetched_from_another_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(draining_is_told_and_ends_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_agent_is_kept_off_the_state_directory, setup,
                                        teardown),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
