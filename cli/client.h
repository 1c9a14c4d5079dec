// SPDX-License-Identifier: Apache-2.0
// The way to the master: where it is, from the command line, the environment and the client
// configuration; the connection; one blocking call. One thread.
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/command.h"
#include "common/cleanup.h"
#include "common/config.h"
#include "common/err.h"
#include "common/failure.h"
#include "common/rpc/rpc.h"

enum {
    CALL_TIMEOUT_MS = 30 * 1000,
    // Suspending and cancelling wait for agents, or for the hold of those that are silent.
    CALL_SETTLE_TIMEOUT_MS = 120 * 1000,
    CLIENT_KEEPALIVE_MS = 20 * 1000,
};

struct client {
    struct config *config; // NULL: no file; owns the texts below that came from it
    const char *master;    // "host:port", or several, joined by commas
    struct rpc_tls tls;
    bool has_tls;
    struct rpc_channel *channel;
};

// Reads the settings, and starts to connect. ERR_INVALID: no master is named;
// ERR_CONFIG; ERR_DENIED: it is on another machine and there is no TLS.
// What the struct holds must be released with client_close() in any case.
MUST_CHECK enum err client_open(const struct invocation *inv, struct client *ret_client,
                                struct failure *ret_failure);
// The same for an address that is known, without TLS. @addr is borrowed.
MUST_CHECK enum err client_open_address(const char *addr, struct client *ret_client,
                                        struct failure *ret_failure);
void client_close(struct client *c);

// @method: "FlowService/GetFlow". The caller frees *@ret_reply with free_reply().
MUST_CHECK enum err client_call(struct client *c, const char *method, const ProtobufCMessage *input,
                                const ProtobufCMessageDescriptor *output, int64_t timeout_ms,
                                ProtobufCMessage **ret_reply, struct failure *ret_failure);
// Says that it is the master at this address that was not reached.
void client_explain_unreachable(const char *addr, struct failure *f);

void free_reply(ProtobufCMessage *m); // NULL is fine
DEFINE_AUTO(ProtobufCMessage, free_reply)

#endif
