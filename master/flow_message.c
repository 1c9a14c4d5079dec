// SPDX-License-Identifier: Apache-2.0
#include "master/flow_message.h"

#include "common/rpc/location_message.h"

#include "common/cleanup.h"
#include "common/location.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum err add_shares(const struct flow *f, struct flow_message *m) {
    if (f->n_shares == 0) {
        return OK;
    }
    m->shares = calloc(f->n_shares, sizeof *m->shares);
    m->share_pointers = calloc(f->n_shares, sizeof *m->share_pointers);
    if (m->shares == NULL || m->share_pointers == NULL) {
        flow_message_deinit(m);
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < f->n_shares; i++) {
        sluice__v1__agent_share__init(&m->shares[i]);
        m->shares[i].agent = f->shares[i].agent;
        m->shares[i].bytes_written = f->shares[i].bytes_written;
        m->shares[i].bytes_read = f->shares[i].bytes_read;
        m->shares[i].objects = f->shares[i].objects;
        m->shares[i].bytes_per_s = f->shares[i].bytes_per_s;
        m->share_pointers[i] = &m->shares[i];
    }
    m->message.agents = m->share_pointers;
    m->message.n_agents = f->n_shares;
    return OK;
}

static void add_progress(const struct flow *f, Sluice__V1__Flow *m) {
    const struct flow_progress *p = &f->progress;
    m->bytes_done = p->bytes_done;
    m->bytes_total = p->bytes_total;
    m->bytes_resent = p->bytes_resent;
    m->objects_done = p->objects_done;
    m->objects_total = p->objects_total;
    m->objects_failed = p->objects_failed;
    m->objects_skipped = p->objects_skipped;
    m->listing = p->listing;
    m->cpu_us_source = p->cpu_us_source;
    m->cpu_us_sink = p->cpu_us_sink;
    m->store_retries = p->store_retries;
    m->bytes_per_s = f->bytes_per_s;
    m->eta_ms = flow_eta_ms(f);
}

static void add_why(const struct flow *f, struct flow_message *m) {
    const struct flow_progress *p = &f->progress;
    sluice__v1__why__init(&m->why);
    m->why.walk_us = p->walk_us;
    m->why.read_us = p->read_us;
    m->why.hash_us = p->hash_us;
    m->why.send_us = p->send_us;
    m->why.receive_us = p->receive_us;
    m->why.write_us = p->write_us;
    m->why.sync_us = p->sync_us;
    m->why.wait_us = p->wait_us;
    flow_bottleneck(p, m->bottleneck, sizeof m->bottleneck);
    m->why.bottleneck = m->bottleneck;
    if (f->held_up.err != OK && !flow_state_is_final(f->state)) {
        failure_to_message(&f->held_up, f->held_up_agent, &m->held_up);
        m->why.held_up = &m->held_up.message;
    }
    m->message.why = &m->why;
}

enum err flow_message_init(const struct flow *f, enum flow_message_parts parts,
                           struct flow_message *ret_m) {
    struct flow_message *m = ret_m;
    memset(m, 0, sizeof *m);
    sluice__v1__flow__init(&m->message);
    // protobuf-c has no const; nothing is written through these.
    m->message.id = (char *)(uintptr_t)f->id;
    m->message.spec = parts == FLOW_MESSAGE_FULL ? f->spec : NULL;
    m->message.state = (Sluice__V1__FlowState)f->state;
    m->message.phase = (Sluice__V1__FlowPhase)f->phase;
    m->message.outcome = (Sluice__V1__FlowOutcome)f->outcome;
    for (unsigned h = 1; h <= ARRAY_LEN(m->holders); h++) {
        if ((f->holders & 1U << h) != 0) {
            m->holders[m->message.n_suspended_by++] = (Sluice__V1__SuspensionHolder)h;
        }
    }
    m->message.suspended_by = m->holders;
    add_progress(f, &m->message);
    m->message.transport = (char *)(uintptr_t)f->transports;
    if (f->error.err != OK) {
        failure_to_message(&f->error, f->error_agent[0] == '\0' ? NULL : f->error_agent, &m->error);
        m->message.error = &m->error.message;
    }
    m->message.created_ms = f->created_ms;
    m->message.started_ms = f->started_ms;
    m->message.ended_ms = f->ended_ms;
    m->message.last_seq = f->last_seq;
    m->message.cleanup_pending = f->cleanup_pending;
    add_why(f, m);
    return parts == FLOW_MESSAGE_BRIEF ? OK : add_shares(f, m);
}

void flow_message_deinit(struct flow_message *m) {
    free(m->shares);
    free(m->share_pointers);
    m->shares = NULL;
    m->share_pointers = NULL;
    m->message.agents = NULL;
    m->message.n_agents = 0;
}

int64_t flow_eta_ms(const struct flow *f) {
    const struct flow_progress *p = &f->progress;
    if (flow_state_is_final(f->state)) {
        return 0;
    }
    if (p->listing || f->bytes_per_s < 1.0 || p->bytes_total < p->bytes_done ||
        f->phase < PHASE_TRANSFERRING) {
        return -1;
    }
    double ms = (double)(p->bytes_total - p->bytes_done) / f->bytes_per_s * 1000.0;
    return ms > 1e15 ? -1 : (int64_t)ms;
}

void flow_bottleneck(const struct flow_progress *p, char *buf, size_t cap) {
    // Waiting is what a stream does while another is busy: it is no place of its own.
    struct {
        uint64_t us;
        const char *name;
    } places[] = {
        {p->walk_us, "listing the source"},
        {p->read_us, "the source's disk"},
        {p->hash_us, "hashing"},
        {p->send_us + p->receive_us, "the network"},
        {p->write_us + p->sync_us, p->sync_us > p->write_us
                                       ? "the destination's disk, mostly its sync"
                                       : "the destination's disk, mostly writing"},
    };
    uint64_t total = 0;
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        total += places[i].us;
    }
    buf[0] = '\0';
    for (size_t n = 0; n < ARRAY_LEN(places); n++) { // the largest that is left
        size_t most = 0;
        for (size_t i = 1; i < ARRAY_LEN(places); i++) {
            most = places[i].us > places[most].us ? i : most;
        }
        double percent = total == 0 ? 0.0 : 100.0 * (double)places[most].us / (double)total;
        if (percent < 1.0 || used >= cap) {
            return;
        }
        int len = snprintf(buf + used, cap - used, "%s%s (%.0f %%)", n == 0 ? "" : ", then ",
                           places[most].name, percent);
        used += len > 0 ? (size_t)len : 0;
        places[most].us = 0;
    }
}

char *flow_location_text(const Sluice__V1__Location *l) {
    struct location parsed;
    if (l == NULL || location_from_message(l, &parsed, NULL) != OK) {
        return NULL;
    }
    char *text = location_printable(&parsed);
    location_deinit(&parsed);
    return text;
}
