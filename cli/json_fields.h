// SPDX-License-Identifier: Apache-2.0
// A JSON object under construction. The setters remember a failure, so that a long list of
// fields stays a list.
#ifndef CLI_JSON_FIELDS_H
#define CLI_JSON_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct fields {
    json_t *object;
    bool failed;
};

struct fields fields_begin(void);
// The object; NULL if memory ran out anywhere.
json_t *fields_end(struct fields *f);

void fields_set(struct fields *f, const char *key, json_t *take_value); // NULL counts as a failure
void fields_u64(struct fields *f, const char *key, uint64_t value);
void fields_text(struct fields *f, const char *key, const char *text); // need not be UTF-8
// Empty in proto3 is null in our JSON where it stands for "nothing".
void fields_text_or_null(struct fields *f, const char *key, const char *text);
void fields_time(struct fields *f, const char *key, int64_t ms); // RFC 3339; 0: null
// Arbitrary bytes: see byte_text_to_json().
void fields_bytes(struct fields *f, const char *key, const char *key_b64, const void *bytes,
                  size_t len);
void fields_append(struct fields *f, json_t *array, json_t *take_value);

#endif
