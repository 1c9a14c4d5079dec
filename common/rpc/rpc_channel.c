// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/rpc.h"

#include "common/address.h"
#include "common/cleanup.h"
#include "common/rpc/failure_message.h"
#include "common/rpc/rpc_impl.h"
#include "common/rpc/unpack.h"

#include <grpc/support/time.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 1000,
    CONNECT_TIMEOUT_MS = 5000,
    KEEPALIVE_TIMEOUT_MS = 5000,
};

struct rpc_channel {
    grpc_channel *channels[RPC_ADDRESSES_MAX];
    char *addresses[RPC_ADDRESSES_MAX];
    unsigned n;
    atomic_uint current; // modulo n
};

static grpc_arg int_arg(const char *key, int value) {
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_channel *create_channel(const char *addr, grpc_channel_credentials *credentials,
                                    int64_t keepalive_ms) {
    int keepalive = keepalive_ms > INT32_MAX ? INT32_MAX : (int)keepalive_ms;
    grpc_arg args[16];
    size_t n = 0;
    args[n++] = int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MAX_MESSAGE_BYTES);
    args[n++] = int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RPC_MAX_MESSAGE_BYTES);
    args[n++] = int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0); // it would be used even for 127.0.0.1
    args[n++] = int_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_FIRST_MS);
    args[n++] = int_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS);
    args[n++] = int_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS);
    args[n++] = int_arg(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, BACKOFF_MAX_MS);
    args[n++] = int_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    args[n++] = int_arg(GRPC_ARG_ENABLE_RETRIES, 0); // who calls decides that
    args[n++] = int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (keepalive > 0) {
        args[n++] = int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive);
        args[n++] = int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
        args[n++] = int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
        args[n++] = int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    }
    const grpc_channel_args all = {.num_args = n, .args = args};
    return grpc_channel_create(addr, credentials, &all);
}

struct rpc_channel *rpc_channel_new(const char *addr, const struct rpc_tls *tls) {
    return rpc_channel_new_keepalive(addr, tls, 0);
}

struct rpc_channel *rpc_channel_new_keepalive(const char *addr, const struct rpc_tls *tls,
                                              int64_t keepalive_ms) {
    struct rpc_channel *c = calloc(1, sizeof *c);
    char text[ADDRESS_TEXT_SIZE];
    if (c == NULL) {
        return NULL;
    }
    grpc_hold();
    while (c->n < RPC_ADDRESSES_MAX && address_next(&addr, text)) {
        if ((c->addresses[c->n] = strdup(text)) == NULL) {
            break;
        }
        grpc_channel_credentials *credentials =
            tls != NULL ? rpc_tls_channel_credentials(tls) : grpc_insecure_credentials_create();
        c->channels[c->n] = credentials != NULL
                                ? create_channel(text, credentials, keepalive_ms)
                                : grpc_lame_client_channel_create(text, GRPC_STATUS_UNAUTHENTICATED,
                                                                  "the TLS files cannot be used");
        grpc_channel_credentials_release(credentials);
        c->n++;
    }
    if (c->n == 0) {
        rpc_channel_free(c);
        return NULL;
    }
    return c;
}

void rpc_channel_free(struct rpc_channel *c) {
    if (c != NULL) {
        for (unsigned i = 0; i < c->n; i++) {
            grpc_channel_destroy(c->channels[i]);
            free(c->addresses[i]);
        }
        free(c);
        grpc_release();
    }
}

bool rpc_channel_next(struct rpc_channel *c) {
    atomic_fetch_add(&c->current, 1);
    return c->n > 1;
}

const char *rpc_channel_address(const struct rpc_channel *c) {
    return c->addresses[atomic_load(&c->current) % c->n];
}

// ---- calls ----

static void call_started(struct event *e, bool ok) {
    (void)ok; // what went wrong comes with the status
    rpc_settle(CONTAINER_OF(e, struct rpc, on_start));
}

struct rpc *rpc_call(struct loop *l, struct rpc_channel *c, const struct rpc_method *m,
                     int64_t timeout_ms, bool wait_for_ready, void *user) {
    struct rpc *r = rpc_alloc(l);
    if (r == NULL) {
        return NULL;
    }
    r->method = m;
    r->user = user;
    r->on_start.fire = call_started;
    if (timeout_ms > 0) {
        r->deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                   gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    }
    grpc_slice path = grpc_slice_from_copied_string(m->path);
    grpc_channel *channel = c->channels[atomic_load(&c->current) % c->n];
    r->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, loop_queue(l), path,
                                       NULL, r->deadline, NULL);
    grpc_slice_unref(path);

    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    end.data.recv_status_on_client.trailing_metadata = &r->trailing;
    end.data.recv_status_on_client.status = &r->status;
    end.data.recv_status_on_client.status_details = &r->detail;
    rpc_batch(r, &end, 1, &r->on_end);

    grpc_op start[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                        {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    if (wait_for_ready && c->n == 1) {
        start[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                         GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    }
    start[1].data.recv_initial_metadata.recv_initial_metadata = &r->initial;
    rpc_batch(r, start, ARRAY_LEN(start), &r->on_start);
    r->out.initial_sent = true;
    rpc_read_next(r);
    return r;
}

// ---- status ----

static enum err err_of_status(int code) {
    switch (code) {
    case GRPC_STATUS_CANCELLED: return ERR_CANCELLED;
    case GRPC_STATUS_INVALID_ARGUMENT: return ERR_INVALID;
    case GRPC_STATUS_DEADLINE_EXCEEDED: return ERR_TIMEOUT;
    case GRPC_STATUS_NOT_FOUND: return ERR_NOT_FOUND;
    case GRPC_STATUS_ALREADY_EXISTS: return ERR_EXISTS;
    case GRPC_STATUS_PERMISSION_DENIED: return ERR_DENIED;
    case GRPC_STATUS_UNAUTHENTICATED: return ERR_UNAUTHENTICATED;
    case GRPC_STATUS_RESOURCE_EXHAUSTED: return ERR_FULL;
    case GRPC_STATUS_FAILED_PRECONDITION: return ERR_STATE;
    case GRPC_STATUS_ABORTED: return ERR_AGAIN;
    case GRPC_STATUS_OUT_OF_RANGE: return ERR_TOO_LARGE;
    case GRPC_STATUS_UNIMPLEMENTED: return ERR_UNIMPLEMENTED;
    case GRPC_STATUS_UNAVAILABLE: return ERR_UNREACHABLE;
    case GRPC_STATUS_DATA_LOSS: return ERR_CORRUPT;
    default: return ERR_PROTOCOL;
    }
}

void rpc_status_failure(const struct rpc_status *s, struct failure *ret_failure) {
    ProtobufCMessage *m = NULL;
    if (s->failure != NULL && message_unpack(&sluice__v1__failure__descriptor, s->failure,
                                             s->failure_len, RPC_MAX_UNPACKED_BYTES, &m) == OK) {
        failure_from_message((const Sluice__V1__Failure *)m, ret_failure);
        protobuf_c_message_free_unpacked(m, NULL);
        if (ret_failure->err != OK) {
            return;
        } // else it says nothing of use
    }
    enum err err = s->code == GRPC_STATUS_OK ? ERR_PROTOCOL : err_of_status(s->code);
    const char *detail = s->detail != NULL ? s->detail : "";
    failure_set(ret_failure, err, "call", NULL, 0, "%s%s%s", err_text(err),
                detail[0] != '\0' ? ": " : "", detail);
}

// ---- one call, blocking ----

struct unary {
    struct loop *loop;
    ProtobufCMessage *reply;
    enum err err;
    struct failure failure;
};

static void unary_message(struct rpc *r, const ProtobufCMessage *m) {
    struct unary *u = rpc_user(r);
    (void)m;
    u->reply = rpc_take_message(r);
}

static void unary_closed(struct rpc *r, const struct rpc_status *status) {
    struct unary *u = rpc_user(r);
    struct rpc_status s = *status;
    if (s.code == GRPC_STATUS_CANCELLED && s.failure == NULL) {
        // Nobody here cancels: a server that is told to stop drops what it has not looked at yet.
        s.code = GRPC_STATUS_UNAVAILABLE;
        s.detail = "the server broke the call off";
    }
    if (s.code != GRPC_STATUS_OK || u->reply == NULL) {
        rpc_status_failure(&s, &u->failure);
        u->err = u->failure.err;
    }
    loop_stop(u->loop);
}

static enum err unary_once(struct rpc_channel *c, const struct rpc_method *method,
                           const ProtobufCMessage *input, int64_t timeout_ms,
                           ProtobufCMessage **ret_reply, struct failure *ret_failure) {
    const char *addr = rpc_channel_address(c);
    struct unary u = {.loop = loop_new()};
    struct rpc *r = u.loop != NULL ? rpc_call(u.loop, c, method, timeout_ms, false, &u) : NULL;
    if (r == NULL) {
        loop_free(u.loop);
        return failure_set(ret_failure, ERR_NO_MEMORY, "call", addr, strlen(addr), NULL);
    }
    rpc_send(r, input);
    rpc_half_close(r);
    loop_run(u.loop);
    loop_free(u.loop);
    if (u.err == OK) {
        *ret_reply = u.reply;
        return OK;
    }
    if (u.reply != NULL) {
        protobuf_c_message_free_unpacked(u.reply, NULL);
    }
    if (u.failure.object_len == 0 && strcmp(u.failure.operation, "call") == 0) {
        u.failure.object_len = strnlen(addr, sizeof u.failure.object);
        memcpy(u.failure.object, addr, u.failure.object_len);
    }
    if (ret_failure != NULL) {
        *ret_failure = u.failure;
    }
    return u.err;
}

enum err rpc_unary(struct rpc_channel *c, const char *path, const ProtobufCMessage *input,
                   const ProtobufCMessageDescriptor *output, int64_t timeout_ms,
                   ProtobufCMessage **ret_reply, struct failure *ret_failure) {
    const struct rpc_method method = {
        .path = path, .input = output, .message = unary_message, .closed = unary_closed};
    enum err e = unary_once(c, &method, input, timeout_ms, ret_reply, ret_failure);
    for (unsigned i = 1; i < c->n && e == ERR_UNREACHABLE; i++) {
        rpc_channel_next(c);
        e = unary_once(c, &method, input, timeout_ms, ret_reply, ret_failure);
    }
    return e;
}
