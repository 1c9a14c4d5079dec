// SPDX-License-Identifier: Apache-2.0
// Flows that wait for others (FlowSpec.after): they begin when all of those are COMPLETED, and
// fail when one of them ends otherwise.
#include "common/log.h"
#include "master/database.h"
#include "master/flow_table.h"

#include <stdlib.h>
#include <string.h>

// A question to the database about a flow that is not in memory.
struct asking {
    struct core *core;
    char flow[IDENT_SIZE], after[IDENT_SIZE];
};

static void ask(struct core *c, struct flow_entry *e, const char *after);

static void fail(struct core *c, struct flow_entry *e, const char *after, const char *what) {
    struct failure why = {0};
    (void)failure_set(&why, ERR_STATE, "wait for", after, strlen(after),
                      "a flow that this one waits for %s", what);
    failure_remedy(&why, "retry that one, and submit this one again after it");
    flow_end(c, e, OUTCOME_FAILED, &why);
}

// One flow that others may wait for has ended.
static void settle(struct core *c, struct flow_entry *e, const char *after, bool completed) {
    const Sluice__V1__FlowSpec *spec = e->flow.spec;
    for (size_t i = 0; i < spec->n_after && e->after_open != 0; i++) {
        if ((e->after_open & (uint64_t)1 << i) != 0 && strcmp(spec->after[i], after) == 0) {
            e->after_open &= ~((uint64_t)1 << i);
            if (!completed) {
                fail(c, e, after, "has ended without being COMPLETED");
                return;
            }
        }
    }
}

static void on_row(void *arg, enum err result, const struct flow_row *rows, size_t n_rows,
                   bool more) {
    struct asking *a = arg;
    struct core *c = a->core;
    struct flow_entry *e = flows_entry(c->flows, a->flow);
    (void)more;
    if (e != NULL && !e->ending && !e->ended && !c->stopping) {
        if (result != OK) {
            e->after_again = true;
        } else if (n_rows == 0) {
            fail(c, e, a->after, "does not exist");
        } else if (flow_state_is_final(rows[0].state)) {
            settle(c, e, a->after, rows[0].state == FLOW_COMPLETED);
            flows_start_waiting(c->flows);
        } else if (flows_entry(c->flows, a->after) == NULL) {
            ask(c, e, a->after); // it ended just now
        }
    }
    free(a);
}

static void ask(struct core *c, struct flow_entry *e, const char *after) {
    struct asking *a = calloc(1, sizeof *a);
    if (a == NULL) {
        e->after_again = true; // by the next tick
        return;
    }
    a->core = c;
    memcpy(a->flow, e->flow.id, IDENT_SIZE);
    memcpy(a->after, after, IDENT_SIZE); // its form was checked at submission
    database_flow_get(c->database, a->after, on_row, a);
}

void flow_after_look(struct core *c, struct flow_entry *e) {
    const Sluice__V1__FlowSpec *spec = e->flow.spec;
    e->after_again = false;
    for (size_t i = 0; i < spec->n_after; i++) {
        if ((e->after_open & (uint64_t)1 << i) != 0 &&
            flows_entry(c->flows, spec->after[i]) == NULL) {
            ask(c, e, spec->after[i]);
        }
    }
}

void flow_after_ended(struct core *c, const struct flow_entry *ended) {
    struct flow_entry *e, *next;
    HASH_ITER(hh, c->flows->by_id, e, next) {
        if (e->after_open != 0 && !e->ending && !e->ended) {
            settle(c, e, ended->flow.id, ended->flow.state == FLOW_COMPLETED);
        }
    }
}
