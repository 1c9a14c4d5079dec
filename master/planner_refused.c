// SPDX-License-Identifier: Apache-2.0
// What an object store refused for want of keys.
#include "common/rpc/failure_message.h"
#include "master/planner_impl.h"

void plan_find_refused_keys(const struct plan *pl, const Sluice__V1__TaskResult *m,
                            const struct failure *whole, struct failure *ret_failure) {
    if (!pl->body.resolved) { // they never worked: the flow fails, and says why
        return;
    }
    if (flow_may_lack_credentials(pl->flow, whole->err)) {
        *ret_failure = *whole;
    }
    for (size_t i = 0; ret_failure->err == OK && i < m->n_objects; i++) {
        struct failure f = {0};
        if (m->objects[i]->failure != NULL) {
            failure_from_message(m->objects[i]->failure, &f);
        }
        if (flow_may_lack_credentials(pl->flow, f.err)) {
            *ret_failure = f;
        }
    }
}
