// SPDX-License-Identifier: Apache-2.0
#include "master/flow_row.h"

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/rpc/failure_message.h"
#include "master/flow_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Places are stored as "FP1", u8 flags, and for source and sink: u16 length and bytes of site,
// agent, volume and root. Little-endian.
enum { PLACES_CONTENTS = 1, PLACES_NAMED = 2, PLACES_HEAD = 4 };

static enum err pack(const ProtobufCMessage *m, uint8_t **ret_bytes, struct blob *ret_blob) {
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = malloc(len == 0 ? 1 : len);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    protobuf_c_message_pack(m, bytes);
    *ret_bytes = bytes;
    *ret_blob = (struct blob){bytes, len};
    return OK;
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t len) {
    put_u16(at, (uint16_t)len);
    if (len > 0) {
        memcpy(at + 2, bytes, len);
    }
    return at + 2 + len;
}

static uint8_t *put_place(uint8_t *at, const struct place *p) {
    at = put_bytes(at, p->site, strlen(p->site));
    at = put_bytes(at, p->agent, strlen(p->agent));
    at = put_bytes(at, p->volume, strlen(p->volume));
    return put_bytes(at, p->root, p->root_len);
}

static size_t place_bytes(const struct place *p) {
    return 8 + strlen(p->site) + strlen(p->agent) + strlen(p->volume) + p->root_len;
}

static enum err pack_places(const struct flow *f, struct flow_row_bytes *b) {
    if (!f->is_resolved) {
        return OK;
    }
    size_t len = PLACES_HEAD + place_bytes(&f->source) + place_bytes(&f->sink);
    b->places = malloc(len);
    if (b->places == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(b->places, "FP1", 3);
    b->places[3] = (uint8_t)((f->source_is_contents ? PLACES_CONTENTS : 0) |
                             (f->sink_is_named ? PLACES_NAMED : 0));
    (void)put_place(put_place(b->places + PLACES_HEAD, &f->source), &f->sink);
    b->row.places = (struct blob){b->places, len};
    return OK;
}

// The next text into @buf of @cap bytes (with a NUL behind it if @is_text); NULL: malformed.
static const uint8_t *take_bytes(const uint8_t *at, const uint8_t *end, void *buf, size_t cap,
                                 bool is_text, size_t *ret_len) {
    if (at == NULL || end - at < 2) {
        return NULL;
    }
    size_t len = get_u16(at);
    if ((size_t)(end - at) - 2 < len || len + is_text > cap) {
        return NULL;
    }
    memcpy(buf, at + 2, len);
    if (is_text) {
        ((char *)buf)[len] = '\0';
    }
    *ret_len = len;
    return at + 2 + len;
}

static const uint8_t *take_place(const uint8_t *at, const uint8_t *end, struct place *p) {
    size_t len;
    at = take_bytes(at, end, p->site, sizeof p->site, true, &len);
    at = take_bytes(at, end, p->agent, sizeof p->agent, true, &len);
    at = take_bytes(at, end, p->volume, sizeof p->volume, true, &len);
    return take_bytes(at, end, p->root, sizeof p->root, false, &p->root_len);
}

static enum err read_places(struct blob b, struct flow *f) {
    if (b.len == 0) {
        return OK;
    }
    if (b.len < PLACES_HEAD || memcmp(b.bytes, "FP1", 3) != 0) {
        return ERR_DATABASE;
    }
    const uint8_t *end = b.bytes + b.len;
    const uint8_t *at = take_place(b.bytes + PLACES_HEAD, end, &f->source);
    if (take_place(at, end, &f->sink) != end) {
        return ERR_DATABASE;
    }
    f->source_is_contents = (b.bytes[3] & PLACES_CONTENTS) != 0;
    f->sink_is_named = (b.bytes[3] & PLACES_NAMED) != 0;
    f->is_resolved = true;
    return OK;
}

// Agents' shares and transports travel as a Flow with nothing else in it.
static enum err pack_tally(const struct flow *f, struct flow_row_bytes *b) {
    struct flow_message m;
    enum err e = flow_message_init(f, FLOW_MESSAGE_EVENT, &m);
    if (e != OK) {
        return e;
    }
    Sluice__V1__Flow tally = SLUICE__V1__FLOW__INIT;
    tally.agents = m.message.agents;
    tally.n_agents = m.message.n_agents;
    tally.transport = m.message.transport;
    e = pack(&tally.base, &b->tally, &b->row.tally);
    flow_message_deinit(&m);
    return e;
}

static enum err read_tally(struct blob b, struct flow *f) {
    Sluice__V1__Flow *m = sluice__v1__flow__unpack(NULL, b.len, b.bytes);
    if (m == NULL) {
        return ERR_DATABASE;
    }
    enum err e = OK;
    snprintf(f->transports, sizeof f->transports, "%s", m->transport);
    f->n_shares = 0;
    if (m->n_agents > 0 && m->n_agents <= FLOW_MAX_AGENT_SHARES) {
        f->shares = calloc(m->n_agents, sizeof *f->shares);
        if (f->shares == NULL) {
            e = ERR_NO_MEMORY;
        } else {
            f->n_shares = m->n_agents;
        }
    }
    for (size_t i = 0; i < f->n_shares; i++) {
        snprintf(f->shares[i].agent, sizeof f->shares[i].agent, "%s", m->agents[i]->agent);
        f->shares[i].bytes_written = m->agents[i]->bytes_written;
        f->shares[i].bytes_read = m->agents[i]->bytes_read;
        f->shares[i].objects = m->agents[i]->objects;
        f->shares[i].rated_bytes = m->agents[i]->bytes_written;
    }
    sluice__v1__flow__free_unpacked(m, NULL);
    return e;
}

static enum err pack_error(const struct flow *f, struct flow_row_bytes *b) {
    if (f->error.err == OK) {
        return OK;
    }
    struct failure_message m;
    failure_to_message(&f->error, f->error_agent, &m);
    return pack(&m.message.base, &b->error, &b->row.error);
}

static enum err read_error(struct blob b, struct flow *f) {
    if (b.len == 0) {
        return OK;
    }
    Sluice__V1__Failure *m = sluice__v1__failure__unpack(NULL, b.len, b.bytes);
    if (m == NULL) {
        return ERR_DATABASE;
    }
    failure_from_message(m, &f->error);
    snprintf(f->error_agent, sizeof f->error_agent, "%s", m->agent);
    sluice__v1__failure__free_unpacked(m, NULL);
    return OK;
}

enum err flow_row_init(const struct flow *f, bool with_spec, const char *request_id,
                       struct flow_row_bytes *ret_bytes) {
    struct flow_row_bytes *b = ret_bytes;
    memset(b, 0, sizeof *b);
    memcpy(b->row.id, f->id, sizeof b->row.id);
    b->row.owner = f->spec->owner;
    b->row.request_id = request_id;
    b->row.created_ms = f->created_ms;
    b->row.state = f->state;
    b->row.phase = f->phase;
    b->row.outcome = f->outcome;
    b->row.holders = f->holders;
    b->row.cancel_wanted = f->cancel_wanted;
    b->row.cleanup_pending = f->cleanup_pending;
    b->row.started_ms = f->started_ms;
    b->row.ended_ms = f->ended_ms;
    b->row.last_seq = f->last_seq;
    b->row.progress = f->progress;
    enum err e = with_spec ? pack(&f->spec->base, &b->spec, &b->row.spec) : OK;
    if (e == OK) {
        e = pack_error(f, b);
    }
    if (e == OK) {
        e = pack_places(f, b);
    }
    if (e == OK) {
        e = pack_tally(f, b);
    }
    if (e != OK) {
        flow_row_deinit(b);
    }
    return e;
}

void flow_row_deinit(struct flow_row_bytes *b) {
    free(b->spec);
    free(b->error);
    free(b->places);
    free(b->tally);
    memset(b, 0, sizeof *b);
}

enum err flow_from_row(const struct flow_row *row, struct flow *f) {
    memcpy(f->id, row->id, sizeof f->id);
    f->created_ms = row->created_ms;
    f->state = row->state;
    f->phase = row->phase;
    f->outcome = row->outcome;
    f->holders = row->holders;
    f->cancel_wanted = row->cancel_wanted;
    f->cleanup_pending = row->cleanup_pending;
    f->started_ms = row->started_ms;
    f->ended_ms = row->ended_ms;
    f->last_seq = row->last_seq;
    f->progress = row->progress;
    f->spec = sluice__v1__flow_spec__unpack(NULL, row->spec.len, row->spec.bytes);
    if (f->spec == NULL) {
        return ERR_DATABASE;
    }
    enum err e = read_error(row->error, f);
    if (e == OK) {
        e = read_places(row->places, f);
    }
    if (e == OK) {
        e = read_tally(row->tally, f);
    }
    return e;
}

void flow_deinit(struct flow *f) {
    sluice__v1__flow_spec__free_unpacked(f->spec, NULL);
    free(f->shares);
    f->spec = NULL;
    f->shares = NULL;
    f->n_shares = 0;
}
