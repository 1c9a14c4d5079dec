// SPDX-License-Identifier: Apache-2.0
// clang-format off
// WRAP: planner_spec planner_leased planner_result planner_want_tasks planner_unrunnable planner_lease_closed planner_page planner_agent_reported flow_is_quiet
// clang-format on
#include "tests/unit/master/fake_planner.h"

static enum err resolve(const char *text, bool write, struct place *ret_place, struct failure *f) {
    struct location l;
    memset(f, 0, sizeof(*f));
    assert_ok(location_parse(text, strlen(text), &l, f));
    enum err e = agents_resolve(cluster.core.agents, &l, write, ret_place, f);
    location_deinit(&l);
    return e;
}

static bool resolves_somehow(const void *text) {
    struct place p;
    struct failure f;
    return resolve(text, true, &p, &f) != ERR_AGAIN;
}

static void agents_that_see_the_same_share_a_volume(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    fake_up(&b1);
    fake_up(&b2);
    wait_until(resolves_somehow, "b:/data/x/y");
    assert_ok(resolve("b:/data/x/y/", true, &p, &f));
    assert_string_equal(p.site, "b");
    assert_string_equal(p.agent, "");
    assert_string_equal(p.volume, "data");
    assert_int_equal(p.root_len, 3);
    assert_memory_equal(p.root, "x/y", 3);
}

static void agents_that_see_different_things_do_not(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    b2.storage = 2;
    fake_up(&b1);
    fake_up(&b2);
    wait_until(resolves_somehow, "b:/data/x");
    assert_err(resolve("b:/data/x", true, &p, &f), ERR_NOT_SHARED);
    assert_ok(resolve("b/b2:/data/x", true, &p, &f));
    assert_string_equal(p.agent, "b2");
}

static bool resolves(const void *text) {
    struct place p;
    struct failure f;
    return resolve(text, true, &p, &f) == OK;
}

static void a_full_disk_takes_a_proof_when_it_has_room_again(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    b1.is_full = b2.is_full = true;
    fake_up(&b1);
    fake_up(&b2);
    wait_until(resolves_somehow, "b:/data/x");
    if (resolve("b:/data/x", true, &p, &f) == OK) { // b1 was alone when it was asked
        fake_cut(&b1);
        fake_up(&b1);
        wait_until(resolves_somehow, "b:/data/x");
    }
    assert_err(resolve("b:/data/x", true, &p, &f), ERR_NOT_SHARED);
    assert_non_null(strstr(f.remedy, "make room"));
    b1.is_full = b2.is_full = false;
    wait_until(resolves, "b:/data/x");
}

static void what_cannot_be_resolved_says_what_there_is(void **state) {
    (void)state;
    struct place p;
    struct failure f;
    assert_err(resolve("b:/data", true, &p, &f), ERR_NOT_FOUND);
    b1.writable = false;
    fake_up(&b1);
    assert_err(resolve("nowhere:/data", false, &p, &f), ERR_NOT_FOUND);
    assert_non_null(strstr(f.remedy, "b"));
    assert_err(resolve("b/b9:/data", false, &p, &f), ERR_NOT_FOUND);
    assert_err(resolve("b:/elsewhere", false, &p, &f), ERR_NO_VOLUME);
    assert_non_null(strstr(f.remedy, "/data"));
    assert_err(resolve("b:/database", false, &p, &f), ERR_NO_VOLUME);
    assert_err(resolve("b:/data", true, &p, &f), ERR_NO_VOLUME);
    assert_ok(resolve("b:/data", false, &p, &f));
    assert_int_equal(p.root_len, 0);
    fake_cut(&b1);
    wait_until(nobody_is_connected, NULL);
    assert_err(resolve("b:/data", false, &p, &f), ERR_NO_AGENT);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(agents_that_see_the_same_share_a_volume),
        CASE(agents_that_see_different_things_do_not),
        CASE(a_full_disk_takes_a_proof_when_it_has_room_again),
        CASE(what_cannot_be_resolved_says_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
