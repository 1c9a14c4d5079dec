// SPDX-License-Identifier: Apache-2.0
#define ERR_STATE openssl_err_state // a type of OpenSSL's that has the name of one of our errors
#include <openssl/evp.h>
#undef ERR_STATE

#include "common/seal.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1, NONCE_BYTES = 12, TAG_BYTES = 16 };
_Static_assert(SEAL_OVERHEAD_BYTES == 1 + NONCE_BYTES + TAG_BYTES, "the layout has changed");

// Layout: version, nonce, cipher text, tag.
enum err seal(const uint8_t key[SEAL_KEY_BYTES], const char *name, const void *secret, size_t len,
              uint8_t *ret_sealed) {
    uint8_t *nonce = ret_sealed + 1, *text = nonce + NONCE_BYTES;
    size_t name_len = strlen(name);
    int n = 0, rest = 0;
    if (len > INT_MAX / 2 || name_len > INT_MAX / 2) {
        return ERR_TOO_LARGE;
    }
    ret_sealed[0] = VERSION;
    if (getentropy(nonce, NONCE_BYTES) != 0) {
        return ERR_INTERNAL;
    }
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int works = c != NULL && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
                EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)name, (int)name_len) == 1 &&
                EVP_EncryptUpdate(c, text, &n, secret, (int)len) == 1 &&
                EVP_EncryptFinal_ex(c, text + n, &rest) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, text + len) == 1;
    EVP_CIPHER_CTX_free(c);
    return works ? OK : ERR_NO_MEMORY;
}

enum err seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *name, const void *sealed,
                   size_t len, uint8_t *ret_secret, size_t *ret_len) {
    const uint8_t *nonce = (const uint8_t *)sealed + 1, *text = nonce + NONCE_BYTES;
    uint8_t tag[TAG_BYTES];
    int n = 0, rest = 0;
    size_t name_len = strlen(name);
    if (len < SEAL_OVERHEAD_BYTES || len > INT_MAX / 2 || name_len > INT_MAX / 2 ||
        *(const uint8_t *)sealed != VERSION) {
        return ERR_CORRUPT;
    }
    size_t secret_len = len - SEAL_OVERHEAD_BYTES;
    memcpy(tag, text + secret_len, TAG_BYTES);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c == NULL) {
        return ERR_NO_MEMORY;
    }
    int works = EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
                EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)name, (int)name_len) == 1 &&
                EVP_DecryptUpdate(c, ret_secret, &n, text, (int)secret_len) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
                EVP_DecryptFinal_ex(c, ret_secret + n, &rest) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!works) {
        explicit_bzero(ret_secret, secret_len);
        return ERR_CORRUPT;
    }
    *ret_len = secret_len;
    return OK;
}
