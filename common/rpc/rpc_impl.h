// SPDX-License-Identifier: Apache-2.0
// A call from inside, shared by rpc.c, rpc_server.c and rpc_channel.c.
#ifndef COMMON_RPC_RPC_IMPL_H
#define COMMON_RPC_RPC_IMPL_H

#include "common/rpc/loop_impl.h"
#include "common/rpc/rpc.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdatomic.h>

#define RPC_FAILURE_KEY "sluice-failure-bin"

struct rpc_outgoing {
    struct rpc_outgoing *next;
    grpc_byte_buffer *bytes;
    size_t len;
};

// All fields belong to the loop's thread.
struct rpc {
    const struct rpc_method *method;
    void *method_user;
    void *user;
    struct loop *loop;
    struct rpc_server *server; // NULL: the client's end
    grpc_call *call;
    gpr_timespec deadline;
    // Batches in flight, and closures posted; the call is over when there are none.
    int pending;
    struct event on_start, on_read, on_write, on_end;
    grpc_metadata_array initial; // what the peer sent at first

    struct {
        grpc_byte_buffer *bytes; // that arrived
        size_t n_messages;
        bool reading; // a batch is in flight
        bool paused;
        bool held;    // a read has ended while paused; it still counts as pending
        bool held_ok; // how it ended
        bool ended;   // nothing more will be read
    } in;

    struct {
        struct rpc_outgoing *head, **tail;
        size_t n_messages, n_bytes; // with the one in flight
        size_t bytes_in_flight;
        bool writing;
        bool initial_sent;
        bool last;      // nothing will follow what is queued
        bool last_sent; // ... and its end is on its way
    } out;

    bool counted; // server: among the calls that are open
    bool dead;    // the peer is gone or the status has come: nothing can be sent
    int cancelled;
    grpc_status_code status;
    grpc_slice detail;
    grpc_slice failure;            // server: to be sent as trailer
    grpc_metadata_array trailing;  // client
    ProtobufCMessage *in_delivery; // NULL in the callback: rpc_take_message() took it
    grpc_call_details details;     // server, until the method is known
};

// Sets what all calls have in common. NULL: out of memory.
struct rpc *rpc_alloc(struct loop *l);
void rpc_free(struct rpc *r);
void rpc_batch(struct rpc *r, const grpc_op *ops, size_t n, struct event *tag);
void rpc_read_next(struct rpc *r);
// One of `pending` is done.
void rpc_settle(struct rpc *r);
// In the callback `message`: the message stays after it, and is the caller's.
ProtobufCMessage *rpc_take_message(struct rpc *r);

// Server: those who may still use it; the last reference dropped ends a drain.
void rpc_server_ref(struct rpc_server *s);
void rpc_server_unref(struct rpc_server *s);
void rpc_server_call_over(struct rpc_server *s); // one that was counted
void rpc_server_message_came(struct rpc_server *s, size_t bytes);
void rpc_server_message_refused(struct rpc_server *s); // it was too large
struct loop *const *rpc_server_loops(const struct rpc_server *s, size_t *ret_n);
bool rpc_server_has_service(const struct rpc_server *s, const char *name);
// @fn(@arg) in rpc_server_free(), to free what a built-in service has allocated.
// false: out of memory.
bool rpc_server_at_free(struct rpc_server *s, void (*fn)(void *), void *arg);
struct rpc_health;
void rpc_server_set_health(struct rpc_server *s, struct rpc_health *h);
struct rpc_health *rpc_server_health(const struct rpc_server *s);

// NULL: out of memory. *@ret_state is to be freed after the server.
grpc_server_credentials *rpc_tls_server_credentials(const struct rpc_tls *tls, void **ret_state);
void rpc_tls_server_state_free(void *state);
// NULL: the files are not usable.
grpc_channel_credentials *rpc_tls_channel_credentials(const struct rpc_tls *tls);

#endif
