// SPDX-License-Identifier: Apache-2.0
// master_simulation FIRST_SEED COUNT [--large] [--progress N] [--sqlite DIR]
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

static int run_seeds(uint64_t first, uint64_t count, bool large, uint64_t progress,
                     const char *sqlite) {
    double began = seconds();
    uint64_t n_bad = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct options o = options_of_seed(large, first + i);
        o.sqlite = sqlite;
        if (!world_run(&o, first + i, NULL)) {
            n_bad++;
        }
        if (progress != 0 && (i + 1) % progress == 0) {
            printf("%llu seeds, %llu violations, %.1f s\n", (unsigned long long)(i + 1),
                   (unsigned long long)n_bad, seconds() - began);
            fflush(stdout);
        }
    }
    printf("seeds %llu to %llu: %llu violations, %.1f s\n", (unsigned long long)first,
           (unsigned long long)(first + count - 1), (unsigned long long)n_bad, seconds() - began);
    return n_bad > 0;
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
    int64_t makespan_ms = 0;
    double began = seconds();
    o.watch_memory = true;
    bool ok = world_run(&o, 1, &makespan_ms);
    printf("%u agents, %u tasks: %.1f s, simulated %.1f s\n", agents, tasks, seconds() - began,
           (double)makespan_ms / 1000);
    return !ok;
}

// One of twenty executors, or sources, at a tenth of the speed, against the others alone.
static int run_makespan(void) {
    enum { AGENTS = 40, TASKS = 8000 };
    for (int slow_source = 0; slow_source < 2; slow_source++) {
        struct options slow = plain(AGENTS, TASKS, true);
        struct options others = plain(AGENTS - 1, TASKS, true);
        int64_t with_ms = 0, without_ms = 0;
        if (slow_source) {
            slow.slow_source = AGENTS - 2;
            others = plain(AGENTS, TASKS, true);
            others.absent = AGENTS - 2;
        } else {
            slow.slow_executor = AGENTS - 1;
        }
        if (!world_run(&slow, 1, &with_ms) || !world_run(&others, 1, &without_ms)) {
            return 1;
        }
        printf("one slow %s: makespan %.1f s, %.1f s without it: ratio %.3f\n",
               slow_source ? "source" : "executor", (double)with_ms / 1000,
               (double)without_ms / 1000, (double)with_ms / (double)without_ms);
    }
    return 0;
}

int main(int argc, char **argv) {
    uint64_t numbers[2] = {1, 10};
    int n = 0;
    bool large = false;
    uint64_t progress = 0;
    const char *sqlite = NULL;
    log_set_level(LOG_ERROR);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--large") == 0) {
            large = true;
        } else if (strcmp(argv[i], "--progress") == 0 && i + 1 < argc) {
            progress = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--sqlite") == 0 && i + 1 < argc) {
            sqlite = argv[++i];
        } else if (strcmp(argv[i], "--makespan") == 0) {
            return run_makespan();
        } else if (strcmp(argv[i], "--scale") == 0 && i + 2 < argc) {
            return run_scale((uint32_t)strtoul(argv[i + 1], NULL, 10),
                             (uint32_t)strtoul(argv[i + 2], NULL, 10));
        } else if (n < 2) {
            numbers[n++] = strtoull(argv[i], NULL, 10);
        }
    }
    return run_seeds(numbers[0], numbers[1], large, progress, sqlite);
}
