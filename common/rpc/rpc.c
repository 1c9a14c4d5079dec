// SPDX-License-Identifier: Apache-2.0
// The call: at most one read, one write and one end batch are in flight. Each event ends
// with rpc_settle(), and the call is over when nothing is pending any more.
#include "common/rpc/rpc.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/failure_message.h"
#include "common/rpc/rpc_impl.h"
#include "common/rpc/unpack.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- life ----

static void read_done(struct event *e, bool ok);
static void write_done(struct event *e, bool ok);
static void call_ended(struct event *e, bool ok);

struct rpc *rpc_alloc(struct loop *l) {
    struct rpc *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->loop = l;
    r->out.tail = &r->out.head;
    r->detail = r->failure = grpc_empty_slice();
    r->deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_metadata_array_init(&r->initial);
    grpc_metadata_array_init(&r->trailing);
    grpc_call_details_init(&r->details);
    r->on_read.fire = read_done;
    r->on_write.fire = write_done;
    r->on_end.fire = call_ended;
    return r;
}

static void drop_queue(struct rpc *r) {
    struct rpc_outgoing *o;
    while ((o = r->out.head) != NULL) {
        r->out.head = o->next;
        grpc_byte_buffer_destroy(o->bytes);
        free(o);
    }
    r->out.tail = &r->out.head;
    r->out.n_messages = r->out.writing && r->out.bytes_in_flight > 0 ? 1 : 0;
    r->out.n_bytes = r->out.bytes_in_flight;
}

void rpc_free(struct rpc *r) {
    drop_queue(r);
    if (r->in.bytes != NULL) {
        grpc_byte_buffer_destroy(r->in.bytes);
    }
    grpc_metadata_array_destroy(&r->initial);
    grpc_metadata_array_destroy(&r->trailing);
    grpc_call_details_destroy(&r->details);
    grpc_slice_unref(r->detail);
    grpc_slice_unref(r->failure);
    if (r->call != NULL) {
        grpc_call_unref(r->call);
    }
    if (r->server != NULL) {
        if (r->counted) {
            rpc_server_call_over(r->server);
        }
        rpc_server_unref(r->server);
    }
    free(r);
}

void rpc_batch(struct rpc *r, const grpc_op *ops, size_t n, struct event *tag) {
    grpc_call_error e = grpc_call_start_batch(r->call, ops, n, tag, NULL);
    if (e != GRPC_CALL_OK) {
        log_event(LOG_ERROR, "grpc_refused_batch", LOG_STR("reason", grpc_call_error_to_string(e)));
        abort(); // this file breaks the rules of gRPC
    }
    r->pending++;
}

void rpc_settle(struct rpc *r) {
    if (--r->pending > 0) {
        return;
    }
    char *detail = grpc_slice_to_c_string(r->detail);
    struct rpc_status status = {
        .code = r->server != NULL && r->cancelled != 0 ? GRPC_STATUS_CANCELLED : (int)r->status,
        .detail = detail,
    };
    for (size_t i = 0; i < r->trailing.count; i++) {
        if (grpc_slice_str_cmp(r->trailing.metadata[i].key, RPC_FAILURE_KEY) == 0) {
            status.failure = GRPC_SLICE_START_PTR(r->trailing.metadata[i].value);
            status.failure_len = GRPC_SLICE_LENGTH(r->trailing.metadata[i].value);
        }
    }
    if (r->method->closed != NULL) {
        r->method->closed(r, &status);
    }
    gpr_free(detail);
    rpc_free(r);
}

// ---- sending ----

// The end of what we send: half-close at the client, the status at the server.
static void add_end(struct rpc *r, grpc_op *op, grpc_metadata *trailer) {
    if (r->server == NULL) {
        op->op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        return;
    }
    op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op->data.send_status_from_server.status = r->status;
    op->data.send_status_from_server.status_details = &r->detail;
    if (GRPC_SLICE_LENGTH(r->failure) > 0) {
        trailer->key = grpc_slice_from_static_string(RPC_FAILURE_KEY);
        trailer->value = r->failure;
        op->data.send_status_from_server.trailing_metadata = trailer;
        op->data.send_status_from_server.trailing_metadata_count = 1;
    }
}

// Starts the next write there is: our initial metadata, a message, and the end if it was the last.
static void pump(struct rpc *r) {
    grpc_op ops[3] = {0};
    grpc_metadata trailer = {0};
    size_t n = 0;
    if (r->out.writing || r->dead || r->out.last_sent || (r->out.head == NULL && !r->out.last)) {
        return;
    }
    if (!r->out.initial_sent) {
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
        r->out.initial_sent = true;
    }
    struct rpc_outgoing *o = r->out.head;
    r->out.bytes_in_flight = 0;
    if (o != NULL) {
        r->out.head = o->next;
        if (r->out.head == NULL) {
            r->out.tail = &r->out.head;
        }
        r->out.bytes_in_flight = o->len;
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n].flags = r->out.head != NULL ? GRPC_WRITE_BUFFER_HINT : 0;
        ops[n++].data.send_message.send_message = o->bytes;
    }
    if (r->out.last && r->out.head == NULL) {
        r->out.last_sent = true;
        add_end(r, &ops[n++], &trailer);
    }
    r->out.writing = true;
    rpc_batch(r, ops, n, &r->on_write);
    if (o != NULL) {
        grpc_byte_buffer_destroy(o->bytes);
        free(o);
    }
}

static void write_done(struct event *e, bool ok) {
    struct rpc *r = CONTAINER_OF(e, struct rpc, on_write);
    r->out.writing = false;
    if (r->out.bytes_in_flight > 0) {
        r->out.n_messages--;
        r->out.n_bytes -= r->out.bytes_in_flight;
        r->out.bytes_in_flight = 0;
    }
    if (!ok) {
        r->dead = true;
        drop_queue(r);
    } else if (r->out.head != NULL || r->out.last) {
        pump(r);
    } else if (r->method->writable != NULL && !r->dead) {
        r->method->writable(r);
    }
    rpc_settle(r);
}

bool rpc_send(struct rpc *r, const ProtobufCMessage *m) {
    enum { FRAME_BYTES = 5 }; // counted with each message, so that empty ones count too
    if (r->dead || r->out.last) {
        return false;
    }
    struct rpc_outgoing *o = malloc(sizeof *o);
    if (o == NULL) {
        rpc_cancel(r); // a message that is left out would be worse than a call that breaks
        return false;
    }
    size_t len = protobuf_c_message_get_packed_size(m);
    grpc_slice s = grpc_slice_malloc(len);
    protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
    *o = (struct rpc_outgoing){.bytes = grpc_raw_byte_buffer_create(&s, 1),
                               .len = len + FRAME_BYTES};
    grpc_slice_unref(s);
    *r->out.tail = o;
    r->out.tail = &o->next;
    r->out.n_messages++;
    r->out.n_bytes += o->len;
    pump(r);
    return true;
}

void rpc_finish(struct rpc *r, int grpc_status, const char *detail) {
    if (r->out.last) {
        return;
    }
    r->out.last = true;
    r->status = (grpc_status_code)grpc_status;
    grpc_slice_unref(r->detail);
    r->detail = grpc_slice_from_copied_string(detail != NULL ? detail : "");
    pump(r);
}

void rpc_finish_failure(struct rpc *r, const struct failure *f) {
    if (r->out.last) {
        return;
    }
    struct failure_message m;
    failure_to_message(f, NULL, &m);
    r->failure = grpc_slice_malloc(sluice__v1__failure__get_packed_size(&m.message));
    sluice__v1__failure__pack(&m.message, GRPC_SLICE_START_PTR(r->failure));
    int status = err_grpc_status(f->err);
    rpc_finish(r, status != GRPC_STATUS_OK ? status : GRPC_STATUS_INTERNAL,
               f->message[0] != '\0' ? f->message : err_text(f->err));
}

void rpc_half_close(struct rpc *r) {
    if (!r->out.last) {
        r->out.last = true;
        pump(r);
    }
}

void rpc_cancel(struct rpc *r) {
    grpc_call_cancel(r->call, NULL);
}

// ---- receiving ----

void rpc_read_next(struct rpc *r) {
    if (r->in.reading || r->in.held || r->in.paused || r->in.ended) {
        return;
    }
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &r->in.bytes;
    r->in.reading = true;
    rpc_batch(r, &op, 1, &r->on_read);
}

// Ends the call with @status because of what the peer sent.
static void refuse(struct rpc *r, grpc_status_code status, const char *why) {
    r->in.ended = true;
    if (r->server != NULL) {
        rpc_finish(r, (int)status, why);
    } else {
        grpc_call_cancel_with_status(r->call, status, why, NULL);
    }
}

static enum err unpack(const struct rpc *r, ProtobufCMessage **ret_message) {
    grpc_byte_buffer_reader reader;
    size_t max = r->method->max_unpacked_bytes;
    if (!grpc_byte_buffer_reader_init(&reader, r->in.bytes)) {
        return ERR_INVALID;
    }
    grpc_slice s = grpc_byte_buffer_reader_readall(&reader);
    enum err err = message_unpack(r->method->input, GRPC_SLICE_START_PTR(s), GRPC_SLICE_LENGTH(s),
                                  max > 0 ? max : RPC_MAX_UNPACKED_BYTES, ret_message);
    grpc_slice_unref(s);
    grpc_byte_buffer_reader_destroy(&reader);
    return err;
}

ProtobufCMessage *rpc_take_message(struct rpc *r) {
    return take_ptr(r->in_delivery);
}

static void deliver_message(struct rpc *r) {
    ProtobufCMessage *m = NULL;
    if (r->server != NULL) {
        rpc_server_message_came(r->server, grpc_byte_buffer_length(r->in.bytes));
    }
    enum err err = unpack(r, &m);
    grpc_byte_buffer_destroy(r->in.bytes);
    r->in.bytes = NULL;
    if (err != OK) {
        if (err == ERR_TOO_LARGE && r->server != NULL) {
            rpc_server_message_refused(r->server);
        }
        if (err == ERR_INVALID) {
            refuse(r, GRPC_STATUS_INTERNAL, "malformed message");
        } else {
            refuse(r, GRPC_STATUS_RESOURCE_EXHAUSTED,
                   err == ERR_TOO_LARGE ? "the message takes too much memory" : "out of memory");
        }
        return;
    }
    if (r->in.n_messages++ > 0 && !r->method->input_stream) {
        protobuf_c_message_free_unpacked(m, NULL);
        refuse(r, GRPC_STATUS_INTERNAL, "more than one message");
        return;
    }
    r->in_delivery = m;
    if (r->method->message != NULL) {
        r->method->message(r, m);
    }
    if (r->in_delivery != NULL) {
        protobuf_c_message_free_unpacked(take_ptr(r->in_delivery), NULL);
    }
    // A server reads one message of a unary call; a client reads on to the end.
    if (r->method->input_stream || r->server == NULL) {
        rpc_read_next(r);
    }
}

// Hands over what has arrived: a message, or the peer's half-close.
static void deliver(struct rpc *r, bool ok) {
    bool finished = r->server != NULL && (r->out.last || r->cancelled != 0);
    if (ok && r->in.bytes != NULL && !finished && !r->in.ended) {
        deliver_message(r);
        return;
    }
    if (r->in.bytes != NULL) {
        grpc_byte_buffer_destroy(r->in.bytes);
        r->in.bytes = NULL;
        r->in.ended = true;
        return;
    }
    bool first = !r->in.ended;
    r->in.ended = true;
    if (!ok || !first || finished) {
        return;
    }
    if (r->server != NULL && !r->method->input_stream && r->in.n_messages == 0) {
        rpc_finish(r, GRPC_STATUS_INVALID_ARGUMENT, "the request has no message");
    } else if (r->method->half_closed != NULL) {
        r->method->half_closed(r);
    }
}

static void read_done(struct event *e, bool ok) {
    struct rpc *r = CONTAINER_OF(e, struct rpc, on_read);
    r->in.reading = false;
    // A read fails only because of the message: one that finds the call over ends without one.
    if (!ok && r->server != NULL) {
        rpc_server_message_refused(r->server);
    }
    if (r->in.paused && ok && !r->in.ended) {
        r->in.held = true;
        r->in.held_ok = ok;
        return; // it stays pending
    }
    deliver(r, ok);
    rpc_settle(r);
}

static void deliver_held(void *arg) {
    struct rpc *r = arg;
    if (r->in.held && !r->in.paused) {
        r->in.held = false;
        deliver(r, r->in.held_ok);
        rpc_settle(r);
    }
    rpc_settle(r); // of the posting
}

void rpc_pause(struct rpc *r, bool pause) {
    if (r->in.paused == pause) {
        return;
    }
    r->in.paused = pause;
    if (pause) {
        return;
    }
    if (r->in.held) {
        r->pending++;
        loop_post(r->loop, deliver_held, r);
    } else {
        rpc_read_next(r);
    }
}

static void call_ended(struct event *e, bool ok) {
    struct rpc *r = CONTAINER_OF(e, struct rpc, on_end);
    (void)ok;
    r->dead = true;
    drop_queue(r);
    bool broken = r->server != NULL || r->status != GRPC_STATUS_OK;
    if (broken) {
        r->in.ended = true;
    }
    if (broken && r->in.held) { // nobody will want it any more
        r->in.held = false;
        rpc_settle(r);
    }
    rpc_settle(r);
}

// ---- looking at a call ----

size_t rpc_queued_messages(const struct rpc *r) {
    return r->out.n_messages;
}

size_t rpc_queued_bytes(const struct rpc *r) {
    return r->out.n_bytes;
}

struct loop *rpc_loop(const struct rpc *r) {
    return r->loop;
}

const struct rpc_method *rpc_method_of(const struct rpc *r) {
    return r->method;
}

void rpc_set_user(struct rpc *r, void *user) {
    r->user = user;
}

void *rpc_user(const struct rpc *r) {
    return r->user;
}

void *rpc_server_user(const struct rpc *r) {
    return r->method_user;
}

int64_t rpc_ms_left(const struct rpc *r) {
    if (gpr_time_cmp(r->deadline, gpr_inf_future(r->deadline.clock_type)) == 0) {
        return INT64_MAX;
    }
    return gpr_time_to_millis(gpr_time_sub(r->deadline, gpr_now(r->deadline.clock_type)));
}

char *rpc_peer(const struct rpc *r) {
    char *peer = grpc_call_get_peer(r->call), *copy = strdup(peer);
    gpr_free(peer);
    return copy;
}

bool rpc_peer_name(const struct rpc *r, char *buf, size_t cap) {
    grpc_auth_context *c = grpc_call_auth_context(r->call);
    if (c == NULL) {
        return false;
    }
    grpc_auth_property_iterator it =
        grpc_auth_context_find_properties_by_name(c, GRPC_X509_CN_PROPERTY_NAME);
    const grpc_auth_property *p = grpc_auth_property_iterator_next(&it);
    bool whole = p != NULL && p->value_length < cap;
    if (whole) {
        memcpy(buf, p->value, p->value_length);
        buf[p->value_length] = '\0';
    }
    grpc_auth_context_release(c);
    return whole;
}
