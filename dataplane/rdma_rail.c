// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rdma_rail.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>

enum { DOUBLINGS_MAX = 4 }; // of the time to rest

static uint32_t find(const struct rdma_rails *r, const char *agent, const char *address) {
    uint32_t i = 0;

    while (i < r->n &&
           (strcmp(r->rails[i].address, address) != 0 || strcmp(r->rails[i].agent, agent) != 0)) {
        i++;
    }
    return i;
}

// Is @a the better one to forget?
static bool is_less_of_use(const struct rdma_rail *a, const struct rdma_rail *b) {
    return a->n_used != b->n_used ? a->n_used < b->n_used : a->until_ms < b->until_ms;
}

// A new one, in the place of another if there is no room.
static struct rdma_rail *add(struct rdma_rails *r, const char *agent, const char *address) {
    struct rdma_rail *rail = &r->rails[0];

    if (r->n < RDMA_RAILS_MAX) {
        rail = &r->rails[r->n++];
    } else {
        for (uint32_t i = 1; i < r->n; i++) {
            rail = is_less_of_use(&r->rails[i], rail) ? &r->rails[i] : rail;
        }
    }
    *rail = (struct rdma_rail){0};
    (void)snprintf(rail->agent, sizeof(rail->agent), "%s", agent);
    (void)snprintf(rail->address, sizeof(rail->address), "%s", address);
    return rail;
}

static struct rdma_rail *find_or_add(struct rdma_rails *r, const char *agent, const char *address) {
    uint32_t i = find(r, agent, address);

    return i < r->n ? &r->rails[i] : add(r, agent, address);
}

// What is neither used nor rests needs no place.
static void forget_if_idle(struct rdma_rails *r, uint32_t i) {
    if (r->rails[i].n_used == 0 && r->rails[i].n_failed == 0) {
        r->rails[i] = r->rails[--r->n];
    }
}

int rdma_rail_choose(const struct rdma_rails *r, const char *agent, const char *const *addresses,
                     size_t n, bool is_forced, int64_t now_ms) {
    int best = RDMA_RAIL_NONE;
    uint32_t least = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        uint32_t at = addresses[i] ? find(r, agent, addresses[i]) : 0;
        uint32_t used = at < r->n ? r->rails[at].n_used : 0;
        bool rests = at < r->n && r->rails[at].until_ms > now_ms && !is_forced;
        if (addresses[i] && !rests && used < least) {
            best = (int)i;
            least = used;
        }
    }
    return best;
}

void rdma_rail_use(struct rdma_rails *r, const char *agent, const char *address) {
    find_or_add(r, agent, address)->n_used++;
}

void rdma_rail_leave(struct rdma_rails *r, const char *agent, const char *address) {
    uint32_t i = find(r, agent, address);

    if (i < r->n && r->rails[i].n_used > 0) {
        r->rails[i].n_used--;
        forget_if_idle(r, i);
    }
}

void rdma_rail_failed(struct rdma_rails *r, const char *agent, const char *address, int64_t now_ms,
                      size_t n_others, const struct failure *reason) {
    struct rdma_rail *rail = find_or_add(r, agent, address);
    int64_t rest_ms = r->rest_ms;

    if (rail->until_ms > now_ms) { // another connection failed at the same time
        return;
    }
    rest_ms <<= rail->n_failed < DOUBLINGS_MAX ? rail->n_failed : (uint32_t)DOUBLINGS_MAX;
    rail->until_ms = now_ms + rest_ms;
    rail->n_failed++;
    if (rail->n_failed == 1) {
        log_event(LOG_WARN, n_others > 0 ? "rdma_rail_dropped" : "rdma_fell_back",
                  LOG_STR("peer", agent), LOG_STR("address", address),
                  LOG_STR("transport", n_others > 0 ? "rdma" : "tcp"),
                  LOG_I64("next_try_in_ms", rest_ms), LOG_FAILURE(reason));
    }
}

void rdma_rail_worked(struct rdma_rails *r, const char *agent, const char *address) {
    uint32_t i = find(r, agent, address);

    if (i == r->n || r->rails[i].n_failed == 0) {
        return;
    }
    r->rails[i].n_failed = 0;
    r->rails[i].until_ms = 0;
    log_event(LOG_INFO, "rdma_is_back", LOG_STR("peer", agent), LOG_STR("address", address),
              LOG_STR("transport", "rdma"));
    forget_if_idle(r, i);
}
