// SPDX-License-Identifier: Apache-2.0
// Configuration files in YAML (libyaml). Every error names the file, the line and the key.
//
// A file is a mapping. The getters mark a key as known; config_check_unknown() then refuses
// what nobody asked for, so that a misspelt key is never silently ignored. Not thread-safe.
// All texts belong to the config.
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include "common/err.h"
#include "common/failure.h"

#include <stdint.h>

struct config;      // a file
struct config_node; // a mapping in it: the file itself, or an item of a list

MUST_CHECK enum err config_load(const char *path, struct config **ret_config,
                                struct failure *ret_failure);
// The same from memory; @name stands for the file in messages.
MUST_CHECK enum err config_parse(const char *name, const char *text, size_t len,
                                 struct config **ret_config, struct failure *ret_failure);
void config_free(struct config *c);
struct config_node *config_root(struct config *c);

// Each leaves *@ret_value as it is (so set the default before) if the key is absent.
// ERR_CONFIG: of the wrong kind or out of range; the failure says where and what is allowed.
MUST_CHECK enum err config_string(struct config_node *n, const char *key, const char **ret_value,
                                  struct failure *ret_failure);
MUST_CHECK enum err config_bool(struct config_node *n, const char *key, bool *ret_value,
                                struct failure *ret_failure);
// Accepts suffixes KiB, MiB, GiB, TiB (bytes) and ms, s, min, h (milliseconds).
MUST_CHECK enum err config_u64(struct config_node *n, const char *key, uint64_t min, uint64_t max,
                               uint64_t *ret_value, struct failure *ret_failure);
// A nested mapping; *@ret_node is NULL if the key is absent.
MUST_CHECK enum err config_mapping(struct config_node *n, const char *key,
                                   struct config_node **ret_node, struct failure *ret_failure);
// The items of a list of mappings, or of strings. @index from 0; ERR_NOT_FOUND past the end
// (also if the key is absent).
MUST_CHECK enum err config_item(struct config_node *n, const char *key, size_t index,
                                struct config_node **ret_node, struct failure *ret_failure);
MUST_CHECK enum err config_item_string(struct config_node *n, const char *key, size_t index,
                                       const char **ret_value, struct failure *ret_failure);
// A text, or a list of texts, which then are joined by commas.
MUST_CHECK enum err config_joined(struct config_node *n, const char *key, const char **ret_value,
                                  struct failure *ret_failure);
// For keys that must be there: fails with ERR_CONFIG, naming the mapping's line.
MUST_CHECK enum err config_require(struct config_node *n, const char *key,
                                   struct failure *ret_failure);
// A complaint about a value that only the caller could judge.
enum err config_complain(struct config_node *n, const char *key, struct failure *ret_failure,
                         const char *fmt, ...) PRINTF_LIKE(4, 5);
MUST_CHECK enum err config_check_unknown(struct config *c, struct failure *ret_failure);

#endif
