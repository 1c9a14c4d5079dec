// SPDX-License-Identifier: Apache-2.0
#define ERR_STATE openssl_err_state // a type of OpenSSL's that has the name of one of our errors
#include <openssl/evp.h>
#include <openssl/hmac.h>
#undef ERR_STATE

#include "common/hmac.h"

#include <limits.h>
#include <stdlib.h>

enum err hmac_sha256(const void *key, size_t key_len, const void *text, size_t len,
                     uint8_t ret_mac[HMAC_SHA256_BYTES]) {
    unsigned n = HMAC_SHA256_BYTES;
    if (key_len > INT_MAX) {
        return ERR_TOO_LARGE;
    }
    return HMAC(EVP_sha256(), key, (int)key_len, text, len, ret_mac, &n) != NULL ? OK
                                                                                 : ERR_NO_MEMORY;
}

struct md5_sum {
    EVP_MD_CTX *digest;
    bool works;
};

struct md5_sum *md5_sum_new(void) {
    struct md5_sum *m = calloc(1, sizeof *m);
    if (m != NULL) {
        m->digest = EVP_MD_CTX_new();
        if (m->digest == NULL) {
            free(m);
            return NULL;
        }
        md5_sum_reset(m);
    }
    return m;
}

void md5_sum_free(struct md5_sum *m) {
    if (m != NULL) {
        EVP_MD_CTX_free(m->digest);
        free(m);
    }
}

void md5_sum_reset(struct md5_sum *m) {
    m->works = EVP_DigestInit_ex(m->digest, EVP_md5(), NULL) == 1;
}

void md5_sum_update(struct md5_sum *m, const void *bytes, size_t len) {
    m->works = m->works && EVP_DigestUpdate(m->digest, bytes, len) == 1;
}

bool md5_sum_final(struct md5_sum *m, uint8_t ret_digest[MD5_BYTES]) {
    unsigned n = MD5_BYTES;
    bool works = m->works && EVP_DigestFinal_ex(m->digest, ret_digest, &n) == 1;
    m->works = false;
    return works;
}
