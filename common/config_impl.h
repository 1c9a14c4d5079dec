// SPDX-License-Identifier: Apache-2.0
// The tree behind common/config.h: made by config_parse.c, asked by config.c.
#ifndef COMMON_CONFIG_IMPL_H
#define COMMON_CONFIG_IMPL_H

#include "common/config.h"

#include <stdbool.h>
#include <stddef.h>

enum config_kind { CONFIG_TEXT, CONFIG_LIST, CONFIG_MAPPING };

struct config_node {
    struct config *config;
    enum config_kind kind;
    unsigned line; // from 1
    char *where;   // "volumes[0]"; "" for the file itself
    char *text;    // TEXT
    bool quoted;   // TEXT: a word like true or ~ then has no meaning
    // LIST: items; MAPPING: values, with their keys
    struct config_node **children;
    char **keys;
    bool *known; // MAPPING: somebody asked for it
    size_t n_children;
    char asked[200]; // MAPPING: the keys that were asked for, for messages
};

struct config {
    char *name; // of the file
    struct config_node *root;
};

void config_node_free(struct config_node *n);

#endif
