// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/master/simulated_cluster_impl.h"

#include <stdlib.h>
#include <string.h>

static void keep(struct sim_agent *a, struct ref ref, bool ok, uint64_t done) {
    if (a->n_kept == a->cap_kept) {
        a->cap_kept = a->cap_kept * 2 + 16;
        a->kept = sim_must(realloc(a->kept, a->cap_kept * sizeof(*a->kept)));
    }
    a->kept[a->n_kept++] =
        (struct kept_result){.ref = ref, .ok = ok, .done = done, .number = ++a->next_number};
}

static void send_kept(struct sim *s, uint32_t i, const struct kept_result *k) {
    sim_to_master(s, i, EV_RESULT)->number = k->number;
}

static void start_waiting(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    size_t n = 0;
    for (size_t k = 0; k < a->n_leases && n < a->slots; k++, n++) {
        struct sim_lease *l = &a->leases[k];
        if (!l->running) {
            l->running = true;
            l->since_ms = s->now_ms;
            l->run = ++a->next_run;
            struct event *e =
                sim_later(s, 1 + (int64_t)((double)l->cost / a->rate), EV_TASK_ENDS, i);
            e->incarnation = a->incarnation;
            e->number = l->run;
        }
    }
}

static void drop_lease(struct sim_agent *a, size_t k) {
    memmove(&a->leases[k], &a->leases[k + 1], (a->n_leases - k - 1) * sizeof(a->leases[0]));
    a->n_leases--;
}

static void check_hold(struct sim *s, struct sim_agent *a) {
    if (s->now_ms - a->confirmed_ms > HOLD_MS) {
        a->n_leases = 0; // nothing may be written any more
    }
}

uint64_t sim_done_of(const struct sim *s, const struct sim_agent *a, const struct sim_lease *l) {
    double done = l->running ? (double)(s->now_ms - l->since_ms) * a->rate : 0;
    return done < (double)l->cost ? (uint64_t)done : l->cost;
}

static void lease_ends(struct sim *s, uint32_t i, size_t k, bool ok, uint64_t done) {
    struct sim_agent *a = &s->agents[i];
    keep(a, a->leases[k].ref, ok, done);
    drop_lease(a, k);
    if (a->welcomed) {
        send_kept(s, i, &a->kept[a->n_kept - 1]);
    }
    start_waiting(s, i);
}

void sim_task_ends(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    if (!a->alive || a->incarnation != e->incarnation) {
        return;
    }
    check_hold(s, a);
    for (size_t k = 0; k < a->n_leases; k++) {
        if (a->leases[k].running && a->leases[k].run == e->number) {
            bool ok = sim_between(s, 0, 99) >= s->o.failures_percent;
            lease_ends(s, e->agent, k, ok, ok ? a->leases[k].cost : 0);
            return;
        }
    }
}

static void stopped(struct sim *s, uint32_t i, struct ref ref) {
    sim_to_master(s, i, EV_STOPPED)->ref = ref;
}

static void ordered(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    for (size_t k = 0; k < a->n_leases; k++) {
        struct sim_lease *l = &a->leases[k];
        if (l->ref.task != e->ref.task || epoch_compare(l->ref.epoch, e->ref.epoch) != 0) {
            continue;
        }
        uint64_t done = sim_done_of(s, a, l);
        if (e->kind == EV_YIELD && done > 0 && done < l->cost) {
            lease_ends(s, e->agent, k, true, done);
        } else if (e->kind == EV_REVOKE || done == 0) {
            drop_lease(a, k);
            stopped(s, e->agent, e->ref);
            start_waiting(s, e->agent);
        }
        return;
    }
    for (size_t k = 0; k < a->n_kept; k++) {
        if (a->kept[k].ref.task == e->ref.task) {
            return; // the result is on its way
        }
    }
    stopped(s, e->agent, e->ref);
}

static void welcomed(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    a->welcomed = true;
    a->confirmed_ms = e->sent_ms;
    check_hold(s, a);
    for (size_t i = 0; i < e->n_refused; i++) {
        for (size_t k = 0; k < a->n_leases; k++) {
            if (a->leases[k].ref.task == e->refused[i]) {
                struct ref ref = a->leases[k].ref;
                drop_lease(a, k);
                stopped(s, e->agent, ref);
                break;
            }
        }
    }
    for (size_t i = 0; i < a->n_kept; i++) {
        send_kept(s, e->agent, &a->kept[i]);
    }
    start_waiting(s, e->agent);
}

void sim_agent_message(struct sim *s, const struct event *e) {
    struct sim_agent *a = &s->agents[e->agent];
    switch ((int)e->kind) {
    case EV_WELCOME: welcomed(s, e); break;
    case EV_ASSIGN:
        if (a->n_leases == ARRAY_LEN(a->leases)) {
            sim_violated(s, "%s is flooded with leases", a->name);
            break;
        }
        a->leases[a->n_leases++] =
            (struct sim_lease){.ref = e->ref, .cost = sim_task_of(s, e->ref.task)->cost};
        start_waiting(s, e->agent);
        break;
    case EV_COMMITTED:
        for (size_t i = 0; i < a->n_kept; i++) {
            if (a->kept[i].number == e->number) {
                memmove(&a->kept[i], &a->kept[i + 1], (a->n_kept - i - 1) * sizeof(a->kept[0]));
                a->n_kept--;
                break;
            }
        }
        break;
    case EV_PING:
        a->confirmed_ms = e->sent_ms > a->confirmed_ms ? e->sent_ms : a->confirmed_ms;
        break;
    default: ordered(s, e); break;
    }
}

void sim_heartbeat(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    sim_later(s, HEARTBEAT_MS, EV_HEARTBEAT, i);
    if (!a->alive) {
        return;
    }
    check_hold(s, a);
    if (a->session != 0 && a->welcomed) {
        sim_to_master(s, i, EV_BEAT)->sent_ms = s->now_ms;
    }
}

void sim_dial(struct sim *s, uint32_t i) {
    struct sim_agent *a = &s->agents[i];
    if (!a->alive || a->session != 0) {
        return;
    }
    if (s->scheduler == NULL || a->partitioned) {
        sim_later(s, (int64_t)sim_between(s, 50, 1000), EV_DIAL, i);
        return;
    }
    check_hold(s, a);
    a->session = ++s->next_session;
    a->welcomed = false;
    sim_to_master(s, i, EV_REGISTER)->sent_ms = s->now_ms;
}
