// SPDX-License-Identifier: Apache-2.0
#include "dataplane/object_properties.h"

#include <stdlib.h>
#include <string.h>

enum err object_properties_add(struct object_properties *p, const char *name, const char *value) {
    size_t name_size = strlen(name) + 1, value_size = strlen(value) + 1;
    size_t need = p->len + name_size + value_size;
    if (p->n >= OBJECT_PROPERTIES_MAX || need > OBJECT_PROPERTIES_MAX_BYTES) {
        return ERR_FULL;
    }
    if (need > p->cap) {
        size_t cap = need * 2;
        char *grown = realloc(p->text, cap);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        p->text = grown;
        p->cap = cap;
    }
    memcpy(p->text + p->len, name, name_size);
    memcpy(p->text + p->len + name_size, value, value_size);
    p->len = need;
    p->n++;
    return OK;
}

void object_properties_at(const struct object_properties *p, size_t index, const char **ret_name,
                          const char **ret_value) {
    const char *at = p->text;
    for (size_t i = 0; i < index; i++) {
        at += strlen(at) + 1;
        at += strlen(at) + 1;
    }
    *ret_name = at;
    *ret_value = at + strlen(at) + 1;
}

const char *object_properties_get(const struct object_properties *p, const char *name) {
    const char *at = p->text;
    for (size_t i = 0; i < p->n; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0) {
            return value;
        }
        at = value + strlen(value) + 1;
    }
    return NULL;
}

void object_properties_reset(struct object_properties *p) {
    p->len = p->n = 0;
}

void object_properties_deinit(struct object_properties *p) {
    free(p->text);
    *p = (struct object_properties){0};
}
