// SPDX-License-Identifier: Apache-2.0
#include "cli/json_fields.h"

#include "cli/byte_text.h"
#include "cli/quantity.h"

#include <stdlib.h>
#include <string.h>

struct fields fields_begin(void) {
    return (struct fields){.object = json_object()};
}

json_t *fields_end(struct fields *f) {
    if (f->failed) {
        json_decref(f->object);
        return NULL;
    }
    return f->object;
}

void fields_set(struct fields *f, const char *key, json_t *take_value) {
    f->failed |= json_object_set_new(f->object, key, take_value) != 0;
}

void fields_u64(struct fields *f, const char *key, uint64_t value) {
    fields_set(f, key, json_integer((json_int_t)value));
}

void fields_text(struct fields *f, const char *key, const char *text) {
    char *lossy = byte_text_lossy(text, strlen(text));
    fields_set(f, key, lossy ? json_string(lossy) : NULL);
    free(lossy);
}

void fields_text_or_null(struct fields *f, const char *key, const char *text) {
    if (*text) {
        fields_text(f, key, text);
    } else {
        fields_set(f, key, json_null());
    }
}

void fields_time(struct fields *f, const char *key, int64_t ms) {
    char text[QUANTITY_MAX];
    quantity_format_time(ms, text);
    fields_set(f, key, ms > 0 ? json_string(text) : json_null());
}

void fields_bytes(struct fields *f, const char *key, const char *key_b64, const void *bytes,
                  size_t len) {
    f->failed |= !f->object || byte_text_to_json(f->object, key, key_b64, bytes, len) != OK;
}

void fields_append(struct fields *f, json_t *array, json_t *take_value) {
    f->failed |= json_array_append_new(array, take_value) != 0;
}
