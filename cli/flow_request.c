// SPDX-License-Identifier: Apache-2.0
#include "cli/flow_request.h"

#include "cli/location_message.h"
#include "cli/message_from_json.h"
#include "cli/quantity.h"
#include "common/ident.h"
#include "common/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

// clang-format off
#define REQUEST_OPTIONS                                                                            \
    {"digest", 0, "xxh3|sha256", "how blocks are hashed to check every byte (default: xxh3)"},     \
    {"durability", 0, "none|object|task",                                                          \
     "when an object counts as delivered: written (none), on stable\n"                             \
     "storage (object, the default), or that synced once a task (task)"},                          \
    {"transport", 0, "auto|tcp|rdma",                                                              \
     "how bytes travel between agents (default: auto, RDMA where both\n"                           \
     "have it, TCP where not)"},                                                                   \
    {"if-none-match", 0, NULL,                                                                     \
     "never replace what is there already: such objects fail, but for those\n"                     \
     "that are the same, which are skipped"},                                                      \
    {"tag", 0, "KEY=VALUE",                                                                        \
     "a tag of the objects in the store; may be repeated (default: those of\n"                     \
     "their source, if it is a store)"},                                                           \
    {"storage-class", 0, "NAME", "of the objects in the store, as in STANDARD_IA"},                \
    {"sse", 0, "AES256|aws:kms[:KEY]", "how the store shall encrypt the objects"},                 \
    {"label", 'l', "KEY=VALUE", "a label to find the flow by; may be repeated"},                   \
    {"executors", 0, "N", "tasks that run at a time, 1 to 100000"},                                \
    {"streams", 0, "N",                                                                            \
     "tasks that move data at a time at each agent, each on a connection of\n"                     \
     "its own, 1 to 256 (default: as many as the agent finds best)"},                              \
    {"retries", 0, "N", "attempts of each task, 1 to 100 (default: 5)"},                          \
    {"priority", 'p', "N", "larger goes first, -1000 to 1000 (default: 0)"},                       \
    {"weight", 0, "N", "share among flows of one priority, 1 to 1000"},                            \
    {"not-before", 0, "TIME", "start no earlier: 2026-01-31T12:00:00Z, or +2h"},                   \
    {"deadline", 0, "TIME", "give up then; written like --not-before"},                            \
    {"after", 0, "ID", "wait until this flow is completed; may be repeated"},                      \
    {"credentials", 0, "NAME",                                                                     \
     "keys to object stores, stored with `sluice credentials update`;\n"                           \
     "STORE=NAME for one store alone; may be repeated"},                                           \
    {"callback", 0, "URL", "tell this http(s) address what becomes of the flow"},                  \
    {"request-id", 0, "ID",                                                                        \
     "the same ID again names the same flow instead of a second one\n"                             \
     "(default: a new one)"}

const struct command_option flow_request_options[] = {
    REQUEST_OPTIONS,
    {NULL, 0, NULL, NULL},
};
const struct command_option flow_request_options_and_file[] = {
    {"file", 'f', "FILE", "read the flow from this file in JSON; - is standard input"},
    REQUEST_OPTIONS,
    {NULL, 0, NULL, NULL},
};
// clang-format on

static enum err refuse(const struct invocation *inv, const char *option, const char *value,
                       const char *why, struct failure *f) {
    enum err e = failure_set(f, ERR_INVALID, "use", value, strlen(value), "--%s %s", option, why);
    failure_remedy(f, "see `sluice %s --help`", inv->command->name);
    return e;
}

static enum err set_json(json_t *object, const char *key, json_t *take_value, struct failure *f) {
    if (json_object_set_new(object, key, take_value)) {
        return failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
    }
    return OK;
}

static enum err add_text(const struct invocation *inv, const char *option, const char *key,
                         json_t *spec, struct failure *f) {
    const char *value = invocation_value(inv, option, 0);
    if (!value) {
        return OK;
    }
    if (!utf8_is_valid(value, strlen(value))) {
        return refuse(inv, option, value, "takes text in UTF-8", f);
    }
    return set_json(spec, key, json_string(value), f);
}

// One of two spellings of each value, the user's and the message's.
static enum err add_choice(const struct invocation *inv, const char *option, json_t *spec,
                           const char *const choices[][2], size_t n, struct failure *f) {
    const char *value = invocation_value(inv, option, 0);
    if (!value) {
        return OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(value, choices[i][0]) == 0) {
            return set_json(spec, option, json_string(choices[i][1]), f);
        }
    }
    return refuse(inv, option, value, "does not take this value", f);
}

static enum err add_number(const struct invocation *inv, const char *option, const char *key,
                           int64_t min, int64_t max, json_t *object, struct failure *f) {
    int64_t number = 0;
    if (!invocation_has(inv, option)) {
        return OK;
    }
    enum err e = invocation_integer(inv, option, min, max, &number, f);
    return e ? e : set_json(object, key, json_integer(number), f);
}

static enum err add_time(const struct invocation *inv, const char *option, const char *key,
                         int64_t now_ms, json_t *spec, struct failure *f) {
    const char *value = invocation_value(inv, option, 0);
    int64_t at_ms;
    if (!value) {
        return OK;
    }
    if (!quantity_time(value, now_ms, &at_ms)) {
        return refuse(inv, option, value, "takes a time like 2026-01-31T12:00:00Z or +2h", f);
    }
    return set_json(spec, key, json_integer(at_ms), f);
}

// The object under @key, which is made if there is none.
static enum err get_object(json_t *parent, const char *key, json_t **ret_object,
                           struct failure *f) {
    if (!json_is_object(json_object_get(parent, key))) {
        enum err e = set_json(parent, key, json_object(), f);
        if (e) {
            return e;
        }
    }
    *ret_object = json_object_get(parent, key);
    return OK;
}

// KEY=VALUE, any number of them, into the object under @key.
static enum err add_pairs(const struct invocation *inv, const char *option, const char *key,
                          json_t *parent, struct failure *f) {
    json_t *labels = NULL;
    if (!invocation_has(inv, option)) {
        return OK;
    }
    enum err e = get_object(parent, key, &labels, f);
    if (e) {
        return e;
    }
    for (size_t i = 0; invocation_value(inv, option, i); i++) {
        const char *label = invocation_value(inv, option, i);
        const char *equals = strchr(label, '=');
        if (!equals || equals == label || !utf8_is_valid(label, strlen(label))) {
            return refuse(inv, option, label, "takes KEY=VALUE in UTF-8", f);
        }
        if (json_object_setn_new_nocheck(labels, label, (size_t)(equals - label),
                                         json_string(equals + 1))) {
            return failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
        }
    }
    return OK;
}

// All values of an option that may be repeated, under its own name.
static enum err add_list(const struct invocation *inv, const char *option, const char *takes,
                         json_t *spec, struct failure *f) {
    if (!invocation_has(inv, option)) {
        return OK;
    }
    json_t *list = json_array();
    enum err e = set_json(spec, option, list, f);
    for (size_t i = 0; !e && invocation_value(inv, option, i); i++) {
        const char *value = invocation_value(inv, option, i);
        if (json_array_append_new(list, json_string(value))) {
            e = refuse(inv, option, value, takes, f);
        }
    }
    return e;
}

// "aws:kms:KEY" → encryption and key.
static enum err add_encryption(const struct invocation *inv, json_t *store, struct failure *f) {
    static const char kms[] = "aws:kms";
    const char *value = invocation_value(inv, "sse", 0);
    size_t n = sizeof kms - 1;
    if (!value) {
        return OK;
    }
    bool has_key = strncmp(value, kms, n) == 0 && value[n] == ':' && value[n + 1] != '\0';
    if (!has_key && strcmp(value, kms) != 0 && strcmp(value, "AES256") != 0) {
        return refuse(inv, "sse", value, "takes AES256, aws:kms or aws:kms:KEY", f);
    }
    enum err e = set_json(store, "encryption", json_string(has_key ? kms : value), f);
    return e || !has_key ? e : set_json(store, "kms_key", json_string(value + n + 1), f);
}

static enum err add_store(const struct invocation *inv, json_t *spec, struct failure *f) {
    json_t *store = NULL;
    if (!invocation_has(inv, "tag") && !invocation_has(inv, "storage-class") &&
        !invocation_has(inv, "sse")) {
        return OK;
    }
    enum err e = get_object(spec, "store", &store, f);
    if (!e) {
        e = add_pairs(inv, "tag", "tags", store, f);
    }
    if (!e) {
        e = add_text(inv, "storage-class", "storage_class", store, f);
    }
    return e ? e : add_encryption(inv, store, f);
}

static enum err add_limits(const struct invocation *inv, json_t *spec, struct failure *f) {
    json_t *limits = NULL;
    enum err e = get_object(spec, "limits", &limits, f);
    if (e) {
        return e;
    }
    e = add_number(inv, "executors", "executors", 1, 100000, limits, f);
    if (!e) {
        e = add_number(inv, "streams", "streams", 1, 256, limits, f);
    }
    return e ? e : add_number(inv, "retries", "retries", 1, 100, limits, f);
}

static enum err add_options(const struct invocation *inv, int64_t now_ms, json_t *spec,
                            struct failure *f) {
    static const char *const digests[][2] = {{"xxh3", "XXH3_128"}, {"sha256", "SHA_256"}};
    static const char *const durabilities[][2] = {
        {"none", "NONE"}, {"object", "OBJECT"}, {"task", "TASK"}};
    static const char *const transports[][2] = {
        {"auto", "TRANSPORT_AUTO"}, {"tcp", "TRANSPORT_TCP"}, {"rdma", "TRANSPORT_RDMA"}};
    enum err e;
    if ((e = add_choice(inv, "transport", spec, transports, ARRAY_LEN(transports), f)) != OK ||
        (e = add_choice(inv, "digest", spec, digests, ARRAY_LEN(digests), f)) != OK ||
        (e = add_choice(inv, "durability", spec, durabilities, ARRAY_LEN(durabilities), f)) != OK ||
        (e = add_pairs(inv, "label", "labels", spec, f)) != OK ||
        (e = add_store(inv, spec, f)) != OK || (e = add_limits(inv, spec, f)) != OK ||
        (e = add_number(inv, "priority", "priority", -1000, 1000, spec, f)) != OK ||
        (e = add_number(inv, "weight", "weight", 1, 1000, spec, f)) != OK ||
        (e = add_time(inv, "not-before", "not_before_ms", now_ms, spec, f)) != OK ||
        (e = add_time(inv, "deadline", "deadline_ms", now_ms, spec, f)) != OK) {
        return e;
    }
    if (invocation_has(inv, "if-none-match") &&
        (e = set_json(spec, "if_none_match", json_true(), f)) != OK) {
        return e;
    }
    e = add_list(inv, "credentials", "takes a name in UTF-8", spec, f);
    return e == OK ? add_list(inv, "after", "takes a flow's id", spec, f) : e;
}

static enum err load_file(const char *path, json_t **ret_json, struct failure *f) {
    json_error_t error;
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *file = from_stdin ? stdin : fopen(path, "re");
    if (!file) {
        return failure_errno(f, errno, "open", path, strlen(path));
    }
    json_t *json = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    if (!from_stdin) {
        fclose(file);
    }
    if (!json || !json_is_object(json)) {
        enum err e =
            failure_set(f, ERR_INVALID, "read", path, strlen(path),
                        json ? "it is not an object" : "line %d: %s", error.line, error.text);
        failure_remedy(f, "the file holds one FlowSpec in JSON, see docs/cli.md");
        json_decref(json);
        return e;
    }
    *ret_json = json;
    return OK;
}

// {"request_id": …, "spec": {…}} from the file and the options, without the locations that
// are arguments: those need not be text.
static enum err build_json(const struct invocation *inv, int64_t now_ms, json_t **ret_json,
                           struct failure *f) {
    const char *path = invocation_value(inv, "file", 0);
    json_t *spec = NULL;
    enum err e = OK;
    if (path) {
        e = load_file(path, &spec, f);
    } else if (!(spec = json_object())) {
        e = failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
    }
    json_t *request = e ? NULL : json_pack("{s:o}", "spec", spec);
    if (!request) {
        return e ? e : failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
    }
    json_t *id = json_object_get(spec, "request_id");
    if (id) {
        e = set_json(request, "request_id", json_incref(id), f);
        json_object_del(spec, "request_id");
    }
    if (e || (e = add_options(inv, now_ms, spec, f)) != OK ||
        (e = add_text(inv, "callback", "callback_url", spec, f)) != OK ||
        (e = add_text(inv, "request-id", "request_id", request, f)) != OK) {
        json_decref(request);
        return e;
    }
    if (!json_object_get(request, "request_id")) {
        char fresh[IDENT_SIZE];
        ident_new(now_ms, fresh);
        if ((e = set_json(request, "request_id", json_string(fresh), f)) != OK) {
            json_decref(request);
            return e;
        }
    }
    *ret_json = request;
    return OK;
}

static enum err set_location(const char *text, Sluice__V1__Location **location, struct failure *f) {
    Sluice__V1__Location *parsed;
    enum err e = location_message_parse(text, strlen(text), &parsed, f);
    if (e) {
        return e;
    }
    if (*location) {
        sluice__v1__location__free_unpacked(*location, NULL);
    }
    *location = parsed;
    return OK;
}

static enum err check_arguments(const struct invocation *inv, struct failure *f) {
    bool from_file = invocation_has(inv, "file");
    if ((from_file && inv->n_args == 0) || inv->n_args == 2) {
        return OK;
    }
    enum err e = failure_set(f, ERR_INVALID, "use", inv->command->name, strlen(inv->command->name),
                             "it takes a source and a destination%s",
                             from_file ? ", or neither with --file" : "");
    failure_remedy(f, "see `sluice %s --help`", inv->command->name);
    return e;
}

enum err flow_request_new(const struct invocation *inv, int64_t now_ms,
                          Sluice__V1__SubmitFlowRequest **ret_request,
                          struct failure *ret_failure) {
    json_t *json = NULL;
    ProtobufCMessage *m = NULL;
    enum err e;
    if ((e = check_arguments(inv, ret_failure)) != OK ||
        (e = build_json(inv, now_ms, &json, ret_failure)) != OK) {
        return e;
    }
    e = message_from_json(json, &sluice__v1__submit_flow_request__descriptor, "", &m, ret_failure);
    json_decref(json);
    if (e) {
        return e;
    }
    AUTO(auto_flow_request_free)
    Sluice__V1__SubmitFlowRequest *request = (Sluice__V1__SubmitFlowRequest *)m;
    if (inv->n_args == 2 &&
        ((e = set_location(inv->args[0], &request->spec->source, ret_failure)) != OK ||
         (e = set_location(inv->args[1], &request->spec->destination, ret_failure)) != OK)) {
        return e;
    }
    *ret_request = take_ptr(request);
    return OK;
}

void flow_request_free(Sluice__V1__SubmitFlowRequest *r) {
    if (r) {
        sluice__v1__submit_flow_request__free_unpacked(r, NULL);
    }
}
