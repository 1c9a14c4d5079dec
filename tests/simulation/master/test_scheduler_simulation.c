// SPDX-License-Identifier: Apache-2.0
// TIMEOUT: 300
// Usage: test_scheduler_simulation [SEED COUNT]: replays COUNT seeds from SEED on.
#include "tests/lib/test.h"

#include "tests/simulation/master/simulated_cluster.h"

#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_SEEDS = 300 };
static uint64_t first_seed = 1, n_seeds = DEFAULT_SEEDS;

static int64_t run(const struct sim_options *o, bool *ret_ok) {
    struct sim *s = sim_new(o);
    *ret_ok = sim_run(s);
    if (!*ret_ok) {
        print_error("seed %llu, after %llu events, at %lld ms: %s\n", (unsigned long long)o->seed,
                    (unsigned long long)sim_n_events(s), (long long)sim_now_ms(s),
                    sim_violation(s));
    }
    int64_t took_ms = sim_now_ms(s);
    sim_free(s);
    return took_ms;
}

static void whatever_fails_every_task_ends_exactly_once(void **state) {
    (void)state;
    uint64_t n_bad = 0;
    for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
        bool ok;
        (void)run(&(struct sim_options){.seed = seed,
                                        .n_sources = 1 + (uint32_t)(seed % 3),
                                        .n_sinks = 2 + (uint32_t)(seed % 7),
                                        .n_flows = 1 + (uint32_t)(seed % 3),
                                        .n_tasks = 60,
                                        .faults_until_ms = 40000,
                                        .failures_percent = 3,
                                        .check_all = true},
                  &ok);
        n_bad += ok ? 0 : 1;
    }
    assert_int_equal(n_bad, 0);
}

static void any_seed_replays(void **state) {
    (void)state;
    int64_t took_ms[2];
    for (int i = 0; i < 2; i++) {
        bool ok;
        took_ms[i] = run(&(struct sim_options){.seed = first_seed + 7,
                                               .n_sources = 2,
                                               .n_sinks = 5,
                                               .n_flows = 3,
                                               .n_tasks = 50,
                                               .faults_until_ms = 30000,
                                               .failures_percent = 3},
                         &ok);
        assert_true(ok);
    }
    assert_int_equal(took_ms[0], took_ms[1]);
}

static void equal_agents_get_equal_first_shares(void **state) {
    (void)state;
    for (uint32_t n_sinks = 2; n_sinks < 20; n_sinks++) {
        struct sim *s = sim_new(&(struct sim_options){.seed = n_sinks,
                                                      .n_sources = 4,
                                                      .n_sinks = n_sinks,
                                                      .slots = 4,
                                                      .begin_ms = 1000,
                                                      .n_flows = 1,
                                                      .n_tasks = 40,
                                                      .task_cost = 1000000,
                                                      .rate = 1000});
        assert_true(sim_run(s));
        uint32_t least = UINT32_MAX, most = 0;
        for (uint32_t i = 0; i < n_sinks; i++) {
            uint32_t n = sim_first_assignments(s, i);
            least = n < least ? n : least;
            most = n > most ? n : most;
        }
        assert_true(most - least <= 1);
        sim_free(s);
    }
}

static void a_slow_executor_does_not_hold_up_the_others(void **state) {
    (void)state;
    struct sim_options o = {.seed = 5,
                            .n_sources = 2,
                            .n_sinks = 4,
                            .slots = 2,
                            .n_flows = 1,
                            .n_tasks = 200,
                            .task_cost = 1000000,
                            .rate = 1000};
    bool ok;
    o.n_sinks = 3;
    int64_t alone_ms = run(&o, &ok);
    assert_true(ok);
    o.n_sinks = 4;
    o.n_slow = 1;
    int64_t with_slow_ms = run(&o, &ok);
    assert_true(ok);
    print_message("alone %lld ms, with a slow one %lld ms\n", (long long)alone_ms,
                  (long long)with_slow_ms);
    assert_true(with_slow_ms * 10 < alone_ms * 12);
}

static void ten_thousand_agents_share_their_work(void **state) {
    (void)state;
    bool ok;
    (void)run(&(struct sim_options){.seed = 3,
                                    .n_sources = 1000,
                                    .n_sinks = 9000,
                                    .slots = 2,
                                    .n_flows = 4,
                                    .n_tasks = 20000,
                                    .task_cost = 1000000,
                                    .rate = 1000},
              &ok);
    assert_true(ok);
}

int main(int argc, char **argv) {
    const struct CMUnitTest faults[] = {
        cmocka_unit_test(whatever_fails_every_task_ends_exactly_once)};
    if (argc == 3) {
        first_seed = strtoull(argv[1], NULL, 10);
        n_seeds = strtoull(argv[2], NULL, 10);
        return cmocka_run_group_tests(faults, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_fails_every_task_ends_exactly_once),
        cmocka_unit_test(any_seed_replays),
        cmocka_unit_test(equal_agents_get_equal_first_shares),
        cmocka_unit_test(a_slow_executor_does_not_hold_up_the_others),
        cmocka_unit_test(ten_thousand_agents_share_their_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
