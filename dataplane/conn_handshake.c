// SPDX-License-Identifier: Apache-2.0
#include "dataplane/conn_impl.h"

#include <stdatomic.h>
#include <string.h>

enum { CANCEL_LOOK_MS = 100 };

// Receives one frame with a payload of at most @cap bytes.
static enum err receive_whole(struct conn *c, struct frame_header *ret_header, uint8_t *buf,
                              size_t cap, struct failure *ret_failure) {
    enum err e = conn_receive(c, 0, ret_header, ret_failure);

    if (!e && ret_header->length > cap) {
        e = conn_broke_protocol(c, ret_failure, "a first frame that is too long");
    }
    return e ? e : conn_receive_payload(c, buf, ret_header->length, ret_failure);
}

static void begin_handshake(struct conn *c) {
    c->frame_ms = CONN_HELLO_MS;
    wire_set_stall_ms(c->wire, CONN_HELLO_MS);
}

static void end_handshake(struct conn *c) {
    c->frame_ms = CONN_FRAME_MS;
    wire_set_stall_ms(c->wire, 0);
}

static enum err check_welcome(struct conn *c, const struct frame_header *h, const uint8_t *buf,
                              const char *cluster, const char *peer, struct failure *ret_failure) {
    struct frame_welcome w;
    struct failure reason;

    if (h->type == FRAME_ERROR && frame_failure_decode(buf, h->length, &reason) == OK) {
        if (ret_failure) {
            *ret_failure = reason;
        }
        return reason.err;
    }
    if (h->type != FRAME_WELCOME || frame_welcome_decode(buf, h->length, &w) ||
        w.version < FRAME_VERSION_MIN || w.version > FRAME_VERSION_MAX) {
        return conn_broke_protocol(c, ret_failure, "no proper answer to the greeting");
    }
    if (strcmp(w.cluster, cluster) != 0 || strcmp(w.agent, peer) != 0) {
        return failure_set(ret_failure, ERR_DENIED, "connect", NULL, 0,
                           "agent '%s' was expected at %s, but '%s' answers", peer,
                           wire_peer(c->wire), w.agent);
    }
    memcpy(c->agent, w.agent, sizeof(c->agent));
    memcpy(c->peer_nonce, w.nonce, sizeof(c->peer_nonce));
    return OK;
}

// Waits for the answer in short steps, so that it can be cancelled.
static enum err wait_answer(struct conn *c, const struct conn_hello *o,
                            struct failure *ret_failure) {
    int64_t left_ms =
        o->timeout_ms > 0 && o->timeout_ms < CONN_HELLO_MS ? o->timeout_ms : (int64_t)CONN_HELLO_MS;
    enum err e = ERR_TIMEOUT;

    while (e == ERR_TIMEOUT && left_ms > 0) {
        int64_t step_ms = left_ms < CANCEL_LOOK_MS ? left_ms : (int64_t)CANCEL_LOOK_MS;
        if (o->cancelled && atomic_load(o->cancelled)) {
            e = ERR_CANCELLED;
            break;
        }
        e = wire_wait_readable(c->wire, step_ms);
        left_ms -= step_ms;
    }
    return e ? failure_set(ret_failure, e, "connect", o->peer, strlen(o->peer),
                           "%s: no answer to the greeting from %s", err_text(e), wire_peer(c->wire))
             : OK;
}

enum err conn_hello(struct conn *c, const struct conn_hello *o, struct failure *ret_failure) {
    struct frame_hello hello = {.version_min = FRAME_VERSION_MIN,
                                .version_max = FRAME_VERSION_MAX,
                                .role = FRAME_ROLE_EXECUTOR};
    uint8_t buf[FRAME_FAILURE_MAX];
    struct frame_header h = {.type = FRAME_HELLO};
    enum err e;

    size_t cluster_len = strlen(o->cluster), agent_len = strlen(o->agent);
    if (cluster_len >= sizeof(hello.cluster) || agent_len >= sizeof(hello.agent)) {
        return failure_set(ret_failure, ERR_INVALID, "connect", o->agent, strlen(o->agent),
                           "this name is too long");
    }
    memcpy(hello.cluster, o->cluster, cluster_len);
    memcpy(hello.agent, o->agent, agent_len);
    memcpy(hello.nonce, c->local_nonce, sizeof(hello.nonce));
    begin_handshake(c);
    h.length = (uint32_t)frame_hello_encode(&hello, buf);
    e = conn_put(c, &h, buf, ret_failure);
    if (!e) {
        e = conn_flush(c, ret_failure);
    }
    if (!e) {
        e = wait_answer(c, o, ret_failure);
    }
    if (!e) {
        e = receive_whole(c, &h, buf, sizeof(buf), ret_failure);
    }
    if (!e) {
        e = check_welcome(c, &h, buf, o->cluster, o->peer, ret_failure);
    }
    end_handshake(c);
    return e;
}

static enum err check_hello(struct conn *c, const struct frame_hello *hello, const char *cluster,
                            struct failure *ret_failure) {
    if (hello->version_max < FRAME_VERSION_MIN || hello->version_min > FRAME_VERSION_MAX) {
        return failure_set(ret_failure, ERR_UNIMPLEMENTED, "greet", NULL, 0,
                           "the peer speaks versions %u to %u of the data protocol, we speak %d "
                           "to %d",
                           hello->version_min, hello->version_max, FRAME_VERSION_MIN,
                           FRAME_VERSION_MAX);
    }
    if (hello->role != FRAME_ROLE_EXECUTOR) {
        return conn_broke_protocol(c, ret_failure, "a greeting with an unknown role");
    }
    if (!cluster) {
        return failure_set(ret_failure, ERR_AGAIN, "greet", NULL, 0,
                           "this agent is not registered with its master yet");
    }
    if (strcmp(hello->cluster, cluster) != 0) {
        return failure_set(ret_failure, ERR_DENIED, "greet", NULL, 0,
                           "the peer belongs to cluster '%s', we to '%s'", hello->cluster, cluster);
    }
    if (hello->agent[0] == '\0') {
        return conn_broke_protocol(c, ret_failure, "a greeting without a name");
    }
    return OK;
}

enum err conn_welcome(struct conn *c, const char *cluster, const char *agent,
                      struct failure *ret_failure) {
    struct frame_hello hello = {0};
    struct frame_welcome w = {.version = FRAME_VERSION_MAX};
    struct frame_header h;
    uint8_t buf[FRAME_HELLO_MAX];
    struct failure f = {0};
    enum err e;

    begin_handshake(c);
    e = receive_whole(c, &h, buf, sizeof(buf), &f);
    if (!e && (h.type != FRAME_HELLO || frame_hello_decode(buf, h.length, &hello))) {
        e = conn_broke_protocol(c, &f, "no proper greeting");
    }
    if (!e) {
        e = check_hello(c, &hello, cluster, &f);
    }
    if (e) {
        if (e != ERR_PEER_LOST && e != ERR_CANCELLED) {
            conn_refuse(c, &f);
        }
        if (ret_failure) {
            *ret_failure = f;
        }
        return e;
    }
    if (hello.version_max < w.version) {
        w.version = hello.version_max;
    }
    strncpy(w.cluster, cluster, sizeof(w.cluster) - 1);
    strncpy(w.agent, agent, sizeof(w.agent) - 1);
    memcpy(w.nonce, c->local_nonce, sizeof(w.nonce));
    memcpy(c->peer_nonce, hello.nonce, sizeof(c->peer_nonce));
    memcpy(c->agent, hello.agent, sizeof(c->agent));
    h = (struct frame_header){.type = FRAME_WELCOME};
    h.length = (uint32_t)frame_welcome_encode(&w, buf);
    e = conn_put(c, &h, buf, ret_failure);
    if (!e) {
        e = conn_flush(c, ret_failure);
    }
    end_handshake(c);
    return e;
}

size_t conn_proof_text(const struct conn *c, bool is_source, const char *cluster, const char *agent,
                       const void *ticket, size_t ticket_len, uint8_t buf[FRAME_PROOF_TEXT_MAX]) {
    uint8_t ticket_sha256[32];
    struct frame_proof p = {
        .ticket_sha256 = ticket_sha256,
        .source_nonce = is_source ? c->local_nonce : c->peer_nonce,
        .executor_nonce = is_source ? c->peer_nonce : c->local_nonce,
        .cluster = cluster,
        .executor = is_source ? c->agent : agent,
        .source = is_source ? agent : c->agent,
    };

    sha256(ticket, ticket_len, ticket_sha256);
    return frame_proof_text(&p, buf);
}
