// SPDX-License-Identifier: Apache-2.0
#include "agent/hold.h"
#include "agent/lease.h"

#include "tests/lib/test.h"

static struct clock_fake now;
static struct hold hold;

static int setup(void **state) {
    (void)state;
    clock_fake_init(&now, 1000, 0);
    hold_init(&hold, &now.clock);
    hold_set_ms(&hold, 30000);
    return 0;
}

static void nothing_may_act_before_the_master_was_heard(void **state) {
    (void)state;
    assert_false(hold_may_act(&hold, hold_generation(&hold)));
    assert_int_equal(hold_ms_left(&hold), 0);
}

static void the_hold_counts_from_when_the_confirmed_message_was_sent(void **state) {
    (void)state;
    assert_true(hold_confirmed(&hold, 1000)); // there was none before
    uint64_t generation = hold_generation(&hold);
    clock_fake_advance(&now, 20000);
    assert_true(hold_may_act(&hold, generation));
    assert_false(hold_confirmed(&hold, 5000)); // arrives late: it was sent 16 s ago
    assert_int_equal(hold_ms_left(&hold), 5000 + 30000 - 21000);
    clock_fake_advance(&now, 14000);
    assert_true(hold_may_act(&hold, generation));
    clock_fake_advance(&now, 1);
    assert_false(hold_may_act(&hold, generation));
}

static void a_confirmation_that_is_overtaken_shortens_nothing(void **state) {
    (void)state;
    (void)hold_confirmed(&hold, 1000);
    assert_false(hold_confirmed(&hold, 500));
    assert_int_equal(hold_ms_left(&hold), 30000);
}

static void leases_from_before_a_lapse_stay_fenced(void **state) {
    (void)state;
    (void)hold_confirmed(&hold, 1000);
    uint64_t before = hold_generation(&hold);
    clock_fake_advance(&now, 60000);
    assert_true(hold_confirmed(&hold, 61000));
    assert_false(hold_may_act(&hold, before));
    assert_true(hold_may_act(&hold, hold_generation(&hold)));
}

static void another_hold_time_counts_at_once_but_revives_nothing(void **state) {
    (void)state;
    (void)hold_confirmed(&hold, 1000);
    uint64_t before = hold_generation(&hold);
    hold_set_ms(&hold, 500);
    assert_int_equal(hold_ms_left(&hold), 500);
    clock_fake_advance(&now, 501);
    hold_set_ms(&hold, 60000);
    assert_false(hold_may_act(&hold, before));
}

static struct lease *new_lease(void) {
    Sluice__V1__Epoch epoch = SLUICE__V1__EPOCH__INIT;
    Sluice__V1__TaskSpec spec = SLUICE__V1__TASK_SPEC__INIT;
    Sluice__V1__Lease m = SLUICE__V1__LEASE__INIT;
    struct lease *l = NULL;
    epoch.term = 3;
    epoch.counter = 9;
    spec.task_id = 7;
    m.epoch = &epoch;
    m.spec = &spec;
    assert_ok(lease_new(&m, &hold, &l));
    return l;
}

static void a_lease_acts_until_it_is_stopped(void **state) {
    (void)state;
    (void)hold_confirmed(&hold, 1000);
    struct lease *l = new_lease();
    assert_true(lease_is(l, 7, 3, 9));
    assert_false(lease_is(l, 7, 3, 8));
    assert_true(lease_may_act(l));
    lease_stop(l, LEASE_REVOKED);
    lease_stop(l, LEASE_FENCED);
    assert_false(lease_may_act(l));
    assert_int_equal(lease_stopped(l), LEASE_REVOKED); // the first reason stays
    assert_true(atomic_load(&l->control.cancelled));
    lease_free(l);
}

static void a_lease_is_fenced_when_the_hold_lapses(void **state) {
    (void)state;
    (void)hold_confirmed(&hold, 1000);
    struct lease *l = new_lease();
    clock_fake_advance(&now, 30001);
    assert_false(lease_may_act(l));
    assert_int_equal(lease_stopped(l), LEASE_FENCED);
    (void)hold_confirmed(&hold, 31001);
    assert_false(lease_may_act(l));
    lease_free(l);
}

static void count(void *arg) {
    ++*(int *)arg;
}

static void stopping_interrupts_what_is_waited_for(void **state) {
    (void)state;
    int first = 0, second = 0, late = 0;
    struct lease *l = new_lease();
    lease_add_interrupt(l, count, &first);
    lease_add_interrupt(l, count, &second);
    lease_remove_interrupt(l, &second);
    lease_stop(l, LEASE_REVOKED);
    lease_add_interrupt(l, count, &late); // stopped already: at once
    assert_int_equal(first, 1);
    assert_int_equal(second, 0);
    assert_int_equal(late, 1);
    lease_free(l);
}

static void a_lease_without_epoch_or_spec_is_invalid(void **state) {
    (void)state;
    Sluice__V1__Lease m = SLUICE__V1__LEASE__INIT;
    struct lease *l = NULL;
    assert_err(lease_new(&m, &hold, &l), ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_may_act_before_the_master_was_heard, setup),
        cmocka_unit_test_setup(the_hold_counts_from_when_the_confirmed_message_was_sent, setup),
        cmocka_unit_test_setup(a_confirmation_that_is_overtaken_shortens_nothing, setup),
        cmocka_unit_test_setup(leases_from_before_a_lapse_stay_fenced, setup),
        cmocka_unit_test_setup(another_hold_time_counts_at_once_but_revives_nothing, setup),
        cmocka_unit_test_setup(a_lease_acts_until_it_is_stopped, setup),
        cmocka_unit_test_setup(a_lease_is_fenced_when_the_hold_lapses, setup),
        cmocka_unit_test_setup(stopping_interrupts_what_is_waited_for, setup),
        cmocka_unit_test_setup(a_lease_without_epoch_or_spec_is_invalid, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
