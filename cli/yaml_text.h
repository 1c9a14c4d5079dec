// SPDX-License-Identifier: Apache-2.0
// A small configuration file in YAML, written key by key; a later value replaces an earlier
// one. "a.b" is key b of the mapping a.
#ifndef CLI_YAML_TEXT_H
#define CLI_YAML_TEXT_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

struct yaml_entry {
    char *key, *value; // owned; the value as it stands in the file
};
struct yaml_text {
    struct yaml_entry *entries; // owned
    size_t n, cap;
    bool failed; // out of memory, once
};

void yaml_text_deinit(struct yaml_text *y);
void yaml_text_set(struct yaml_text *y, const char *key, const char *text); // quoted
void yaml_text_set_raw(struct yaml_text *y, const char *key, const char *value);
// "key:" followed by lines of the caller's making (a list, indented).
void yaml_text_set_block(struct yaml_text *y, const char *key, const char *lines);
// @text in double quotes, escaped; free() it. NULL: out of memory.
char *yaml_quote(const char *text);
// The file; free() it. NULL: out of memory, now or before.
char *yaml_text_end(const struct yaml_text *y);

#endif
