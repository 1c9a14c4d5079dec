// SPDX-License-Identifier: Apache-2.0
// Server reflection: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
// v1 and v1alpha differ in the name of their package only, so one implementation serves both.
// Files are answered byte for byte as protoc wrote them.
#include "common/rpc/rpc.h"

#include "common/cleanup.h"
#include "common/rpc/rpc_impl.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef Google__Protobuf__FileDescriptorProto File;
typedef Google__Protobuf__DescriptorProto Message;
typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;

enum { FILES_MAX = 64, SERVICES_MAX = 64 };

struct described_file {
    File *parsed;
    ProtobufCBinaryData packed; // within the set
};

struct reflection {
    struct described_file files[FILES_MAX];
    size_t n_files;
    const char *services[SERVICES_MAX];
    size_t n_services;
};

static void reflection_free(void *arg) {
    struct reflection *d = arg;
    for (size_t i = 0; d != NULL && i < d->n_files; i++) {
        google__protobuf__file_descriptor_proto__free_unpacked(d->files[i].parsed, NULL);
    }
    free(d);
}

// ---- the set ----

// A FileDescriptorSet is a sequence of field 1, each one file.
static enum err load(struct reflection *d, const uint8_t *p, size_t len) {
    const uint8_t *end = p + len;
    while (p < end) {
        size_t n = 0;
        unsigned shift = 0;
        if (*p++ != 0x0a || d->n_files == FILES_MAX) {
            return ERR_INVALID;
        }
        do {
            if (p == end || shift > 28) {
                return ERR_INVALID;
            }
            n |= (size_t)(*p & 0x7f) << shift;
            shift += 7;
        } while ((*p++ & 0x80) != 0);
        if (n > (size_t)(end - p)) {
            return ERR_INVALID;
        }
        File *f = google__protobuf__file_descriptor_proto__unpack(NULL, n, p);
        if (f == NULL || f->name == NULL) {
            google__protobuf__file_descriptor_proto__free_unpacked(f, NULL);
            return ERR_INVALID;
        }
        d->files[d->n_files++] = (struct described_file){
            .parsed = f, .packed = {.len = n, .data = (uint8_t *)(uintptr_t)p}};
        p += n;
    }
    return OK;
}

// If @name begins with @part and ends there or goes on with a dot: what follows; else NULL.
static const char *after(const char *name, const char *part) {
    size_t n = part != NULL ? strlen(part) : 0;
    if (n == 0 || strncmp(name, part, n) != 0) {
        return NULL;
    }
    return name[n] == '.' ? name + n + 1 : name[n] == '\0' ? name + n : NULL;
}

static bool message_declares(const Message *m, const char *name) {
    const char *rest = after(name, m->name);
    if (rest == NULL || *rest == '\0') {
        return rest != NULL;
    }
    for (size_t i = 0; i < m->n_nested_type; i++) {
        if (message_declares(m->nested_type[i], rest)) {
            return true;
        }
    }
    for (size_t i = 0; i < m->n_enum_type; i++) {
        if (strcmp(m->enum_type[i]->name, rest) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < m->n_field; i++) {
        if (strcmp(m->field[i]->name, rest) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < m->n_oneof_decl; i++) {
        if (strcmp(m->oneof_decl[i]->name, rest) == 0) {
            return true;
        }
    }
    return false;
}

static bool service_declares(const Google__Protobuf__ServiceDescriptorProto *s, const char *name) {
    const char *rest = after(name, s->name);
    if (rest == NULL || *rest == '\0') {
        return rest != NULL;
    }
    for (size_t i = 0; i < s->n_method; i++) {
        if (strcmp(s->method[i]->name, rest) == 0) {
            return true;
        }
    }
    return false;
}

static bool file_declares(const File *f, const char *name) {
    bool has_package = f->package != NULL && f->package[0] != '\0';
    const char *rest = has_package ? after(name, f->package) : name;
    if (rest == NULL || *rest == '\0') {
        return false;
    }
    for (size_t i = 0; i < f->n_message_type; i++) {
        if (message_declares(f->message_type[i], rest)) {
            return true;
        }
    }
    for (size_t i = 0; i < f->n_enum_type; i++) {
        if (strcmp(f->enum_type[i]->name, rest) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < f->n_service; i++) {
        if (service_declares(f->service[i], rest)) {
            return true;
        }
    }
    return false;
}

// Index of the file with this name; n_files: none.
static size_t file_named(const struct reflection *d, const char *name) {
    size_t i = 0;
    while (i < d->n_files && strcmp(d->files[i].parsed->name, name) != 0) {
        i++;
    }
    return i;
}

static size_t file_declaring(const struct reflection *d, const char *symbol) {
    size_t i = 0;
    while (i < d->n_files && !file_declares(d->files[i].parsed, symbol)) {
        i++;
    }
    return i;
}

static void with_imports(const struct reflection *d, size_t i, bool seen[FILES_MAX],
                         ProtobufCBinaryData *out, size_t *n) {
    if (i == d->n_files || seen[i]) {
        return;
    }
    seen[i] = true;
    out[(*n)++] = d->files[i].packed;
    const File *f = d->files[i].parsed;
    for (size_t k = 0; k < f->n_dependency; k++) {
        with_imports(d, file_named(d, f->dependency[k]), seen, out, n);
    }
}

// ---- answers ----

static Response response_to(const Request *q) {
    Response a = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    a.valid_host = q->host;
    a.original_request = (Request *)(uintptr_t)q;
    return a;
}

static void answer_services(struct rpc *r, const struct reflection *d, const Request *q) {
    Response a = response_to(q);
    Grpc__Reflection__V1__ListServiceResponse list =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse items[SERVICES_MAX], *pointers[SERVICES_MAX];
    for (size_t i = 0; i < d->n_services; i++) {
        grpc__reflection__v1__service_response__init(&items[i]);
        items[i].name = (char *)(uintptr_t)d->services[i];
        pointers[i] = &items[i];
    }
    list.service = pointers;
    list.n_service = d->n_services;
    a.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    a.list_services_response = &list;
    rpc_send(r, &a.base);
}

// @file n_files: there is no such file.
static void answer_file(struct rpc *r, const struct reflection *d, const Request *q, size_t file) {
    Response a = response_to(q);
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    ProtobufCBinaryData packed[FILES_MAX];
    bool seen[FILES_MAX] = {false};
    if (file < d->n_files) {
        with_imports(d, file, seen, packed, &files.n_file_descriptor_proto);
        files.file_descriptor_proto = packed;
        a.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
        a.file_descriptor_response = &files;
    } else {
        error.error_code = GRPC_STATUS_NOT_FOUND;
        error.error_message = (char *)(uintptr_t) "not found";
        a.message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
        a.error_response = &error;
    }
    rpc_send(r, &a.base);
}

static void answer(struct rpc *r, const ProtobufCMessage *m) {
    const struct reflection *d = rpc_server_user(r);
    const Request *q = (const Request *)m;
    // Other kinds of question are about extensions, which we have none of.
    if (q->message_request_case ==
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES) {
        answer_services(r, d, q);
    } else if (q->message_request_case ==
               GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME) {
        answer_file(r, d, q, file_named(d, q->file_by_filename));
    } else if (
        q->message_request_case ==
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL) {
        answer_file(r, d, q, file_declaring(d, q->file_containing_symbol));
    } else {
        answer_file(r, d, q, d->n_files);
    }
    enum { QUEUED_MAX = 16 }; // a client that asks and does not read
    if (rpc_queued_messages(r) > QUEUED_MAX) {
        rpc_pause(r, true);
    }
}

static void go_on(struct rpc *r) {
    rpc_pause(r, false);
}

static void asked_all(struct rpc *r) {
    rpc_finish(r, GRPC_STATUS_OK, NULL);
}

static const char *const own_services[] = {
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
};

static const struct rpc_method methods[] = {
    {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
     .input = &grpc__reflection__v1__server_reflection_request__descriptor,
     .input_stream = true,
     .message = answer,
     .writable = go_on,
     .half_closed = asked_all},
    {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
     .input = &grpc__reflection__v1__server_reflection_request__descriptor,
     .input_stream = true,
     .message = answer,
     .writable = go_on,
     .half_closed = asked_all},
};

enum err rpc_reflection_add(struct rpc_server *s, const void *descriptor_set, size_t len,
                            const char *const *services) {
    struct reflection *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = load(d, descriptor_set, len);
    for (; err == OK && *services != NULL; services++) {
        if (d->n_services + ARRAY_LEN(own_services) == SERVICES_MAX) {
            err = ERR_FULL;
        } else {
            d->services[d->n_services++] = *services;
        }
    }
    if (err == OK && !rpc_server_at_free(s, reflection_free, d)) {
        err = ERR_NO_MEMORY;
    }
    if (err != OK) {
        reflection_free(d);
        return err;
    }
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        d->services[d->n_services++] = own_services[i];
        rpc_server_add(s, &methods[i], d);
    }
    return OK;
}
