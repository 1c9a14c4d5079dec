// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/message_json.h"

#include "common/base64.h"
#include "common/cleanup.h"
#include "common/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A text that need not be UTF-8, as protobuf-c does not check it.
static json_t *text_to_json(const char *text) {
    size_t n = strlen(text), used = 0;
    if (utf8_is_valid(text, n)) {
        return json_stringn(text, n);
    }
    AUTO(auto_free) char *lossy = malloc(3 * n + 1);
    if (lossy == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n;) {
        size_t len = utf8_char_bytes(text + i, n - i);
        memcpy(lossy + used, len > 0 ? text + i : "\xef\xbf\xbd", len > 0 ? len : 3);
        used += len > 0 ? len : 3;
        i += len > 0 ? len : 1;
    }
    return json_stringn(lossy, used);
}

static json_t *bytes_to_json(const ProtobufCBinaryData *b) {
    if (b->len == 0 || utf8_is_valid(b->data, b->len)) {
        return json_stringn(b->len > 0 ? (const char *)b->data : "", b->len);
    }
    AUTO(auto_free) char *b64 = malloc(BASE64_LEN(b->len) + 1);
    if (b64 == NULL) {
        return NULL;
    }
    base64_encode(b->data, b->len, b64);
    return json_pack("{s:s}", "b64", b64);
}

// STARTED for the value FLOW_STATE_STARTED of the enum FlowState; other names as they are.
static const char *without_prefix(const char *name, const char *enum_name) {
    const char *at = name;
    for (const char *t = enum_name; *t != '\0'; t++) {
        if (t != enum_name && isupper((unsigned char)*t) && *at++ != '_') {
            return name;
        }
        if (*at++ != (char)toupper((unsigned char)*t)) {
            return name;
        }
    }
    return *at == '_' ? at + 1 : name;
}

// FLOW_STATE_UNSPECIFIED of FlowState is "unspecified", STARTED is "started".
static json_t *enum_to_json(const ProtobufCEnumDescriptor *d, int value) {
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);
    char text[96];
    size_t n = 0;
    if (v == NULL) {
        return json_integer(value);
    }
    const char *name = without_prefix(v->name, d->short_name);
    for (; name[n] != '\0' && n + 1 < sizeof text; n++) {
        text[n] = (char)tolower((unsigned char)name[n]);
    }
    return json_stringn(text, n);
}

static json_t *unsigned_to_json(uint64_t v) {
    return v <= INT64_MAX ? json_integer((json_int_t)v) : json_real((double)v);
}

static json_t *value_to_json(const ProtobufCFieldDescriptor *d, const void *p) {
    switch (d->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return json_integer(*(const int32_t *)p);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return json_integer(*(const uint32_t *)p);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return json_integer(*(const int64_t *)p);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return unsigned_to_json(*(const uint64_t *)p);
    case PROTOBUF_C_TYPE_FLOAT:
        return isfinite(*(const float *)p) ? json_real((double)*(const float *)p) : json_null();
    case PROTOBUF_C_TYPE_DOUBLE:
        return isfinite(*(const double *)p) ? json_real(*(const double *)p) : json_null();
    case PROTOBUF_C_TYPE_BOOL: return json_boolean(*(const protobuf_c_boolean *)p);
    case PROTOBUF_C_TYPE_ENUM: return enum_to_json(d->descriptor, *(const int *)p);
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)p;
        return text_to_json(text != NULL ? text : "");
    }
    case PROTOBUF_C_TYPE_BYTES: return bytes_to_json(p);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)p;
        return m != NULL ? message_to_json(m) : json_null();
    }
    }
    return NULL;
}

static size_t value_bytes(ProtobufCType t) {
    switch (t) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM: return sizeof(int);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    }
    return 0;
}

static json_t *list_to_json(const ProtobufCFieldDescriptor *d, const char *base) {
    size_t n = *(const size_t *)(const void *)(base + d->quantifier_offset);
    const char *items = *(const char *const *)(const void *)(base + d->offset);
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < n; i++) {
        if (json_array_append_new(list, value_to_json(d, items + i * value_bytes(d->type))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *message_to_json(const ProtobufCMessage *m) {
    const ProtobufCMessageDescriptor *d = m->descriptor;
    const char *base = (const char *)m;
    json_t *object = json_object();
    for (unsigned i = 0; object != NULL && i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        bool in_oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        if (in_oneof && *(const uint32_t *)(const void *)(base + f->quantifier_offset) != f->id) {
            continue;
        }
        json_t *value = f->label == PROTOBUF_C_LABEL_REPEATED ? list_to_json(f, base)
                                                              : value_to_json(f, base + f->offset);
        if (json_object_set_new(object, f->name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
