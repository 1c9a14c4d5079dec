// SPDX-License-Identifier: Apache-2.0
#include "common/config_impl.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

enum {
    FILE_MAX_BYTES = 1 << 20,
    DEPTH_MAX = 8,
    NODES_MAX = 20000, // aliases can make a small file a large tree
};

static const char operation[] = "read the configuration";

struct conversion {
    struct config *config;
    yaml_document_t document;
    size_t n_nodes;
    struct failure *ret_failure;
};

static enum err complain(struct conversion *c, unsigned line, const char *text, const char *what) {
    return failure_set(c->ret_failure, ERR_CONFIG, operation, c->config->name,
                       strlen(c->config->name), "line %u: %s%s", line, text, what);
}

static enum err no_memory(struct conversion *c) {
    return failure_set(c->ret_failure, ERR_NO_MEMORY, operation, c->config->name,
                       strlen(c->config->name), NULL);
}

void config_node_free(struct config_node *n) {
    if (n == NULL) {
        return;
    }
    for (size_t i = 0; i < n->n_children; i++) {
        config_node_free(n->children[i]);
        if (n->keys != NULL) {
            free(n->keys[i]);
        }
    }
    free(n->children);
    free(n->keys);
    free(n->known);
    free(n->where);
    free(n->text);
    free(n);
}

static enum err convert(struct conversion *c, const yaml_node_t *y, const char *where, int depth,
                        struct config_node **ret_node);

static enum err convert_text(struct conversion *c, const yaml_node_t *y, struct config_node *n) {
    n->kind = CONFIG_TEXT;
    n->quoted = y->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    n->text = strndup((const char *)y->data.scalar.value, y->data.scalar.length);
    if (n->text == NULL) {
        return no_memory(c);
    }
    return strlen(n->text) == y->data.scalar.length ? OK
                                                    : complain(c, n->line, "a NUL in a text", "");
}

static enum err convert_list(struct conversion *c, const yaml_node_t *y, struct config_node *n,
                             int depth) {
    size_t count = (size_t)(y->data.sequence.items.top - y->data.sequence.items.start);
    n->kind = CONFIG_LIST;
    n->children = calloc(count + 1, sizeof *n->children);
    if (n->children == NULL) {
        return no_memory(c);
    }
    for (size_t i = 0; i < count; i++) {
        AUTO(auto_free) char *where = NULL;
        if (asprintf(&where, "%s[%zu]", n->where, i) < 0) {
            where = NULL;
            return no_memory(c);
        }
        yaml_node_t *item = yaml_document_get_node(&c->document, y->data.sequence.items.start[i]);
        enum err err = convert(c, item, where, depth + 1, &n->children[i]);
        if (err != OK) {
            return err;
        }
        n->n_children = i + 1;
    }
    return OK;
}

static enum err convert_pair(struct conversion *c, const yaml_node_pair_t *pair,
                             struct config_node *n, int depth) {
    yaml_node_t *key = yaml_document_get_node(&c->document, pair->key);
    yaml_node_t *value = yaml_document_get_node(&c->document, pair->value);
    unsigned line = (unsigned)key->start_mark.line + 1;
    AUTO(auto_free) char *where = NULL;
    size_t i = n->n_children;
    if (key->type != YAML_SCALAR_NODE || key->data.scalar.length == 0 ||
        strlen((const char *)key->data.scalar.value) != key->data.scalar.length) {
        return complain(c, line, "a key must be a word", "");
    }
    const char *text = (const char *)key->data.scalar.value;
    for (size_t k = 0; k < i; k++) {
        if (strcmp(n->keys[k], text) == 0) {
            return complain(c, line, text, " is given twice");
        }
    }
    if (asprintf(&where, "%s%s%s", n->where, n->where[0] != '\0' ? "." : "", text) < 0) {
        where = NULL;
        return no_memory(c);
    }
    enum err err = convert(c, value, where, depth + 1, &n->children[i]);
    if (err != OK) {
        return err;
    }
    n->n_children++;
    n->keys[i] = strdup(text);
    return n->keys[i] != NULL ? OK : no_memory(c);
}

static enum err convert_mapping(struct conversion *c, const yaml_node_t *y, struct config_node *n,
                                int depth) {
    size_t count = (size_t)(y->data.mapping.pairs.top - y->data.mapping.pairs.start);
    n->kind = CONFIG_MAPPING;
    n->children = calloc(count + 1, sizeof *n->children);
    n->keys = calloc(count + 1, sizeof *n->keys);
    n->known = calloc(count + 1, sizeof *n->known);
    if (n->children == NULL || n->keys == NULL || n->known == NULL) {
        return no_memory(c);
    }
    for (size_t i = 0; i < count; i++) {
        enum err err = convert_pair(c, &y->data.mapping.pairs.start[i], n, depth);
        if (err != OK) {
            return err;
        }
    }
    return OK;
}

static enum err convert(struct conversion *c, const yaml_node_t *y, const char *where, int depth,
                        struct config_node **ret_node) {
    unsigned line = (unsigned)y->start_mark.line + 1;
    if (depth > DEPTH_MAX || ++c->n_nodes > NODES_MAX) {
        return complain(c, line, "nested too deeply, or too large", "");
    }
    struct config_node *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return no_memory(c);
    }
    n->config = c->config;
    n->line = line;
    n->where = strdup(where);
    enum err err = n->where != NULL ? OK : no_memory(c);
    if (err == OK && y->type == YAML_SCALAR_NODE) {
        err = convert_text(c, y, n);
    } else if (err == OK && y->type == YAML_SEQUENCE_NODE) {
        err = convert_list(c, y, n, depth);
    } else if (err == OK) {
        err = convert_mapping(c, y, n, depth);
    }
    if (err != OK) {
        config_node_free(n);
        return err;
    }
    *ret_node = n;
    return OK;
}

// A file without any content is an empty mapping.
static enum err empty_root(struct conversion *c) {
    struct config_node *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return no_memory(c);
    }
    n->config = c->config;
    n->kind = CONFIG_MAPPING;
    n->line = 1;
    n->where = strdup("");
    c->config->root = n;
    return n->where != NULL ? OK : no_memory(c);
}

static enum err parser_complaint(struct conversion *c, const yaml_parser_t *p) {
    if (p->error == YAML_MEMORY_ERROR) {
        return no_memory(c);
    }
    return complain(c, (unsigned)p->problem_mark.line + 1,
                    "not YAML: ", p->problem != NULL ? p->problem : "");
}

static enum err parse(struct conversion *c, yaml_parser_t *p) {
    if (!yaml_parser_load(p, &c->document)) {
        return parser_complaint(c, p);
    }
    yaml_node_t *root = yaml_document_get_root_node(&c->document);
    enum err err;
    if (root == NULL || (root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0)) {
        err = empty_root(c);
    } else if (root->type != YAML_MAPPING_NODE) {
        err = complain(c, (unsigned)root->start_mark.line + 1,
                       "the file must be a mapping of keys to values", "");
    } else {
        err = convert(c, root, "", 0, &c->config->root);
    }
    bool more = root != NULL && err == OK;
    yaml_document_delete(&c->document);
    if (!more) {
        return err;
    }
    if (!yaml_parser_load(p, &c->document)) {
        return parser_complaint(c, p);
    }
    root = yaml_document_get_root_node(&c->document);
    if (root != NULL) {
        err = complain(c, (unsigned)root->start_mark.line + 1, "only one document is allowed", "");
    }
    yaml_document_delete(&c->document);
    return err;
}

enum err config_parse(const char *name, const char *text, size_t len, struct config **ret_config,
                      struct failure *ret_failure) {
    struct config *config = calloc(1, sizeof *config);
    struct conversion c = {.config = config, .ret_failure = ret_failure};
    yaml_parser_t parser;
    if (config == NULL || (config->name = strdup(name)) == NULL) {
        free(config);
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, name, strlen(name), NULL);
    }
    if (!yaml_parser_initialize(&parser)) {
        config_free(config);
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, name, strlen(name), NULL);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    enum err err = parse(&c, &parser);
    yaml_parser_delete(&parser);
    if (err != OK) {
        config_free(config);
        return err;
    }
    *ret_config = config;
    return OK;
}

enum err config_load(const char *path, struct config **ret_config, struct failure *ret_failure) {
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(auto_free) char *text = NULL;
    size_t len = 0;
    ssize_t n;
    if (fd < 0) {
        return failure_errno(ret_failure, errno, operation, path, strlen(path));
    }
    text = malloc(FILE_MAX_BYTES + 1);
    if (text == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, path, strlen(path), NULL);
    }
    while ((n = read(fd, text + len, FILE_MAX_BYTES + 1 - len)) > 0) {
        len += (size_t)n;
    }
    if (n < 0) {
        return failure_errno(ret_failure, errno, operation, path, strlen(path));
    }
    if (len > FILE_MAX_BYTES) {
        return failure_set(ret_failure, ERR_CONFIG, operation, path, strlen(path),
                           "larger than %d bytes", FILE_MAX_BYTES);
    }
    return config_parse(path, text, len, ret_config, ret_failure);
}

void config_free(struct config *c) {
    if (c != NULL) {
        config_node_free(c->root);
        free(c->name);
        free(c);
    }
}

struct config_node *config_root(struct config *c) {
    return c->root;
}
