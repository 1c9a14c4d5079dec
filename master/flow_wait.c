// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "master/flow_table.h"

#include <stdlib.h>
#include <string.h>

void flow_wait_add(struct flow_wait **list, void (*done)(void *arg, const struct failure *failure),
                   void *arg) {
    struct flow_wait *w = calloc(1, sizeof *w);
    if (w == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "wait", NULL, 0, NULL);
        done(arg, &f);
        return;
    }
    *w = (struct flow_wait){.next = *list, .done = done, .arg = arg};
    *list = w;
}

void flow_waits_finish(struct flow_wait **list, const struct failure *failure) {
    struct flow_wait *w = take_ptr(*list), *next;
    for (; w != NULL; w = next) {
        next = w->next;
        w->done(w->arg, failure);
        free(w);
    }
}

void flow_committed(struct core *c, struct flow_entry *e) {
    if (e->uncommitted > 0) {
        return;
    }
    flow_waits_finish(&e->wait_stored, NULL);
    if (e->flow.state == FLOW_SUSPENDED) {
        flow_waits_finish(&e->wait_quiet, NULL);
    }
    if (!e->ended || e->unstored != NULL) {
        return;
    }
    struct failure over = {0};
    (void)failure_set(&over, ERR_STATE, "suspend", e->flow.id, strlen(e->flow.id),
                      "the flow has ended meanwhile: %s", flow_outcome_name(e->flow.outcome));
    flow_waits_finish(&e->wait_quiet, &over);
    flow_waits_finish(&e->wait_end, NULL);
    flow_after_ended(c, e);
    flows_forget(c->flows, e);
    flows_start_waiting(c->flows);
}
