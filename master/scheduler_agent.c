// SPDX-License-Identifier: Apache-2.0
// Who is there, who is lost, and what becomes of their leases.
#include "common/cleanup.h"
#include "master/scheduler_impl.h"

#include <string.h>
#include <utlist.h>

struct sched_agent *sched_agent_find(const struct scheduler *s, const char *name) {
    struct hash_node *n = hash_index_first(&s->agents, hash_text(name));
    for (; n != NULL; n = hash_index_again(n)) {
        struct sched_agent *a = CONTAINER_OF(n, struct sched_agent, by_name);
        if (strcmp(a->name, name) == 0) {
            return a;
        }
    }
    return NULL;
}

bool sched_agent_reaches(const struct sched_agent *a, const char *site, const char *agent,
                         const char *volume, bool write) {
    bool is_store = site[0] == '\0'; // any site's agents may reach it
    if ((!is_store && strcmp(a->site, site) != 0) ||
        (agent[0] != '\0' && strcmp(a->name, agent) != 0)) {
        return false;
    }
    for (size_t i = 0; i < a->n_volumes; i++) {
        const struct scheduler_volume *v = &a->volumes[i];
        if (strcmp(v->name, volume) == 0 && v->store == is_store) {
            return (write ? v->writable : v->readable) && (agent[0] != '\0' || v->shared);
        }
    }
    return false;
}

void sched_agent_free(struct scheduler *s, struct sched_agent *a) {
    struct sched_member *m, *next;
    DL_FOREACH_SAFE2(a->memberships, m, next, agent_next) {
        sched_member_free(s, m);
    }
    sched_timer_disarm(s, &a->timer);
    ordered_heap_unreserve(&s->timers, 1);
    hash_index_remove(&s->agents, &a->by_name);
    free(a->volumes);
    free(a);
}

void sched_agent_forget_if_gone(struct scheduler *s, struct sched_agent *a) {
    bool remembered = a->reported && s->now_ms < s->options.held_until_ms;
    if (!a->up && !remembered && a->n_leases == 0 && a->n_source == 0 && a->closing == NULL) {
        sched_agent_free(s, a);
    }
}

static void close_all(struct scheduler *s, struct sched_agent *a, enum lease_closed_how how,
                      bool lost_only) {
    struct sched_lease *l, *next;
    DL_FOREACH_SAFE(a->leases, l, next) {
        if (!lost_only || l->state == LEASE_LOST) {
            sched_lease_close(s, l, how, false);
        }
    }
}

static void became_lost(struct scheduler *s, struct sched_agent *a) {
    a->up = false;
    struct sched_lease *l, *next;
    DL_FOREACH_SAFE(a->leases, l, next) {
        sched_lease_lose(s, l);
    }
    sched_agent_refresh(s, a, false);
    sched_timer_arm(s, &a->timer, a->heard_ms + s->options.hold_ms);
}

void sched_agent_timer(struct scheduler *s, struct sched_agent *a) {
    if (!a->up) {
        close_all(s, a, CLOSED_EXPIRED, false);
        sched_agent_forget_if_gone(s, a);
        return;
    }
    int64_t due_ms = a->heard_ms + s->options.lost_after_ms;
    if (due_ms > s->now_ms) {
        sched_timer_arm(s, &a->timer, due_ms);
    } else {
        became_lost(s, a);
        sched_agent_forget_if_gone(s, a);
    }
}

static void set_text(char *to, size_t cap, const char *from) {
    size_t n = strnlen(from, cap - 1);
    memmove(to, from, n);
    memset(to + n, 0, cap - n);
}

static struct sched_agent *agent_new(struct scheduler *s, const char *name) {
    struct sched_agent *a = calloc(1, sizeof(*a));
    if (a == NULL || ordered_heap_reserve(&s->timers, 1) != OK) {
        free(a);
        return NULL;
    }
    a->timer.kind = TIMER_AGENT;
    set_text(a->name, sizeof(a->name), name);
    hash_index_add(&s->agents, &a->by_name, hash_text(a->name));
    return a;
}

static bool same_reach(const struct sched_agent *a, const struct scheduler_agent *spec) {
    return strcmp(a->site, spec->site) == 0 && a->n_volumes == spec->n_volumes &&
           (spec->n_volumes == 0 ||
            memcmp(a->volumes, spec->volumes, spec->n_volumes * sizeof(*a->volumes)) == 0);
}

static enum err set_reach(struct scheduler *s, struct sched_agent *a,
                          const struct scheduler_agent *spec) {
    struct scheduler_volume *volumes = calloc(spec->n_volumes + 1, sizeof(*volumes));
    if (volumes == NULL) {
        return ERR_NO_MEMORY;
    }
    if (spec->n_volumes > 0) {
        memcpy(volumes, spec->volumes, spec->n_volumes * sizeof(*volumes));
    }
    free(a->volumes);
    a->volumes = volumes;
    a->n_volumes = spec->n_volumes;
    set_text(a->site, sizeof(a->site), spec->site);
    return sched_pool_join_all(s, a);
}

enum err scheduler_agent_up(struct scheduler *s, const struct scheduler_agent *spec,
                            int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, spec->name);
    bool known = a != NULL;
    if (a == NULL && (a = agent_new(s, spec->name)) == NULL) {
        return ERR_NO_MEMORY;
    }
    bool another = strcmp(a->incarnation, spec->incarnation) != 0;
    bool was_up = a->up;
    a->up = true;
    a->heard_ms = s->now_ms;
    a->slots = spec->slots > 0 ? spec->slots : 1;
    a->source_slots =
        s->options.source_slots > 0 ? s->options.source_slots : a->slots * SCHED_SOURCE_AHEAD;
    set_text(a->incarnation, sizeof(a->incarnation), spec->incarnation);
    if (known && another) {
        close_all(s, a, CLOSED_INCARNATION, false);
    }
    if (!was_up) {
        for (struct sched_lease *l = a->leases; l != NULL; l = l->next) {
            l->mentioned = false;
        }
    }
    if (!known || !same_reach(a, spec)) {
        enum err e = set_reach(s, a, spec);
        if (e != OK) {
            a->site[0] = '\0'; // so that the next attempt makes the memberships anew
            became_lost(s, a);
            sched_agent_forget_if_gone(s, a);
            return e;
        }
    }
    sched_agent_refresh(s, a, false);
    sched_timer_arm(s, &a->timer, a->heard_ms + s->options.lost_after_ms);
    return OK;
}

void scheduler_agent_reported(struct scheduler *s, const char *agent, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    if (a != NULL && a->up) {
        a->reported = true;
        struct sched_lease *l, *next;
        DL_FOREACH_SAFE(a->leases, l, next) {
            if (l->state == LEASE_LOST && !l->mentioned) {
                sched_lease_close(s, l, CLOSED_RELEASED, false);
            }
        }
        sched_agent_refresh(s, a, false);
    }
}

bool scheduler_agent_heard(struct scheduler *s, const char *agent, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    if (a == NULL || !a->up) {
        return false;
    }
    a->heard_ms = s->now_ms;
    return true;
}

void scheduler_agent_down(struct scheduler *s, const char *agent, bool clean, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    if (a == NULL) {
        return;
    }
    if (clean) {
        a->up = false;
        close_all(s, a, CLOSED_RELEASED, false);
        sched_agent_refresh(s, a, false);
        sched_timer_disarm(s, &a->timer);
    } else if (a->up) {
        became_lost(s, a);
    }
    sched_agent_forget_if_gone(s, a);
}

void scheduler_agent_drain(struct scheduler *s, const char *agent, bool draining, int64_t now_ms) {
    sched_saw_time(s, now_ms);
    struct sched_agent *a = sched_agent_find(s, agent);
    if (a == NULL || a->draining == draining) {
        return;
    }
    a->draining = draining;
    sched_agent_refresh(s, a, false);
    if (draining) {
        for (struct sched_lease *l = a->leases; l != NULL; l = l->next) {
            if (l->state == LEASE_OPEN && !l->started && l->task != NULL) {
                sched_lease_order(s, l, SCHED_REVOKE);
            }
        }
    }
}
