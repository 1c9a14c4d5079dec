// SPDX-License-Identifier: Apache-2.0
#include "master/master_options.h"

#include "common/address.h"
#include "common/config.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/rpc/rpc.h"
#include "master/callback_target.h"

#include <string.h>

#define GIB ((uint64_t)1 << 30)
#define MIB ((uint64_t)1 << 20)

// Below it a result of the largest kind that agents send would never arrive.
enum { MESSAGE_LEAST_BYTES = 1 << 20 };

static const struct master_options defaults = {
    .name = "master",
    .listen = "127.0.0.1:7400",
    .log_level = "info",
    .hold_ms = 30000,
    .heartbeat_ms = 1000,
    .lost_after_ms = 5000,
    .reconcile_ms = 5000,
    .park_ms = 300000,
    .part_bytes = 256 * MIB,
    .large_bytes = 256 * MIB,
    .flows_queued = 10000,
    .flows_active = 32,
    .tasks_in_memory = 100000,
    .tasks_per_flow = 1000,
    .spec_bytes_per_flow = 4 << 20, // fifty batches of a thousand objects
    .watchers = 1000,
    .agents = 10000,
    .calls = 50000,
    .events_per_flow = 1000,
    .message_bytes = RPC_MAX_MESSAGE_BYTES,
    .task_retries = 5,
    .database = {.session_ms = 10000, .outage_ms = 600000},
    .retries_per_flow = 1000000,
    .callbacks =
        {
            .timeout_ms = 10000,
            .connect_timeout_ms = 5000,
            .backoff_ms = 1000,
            .backoff_max_ms = 60000,
            .attempts = 20,
            .concurrent = 16,
            .dead_kept = 10000,
        },
};

static enum err read_texts(struct config_node *n, struct master_options *o, struct failure *f) {
    const struct {
        const char *key;
        const char **value;
    } texts[] = {
        {"name", &o->name},
        {"listen", &o->listen},
        {"state_dir", &o->state_dir},
        {"port_file", &o->port_file},
        {"log_file", &o->log_file},
        {"log_level", &o->log_level},
        {"database", &o->database.url},
        {"ticket_key", &o->ticket_key},
    };
    enum err e = OK;
    for (size_t i = 0; e == OK && i < sizeof texts / sizeof texts[0]; i++) {
        e = config_string(n, texts[i].key, texts[i].value, f);
    }
    return e;
}

static enum err read_tls(struct config_node *n, struct master_options *o, struct failure *f) {
    struct config_node *tls = NULL;
    enum err e = config_mapping(n, "tls", &tls, f);
    if (e != OK || tls == NULL) {
        return e;
    }
    const struct {
        const char *key;
        const char **value;
    } files[] = {
        {"certificate", &o->tls_certificate},
        {"key", &o->tls_key},
        {"ca", &o->tls_ca},
    };
    for (size_t i = 0; e == OK && i < sizeof files / sizeof files[0]; i++) {
        e = config_require(tls, files[i].key, f);
        if (e == OK) {
            e = config_string(tls, files[i].key, files[i].value, f);
        }
    }
    o->tls = e == OK;
    return e;
}

static enum err read_durations(struct config_node *n, struct master_options *o, struct failure *f) {
    const struct {
        const char *key;
        int64_t *value;
        uint64_t min, max;
    } durations[] = {
        {"hold", &o->hold_ms, 500, 3600000},
        {"heartbeat", &o->heartbeat_ms, 50, 60000},
        {"lost_after", &o->lost_after_ms, 100, 600000},
        {"reconcile", &o->reconcile_ms, 0, 600000},
        {"park", &o->park_ms, 100, 7 * 86400000U},
        {"database_session", &o->database.session_ms, 1000, 600000},
        {"database_outage", &o->database.outage_ms, 1000, 7 * 86400000U},
    };
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        uint64_t ms = (uint64_t)*durations[i].value;
        enum err e = config_u64(n, durations[i].key, durations[i].min, durations[i].max, &ms, f);
        if (e != OK) {
            return e;
        }
        *durations[i].value = (int64_t)ms;
    }
    return OK;
}

static enum err read_limits(struct config_node *n, struct master_options *o, struct failure *f) {
    struct config_node *limits = NULL;
    enum err e = config_mapping(n, "limits", &limits, f);
    if (e != OK || limits == NULL) {
        return e;
    }
    const struct {
        const char *key;
        uint32_t *value;
        uint32_t min, max;
    } numbers[] = {
        {"flows_queued", &o->flows_queued, 1, 1000000},
        {"flows_active", &o->flows_active, 1, 10000},
        {"tasks_in_memory", &o->tasks_in_memory, 16, 10000000},
        {"tasks_per_flow", &o->tasks_per_flow, 4, 1000000},
        {"watchers", &o->watchers, 1, 100000},
        {"agents", &o->agents, 1, 100000},
        {"calls", &o->calls, 16, 1000000},
        {"events_per_flow", &o->events_per_flow, 16, 1000000},
        {"message_bytes", &o->message_bytes, 0, RPC_MAX_UNPACKED_BYTES},
        {"task_retries", &o->task_retries, 1, 100},
        {"retries_per_flow", &o->retries_per_flow, 1, 1000000000},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t value = *numbers[i].value;
        e = config_u64(limits, numbers[i].key, numbers[i].min, numbers[i].max, &value, f);
        if (e != OK) {
            return e;
        }
        *numbers[i].value = (uint32_t)value;
    }
    if (o->message_bytes < MESSAGE_LEAST_BYTES) {
        e = config_complain(limits, "message_bytes", f,
                            "is below 1 MiB: what an agent reports of one task, and a page of its"
                            " listing, take up to 512 KiB, and a flow's specification may be as"
                            " large");
        return e;
    }
    return config_u64(limits, "spec_bytes_per_flow", 64 << 10, GIB, &o->spec_bytes_per_flow, f);
}

static enum err read_sizes(struct config_node *n, struct master_options *o, struct failure *f) {
    enum err e = config_u64(n, "part_bytes", LEAF_BYTES, GIB, &o->part_bytes, f);
    if (e == OK && o->part_bytes % LEAF_BYTES != 0) {
        e = config_complain(n, "part_bytes", f, "must be a multiple of 4 MiB");
    }
    o->large_bytes = o->part_bytes;
    if (e == OK) {
        e = config_u64(n, "large_bytes", 1, GIB, &o->large_bytes, f);
    }
    return e;
}

static enum err read_hosts(struct config_node *n, struct callback_options *o, struct failure *f) {
    enum err e = OK;
    for (size_t i = 0; e == OK; i++) {
        const char *host = NULL;
        e = config_item_string(n, "hosts", i, &host, f);
        if (e != OK) {
            break;
        }
        if (i == CALLBACK_HOSTS_MAX) {
            return config_complain(n, "hosts", f, "has more than %d", CALLBACK_HOSTS_MAX);
        }
        if (!callback_host_is_valid(host)) {
            return config_complain(n, "hosts", f, "'%s' is no host name, nor NAME:PORT", host);
        }
        o->hosts[i] = host;
        o->n_hosts = i + 1;
    }
    if (e != ERR_NOT_FOUND) {
        return e;
    }
    return o->n_hosts > 0 ? OK : config_complain(n, "hosts", f, "must name at least one host");
}

static enum err read_callbacks(struct config_node *n, struct callback_options *o,
                               struct failure *f) {
    struct config_node *c = NULL;
    enum err e = config_mapping(n, "callbacks", &c, f);
    if (e != OK || c == NULL) {
        return e;
    }
    uint64_t attempts = o->attempts, concurrent = o->concurrent, kept = o->dead_kept;
    const struct {
        const char *key;
        int64_t *value;
    } times[] = {{"timeout", &o->timeout_ms},
                 {"connect_timeout", &o->connect_timeout_ms},
                 {"backoff", &o->backoff_ms},
                 {"backoff_max", &o->backoff_max_ms}};
    for (size_t i = 0; e == OK && i < sizeof times / sizeof times[0]; i++) {
        uint64_t ms = (uint64_t)*times[i].value;
        e = config_u64(c, times[i].key, 10, 3600000, &ms, f);
        *times[i].value = (int64_t)ms;
    }
    if (e != OK || (e = read_hosts(c, o, f)) != OK ||
        (e = config_require(c, "secret_file", f)) != OK ||
        (e = config_string(c, "secret_file", &o->secret_file, f)) != OK ||
        (e = config_string(c, "ca_file", &o->ca_file, f)) != OK ||
        (e = config_u64(c, "attempts", 1, 1000, &attempts, f)) != OK ||
        (e = config_u64(c, "concurrent", 1, 256, &concurrent, f)) != OK ||
        (e = config_u64(c, "dead_kept", 0, 1000000, &kept, f)) != OK) {
        return e;
    }
    o->attempts = (uint32_t)attempts;
    o->concurrent = (uint32_t)concurrent;
    o->dead_kept = (uint32_t)kept;
    return OK;
}

// What only shows when the values are seen together.
static enum err judge(struct config_node *n, const struct master_options *o, struct failure *f) {
    enum log_level level;
    if (o->name[0] == '\0' || strlen(o->name) > 100) {
        return config_complain(n, "name", f, "must have 1 to 100 bytes");
    }
    if (log_level_from_name(o->log_level, &level) != OK) {
        return config_complain(n, "log_level", f, "'%s' is none of error, warn, info, debug",
                               o->log_level);
    }
    struct address address;
    struct failure why = {0};
    if (address_parse(o->listen, &address, &why) != OK) {
        return config_complain(n, "listen", f, "%s", why.message);
    }
    if (!o->tls && !address_is_loopback(&address)) {
        enum err e = config_complain(
            n, "listen", f, "'%s' is not a loopback address, and there is no tls", o->listen);
        failure_remedy(f, "add tls: {certificate, key, ca}, or listen on 127.0.0.1");
        return e;
    }
    const char *url = o->database.url; // not in any message: it may hold a password
    if (url != NULL && strncmp(url, "postgresql://", 13) != 0 &&
        strncmp(url, "postgres://", 11) != 0) {
        enum err e = config_complain(n, "database", f, "must begin with postgresql://");
        failure_remedy(f, "leave it out for SQLite in state_dir, or see docs/database.md");
        return e;
    }
    if (o->lost_after_ms < 2 * o->heartbeat_ms) {
        return config_complain(n, "lost_after", f, "must be at least twice heartbeat");
    }
    if (o->hold_ms < o->lost_after_ms) {
        return config_complain(n, "hold", f, "must be at least lost_after");
    }
    return OK;
}

enum err master_options_read(struct config *c, struct master_options *ret_options,
                             struct failure *ret_failure) {
    struct master_options o = defaults;
    struct config_node *n = config_root(c);
    enum err e = read_texts(n, &o, ret_failure);
    if (e == OK) {
        e = read_tls(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_durations(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_sizes(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_limits(n, &o, ret_failure);
    }
    if (e == OK) {
        e = read_callbacks(n, &o.callbacks, ret_failure);
    }
    if (e == OK) {
        e = config_check_unknown(c, ret_failure); // first: what is missing may be misspelt
    }
    if (e == OK) {
        e = config_require(n, "state_dir", ret_failure);
    }
    if (e == OK) {
        e = judge(n, &o, ret_failure);
    }
    if (e == OK) {
        *ret_options = o;
    }
    return e;
}
