// SPDX-License-Identifier: Apache-2.0
#include "master/volume_proof.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

enum {
    NONCE_BYTES = 16,
    ROUND_MS = 3000,
    MAX_FAILED_ROUNDS = 3,
    // Where nobody could write, it is tried again: the disk may have been full.
    AGAIN_FIRST_MS = 5 * 1000,
    AGAIN_MAX_MS = 5 * 60 * 1000,
};
enum phase { PHASE_REST, PHASE_WRITING, PHASE_READING };

// The volume of one name at one site, as far as its agents are connected.
struct volume_set {
    struct volume_proofs *proofs;
    struct hash_node by_key;
    char site[PLACE_NAME_MAX], name[PLACE_NAME_MAX];
    struct agent_volume *members;
    enum phase phase;
    struct agent_volume *writer;
    uint8_t nonce[NONCE_BYTES];
    uint32_t n_waiting;
    uint32_t n_failed_rounds; // in which nobody read what was written
    bool unwritten;           // some are local only because nobody could write
    int64_t again_ms;         // that is tried again after so long; 0: AGAIN_FIRST_MS
    struct loop_timer *deadline;
};

struct volume_proofs {
    struct agents *agents;
    struct hash_index sets;
};

static void begin(struct volume_set *s);
static void finish(struct volume_set *s);

enum err volume_proofs_new(struct agents *as, struct volume_proofs **ret_proofs) {
    struct volume_proofs *p = calloc(1, sizeof(*p));
    if (p == NULL || hash_index_init(&p->sets) != OK) {
        free(p);
        return ERR_NO_MEMORY;
    }
    p->agents = as;
    *ret_proofs = p;
    return OK;
}

void volume_proofs_free(struct volume_proofs *p) {
    if (p != NULL) {
        hash_index_deinit(&p->sets);
        free(p);
    }
}

static uint64_t key_hash(const char *site, const char *name) {
    return hash_text(site) * 31 + hash_text(name);
}

static struct volume_set *find(const struct volume_proofs *p, const char *site, const char *name) {
    struct hash_node *n = hash_index_first(&p->sets, key_hash(site, name));
    for (; n != NULL; n = hash_index_again(n)) {
        struct volume_set *s = CONTAINER_OF(n, struct volume_set, by_key);
        if (strcmp(s->site, site) == 0 && strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

// ---- a round ----

static void send(const struct volume_set *s, struct agent_volume *to, bool write, bool remove) {
    Sluice__V1__ProveVolume m = SLUICE__V1__PROVE_VOLUME__INIT;
    Sluice__V1__MasterMessage message = SLUICE__V1__MASTER_MESSAGE__INIT;
    m.volume = to->name;
    m.nonce = (ProtobufCBinaryData){NONCE_BYTES, (uint8_t *)s->nonce};
    m.write = write;
    m.remove = remove;
    message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_PROVE_VOLUME;
    message.prove_volume = &m;
    (void)agent_send(to->agent, &message); // false: the session ends, and the volume leaves
}

static void judge(struct volume_set *s, struct agent_volume *v, enum proof_state to,
                  const char *why) {
    if (v->proof == to) {
        return;
    }
    v->proof = to;
    v->silent_rounds = 0;
    log_event(to == PROOF_LOCAL ? LOG_WARN : LOG_INFO,
              to == PROOF_LOCAL ? "volume_local" : "volume_shared", LOG_STR("site", s->site),
              LOG_STR("volume", s->name), LOG_STR("agent", v->agent->name), LOG_STR("reason", why));
    if (agent_tell_scheduler(v->agent) != OK) {
        agent_hang_up(v->agent, "out of memory");
    }
}

static struct agent_volume *first_pending(const struct volume_set *s) {
    struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        if (v->proof == PROOF_PENDING) {
            return v;
        }
    }
    return NULL;
}

static void all_pending_are_local(struct volume_set *s, const char *why) {
    struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        if (v->proof == PROOF_PENDING) {
            judge(s, v, PROOF_LOCAL, why);
        }
    }
}

static struct agent_volume *choose_writer(const struct volume_set *s) {
    struct agent_volume *v, *best = NULL;
    DL_FOREACH2(s->members, v, set_next) {
        if (v->cannot_write || v->proof == PROOF_LOCAL || !v->writable) {
            continue;
        }
        if (v->proof == PROOF_SHARED) {
            return v;
        }
        best = best == NULL ? v : best;
    }
    return best;
}

static bool has_writable(const struct volume_set *s) {
    const struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        if (v->writable) {
            return true;
        }
    }
    return false;
}

static void try_again_later(struct volume_set *s) {
    s->unwritten = true;
    s->again_ms = s->again_ms == 0                 ? AGAIN_FIRST_MS
                  : s->again_ms > AGAIN_MAX_MS / 2 ? AGAIN_MAX_MS
                                                   : 2 * s->again_ms;
    loop_timer_arm(s->deadline, s->again_ms);
}

// Who was judged without a proof is so again.
static void try_again(struct volume_set *s) {
    struct agent_volume *v;
    s->unwritten = false;
    DL_FOREACH2(s->members, v, set_next) {
        v->cannot_write = false;
        if (v->unproven) {
            v->unproven = false;
            v->proof = PROOF_PENDING;
        }
    }
}

static void begin(struct volume_set *s) {
    struct agent_volume *pending;
    if (s->phase != PHASE_REST || (pending = first_pending(s)) == NULL) {
        return;
    }
    if (pending == s->members && pending->set_next == NULL) {
        judge(s, pending, PROOF_SHARED, "no other agent of the site has it");
        return;
    }
    s->writer = choose_writer(s);
    if (s->writer == NULL && has_writable(s)) {
        struct agent_volume *v;
        DL_FOREACH2(s->members, v, set_next) {
            v->unproven = v->unproven || v->proof == PROOF_PENDING;
        }
        try_again_later(s);
    }
    if (s->writer == NULL || s->n_failed_rounds >= MAX_FAILED_ROUNDS) {
        all_pending_are_local(s, s->writer == NULL
                                     ? "no agent can write a proof there"
                                     : "what one agent writes there, others do not see");
        s->writer = NULL;
        s->n_failed_rounds = 0;
        return;
    }
    if (getrandom(s->nonce, sizeof s->nonce, 0) != (ssize_t)sizeof s->nonce) {
        log_event(LOG_ERROR, "no_randomness", LOG_I64("errno", errno));
        s->writer = NULL;
        return;
    }
    s->phase = PHASE_WRITING;
    loop_timer_arm(s->deadline, ROUND_MS);
    send(s, s->writer, true, false);
}

static void end_round(struct volume_set *s) {
    loop_timer_disarm(s->deadline);
    if (s->unwritten) {
        loop_timer_arm(s->deadline, s->again_ms);
    }
    s->phase = PHASE_REST;
    s->writer = NULL;
    s->n_waiting = 0;
}

static void written(struct volume_set *s) {
    struct agent_volume *v;
    s->phase = PHASE_READING;
    s->n_waiting = 0;
    s->again_ms = 0;
    DL_FOREACH2(s->members, v, set_next) {
        bool ask = v != s->writer && v->proof == PROOF_PENDING;
        v->answer = ask ? ANSWER_ASKED : ANSWER_NONE;
        if (ask) {
            s->n_waiting++;
            send(s, v, false, false);
        }
    }
    loop_timer_arm(s->deadline, ROUND_MS);
    if (s->n_waiting == 0) {
        finish(s);
    }
}

static void not_written(struct volume_set *s, const char *why) {
    struct agent_volume *writer = s->writer;
    writer->cannot_write = true;
    end_round(s);
    if (writer->proof == PROOF_PENDING) {
        log_event(LOG_WARN, "volume_proof_failed", LOG_STR("site", s->site),
                  LOG_STR("volume", s->name), LOG_STR("agent", writer->agent->name),
                  LOG_STR("reason", why));
    }
    begin(s);
}

static uint32_t count_answers(const struct volume_set *s, enum proof_answer a) {
    uint32_t n = 0;
    const struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        n += v->answer == a ? 1 : 0;
    }
    return n;
}

static bool is_alone_shared(const struct volume_set *s, const struct agent_volume *writer) {
    const struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        if (v != writer && v->proof == PROOF_SHARED) {
            return false;
        }
    }
    return true;
}

static void judge_writer(struct volume_set *s, uint32_t n_same, uint32_t n_other) {
    struct agent_volume *w = s->writer;
    // Right after a start nobody was there before: who came first means nothing.
    const struct agents *as = s->proofs->agents;
    bool is_early = agents_now_ms(as) < as->core->reconcile_until_ms;
    if (n_same > 0) {
        s->n_failed_rounds = 0;
        judge(s, w, PROOF_SHARED, "it was proven");
    } else if (n_other > 0 && (w->proof == PROOF_PENDING || (is_early && is_alone_shared(s, w)))) {
        s->n_failed_rounds++;
        judge(s, w, PROOF_LOCAL, "no other agent sees what it wrote there");
    } else if (w->proof == PROOF_PENDING) {
        s->n_failed_rounds++;
    }
}

static void judge_reader(struct volume_set *s, struct agent_volume *v, bool others_are_local) {
    switch (v->answer) {
    case ANSWER_SAME: judge(s, v, PROOF_SHARED, "it was proven"); break;
    case ANSWER_OTHER:
        if (others_are_local) {
            judge(s, v, PROOF_LOCAL, "it does not see what another agent wrote there");
        }
        break;
    case ANSWER_ASKED:
        if (++v->silent_rounds >= MAX_FAILED_ROUNDS) {
            judge(s, v, PROOF_LOCAL, "it does not answer");
        }
        break;
    case ANSWER_NONE: // it came after the readers were asked, or is the writer
        break;
    }
    v->answer = ANSWER_NONE;
}

// All answered, or the time is over.
static void finish(struct volume_set *s) {
    uint32_t n_same = count_answers(s, ANSWER_SAME), n_other = count_answers(s, ANSWER_OTHER);
    bool incumbent = s->writer->proof == PROOF_SHARED;
    send(s, s->writer, false, true);
    judge_writer(s, n_same, n_other);
    // Two of them may share what the writer lacks: then one of them writes next.
    bool others_are_local = s->writer->proof == PROOF_SHARED && (incumbent || n_same > 0);
    struct agent_volume *v;
    DL_FOREACH2(s->members, v, set_next) {
        judge_reader(s, v, others_are_local);
    }
    end_round(s);
    begin(s);
}

static void round_is_late(void *arg) {
    struct volume_set *s = arg;
    struct core *c = s->proofs->agents->core;
    if (s->phase == PHASE_WRITING) {
        not_written(s, "it did not answer in time");
    } else if (s->phase == PHASE_READING) {
        finish(s);
    } else {
        if (s->unwritten) {
            try_again(s);
        }
        begin(s);
    }
    core_dispatch(c);
}

void volume_proofs_answer(struct volume_proofs *p, struct agent *a,
                          const Sluice__V1__VolumeProof *m) {
    struct agent_volume *v = agent_volume_find(a, m->volume);
    struct volume_set *s = v != NULL ? v->set : NULL;
    (void)p;
    if (s == NULL || s->phase == PHASE_REST || m->nonce.len != NONCE_BYTES ||
        memcmp(m->nonce.data, s->nonce, NONCE_BYTES) != 0) {
        return; // of a round that is over
    }
    if (s->phase == PHASE_WRITING && v == s->writer) {
        if (m->wrote) {
            written(s);
        } else {
            not_written(s, m->error);
        }
    } else if (s->phase == PHASE_READING && v->answer == ANSWER_ASKED) {
        bool same = m->seen.len == NONCE_BYTES && memcmp(m->seen.data, s->nonce, NONCE_BYTES) == 0;
        v->answer = same ? ANSWER_SAME : ANSWER_OTHER;
        if (--s->n_waiting == 0) {
            finish(s);
        }
    }
}

// ---- coming and going ----

static struct volume_set *set_new(struct volume_proofs *p, const char *site, const char *name) {
    struct volume_set *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->deadline = loop_timer_new(p->agents->core->loop, round_is_late, s);
    if (s->deadline == NULL) {
        free(s);
        return NULL;
    }
    s->proofs = p;
    memcpy(s->site, site, strnlen(site, PLACE_NAME_MAX - 1));
    memcpy(s->name, name, strnlen(name, PLACE_NAME_MAX - 1));
    hash_index_add(&p->sets, &s->by_key, key_hash(site, name));
    return s;
}

enum err volume_proofs_join(struct volume_proofs *p, struct agent_volume *v) {
    struct volume_set *s = find(p, v->agent->site, v->name);
    if (s == NULL && (s = set_new(p, v->agent->site, v->name)) == NULL) {
        return ERR_NO_MEMORY;
    }
    v->set = s;
    v->proof = PROOF_PENDING;
    v->answer = ANSWER_NONE;
    v->cannot_write = false;
    v->unproven = false;
    v->silent_rounds = 0;
    DL_APPEND2(s->members, v, set_prev, set_next);
    return OK;
}

void volume_proofs_leave(struct volume_proofs *p, struct agent_volume *v) {
    struct volume_set *s = v->set;
    if (s == NULL) {
        return;
    }
    bool was_writer = s->writer == v;
    bool was_awaited = s->phase == PHASE_READING && v->answer == ANSWER_ASKED;
    DL_DELETE2(s->members, v, set_prev, set_next);
    v->set = NULL;
    v->answer = ANSWER_NONE;
    v->proof = PROOF_PENDING;
    if (s->members == NULL) {
        hash_index_remove(&p->sets, &s->by_key);
        loop_timer_free(s->deadline);
        free(s);
        return;
    }
    // What follows is left to the timer, as the agent is in motion here.
    if (was_writer) {
        end_round(s);
        loop_timer_arm(s->deadline, 0);
    } else if ((was_awaited && --s->n_waiting == 0) || s->phase == PHASE_REST) {
        loop_timer_arm(s->deadline, 0);
    }
}

void volume_proofs_go_on(struct agent *a) {
    struct agent_volume *v;
    DL_FOREACH(a->volumes, v) {
        if (v->set != NULL) {
            begin(v->set);
        }
    }
}
