// SPDX-License-Identifier: Apache-2.0
// TLS between server and client, with certificates made here; and server reflection.
#define ERR_STATE openssl_err_state
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#include "common/cleanup.h"
#include "common/rpc/descriptors.h"
#include "common/rpc/rpc.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TIMEOUT_MS = 60000 };

// ---- certificates ----

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

static X509 *make_certificate(EVP_PKEY *key, const char *name, const struct authority *by) {
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), (long)(intptr_t)x & 0xffff);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *subject = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    X509_set_issuer_name(x, by != NULL ? X509_get_subject_name(by->certificate) : subject);
    X509V3_CTX context;
    X509V3_set_ctx(&context, by != NULL ? by->certificate : x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(
        NULL, &context, by == NULL ? NID_basic_constraints : NID_subject_alt_name,
        by == NULL ? "critical,CA:TRUE" : "IP:127.0.0.1,DNS:localhost");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    X509_sign(x, by != NULL ? by->key : key, EVP_sha256());
    return x;
}

static void write_pem(const char *path, X509 *certificate, EVP_PKEY *key) {
    char temp[160];
    snprintf(temp, sizeof temp, "%s.new", path);
    FILE *f = fopen(temp, "w");
    assert_non_null(f);
    if (certificate != NULL) {
        PEM_write_X509(f, certificate);
    } else {
        PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temp, path), 0);
}

static struct authority make_authority(const char *name) {
    struct authority a = {.key = EVP_EC_gen("P-256")};
    a.certificate = make_certificate(a.key, name, NULL);
    return a;
}

static void authority_free(struct authority *a) {
    EVP_PKEY_free(a->key);
    X509_free(a->certificate);
}

// ---- a place for files, and a server ----

struct fixture {
    char dir[64];
    char paths[6][128];
    struct rpc_tls server_tls, client_tls;
    struct authority authority;
    struct loop *loop;
    pthread_t thread;
    struct rpc_server *server;
    int port;
    char addr[32];
};

static void issue(const struct authority *by, const char *name, const char *certificate,
                  const char *key) {
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *x = make_certificate(k, name, by);
    write_pem(key, NULL, k);
    write_pem(certificate, x, NULL);
    X509_free(x);
    EVP_PKEY_free(k);
}

// Answers with the name in the client's certificate.
static void get_flow(struct rpc *r, const ProtobufCMessage *m) {
    Sluice__V1__Flow flow = SLUICE__V1__FLOW__INIT;
    char name[64] = "nobody";
    (void)m;
    rpc_peer_name(r, name, sizeof name);
    flow.id = name;
    rpc_send(r, &flow.base);
    rpc_finish(r, 0, NULL);
}

static const struct rpc_method get_flow_method = {.path = "/sluice.v1.FlowService/GetFlow",
                                                  .input =
                                                      &sluice__v1__get_flow_request__descriptor,
                                                  .message = get_flow};

static void *run(void *loop) {
    loop_run(loop);
    return NULL;
}

static int set_up(void **state) {
    static const char *const names[] = {"server.pem", "server.key", "ca.pem",
                                        "client.pem", "client.key", "other.pem"};
    static const char *const services[] = {"sluice.v1.FlowService", NULL};
    struct fixture *x = calloc(1, sizeof *x);
    struct failure f;
    strcpy(x->dir, "/tmp/sluice-tls-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(x->paths[i], sizeof x->paths[i], "%s/%s", x->dir, names[i]);
    }
    x->authority = make_authority("test authority");
    write_pem(x->paths[2], x->authority.certificate, NULL);
    issue(&x->authority, "the server", x->paths[0], x->paths[1]);
    issue(&x->authority, "agent-7", x->paths[3], x->paths[4]);
    x->server_tls = (struct rpc_tls){x->paths[0], x->paths[1], x->paths[2]};
    x->client_tls = (struct rpc_tls){x->paths[3], x->paths[4], x->paths[2]};
    x->loop = loop_new();
    x->server = rpc_server_new(&x->loop, 1);
    rpc_server_add(x->server, &get_flow_method, NULL);
    assert_ok(rpc_reflection_add(x->server, descriptors_bytes(), descriptors_len(), services));
    assert_ok(rpc_server_listen(x->server, "127.0.0.1:0", &x->server_tls, &x->port, &f));
    rpc_server_start(x->server);
    snprintf(x->addr, sizeof x->addr, "127.0.0.1:%d", x->port);
    assert_int_equal(pthread_create(&x->thread, NULL, run, x->loop), 0);
    *state = x;
    return 0;
}

static void drained(void *arg) {
    loop_stop(arg);
}

static int tear_down(void **state) {
    struct fixture *x = *state;
    rpc_server_drain(x->server, 0, drained, x->loop);
    pthread_join(x->thread, NULL);
    rpc_server_free(x->server);
    loop_free(x->loop);
    authority_free(&x->authority);
    for (size_t i = 0; i < ARRAY_LEN(x->paths); i++) {
        unlink(x->paths[i]);
    }
    rmdir(x->dir);
    free(x);
    return 0;
}

static enum err call(struct fixture *x, const struct rpc_tls *tls, char *ret_name,
                     struct failure *ret_failure) {
    Sluice__V1__GetFlowRequest q = SLUICE__V1__GET_FLOW_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct rpc_channel *c = rpc_channel_new(x->addr, tls);
    enum err err = rpc_unary(c, get_flow_method.path, &q.base, &sluice__v1__flow__descriptor,
                             TIMEOUT_MS, &reply, ret_failure);
    rpc_channel_free(c);
    if (err == OK) {
        strcpy(ret_name, ((Sluice__V1__Flow *)reply)->id);
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return err;
}

// ---- tests ----

static void the_server_knows_the_clients_name(void **state) {
    struct fixture *x = *state;
    struct failure f;
    char name[64];
    assert_ok(call(x, &x->client_tls, name, &f));
    assert_string_equal(name, "agent-7");
}

static void a_client_without_a_certificate_is_refused(void **state) {
    struct fixture *x = *state;
    const struct rpc_tls none = {.ca = x->paths[2]};
    struct failure f;
    char name[64];
    assert_err(call(x, &none, name, &f), ERR_UNREACHABLE);
}

static void a_client_of_another_authority_is_refused(void **state) {
    struct fixture *x = *state;
    struct failure f;
    char name[64];
    struct authority other = make_authority("another authority");
    issue(&other, "agent-7", x->paths[3], x->paths[4]);
    assert_err(call(x, &x->client_tls, name, &f), ERR_UNREACHABLE);
    authority_free(&other);
}

static void a_plaintext_client_is_refused(void **state) {
    struct fixture *x = *state;
    struct failure f;
    char name[64];
    assert_err(call(x, NULL, name, &f), ERR_UNREACHABLE);
}

static void new_certificates_count_for_new_connections(void **state) {
    struct fixture *x = *state;
    struct failure f;
    char name[64];
    assert_ok(call(x, &x->client_tls, name, &f));
    struct authority next = make_authority("next authority");
    write_pem(x->paths[2], next.certificate, NULL);
    issue(&next, "the server", x->paths[0], x->paths[1]);
    assert_err(call(x, &x->client_tls, name, &f), ERR_UNREACHABLE); // the client's is old
    issue(&next, "agent-8", x->paths[3], x->paths[4]);
    assert_ok(call(x, &x->client_tls, name, &f));
    assert_string_equal(name, "agent-8");
    authority_free(&next);
}

static void unusable_files_are_named(void **state) {
    struct fixture *x = *state;
    struct failure f;
    int port = 0;
    assert_ok(rpc_tls_check(&x->server_tls, &f));
    const struct rpc_tls mixed = {x->paths[0], x->paths[4], x->paths[2]};
    assert_err(rpc_server_listen(x->server, "127.0.0.1:0", &mixed, &port, &f), ERR_CONFIG);
    assert_memory_equal(f.object, mixed.key, strlen(mixed.key));
    const struct rpc_tls missing = {x->paths[0], x->paths[1], x->paths[5]};
    assert_err(rpc_tls_check(&missing, &f), ERR_NOT_FOUND);
    assert_memory_equal(f.object, missing.ca, strlen(missing.ca));
    const struct rpc_tls not_a_key = {x->paths[0], x->paths[2], x->paths[2]};
    assert_err(rpc_tls_check(&not_a_key, &f), ERR_CONFIG);
}

// ---- reflection ----

typedef Grpc__Reflection__V1__ServerReflectionRequest Question;
typedef Grpc__Reflection__V1__ServerReflectionResponse Answer;

struct asker {
    struct loop *loop;
    size_t n_services, n_files;
    bool found_flow_service;
    int error_code, code;
};

static void answered(struct rpc *r, const ProtobufCMessage *m) {
    struct asker *a = rpc_user(r);
    const Answer *answer = (const Answer *)m;
    switch (answer->message_response_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
        a->n_services = answer->list_services_response->n_service;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE: {
        const ProtobufCBinaryData *raw = answer->file_descriptor_response->file_descriptor_proto;
        a->n_files = answer->file_descriptor_response->n_file_descriptor_proto;
        Google__Protobuf__FileDescriptorProto *f =
            google__protobuf__file_descriptor_proto__unpack(NULL, raw->len, raw->data);
        a->found_flow_service = strcmp(f->service[0]->name, "FlowService") == 0;
        google__protobuf__file_descriptor_proto__free_unpacked(f, NULL);
        break;
    }
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
        a->error_code = answer->error_response->error_code;
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE:
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE__NOT_SET:
    default: fail();
    }
}

static void answers_ended(struct rpc *r, const struct rpc_status *s) {
    struct asker *a = rpc_user(r);
    a->code = s->code;
    loop_stop(a->loop);
}

static void ask(struct rpc *r, int what, const char *text) {
    Question q = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    q.message_request_case =
        (Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)what;
    q.list_services = (char *)(uintptr_t)text; // one of a union of texts
    assert_true(rpc_send(r, &q.base));
}

static void reflection_describes_the_services(void **state) {
    static const char *const versions[] = {"v1", "v1alpha"};
    struct fixture *x = *state;
    struct rpc_channel *c = rpc_channel_new(x->addr, &x->client_tls);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        char path[96];
        struct asker a = {.loop = loop_new()};
        snprintf(path, sizeof path, "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo",
                 versions[i]);
        const struct rpc_method m = {
            .path = path,
            .input = &grpc__reflection__v1__server_reflection_response__descriptor,
            .input_stream = true,
            .message = answered,
            .closed = answers_ended};
        struct rpc *r = rpc_call(a.loop, c, &m, TIMEOUT_MS, true, &a);
        ask(r, GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES, "");
        ask(r,
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL,
            "sluice.v1.FlowService.SubmitFlow");
        ask(r, GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME,
            "no/such.proto");
        rpc_half_close(r);
        loop_run(a.loop);
        loop_free(a.loop);
        assert_int_equal(a.code, 0);
        assert_int_equal(a.n_services, 3);
        assert_int_equal(a.n_files, 2);
        assert_true(a.found_flow_service);
        assert_int_equal(a.error_code, 5);
    }
    rpc_channel_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_server_knows_the_clients_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_without_a_certificate_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_client_of_another_authority_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_plaintext_client_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_certificates_count_for_new_connections, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(unusable_files_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reflection_describes_the_services, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
