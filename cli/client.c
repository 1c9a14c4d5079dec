// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include "common/address.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static enum err load_tls(struct client *c, struct failure *f) {
    struct config_node *tls = NULL;
    enum err e = config_mapping(config_root(c->config), "tls", &tls, f);
    if (e || !tls) {
        return e;
    }
    struct {
        const char *key;
        const char **value;
    } files[] = {{"certificate", &c->tls.certificate}, {"key", &c->tls.key}, {"ca", &c->tls.ca}};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if ((e = config_require(tls, files[i].key, f)) != OK ||
            (e = config_string(tls, files[i].key, files[i].value, f)) != OK) {
            return e;
        }
    }
    c->has_tls = true;
    return OK;
}

static enum err load_config(struct client *c, const char *path, struct failure *f) {
    enum err e = config_load(path, &c->config, f);
    if (e) {
        return e;
    }
    if ((e = config_joined(config_root(c->config), "master", &c->master, f)) != OK ||
        (e = load_tls(c, f)) != OK) {
        return e;
    }
    return config_check_unknown(c->config, f);
}

static enum err start_channel(struct client *c, struct failure *f) {
    struct address address;
    char text[ADDRESS_TEXT_SIZE];
    size_t n = 0;
    for (const char *rest = c->master; address_next(&rest, text); n++) {
        enum err e = address_parse(text, &address, f);
        if (!e && !c->has_tls) {
            e = address_check_plaintext(text, f);
        }
        if (e) {
            return e;
        }
    }
    if (n == 0 || n > RPC_ADDRESSES_MAX) {
        return failure_set(f, ERR_INVALID, "reach the master", c->master, strlen(c->master),
                           "1 to %d addresses can be given", RPC_ADDRESSES_MAX);
    }
    c->channel =
        rpc_channel_new_keepalive(c->master, c->has_tls ? &c->tls : NULL, CLIENT_KEEPALIVE_MS);
    return c->channel ? OK : failure_set(f, ERR_NO_MEMORY, "connect", NULL, 0, NULL);
}

static const char *given_or_env(const char *given, const char *variable) {
    const char *env = getenv(variable);
    return given ? given : env && *env ? env : NULL;
}

enum err client_open(const struct invocation *inv, struct client *ret_client,
                     struct failure *ret_failure) {
    *ret_client = (struct client){0};
    const char *path = given_or_env(inv->config, "SLUICE_CONFIG");
    if (path) {
        enum err e = load_config(ret_client, path, ret_failure);
        if (e) {
            return e;
        }
    }
    const char *master = given_or_env(inv->master, "SLUICE_MASTER");
    if (master) {
        ret_client->master = master;
    }
    if (!ret_client->master) {
        enum err e = failure_set(ret_failure, ERR_INVALID, "reach the master", NULL, 0,
                                 "nothing says where it is");
        failure_remedy(ret_failure, "give --master HOST:PORT, or set SLUICE_MASTER or "
                                    "SLUICE_CONFIG; `sluice up` starts one");
        return e;
    }
    return start_channel(ret_client, ret_failure);
}

enum err client_open_address(const char *addr, struct client *ret_client,
                             struct failure *ret_failure) {
    *ret_client = (struct client){.master = addr};
    return start_channel(ret_client, ret_failure);
}

void client_close(struct client *c) {
    if (c->channel) {
        rpc_channel_free(c->channel);
    }
    config_free(c->config);
    *c = (struct client){0};
}

void client_explain_unreachable(const char *addr, struct failure *f) {
    if (f->err != ERR_UNREACHABLE) {
        return;
    }
    // gRPC tells the whole way it went; what counts is the end of it.
    char reason[FAILURE_TEXT_MAX];
    const char *colon = strstr(f->message, "last error:") ? strrchr(f->message, ':') : NULL;
    snprintf(reason, sizeof(reason), "%s", colon && colon[1] == ' ' ? colon + 2 : f->message);
    if (colon) {
        reason[0] = (char)tolower((unsigned char)reason[0]);
    }
    failure_set(f, ERR_UNREACHABLE, "reach the master", addr, strlen(addr), "%s", reason);
    failure_remedy(f, "check the address and that sluice-master runs there");
}

enum err client_call(struct client *c, const char *method, const ProtobufCMessage *input,
                     const ProtobufCMessageDescriptor *output, int64_t timeout_ms,
                     ProtobufCMessage **ret_reply, struct failure *ret_failure) {
    char path[96];
    snprintf(path, sizeof(path), "/sluice.v1.%s", method);
    enum err e = rpc_unary(c->channel, path, input, output, timeout_ms, ret_reply, ret_failure);
    if (e) {
        client_explain_unreachable(c->master, ret_failure);
    }
    return e;
}

void free_reply(ProtobufCMessage *m) {
    if (m) {
        protobuf_c_message_free_unpacked(m, NULL);
    }
}
