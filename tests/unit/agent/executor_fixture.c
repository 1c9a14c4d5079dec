// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/executor_fixture.h"

#include "tests/lib/test.h"

#include <sys/stat.h>

struct executor_fixture fixture;

static void on_written(void *user) {
    (void)user;
    tally_add(fixture.written, 1);
}
static void on_stopped(void *user, uint64_t task_id, uint64_t term, uint64_t counter) {
    (void)user;
    (void)term;
    (void)counter;
    fixture.last_stopped = task_id;
    tally_add(fixture.stopped, 1);
}
static void on_idle(void *user) {
    (void)user;
    tally_add(fixture.idle, 1);
}

int executor_set_up(void **state) {
    (void)state;
    struct failure f = {0};
    fixture = (struct executor_fixture){0};
    scratch_begin(&fixture.scratch);
    assert_int_equal(mkdir(scratch_path(&fixture.scratch, "state"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(&fixture.scratch, "from"), 0755), 0);
    fixture.written = tally_new();
    fixture.stopped = tally_new();
    fixture.idle = tally_new();
    clock_fake_init(&fixture.now, 100000, 0);
    hold_init(&fixture.hold, &fixture.now.clock);
    (void)hold_confirmed(&fixture.hold, 100000);
    fixture.options = (struct agent_options){
        .volumes =
            {{.name = "data", .root = fixture.scratch.path, .readable = true, .writable = true}},
        .n_volumes = 1,
    };
    assert_ok(volumes_open(&fixture.options, &fixture.volumes, &f));
    struct journal_options jo = {scratch_path(&fixture.scratch, "state"), on_written, NULL};
    assert_ok(journal_open(&jo, &fixture.journal, &f));
    fixture.tools =
        (struct run_tools){.agent = "a1", .boot_id = "boot", .volumes = fixture.volumes};
    struct executor_options eo = {
        .slots = 1,
        .buffer_bytes = 256 << 10,
        .tools = &fixture.tools,
        .hold = &fixture.hold,
        .journal = fixture.journal,
        .stopped = on_stopped,
        .idle = on_idle,
    };
    assert_ok(executor_new(&eo, &fixture.executor, &f));
    return 0;
}

int executor_tear_down(void **state) {
    (void)state;
    executor_free(fixture.executor);
    journal_close(fixture.journal);
    volumes_free(fixture.volumes);
    tally_free(fixture.written);
    tally_free(fixture.stopped);
    tally_free(fixture.idle);
    scratch_end(&fixture.scratch);
    return 0;
}

Sluice__V1__TaskResult *run_lease(const Sluice__V1__Lease *l) {
    Sluice__V1__TaskResult *r = NULL;
    assert_ok(executor_assign(fixture.executor, l));
    tally_wait(fixture.idle, ++fixture.n_ran);
    // What is appended last is written soon; nothing else is waited for.
    for (uint64_t n = 1; journal_next(fixture.journal, fixture.read_through, &r) != OK; n++) {
        tally_wait(fixture.written, n);
    }
    fixture.read_through = r->number;
    assert_int_equal(r->lease->task_id, l->spec->task_id);
    if (r->failure != NULL && r->failure->code[0] != '\0') {
        print_message("%s: %s\n", r->failure->code, r->failure->message);
    }
    return r;
}
