// SPDX-License-Identifier: Apache-2.0
// Flows whose keys to an object store were refused: suspended until there are others.
#include "common/log.h"
#include "master/flow_table.h"

#include <stdio.h>
#include <string.h>

enum { HOLDER = SLUICE__V1__SUSPENSION_HOLDER__CREDENTIALS };

static void nobody_waits(void *arg, const struct failure *failure) {
    (void)arg;
    (void)failure;
}

bool flow_may_lack_credentials(const struct flow *f, enum err e) {
    return e == ERR_UNAUTHENTICATED && (place_is_store(&f->source) || place_is_store(&f->sink));
}

void flow_suspend_for_credentials(struct core *c, struct flow *f, const struct failure *why,
                                  const char *agent) {
    char reason[FAILURE_TEXT_MAX];
    struct flow_entry *e = flow_entry_of(f);
    if (e->ending || e->ended || (f->holders & 1U << HOLDER) != 0) {
        return;
    }
    f->error = *why;
    snprintf(f->error_agent, sizeof f->error_agent, "%s", agent);
    snprintf(reason, sizeof reason, "%s", why->message);
    flow_suspend(c, f, HOLDER, reason, nobody_waits, NULL);
}

// "NAME" or "STORE=NAME".
static bool names(const char *item, const char *name) {
    const char *equals = strchr(item, '=');
    return strcmp(equals != NULL ? equals + 1 : item, name) == 0;
}

static bool concerns(const struct flow *f, const char *name) {
    bool is_concerned = (place_is_store(&f->source) && strcmp(f->source.volume, name) == 0) ||
                        (place_is_store(&f->sink) && strcmp(f->sink.volume, name) == 0);
    for (size_t i = 0; i < f->spec->n_credentials; i++) {
        is_concerned = is_concerned || names(f->spec->credentials[i], name);
    }
    return is_concerned;
}

size_t flows_go_on_with_credentials(struct flows *fl, const char *name) {
    struct flow_entry *e, *next;
    size_t n = 0;
    HASH_ITER(hh, fl->by_id, e, next) {
        struct flow *f = &e->flow;
        if ((f->holders & 1U << HOLDER) == 0 || e->ending || e->ended || !concerns(f, name)) {
            continue;
        }
        f->error = (struct failure){0};
        f->error_agent[0] = '\0';
        flow_resume(fl->core, f, HOLDER, nobody_waits, NULL);
        n++;
    }
    return n;
}
