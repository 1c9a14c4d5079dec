// SPDX-License-Identifier: Apache-2.0
#include "common/config.h"

#include "common/cleanup.h"
#include "common/config_impl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char operation[] = "read the configuration";

// Complains about @what ("" or a key) in @n, on @line.
static enum err complain_v(const struct config_node *n, unsigned line, const char *key,
                           struct failure *ret_failure, const char *fmt, va_list args) {
    char reason[FAILURE_TEXT_MAX];
    vsnprintf(reason, sizeof reason, fmt, args);
    const char *name = n->config->name;
    return failure_set(ret_failure, ERR_CONFIG, operation, name, strlen(name), "line %u: %s%s%s %s",
                       line, n->where, n->where[0] != '\0' && key[0] != '\0' ? "." : "", key,
                       reason);
}

PRINTF_LIKE(5, 6)
static enum err complain(const struct config_node *n, unsigned line, const char *key,
                         struct failure *ret_failure, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    enum err err = complain_v(n, line, key, ret_failure, fmt, args);
    va_end(args);
    return err;
}

static void remember_asked(struct config_node *n, const char *key) {
    size_t used = strlen(n->asked), len = strlen(key);
    for (const char *p = n->asked; (p = strstr(p, key)) != NULL; p += len) {
        bool begins = p == n->asked || p[-1] == ' ';
        if (begins && (p[len] == ',' || p[len] == '\0')) {
            return;
        }
    }
    if (used + len + 3 <= sizeof n->asked) {
        snprintf(n->asked + used, sizeof n->asked - used, "%s%s", used > 0 ? ", " : "", key);
    }
}

// NULL: absent.
static struct config_node *find(struct config_node *n, const char *key) {
    remember_asked(n, key);
    for (size_t i = 0; i < n->n_children; i++) {
        if (strcmp(n->keys[i], key) == 0) {
            n->known[i] = true;
            return n->children[i];
        }
    }
    return NULL;
}

static bool has_value(const struct config_node *v) {
    return v->quoted || (v->text[0] != '\0' && strcmp(v->text, "~") != 0);
}

enum err config_string(struct config_node *n, const char *key, const char **ret_value,
                       struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    if (v == NULL) {
        return OK;
    }
    if (v->kind != CONFIG_TEXT) {
        return complain(n, v->line, key, ret_failure, "must be a text");
    }
    if (!has_value(v)) {
        return complain(n, v->line, key, ret_failure, "has no value");
    }
    *ret_value = v->text;
    return OK;
}

enum err config_bool(struct config_node *n, const char *key, bool *ret_value,
                     struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    if (v == NULL) {
        return OK;
    }
    bool is_true = v->kind == CONFIG_TEXT && strcmp(v->text, "true") == 0;
    if (!is_true && (v->kind != CONFIG_TEXT || strcmp(v->text, "false") != 0)) {
        return complain(n, v->line, key, ret_failure, "must be true or false");
    }
    *ret_value = is_true;
    return OK;
}

// ERR_INVALID: not a number with or without one of the suffixes.
static enum err parse_number(const char *text, uint64_t *ret_value) {
    static const struct {
        const char *name;
        uint64_t factor;
    } suffixes[] = {
        {"", 1},          {"KiB", 1 << 10},           {"MiB", 1 << 20},
        {"GiB", 1 << 30}, {"TiB", UINT64_C(1) << 40}, {"ms", 1},
        {"s", 1000},      {"min", 60 * 1000},         {"h", 3600 * 1000},
    };
    uint64_t value = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[digits] - '0'), &value)) {
            return ERR_INVALID;
        }
    }
    const char *suffix = text + digits;
    suffix += digits > 0 && *suffix == ' ';
    for (size_t i = 0; digits > 0 && i < ARRAY_LEN(suffixes); i++) {
        if (strcmp(suffix, suffixes[i].name) == 0) {
            return __builtin_mul_overflow(value, suffixes[i].factor, ret_value) ? ERR_INVALID : OK;
        }
    }
    return ERR_INVALID;
}

enum err config_u64(struct config_node *n, const char *key, uint64_t min, uint64_t max,
                    uint64_t *ret_value, struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    uint64_t value = 0;
    if (v == NULL) {
        return OK;
    }
    if (v->kind != CONFIG_TEXT || parse_number(v->text, &value) != OK) {
        return complain(n, v->line, key, ret_failure,
                        "must be a number, such as 4096, 64KiB, 1GiB, 500ms or 30s");
    }
    if (value < min || value > max) {
        return max == UINT64_MAX
                   ? complain(n, v->line, key, ret_failure, "is %s, must be at least %" PRIu64,
                              v->text, min)
                   : complain(n, v->line, key, ret_failure,
                              "is %s, must be from %" PRIu64 " to %" PRIu64, v->text, min, max);
    }
    *ret_value = value;
    return OK;
}

enum err config_mapping(struct config_node *n, const char *key, struct config_node **ret_node,
                        struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    if (v != NULL && v->kind != CONFIG_MAPPING) {
        return complain(n, v->line, key, ret_failure, "must be a mapping of keys to values");
    }
    *ret_node = v;
    return OK;
}

// The item @index of the list @key, of @kind.
static enum err item(struct config_node *n, const char *key, size_t index, enum config_kind kind,
                     const char *must_be, struct config_node **ret_node,
                     struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    if (v == NULL) {
        return ERR_NOT_FOUND;
    }
    if (v->kind != CONFIG_LIST) {
        complain(n, v->line, key, ret_failure, "must be a list of %s", must_be);
        return ERR_CONFIG;
    }
    if (index >= v->n_children) {
        return ERR_NOT_FOUND;
    }
    struct config_node *found = v->children[index];
    if (found->kind != kind || (kind == CONFIG_TEXT && !has_value(found))) {
        complain(n, found->line, key, ret_failure, "must be a list of %s", must_be);
        return ERR_CONFIG;
    }
    *ret_node = found;
    return OK;
}

enum err config_item(struct config_node *n, const char *key, size_t index,
                     struct config_node **ret_node, struct failure *ret_failure) {
    return item(n, key, index, CONFIG_MAPPING, "mappings", ret_node, ret_failure);
}

enum err config_item_string(struct config_node *n, const char *key, size_t index,
                            const char **ret_value, struct failure *ret_failure) {
    struct config_node *found = NULL;
    enum err err = item(n, key, index, CONFIG_TEXT, "texts", &found, ret_failure);
    if (err == OK) {
        *ret_value = found->text;
    }
    return err;
}

enum err config_joined(struct config_node *n, const char *key, const char **ret_value,
                       struct failure *ret_failure) {
    struct config_node *v = find(n, key);
    if (v == NULL || v->kind != CONFIG_LIST) {
        return config_string(n, key, ret_value, ret_failure);
    }
    size_t size = 1;
    const char *text = NULL;
    for (size_t i = 0; i < v->n_children; i++) {
        enum err e = config_item_string(n, key, i, &text, ret_failure);
        if (e != OK) {
            return e;
        }
        size += strlen(text) + 1;
    }
    if (v->n_children == 0) {
        return complain(n, v->line, key, ret_failure, "must not be empty");
    }
    char *joined = malloc(size);
    if (joined == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, NULL, 0, NULL);
    }
    char *at = joined;
    for (size_t i = 0; i < v->n_children; i++) {
        at += sprintf(at, "%s%s", i > 0 ? "," : "", v->children[i]->text);
    }
    free(v->text);
    v->text = joined;
    *ret_value = joined;
    return OK;
}

enum err config_require(struct config_node *n, const char *key, struct failure *ret_failure) {
    if (find(n, key) != NULL) {
        return OK;
    }
    enum err err = complain(n, n->line, key, ret_failure, "is missing");
    failure_remedy(ret_failure, "add '%s: …'", key);
    return err;
}

enum err config_complain(struct config_node *n, const char *key, struct failure *ret_failure,
                         const char *fmt, ...) {
    const struct config_node *v = find(n, key);
    va_list args;
    va_start(args, fmt);
    enum err err = complain_v(n, v != NULL ? v->line : n->line, key, ret_failure, fmt, args);
    va_end(args);
    return err;
}

static enum err check_node(struct config_node *n, struct failure *ret_failure) {
    for (size_t i = 0; i < n->n_children; i++) {
        if (n->kind == CONFIG_MAPPING && !n->known[i]) {
            enum err err =
                complain(n, n->children[i]->line, n->keys[i], ret_failure, "is not a known key");
            if (n->asked[0] != '\0') {
                failure_remedy(ret_failure, "correct it; known here: %s", n->asked);
            }
            return err;
        }
        enum err err = check_node(n->children[i], ret_failure);
        if (err != OK) {
            return err;
        }
    }
    return OK;
}

enum err config_check_unknown(struct config *c, struct failure *ret_failure) {
    return check_node(c->root, ret_failure);
}
