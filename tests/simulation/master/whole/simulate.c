// SPDX-License-Identifier: Apache-2.0
// master_simulation FIRST_SEED COUNT [--large] [--progress N] [--sqlite DIR]
// master_simulation --seeds SEED,SEED,... [--large]
// master_simulation --scale AGENTS TASKS [--sqlite DIR]
// master_simulation --makespan
#include "common/log.h"
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct options options_of_seed(bool large, uint64_t seed) {
    struct options o = {.n_agents = large ? 50 : 3 + (uint32_t)(seed % 6),
                        .n_files = large ? 5400 : 100 + (uint32_t)(seed % 300),
                        .n_directories = large ? 150 : 1 + (uint32_t)(seed % 20),
                        .slots = large ? 4 : 2 + (uint32_t)(seed % 3),
                        .faults = true,
                        .slow_executor = -1,
                        .slow_source = -1};
    return o;
}

// What is to be simulated, and how it went so far.
struct campaign {
    bool large;
    const char *sqlite;
    double began;
    uint64_t n_seeds, n_bad;
    struct world_tally tally;
};

static void run_seed(struct campaign *c, uint64_t seed) {
    struct options o = options_of_seed(c->large, seed);
    o.sqlite = c->sqlite;
    c->n_seeds++;
    c->n_bad += !world_run(&o, seed, &c->tally);
}

static int summary(const struct campaign *c) {
    printf("%llu seeds, %llu violations, %.1f s, %llu events, %llu tasks ended\n",
           (unsigned long long)c->n_seeds, (unsigned long long)c->n_bad, seconds() - c->began,
           (unsigned long long)c->tally.n_events, (unsigned long long)c->tally.n_tasks);
    fflush(stdout);
    return c->n_bad > 0;
}

static int run_seeds(struct campaign *c, uint64_t first, uint64_t count, uint64_t progress) {
    for (uint64_t i = 0; i < count; i++) {
        run_seed(c, first + i);
        if (progress != 0 && (i + 1) % progress == 0 && i + 1 < count) {
            (void)summary(c);
        }
    }
    printf("seeds %llu to %llu: ", (unsigned long long)first,
           (unsigned long long)(first + count - 1));
    return summary(c);
}

static int run_list(struct campaign *c, const char *list) {
    char *end = NULL;
    for (const char *at = list; *at != '\0'; at = *end == ',' ? end + 1 : end) {
        uint64_t seed = strtoull(at, &end, 10);
        if (end == at) {
            printf("not a list of seeds: %s\n", list);
            return 2;
        }
        run_seed(c, seed);
    }
    return summary(c);
}

static struct options plain(uint32_t agents, uint32_t tasks, bool two_sites) {
    struct options o = {.n_agents = agents,
                        .n_files = tasks,
                        .n_directories = tasks / 1000 + 1,
                        .slots = 4,
                        .two_sites = two_sites,
                        .uniform = true,
                        .slow_executor = -1,
                        .slow_source = -1};
    return o;
}

static int run_scale(uint32_t agents, uint32_t tasks) {
    struct options o = plain(agents, tasks, false);
    struct world_tally tally = {0};
    double began = seconds();
    o.watch_memory = true;
    bool ok = world_run(&o, 1, &tally);
    printf("%u agents, %u tasks: %d violations, %.1f s, %llu events, %llu tasks ended, simulated "
           "%.1f s\n",
           agents, tasks, !ok, seconds() - began, (unsigned long long)tally.n_events,
           (unsigned long long)tally.n_tasks, (double)tally.makespan_ms / 1000);
    return !ok;
}

// One of twenty executors, or sources, at a tenth of the speed, against the others alone.
static int run_makespan(void) {
    enum { AGENTS = 40, TASKS = 8000 };
    for (int slow_source = 0; slow_source < 2; slow_source++) {
        struct options slow = plain(AGENTS, TASKS, true);
        struct options others = plain(AGENTS - 1, TASKS, true);
        struct world_tally with = {0}, without = {0};
        if (slow_source) {
            slow.slow_source = AGENTS - 2;
            others = plain(AGENTS, TASKS, true);
            others.absent = AGENTS - 2;
        } else {
            slow.slow_executor = AGENTS - 1;
        }
        if (!world_run(&slow, 1, &with) || !world_run(&others, 1, &without)) {
            return 1;
        }
        printf("one slow %s: makespan %.1f s, %.1f s without it: ratio %.3f\n",
               slow_source ? "source" : "executor", (double)with.makespan_ms / 1000,
               (double)without.makespan_ms / 1000,
               (double)with.makespan_ms / (double)without.makespan_ms);
    }
    return 0;
}

int main(int argc, char **argv) {
    uint64_t numbers[2] = {1, 10};
    int n = 0;
    uint64_t progress = 0;
    const char *list = NULL;
    struct campaign c = {.began = seconds()};
    log_set_level(LOG_ERROR);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--large") == 0) {
            c.large = true;
        } else if (strcmp(argv[i], "--progress") == 0 && i + 1 < argc) {
            progress = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--sqlite") == 0 && i + 1 < argc) {
            c.sqlite = argv[++i];
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            list = argv[++i];
        } else if (strcmp(argv[i], "--makespan") == 0) {
            return run_makespan();
        } else if (strcmp(argv[i], "--scale") == 0 && i + 2 < argc) {
            return run_scale((uint32_t)strtoul(argv[i + 1], NULL, 10),
                             (uint32_t)strtoul(argv[i + 2], NULL, 10));
        } else if (n < 2) {
            numbers[n++] = strtoull(argv[i], NULL, 10);
        }
    }
    return list != NULL ? run_list(&c, list) : run_seeds(&c, numbers[0], numbers[1], progress);
}
