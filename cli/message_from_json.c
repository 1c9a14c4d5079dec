// SPDX-License-Identifier: Apache-2.0
#include "cli/message_from_json.h"

#include "cli/location_message.h"
#include "common/base64.h"
#include "sluice/v1/types.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PLACE_MAX = 160 };

static enum err complain(struct failure *f, const char *place, const char *why) {
    enum err e = failure_set(f, ERR_INVALID, "read", place, strlen(place), "%s", why);
    failure_remedy(f, "correct it; the fields are those of FlowSpec in docs/cli.md");
    return e;
}

static enum err no_memory(struct failure *f, const char *place) {
    return failure_set(f, ERR_NO_MEMORY, "read", place, strlen(place), NULL);
}

static enum err read_integer(const json_t *json, int64_t min, uint64_t max, const char *place,
                             int64_t *ret, struct failure *f) {
    json_int_t v = json_integer_value(json);
    if (!json_is_integer(json) || v < min || (v > 0 && (uint64_t)v > max)) {
        char why[96];
        snprintf(why, sizeof(why), "it must be a whole number from %lld to %llu", (long long)min,
                 (unsigned long long)max);
        return complain(f, place, why);
    }
    *ret = v;
    return OK;
}

static enum err read_enum(const json_t *json, const ProtobufCEnumDescriptor *descriptor,
                          const char *place, int *ret, struct failure *f) {
    const char *text = json_string_value(json);
    for (unsigned i = 0; text && i < descriptor->n_values; i++) {
        if (strcasecmp(text, descriptor->values[i].name) == 0) {
            *ret = descriptor->values[i].value;
            return OK;
        }
    }
    char why[FAILURE_TEXT_MAX] = "it must be one of";
    for (unsigned i = 1; i < descriptor->n_values; i++) {
        size_t len = strlen(why);
        snprintf(why + len, sizeof(why) - len, "%s %s", i > 1 ? "," : "",
                 descriptor->values[i].name);
    }
    return complain(f, place, why);
}

static enum err read_string(const json_t *json, const char *place, char **ret, struct failure *f) {
    if (!json_is_string(json) || strlen(json_string_value(json)) != json_string_length(json)) {
        return complain(f, place, "it must be a text without NUL");
    }
    *ret = strdup(json_string_value(json));
    return *ret ? OK : no_memory(f, place);
}

static enum err read_bytes(const json_t *json, const char *place, ProtobufCBinaryData *ret,
                           struct failure *f) {
    const json_t *b64 = json_object_size(json) == 1 ? json_object_get(json, "b64") : NULL;
    const json_t *text = b64 ? b64 : json;
    if (!json_is_string(text)) {
        return complain(f, place, "it must be a text, or {\"b64\": \"…\"}");
    }
    size_t len = json_string_length(text);
    uint8_t *bytes = malloc(len + 1);
    if (!bytes) {
        return no_memory(f, place);
    }
    if (!b64) {
        memcpy(bytes, json_string_value(text), len);
    } else if (base64_decode(json_string_value(text), len, bytes, &len) != OK) {
        free(bytes);
        return complain(f, place, "it is not base 64");
    }
    ret->data = bytes;
    ret->len = len;
    return OK;
}

static enum err read_submessage(const json_t *json, const ProtobufCMessageDescriptor *descriptor,
                                const char *place, ProtobufCMessage **ret, struct failure *f) {
    if (descriptor == &sluice__v1__location__descriptor && json_is_string(json)) {
        Sluice__V1__Location *location;
        enum err e =
            location_message_parse(json_string_value(json), json_string_length(json), &location, f);
        if (!e) {
            *ret = &location->base;
        }
        return e;
    }
    return message_from_json(json, descriptor, place, ret, f);
}

// Writes one value of @field to @member. Pointers are written only on success.
static enum err read_value(const json_t *json, const ProtobufCFieldDescriptor *field,
                           const char *place, void *member, struct failure *f) {
    int64_t v = 0;
    enum err e = OK;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        e = read_integer(json, INT32_MIN, INT32_MAX, place, &v, f);
        *(int32_t *)member = (int32_t)v;
        return e;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        e = read_integer(json, 0, UINT32_MAX, place, &v, f);
        *(uint32_t *)member = (uint32_t)v;
        return e;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: {
        bool is_signed =
            field->type != PROTOBUF_C_TYPE_UINT64 && field->type != PROTOBUF_C_TYPE_FIXED64;
        e = read_integer(json, is_signed ? INT64_MIN : 0, INT64_MAX, place, &v, f);
        *(int64_t *)member = v;
        return e;
    }
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)member = json_is_true(json);
        return json_is_boolean(json) ? OK : complain(f, place, "it must be true or false");
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)member = (float)json_number_value(json);
        return json_is_number(json) ? OK : complain(f, place, "it must be a number");
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)member = json_number_value(json);
        return json_is_number(json) ? OK : complain(f, place, "it must be a number");
    case PROTOBUF_C_TYPE_ENUM: return read_enum(json, field->descriptor, place, member, f);
    case PROTOBUF_C_TYPE_STRING: return read_string(json, place, member, f);
    case PROTOBUF_C_TYPE_BYTES: return read_bytes(json, place, member, f);
    case PROTOBUF_C_TYPE_MESSAGE: return read_submessage(json, field->descriptor, place, member, f);
    default: return complain(f, place, "it is of a kind that cannot be read");
    }
}

static size_t value_bytes(const ProtobufCFieldDescriptor *field) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return 4;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM: return sizeof(int);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: break;
    }
    return sizeof(void *);
}

// {"a": "b"} as [{"key": "a", "value": "b"}]. A new reference; NULL: out of memory.
static json_t *labels_as_list(const json_t *object) {
    json_t *list = json_array();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        json_t *label = json_pack("{s:s,s:O}", "key", key, "value", value);
        if (!label || json_array_append_new(list, label)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static enum err read_list(const json_t *json, const ProtobufCFieldDescriptor *field,
                          const char *place, ProtobufCMessage *m, struct failure *f) {
    if (!json_is_array(json)) {
        return complain(f, place, "it must be a list");
    }
    size_t n = json_array_size(json), size = value_bytes(field);
    char *items = calloc(n > 0 ? n : 1, size);
    if (!items) {
        return no_memory(f, place);
    }
    // Owned by the message from now on: its count follows what is filled in.
    size_t *count = (size_t *)(void *)((char *)m + field->quantifier_offset);
    *(char **)(void *)((char *)m + field->offset) = items;
    if (n == 0) {
        free(items);
        *(char **)(void *)((char *)m + field->offset) = NULL;
    }
    for (size_t i = 0; i < n; i++) {
        char item_place[PLACE_MAX];
        snprintf(item_place, sizeof(item_place), "%s[%zu]", place, i);
        enum err e = read_value(json_array_get(json, i), field, item_place, items + i * size, f);
        if (e) {
            if (i == 0) {
                free(items);
                *(char **)(void *)((char *)m + field->offset) = NULL;
            }
            return e;
        }
        *count = i + 1;
    }
    return OK;
}

static enum err read_field(const json_t *json, const ProtobufCFieldDescriptor *field,
                           const char *place, ProtobufCMessage *m, struct failure *f) {
    if (json_is_null(json)) {
        return OK;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (field->descriptor != &sluice__v1__label__descriptor || !json_is_object(json)) {
            return read_list(json, field, place, m, f);
        }
        json_t *list = labels_as_list(json);
        enum err e = list ? read_list(list, field, place, m, f) : no_memory(f, place);
        json_decref(list);
        return e;
    }
    int *which = NULL;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        which = (int *)(void *)((char *)m + field->quantifier_offset);
        if (*which != 0) {
            return complain(f, place, "only one of these may be given");
        }
    }
    enum err e = read_value(json, field, place, (char *)m + field->offset, f);
    if (!e && which) {
        *which = (int)field->id;
    }
    return e;
}

enum err message_from_json(const json_t *json, const ProtobufCMessageDescriptor *descriptor,
                           const char *place, ProtobufCMessage **ret_message,
                           struct failure *ret_failure) {
    if (!json_is_object(json)) {
        return complain(ret_failure, *place ? place : "the file", "it must be an object");
    }
    ProtobufCMessage *m = malloc(descriptor->sizeof_message);
    if (!m) {
        return no_memory(ret_failure, place);
    }
    protobuf_c_message_init(descriptor, m);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        char field_place[PLACE_MAX];
        snprintf(field_place, sizeof(field_place), "%s%s%s", place, *place ? "." : "", key);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(descriptor, key);
        enum err e = field ? read_field(value, field, field_place, m, ret_failure)
                           : complain(ret_failure, field_place, "there is no such field");
        if (e) {
            protobuf_c_message_free_unpacked(m, NULL);
            return e;
        }
    }
    *ret_message = m;
    return OK;
}
