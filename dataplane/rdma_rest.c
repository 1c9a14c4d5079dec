// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rdma_rest.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>

enum { DOUBLINGS_MAX = 4 }; // of the time to rest

static struct rdma_resting *find(const struct rdma_rest *r, const char *agent) {
    for (uint32_t i = 0; i < r->n; i++) {
        if (strcmp(r->agents[i].agent, agent) == 0) {
            return (struct rdma_resting *)(uintptr_t)&r->agents[i];
        }
    }
    return NULL;
}

bool rdma_rest_is_over(const struct rdma_rest *r, const char *agent, int64_t now_ms) {
    const struct rdma_resting *a = find(r, agent);

    return !a || a->until_ms <= now_ms;
}

// A new entry, in the place of the one that ends first if there is no room.
static struct rdma_resting *add(struct rdma_rest *r, const char *agent) {
    struct rdma_resting *a = &r->agents[0];

    if (r->n < RDMA_REST_AGENTS) {
        a = &r->agents[r->n++];
    } else {
        for (uint32_t i = 1; i < r->n; i++) {
            a = r->agents[i].until_ms < a->until_ms ? &r->agents[i] : a;
        }
    }
    *a = (struct rdma_resting){0};
    (void)snprintf(a->agent, sizeof(a->agent), "%s", agent);
    return a;
}

void rdma_rest_begin(struct rdma_rest *r, const char *agent, int64_t now_ms,
                     const struct failure *reason) {
    struct rdma_resting *a = find(r, agent);
    int64_t rest_ms = r->rest_ms;

    if (a && a->until_ms > now_ms) { // another connection failed at the same time
        return;
    }
    a = a ? a : add(r, agent);
    rest_ms <<= a->n_failed < DOUBLINGS_MAX ? a->n_failed : (uint32_t)DOUBLINGS_MAX;
    a->until_ms = now_ms + rest_ms;
    a->n_failed++;
    if (a->n_failed == 1) {
        log_event(LOG_WARN, "rdma_fell_back", LOG_STR("peer", agent), LOG_STR("transport", "tcp"),
                  LOG_I64("next_try_in_ms", rest_ms), LOG_FAILURE(reason));
    }
}

void rdma_rest_end(struct rdma_rest *r, const char *agent) {
    struct rdma_resting *a = find(r, agent);

    if (a) {
        *a = r->agents[--r->n];
        log_event(LOG_INFO, "rdma_is_back", LOG_STR("peer", agent), LOG_STR("transport", "rdma"));
    }
}
