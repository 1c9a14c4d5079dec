// SPDX-License-Identifier: Apache-2.0
#include "master/submit.h"

#include "common/cleanup.h"
#include "common/location.h"
#include "common/log.h"
#include "common/rpc/location_message.h"
#include "master/agents.h"
#include "master/callback_target.h"
#include "master/core.h"
#include "master/credentials.h"
#include "master/database.h"
#include "master/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct submission {
    struct core *core;
    struct flow *flow; // owned until it is accepted
    struct loop_timer *timer;
    int64_t began_ms; // monotonic
    char request_id[SUBMIT_TEXT_MAX + 1];
    void (*done)(void *arg, const char *flow_id, bool existed, const struct failure *failure);
    void *arg;
};

static void end(struct submission *s, const char *flow_id, bool existed,
                const struct failure *failure) {
    if (failure != NULL) {
        log_event(LOG_INFO, "flow_refused", LOG_STR("request_id", s->request_id),
                  LOG_FAILURE(failure));
    }
    s->done(s->arg, flow_id, existed, failure);
    if (s->timer != NULL) {
        loop_timer_free(s->timer);
    }
    flow_free(s->flow);
    free(s);
}

static void on_accepted(void *arg, const char *flow_id, bool existed,
                        const struct failure *failure) {
    end(arg, flow_id, existed, failure);
}

// ---- places ----
static enum err resolve(struct core *c, const Sluice__V1__Location *m, bool write,
                        struct place *ret_place, struct failure *f) {
    struct location l;
    enum err e = location_from_message(m, &l, f);
    if (e != OK) {
        return e;
    }
    e = agents_resolve(c->agents, &l, write, ret_place, f);
    location_deinit(&l);
    return e;
}

// A bucket as a whole counts as its contents.
static bool ends_with_slash(const Sluice__V1__Location *m) {
    const ProtobufCBinaryData *path = location_message_path(m);
    return path->len > 0 ? path->data[path->len - 1] == '/'
                         : m->kind_case == SLUICE__V1__LOCATION__KIND_S3;
}

static enum err refuse_overlap(const struct flow *f, struct failure *ret_failure) {
    const struct place *a = &f->source, *b = &f->sink;
    bool same_volume =
        strcmp(a->site, b->site) == 0 && strcmp(a->volume, b->volume) == 0 &&
        (strcmp(a->agent, b->agent) == 0 || a->agent[0] == '\0' || b->agent[0] == '\0');
    bool below = same_volume && b->root_len >= a->root_len &&
                 memcmp(a->root, b->root, a->root_len) == 0 &&
                 (b->root_len == a->root_len || a->root_len == 0 || b->root[a->root_len] == '/');
    if (!below) {
        return OK;
    }
    const ProtobufCBinaryData *path = location_message_path(f->spec->destination);
    enum err e = failure_set(ret_failure, ERR_INVALID, "submit", path->data, path->len,
                             "the destination is the source, or lies inside it");
    failure_remedy(ret_failure, "name a destination outside of the source");
    return e;
}

// rsync's rules: a trailing '/' at the source means its contents; at the destination, that it is
// a directory. What depends on what is there, the planner finds out.
static enum err resolve_both(struct core *c, struct flow *f, struct failure *ret_failure) {
    const Sluice__V1__Location *from = f->spec->source, *to = f->spec->destination;
    enum err e = resolve(c, from, false, &f->source, ret_failure);
    if (e == OK) {
        e = resolve(c, to, true, &f->sink, ret_failure);
    }
    if (e != OK) {
        return e;
    }
    f->source_is_contents = ends_with_slash(from);
    f->sink_is_named = f->source_is_contents;
    if (!f->sink_is_named && (ends_with_slash(to) || f->sink.root_len == 0)) {
        e = flow_name_sink(f);
        if (e != OK) {
            return failure_set(ret_failure, e, "submit", f->sink.root, f->sink.root_len, NULL);
        }
    }
    f->is_resolved = true;
    return refuse_overlap(f, ret_failure);
}

// Something that passes by itself: volumes are being proven, or agents come back after a start.
static bool is_worth_waiting(const struct submission *s, enum err e) {
    const struct core *c = s->core;
    if (c->stopping || clock_mono_ms(c->clock) - s->began_ms > SUBMIT_PATIENCE_MS) {
        return false;
    }
    return e == ERR_AGAIN || ((e == ERR_NOT_FOUND || e == ERR_NO_AGENT || e == ERR_NO_VOLUME) &&
                              clock_wall_ms(c->clock) - c->started_ms < SUBMIT_PATIENCE_MS);
}

static void go_on(void *arg) {
    struct submission *s = arg;
    struct failure f = {0};
    enum err e = flows_admit(s->core->flows, &f);
    if (e == OK) {
        e = resolve_both(s->core, s->flow, &f);
    }
    if (e == OK) {
        flow_accept(s->core, take_ptr(s->flow), s->request_id, on_accepted, s);
    } else if (is_worth_waiting(s, e)) {
        loop_timer_arm(s->timer, SUBMIT_RETRY_MS);
    } else {
        end(s, NULL, false, &f);
    }
}

// ---- the same request before? ----
static void on_known(void *arg, enum err result, const char *existing, bool same) {
    struct submission *s = arg;
    struct failure f = {0};
    if (result == OK && existing == NULL) {
        go_on(s);
        return;
    }
    if (result != OK) {
        (void)failure_set(&f, result, "submit", NULL, 0, "the database cannot be read");
    } else if (!same) {
        flow_same_request(existing, s->request_id, &f);
    }
    end(s, existing, f.err == OK, f.err == OK ? NULL : &f);
}

static void look_up(struct submission *s) {
    const Sluice__V1__FlowSpec *spec = s->flow->spec;
    size_t len = sluice__v1__flow_spec__get_packed_size(spec);
    AUTO(auto_free) uint8_t *bytes = malloc(len + 1);
    struct failure f = {0};
    if (bytes == NULL) {
        (void)failure_set(&f, ERR_NO_MEMORY, "submit", NULL, 0, NULL);
        end(s, NULL, false, &f);
        return;
    }
    sluice__v1__flow_spec__pack(spec, bytes);
    database_flow_by_request(s->core->database, spec->owner, s->request_id,
                             (struct blob){bytes, len}, on_known, s);
}

// ---- the request ----
static Sluice__V1__FlowSpec *copy_spec(const Sluice__V1__FlowSpec *spec, const char *owner,
                                       const char *retry_of) {
    Sluice__V1__FlowSpec shallow = *spec;
    shallow.owner = (char *)(uintptr_t)owner;
    shallow.retry_of = (char *)(uintptr_t)retry_of;
    size_t len = sluice__v1__flow_spec__get_packed_size(&shallow);
    AUTO(auto_free) uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        return NULL;
    }
    sluice__v1__flow_spec__pack(&shallow, bytes);
    return sluice__v1__flow_spec__unpack(NULL, len, bytes);
}

static enum err find_owner(const Sluice__V1__FlowSpec *spec, const char *peer,
                           const char **ret_owner, struct failure *f) {
    if (spec->owner[0] == '\0') {
        *ret_owner = peer == NULL ? "anonymous" : peer;
    } else if (peer == NULL || strcmp(spec->owner, peer) == 0) {
        *ret_owner = spec->owner;
    } else {
        enum err e = failure_set(f, ERR_DENIED, "submit", spec->owner, strlen(spec->owner),
                                 "owner is not who asks (%s)", peer);
        failure_remedy(f, "leave owner empty");
        return e;
    }
    return OK;
}

static enum err begin(struct submission *s, const Sluice__V1__FlowSpec *spec,
                      const char *request_id, const char *retry_of, const char *peer,
                      struct failure *f) {
    const char *owner = NULL;
    enum err e = submit_check(spec, clock_wall_ms(s->core->clock), f);
    if (e == OK && spec->callback_url[0] != '\0') {
        e = callback_target_check(spec->callback_url, &s->core->options->callbacks, f);
    }
    if (e == OK && strlen(request_id) > SUBMIT_TEXT_MAX) {
        e = failure_set(f, ERR_INVALID, "submit", NULL, 0, "request_id has more than %d bytes",
                        SUBMIT_TEXT_MAX);
    }
    if (e == OK) {
        e = credentials_check(s->core->credentials, spec->credentials, spec->n_credentials, peer,
                              f);
    }
    if (e == OK) {
        e = find_owner(spec, peer, &owner, f);
    }
    if (e != OK) {
        return e;
    }
    snprintf(s->request_id, sizeof s->request_id, "%s", request_id);
    Sluice__V1__FlowSpec *copy = copy_spec(spec, owner, retry_of);
    s->timer = loop_timer_new(s->core->loop, go_on, s);
    if (copy == NULL || s->timer == NULL) {
        sluice__v1__flow_spec__free_unpacked(copy, NULL);
        return failure_set(f, ERR_NO_MEMORY, "submit", NULL, 0, NULL);
    }
    e = flow_new(s->core, copy, &s->flow);
    return e == OK ? OK : failure_set(f, e, "submit", NULL, 0, NULL);
}

void submit(struct core *c, const Sluice__V1__FlowSpec *spec, const char *request_id,
            const char *retry_of, const char *peer,
            void (*done)(void *arg, const char *flow_id, bool existed,
                         const struct failure *failure),
            void *arg) {
    struct failure f = {0};
    struct submission *s = calloc(1, sizeof *s);
    if (s == NULL) {
        (void)failure_set(&f, ERR_NO_MEMORY, "submit", NULL, 0, NULL);
        done(arg, NULL, false, &f);
        return;
    }
    s->core = c;
    s->done = done;
    s->arg = arg;
    s->began_ms = clock_mono_ms(c->clock);
    if (begin(s, spec, request_id, retry_of, peer, &f) != OK) {
        end(s, NULL, false, &f);
    } else if (s->request_id[0] != '\0') {
        look_up(s);
    } else {
        go_on(s);
    }
}
