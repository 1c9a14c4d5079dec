// SPDX-License-Identifier: Apache-2.0
#include "cli/yaml_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void yaml_text_deinit(struct yaml_text *y) {
    for (size_t i = 0; i < y->n; i++) {
        free(y->entries[i].key);
        free(y->entries[i].value);
    }
    free(y->entries);
    *y = (struct yaml_text){0};
}

static struct yaml_entry *find(struct yaml_text *y, const char *key) {
    for (size_t i = 0; i < y->n; i++) {
        if (strcmp(y->entries[i].key, key) == 0) {
            return &y->entries[i];
        }
    }
    if (y->n == y->cap) {
        size_t cap = y->cap ? 2 * y->cap : 16;
        struct yaml_entry *grown = realloc(y->entries, cap * sizeof(*grown));
        if (!grown) {
            return NULL;
        }
        y->entries = grown;
        y->cap = cap;
    }
    char *copy = strdup(key);
    if (!copy) {
        return NULL;
    }
    y->entries[y->n] = (struct yaml_entry){.key = copy};
    return &y->entries[y->n++];
}

static void set(struct yaml_text *y, const char *key, char *take_value) {
    struct yaml_entry *entry = take_value ? find(y, key) : NULL;
    if (!entry) {
        free(take_value);
        y->failed = true;
        return;
    }
    free(entry->value);
    entry->value = take_value;
}

char *yaml_quote(const char *text) {
    char *quoted = malloc(4 * strlen(text) + 3);
    if (!quoted) {
        return NULL;
    }
    char *out = quoted;
    *out++ = '"';
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            *out++ = '\\';
            *out++ = *p;
        } else if ((unsigned char)*p < 0x20 || *p == 0x7F) {
            out += sprintf(out, "\\x%02x", (unsigned)*p);
        } else {
            *out++ = *p;
        }
    }
    *out++ = '"';
    *out = '\0';
    return quoted;
}

void yaml_text_set(struct yaml_text *y, const char *key, const char *text) {
    set(y, key, yaml_quote(text));
}

void yaml_text_set_raw(struct yaml_text *y, const char *key, const char *value) {
    set(y, key, strdup(value));
}

void yaml_text_set_block(struct yaml_text *y, const char *key, const char *lines) {
    char *value;
    set(y, key, asprintf(&value, "\n%s", lines) < 0 ? NULL : value);
}

// The length of "a." in "a.b"; 0: the key is in no mapping.
static size_t prefix_len(const char *key) {
    const char *dot = strchr(key, '.');
    return dot ? (size_t)(dot - key) + 1 : 0;
}

// Is an earlier entry of the same mapping there, which has written this one, too?
static bool is_written(const struct yaml_text *y, size_t index) {
    size_t len = prefix_len(y->entries[index].key);
    for (size_t i = 0; len > 0 && i < index; i++) {
        if (strncmp(y->entries[i].key, y->entries[index].key, len) == 0) {
            return true;
        }
    }
    return false;
}

char *yaml_text_end(const struct yaml_text *y) {
    char *text = NULL;
    size_t size;
    FILE *out = y->failed ? NULL : open_memstream(&text, &size);
    if (!out) {
        return NULL;
    }
    for (size_t i = 0; i < y->n; i++) {
        const char *key = y->entries[i].key;
        size_t len = prefix_len(key);
        if (len == 0) {
            fprintf(out, "%s: %s\n", key, y->entries[i].value);
        } else if (!is_written(y, i)) {
            fprintf(out, "%.*s:\n", (int)len - 1, key);
            for (size_t k = i; k < y->n; k++) {
                if (strncmp(y->entries[k].key, key, len) == 0) {
                    fprintf(out, "  %s: %s\n", y->entries[k].key + len, y->entries[k].value);
                }
            }
        }
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
