// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_options.h"

#include "common/address.h"
#include "common/cleanup.h"
#include "common/config.h"
#include "common/location.h"
#include "common/log.h"
#include "common/rpc/rpc.h"
#include "dataplane/transport_rdma.h"

#include <stdlib.h>
#include <string.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static const struct agent_options defaults = {
    .master = "127.0.0.1:7400",
    .data_listen = "127.0.0.1:0",
    .slots = 8,
    .buffer_bytes = 512 * KIB,
    .stall_ms = 30 * 1000,
    .data_idle_ms = 60 * 1000,
    .data_connections = 1024,
    .log_level = "info",
    .rdma_pool_bytes = RDMA_POOL_BYTES,
    .rdma_retry_ms = 60 * 1000,
    .rdma_connect_ms = 5 * 1000,
};

static bool is_wildcard(const struct address *a) {
    return a->host[0] == '\0' || strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0;
}

static bool is_name(const char *text) {
    return strlen(text) <= AGENT_NAME_MAX && location_name_is_valid(text, strlen(text));
}

static enum err complain_name(struct config_node *n, const char *key, const char *text,
                              struct failure *f) {
    enum err e = config_complain(n, key, f, "'%.120s' is not a name", text);
    failure_remedy(f, "use 1 to %d letters and digits, and inside also - _ .", AGENT_NAME_MAX);
    return e;
}

static enum err read_texts(struct config_node *n, struct agent_options *o, struct failure *f) {
    const struct {
        const char *key;
        const char **value;
        bool required;
    } texts[] = {{"name", &o->name, true},
                 {"site", &o->site, true},
                 {"state_dir", &o->state_dir, true},
                 {"log_file", &o->log_file, false},
                 {"data_listen", &o->data_listen, false},
                 {"log_level", &o->log_level, false}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        enum err e = texts[i].required ? config_require(n, texts[i].key, f) : OK;
        if (e == OK) {
            e = config_string(n, texts[i].key, texts[i].value, f);
        }
        if (e != OK) {
            return e;
        }
    }
    return config_joined(n, "master", &o->master, f);
}

static enum err read_tls(struct config_node *n, struct agent_options *o, struct failure *f) {
    struct config_node *tls = NULL;
    enum err e = config_mapping(n, "tls", &tls, f);
    if (e != OK || tls == NULL) {
        return e;
    }
    const struct {
        const char *key;
        const char **value;
    } files[] = {{"certificate", &o->tls_certificate}, {"key", &o->tls_key}, {"ca", &o->tls_ca}};
    for (size_t i = 0; e == OK && i < ARRAY_LEN(files); i++) {
        e = config_require(tls, files[i].key, f);
        if (e == OK) {
            e = config_string(tls, files[i].key, files[i].value, f);
        }
    }
    o->tls = e == OK;
    return e;
}

static enum err add_rail(struct config_node *rdma, const char *key, const char *text,
                         struct agent_options *o, struct failure *f) {
    struct address address;
    if (o->n_rails == AGENT_MAX_RAILS) {
        return config_complain(rdma, key, f, "more than %d interfaces", AGENT_MAX_RAILS);
    }
    if (address_parse(text, &address, NULL) != OK || is_wildcard(&address)) {
        return config_complain(rdma, key, f,
                               "'%s' is not HOST:PORT with the address of one interface", text);
    }
    o->rails[o->n_rails++] = text;
    return OK;
}

static enum err read_rails(struct config_node *rdma, struct agent_options *o, struct failure *f) {
    const char *text = NULL;
    enum err e = config_require(rdma, "listen", f);
    if (e == OK) {
        e = config_string(rdma, "listen", &text, f);
    }
    if (e == OK) {
        e = add_rail(rdma, "listen", text, o, f);
    }
    for (size_t i = 0; e == OK; i++) {
        e = config_item_string(rdma, "rails", i, &text, f);
        if (e == OK) {
            e = add_rail(rdma, "rails", text, o, f);
        }
    }
    return e == ERR_NOT_FOUND ? OK : e;
}

static enum err read_rdma(struct config_node *n, struct agent_options *o, struct failure *f) {
    struct config_node *rdma = NULL;
    const char *security = NULL;
    enum err e = config_mapping(n, "rdma", &rdma, f);
    if (e != OK || rdma == NULL) {
        return e;
    }
    e = read_rails(rdma, o, f);
    if (e == OK) {
        e = config_u64(rdma, "pool", RDMA_POOL_MIN_BYTES, 64 * 1024 * MIB, &o->rdma_pool_bytes, f);
    }
    if (e == OK) {
        e = config_u64(rdma, "retry", 100, 24 * 3600 * 1000, &o->rdma_retry_ms, f);
    }
    if (e == OK) {
        e = config_u64(rdma, "connect", 100, 600 * 1000, &o->rdma_connect_ms, f);
    }
    if (e == OK) {
        e = config_string(rdma, "security", &security, f);
    }
    if (e != OK) {
        return e;
    }
    if (security == NULL || strcmp(security, "auth") != 0) {
        e = config_complain(rdma, "security", f,
                            "data on RDMA networks is checked and needs tickets, but is not "
                            "encrypted: this has to be agreed to");
        failure_remedy(f, "add security: auth below rdma, or leave out rdma");
    }
    return e;
}

// An object store instead of a directory.
static enum err read_store(struct config_node *item, struct volume_options *v, struct failure *f) {
    struct s3_store_options *s = &v->store;
    const char *style = "auto", *payload = "auto", *checksum = "auto";
    enum s3_checksum known;
    const struct {
        const char *key;
        const char **value;
    } texts[] = {{"endpoint", &s->endpoint},
                 {"region", &s->region},
                 {"style", &style},
                 {"checksum", &checksum},
                 {"sign_payload", &payload},
                 {"access_key", &s->credentials.access_key},
                 {"secret_key", &s->credentials.secret_key},
                 {"session_token", &s->credentials.session_token},
                 {"profile", &s->credentials.profile},
                 {"credentials_file", &s->credentials.credentials_file},
                 {"ca", &s->ca_file},
                 {"proxy", &s->proxy}};
    bool tags_digest = true;
    enum err e = config_bool(item, "anonymous", &s->credentials.is_anonymous, f);
    e = e == OK ? config_bool(item, "digest_tag", &tags_digest, f) : e;
    s->tags_no_digest = !tags_digest;
    for (size_t i = 0; e == OK && i < ARRAY_LEN(texts); i++) {
        e = config_string(item, texts[i].key, texts[i].value, f);
    }
    if (e != OK) {
        return e;
    }
    if ((s->credentials.access_key == NULL) != (s->credentials.secret_key == NULL)) {
        return config_complain(item, "access_key", f, "access_key and secret_key go together");
    }
    s->name = v->name;
    s->style = strcmp(style, "path") == 0      ? S3_STYLE_PATH
               : strcmp(style, "virtual") == 0 ? S3_STYLE_VIRTUAL
                                               : S3_STYLE_AUTO;
    s->payload = strcmp(payload, "always") == 0  ? S3_PAYLOAD_SIGNED
                 : strcmp(payload, "never") == 0 ? S3_PAYLOAD_UNSIGNED
                                                 : S3_PAYLOAD_AUTO;
    if (s->payload == S3_PAYLOAD_AUTO && strcmp(payload, "auto") != 0) {
        return config_complain(item, "sign_payload", f, "'%s' is none of auto, always, never",
                               payload);
    }
    s->checksum = strcmp(checksum, "auto") == 0 ? NULL : checksum;
    if (s->checksum != NULL && !s3_checksum_from_name(checksum, &known)) {
        return config_complain(item, "checksum", f,
                               "'%s' is none of auto, crc64nvme, crc32c, sha256, md5, none",
                               checksum);
    }
    return s->style != S3_STYLE_AUTO || strcmp(style, "auto") == 0
               ? OK
               : config_complain(item, "style", f, "'%s' is none of auto, path, virtual", style);
}

// Where the volume is.
static enum err read_root(struct config_node *item, struct volume_options *v, struct failure *f) {
    const char *kind = "posix";
    enum err e = config_string(item, "kind", &kind, f);
    if (e != OK) {
        return e;
    }
    if (strcmp(kind, "s3") == 0) {
        return read_store(item, v, f);
    }
    if (strcmp(kind, "posix") != 0) {
        return config_complain(item, "kind", f, "'%s' is none of posix, s3", kind);
    }
    e = config_require(item, "root", f);
    if (e == OK) {
        e = config_string(item, "root", &v->root, f);
    }
    if (e == OK && v->root[0] != '/') {
        e = config_complain(item, "root", f, "'%s' is not an absolute path", v->root);
    }
    return e;
}

static enum err read_volume(struct config_node *item, struct agent_options *o, struct failure *f) {
    struct volume_options v = {0};
    const char *mode = "rw";
    enum err e = config_require(item, "name", f);
    if (e == OK) {
        e = config_string(item, "name", &v.name, f);
    }
    if (e == OK) {
        e = read_root(item, &v, f);
    }
    if (e == OK) {
        e = config_string(item, "mode", &mode, f);
    }
    if (e != OK) {
        return e;
    }
    if (!is_name(v.name)) {
        return complain_name(item, "name", v.name, f);
    }
    v.readable = strcmp(mode, "rw") == 0 || strcmp(mode, "read") == 0;
    v.writable = strcmp(mode, "rw") == 0 || strcmp(mode, "write") == 0;
    if (!v.readable && !v.writable) {
        return config_complain(item, "mode", f, "'%s' is none of rw, read, write", mode);
    }
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (strcmp(o->volumes[i].name, v.name) == 0) {
            return config_complain(item, "name", f, "there are two volumes named '%s'", v.name);
        }
    }
    o->volumes[o->n_volumes++] = v;
    return OK;
}

static enum err read_volumes(struct config_node *n, struct agent_options *o, struct failure *f) {
    for (size_t i = 0;; i++) {
        struct config_node *item = NULL;
        enum err e = config_item(n, "volumes", i, &item, f);
        if (e == ERR_NOT_FOUND) {
            break;
        }
        if (e == OK && i == AGENT_MAX_VOLUMES) {
            e = config_complain(n, "volumes", f, "more than %d volumes", AGENT_MAX_VOLUMES);
        }
        if (e == OK) {
            e = read_volume(item, o, f);
        }
        if (e != OK) {
            return e;
        }
    }
    if (o->n_volumes == 0) {
        enum err e = config_complain(n, "volumes", f, "an agent needs at least one volume");
        failure_remedy(f, "add volumes: [{name: data, root: /path, mode: rw}]");
        return e;
    }
    return OK;
}

static enum err read_addresses(struct config_node *n, struct agent_options *o, struct failure *f) {
    for (size_t i = 0;; i++) {
        const char *text = NULL;
        struct address address;
        enum err e = config_item_string(n, "data_addresses", i, &text, f);
        if (e == ERR_NOT_FOUND) {
            return OK;
        }
        if (e != OK) {
            return e;
        }
        if (i == AGENT_MAX_ADDRESSES) {
            return config_complain(n, "data_addresses", f, "more than %d addresses",
                                   AGENT_MAX_ADDRESSES);
        }
        if (address_parse(text, &address, NULL) != OK) {
            return config_complain(n, "data_addresses", f,
                                   "'%s' is not HOST:PORT (port 0: the one of data_listen)", text);
        }
        o->data_addresses[o->n_data_addresses++] = text;
    }
}

static enum err check_address(struct config_node *n, const char *key, const char *text, bool tls,
                              struct failure *f) {
    struct address address;
    if (address_parse(text, &address, NULL) != OK) {
        return config_complain(n, key, f, "'%s' is not HOST:PORT", text);
    }
    if (!tls && !address_is_loopback(&address)) {
        enum err e =
            config_complain(n, key, f, "'%s' is not a loopback address, and there is no tls", text);
        failure_remedy(f, "add tls: {certificate, key, ca}, or use 127.0.0.1");
        return e;
    }
    return OK;
}

// What only shows when the values are seen together.
static enum err judge(struct config_node *n, const struct agent_options *o, struct failure *f) {
    enum log_level level;
    struct address listen;
    if (!is_name(o->name)) {
        return complain_name(n, "name", o->name, f);
    }
    if (!is_name(o->site)) {
        return complain_name(n, "site", o->site, f);
    }
    if (o->state_dir[0] == '\0') {
        return config_complain(n, "state_dir", f, "must not be empty");
    }
    if (log_level_from_name(o->log_level, &level) != OK) {
        return config_complain(n, "log_level", f, "'%s' is none of error, warn, info, debug",
                               o->log_level);
    }
    enum err e = OK;
    char master[ADDRESS_TEXT_SIZE];
    size_t n_masters = 0;
    for (const char *rest = o->master; e == OK && address_next(&rest, master); n_masters++) {
        e = check_address(n, "master", master, o->tls, f);
    }
    if (e == OK && (n_masters == 0 || n_masters > RPC_ADDRESSES_MAX)) {
        e = config_complain(n, "master", f, "must have 1 to %d addresses", RPC_ADDRESSES_MAX);
    }
    if (e == OK) {
        e = check_address(n, "data_listen", o->data_listen, o->tls, f);
    }
    if (e == OK && o->n_data_addresses == 0 && address_parse(o->data_listen, &listen, NULL) == OK &&
        is_wildcard(&listen)) {
        e = config_complain(n, "data_listen", f, "'%s' tells other agents no address to connect to",
                            o->data_listen);
        failure_remedy(f, "add data_addresses: [HOST:0] with a name that they can reach");
    }
    return e;
}

static enum err read_sizes(struct config_node *n, struct agent_options *o, struct failure *f) {
    uint64_t slots = o->slots;
    enum err e = config_u64(n, "slots", 1, 256, &slots, f);
    o->slots = (uint32_t)slots;
    uint64_t connections = o->data_connections;
    if (e == OK) {
        e = config_u64(n, "data_connections", 1, 100000, &connections, f);
    }
    o->data_connections = (uint32_t)connections;
    if (e == OK) {
        e = config_u64(n, "stall", 100, 3600 * 1000, &o->stall_ms, f);
    }
    if (e == OK) { // the other end keeps it for two minutes, so that we close first
        e = config_u64(n, "data_idle", 1, 100 * 1000, &o->data_idle_ms, f);
    }
    if (e == OK) {
        e = config_u64(n, "direct", 0, UINT64_MAX / 2, &o->direct_from_bytes, f);
    }
    if (e == OK) {
        e = config_u64(n, "buffer", 64 * KIB, 64 * MIB, &o->buffer_bytes, f);
    }
    if (e == OK && o->buffer_bytes % 4096 != 0) {
        e = config_complain(n, "buffer", f, "must be a multiple of 4 KiB");
    }
    return e;
}

enum err agent_options_read(struct config *c, struct agent_options *ret_options,
                            struct failure *ret_failure) {
    struct agent_options o = defaults;
    struct config_node *n = config_root(c);
    enum err e = read_texts(n, &o, ret_failure);
    if (e == OK) {
        e = read_tls(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_rdma(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_sizes(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_addresses(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_volumes(n, &o, ret_failure);
    }
    if (e == OK) {
        e = config_check_unknown(c, ret_failure);
    }
    if (e == OK) {
        e = judge(n, &o, ret_failure);
    }
    if (e == OK) {
        *ret_options = o;
    }
    return e;
}
