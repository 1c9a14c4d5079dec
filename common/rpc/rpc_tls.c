// SPDX-License-Identifier: Apache-2.0
#define ERR_STATE openssl_err_state // a type of OpenSSL's that has the name of one of our errors
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#undef ERR_STATE

#include "common/rpc/rpc.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/rpc_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PEM_MAX_BYTES = 1 << 20,
    CLIENT_REFRESH_S = 10, // how often a channel looks for new files
};

// ---- files ----

static enum err read_pem(const char *path, char **ret_text, struct failure *ret_failure) {
    static const char operation[] = "read the TLS file";
    size_t len = strlen(path), used = 0;
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(auto_free) char *text = malloc(PEM_MAX_BYTES + 1);
    ssize_t n;
    if (fd < 0) {
        return failure_errno(ret_failure, errno, operation, path, len);
    }
    if (text == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, operation, path, len, NULL);
    }
    while ((n = read(fd, text + used, PEM_MAX_BYTES - used)) > 0) {
        used += (size_t)n;
    }
    if (n < 0) {
        return failure_errno(ret_failure, errno, operation, path, len);
    }
    text[used] = '\0';
    *ret_text = take_ptr(text);
    return OK;
}

struct pem_files {
    char *certificate, *key, *ca;
};

static void pem_files_deinit(struct pem_files *p) {
    free(p->certificate);
    if (p->key != NULL) {
        explicit_bzero(p->key, strlen(p->key));
        free(p->key);
    }
    free(p->ca);
    *p = (struct pem_files){0};
}

static enum err read_files(const struct rpc_tls *tls, struct pem_files *ret_files,
                           struct failure *ret_failure) {
    struct pem_files p = {0};
    enum err err =
        tls->certificate != NULL ? read_pem(tls->certificate, &p.certificate, ret_failure) : OK;
    if (err == OK && tls->key != NULL) {
        err = read_pem(tls->key, &p.key, ret_failure);
    }
    if (err == OK && tls->ca != NULL) {
        err = read_pem(tls->ca, &p.ca, ret_failure);
    }
    if (err != OK) {
        pem_files_deinit(&p);
        return err;
    }
    *ret_files = p;
    return OK;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static enum err complain(struct failure *ret_failure, const char *path, const char *what,
                         const char *remedy) {
    enum err err =
        failure_set(ret_failure, ERR_CONFIG, "use the TLS file", path, strlen(path), "%s", what);
    failure_remedy(ret_failure, "%s", remedy);
    return err;
}

static X509 *parse_certificate(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return x;
}

static EVP_PKEY *parse_key(const char *pem) {
    static char no_password[] = "";
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *k = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, no_password) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return k;
}

enum err rpc_tls_check(const struct rpc_tls *tls, struct failure *ret_failure) {
    AUTO(pem_files_deinit) struct pem_files files = {0};
    enum err err = read_files(tls, &files, ret_failure);
    if (err != OK) {
        return err;
    }
    X509 *certificate = files.certificate != NULL ? parse_certificate(files.certificate) : NULL;
    X509 *ca = files.ca != NULL ? parse_certificate(files.ca) : NULL;
    EVP_PKEY *key = files.key != NULL ? parse_key(files.key) : NULL;
    if (files.certificate != NULL && certificate == NULL) {
        err = complain(ret_failure, tls->certificate, "not a certificate in PEM",
                       "give a file with BEGIN CERTIFICATE");
    } else if (files.ca != NULL && ca == NULL) {
        err = complain(ret_failure, tls->ca, "not a certificate in PEM",
                       "give the authority's file with BEGIN CERTIFICATE");
    } else if (files.key != NULL && key == NULL) {
        err = complain(ret_failure, tls->key, "not a private key in PEM, or one with a password",
                       "give an unencrypted file with BEGIN PRIVATE KEY");
    } else if (certificate != NULL && key != NULL &&
               X509_check_private_key(certificate, key) != 1) {
        err = complain(ret_failure, tls->key, "not the key of the certificate",
                       "give the key that the certificate was made for");
    }
    ERR_clear_error();
    X509_free(certificate);
    X509_free(ca);
    EVP_PKEY_free(key);
    return err;
}

// ---- server ----

// Reads the files again for each new connection. gRPC calls it under a lock of its own.
struct reloader {
    struct rpc_tls paths;
    struct pem_files last;
};

static void reloader_free(struct reloader *r) {
    if (r != NULL) {
        free((char *)(uintptr_t)r->paths.certificate);
        free((char *)(uintptr_t)r->paths.key);
        free((char *)(uintptr_t)r->paths.ca);
        pem_files_deinit(&r->last);
        free(r);
    }
}

static struct reloader *reloader_new(const struct rpc_tls *tls) {
    struct reloader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->paths.certificate = strdup(tls->certificate);
    r->paths.key = strdup(tls->key);
    r->paths.ca = tls->ca != NULL ? strdup(tls->ca) : NULL;
    if (r->paths.certificate == NULL || r->paths.key == NULL ||
        (tls->ca != NULL && r->paths.ca == NULL)) {
        reloader_free(r);
        return NULL;
    }
    return r;
}

static grpc_ssl_certificate_config_reload_status
reload(void *user_data, grpc_ssl_server_certificate_config **ret_config) {
    struct reloader *r = user_data;
    struct pem_files now = {0};
    struct failure f;
    bool first = r->last.certificate == NULL;
    if (rpc_tls_check(&r->paths, &f) != OK || read_files(&r->paths, &now, &f) != OK) {
        log_event(LOG_WARN, "tls_files_not_reloaded", LOG_FAILURE(&f), LOG_BOOL("first", first));
        return first ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL
                     : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    if (!first && same_text(now.certificate, r->last.certificate) &&
        same_text(now.key, r->last.key) && same_text(now.ca, r->last.ca)) {
        pem_files_deinit(&now);
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair = {.private_key = now.key, .cert_chain = now.certificate};
    *ret_config = grpc_ssl_server_certificate_config_create(now.ca, &pair, 1);
    pem_files_deinit(&r->last);
    r->last = now;
    if (!first) {
        log_event(LOG_INFO, "tls_files_reloaded", LOG_STR("certificate", r->paths.certificate));
    }
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

grpc_server_credentials *rpc_tls_server_credentials(const struct rpc_tls *tls, void **ret_state) {
    struct reloader *r = reloader_new(tls);
    if (r == NULL) {
        return NULL;
    }
    grpc_server_credentials *c = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            tls->ca != NULL ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            reload, r));
    if (c == NULL) {
        reloader_free(r);
        return NULL;
    }
    *ret_state = r;
    return c;
}

void rpc_tls_server_state_free(void *state) {
    reloader_free(state);
}

// ---- client ----

grpc_channel_credentials *rpc_tls_channel_credentials(const struct rpc_tls *tls) {
    grpc_tls_certificate_provider *files = grpc_tls_certificate_provider_file_watcher_create(
        tls->key, tls->certificate, tls->ca, CLIENT_REFRESH_S);
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();
    if (files != NULL) {
        grpc_tls_credentials_options_set_certificate_provider(options, files);
        if (tls->ca != NULL) {
            grpc_tls_credentials_options_watch_root_certs(options);
        }
        if (tls->certificate != NULL && tls->key != NULL) {
            grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
        }
        grpc_tls_certificate_provider_release(files); // the options hold it
    }
    return grpc_tls_credentials_create(options);
}
