// SPDX-License-Identifier: Apache-2.0
#define ERR_STATE openssl_err_state // a type of OpenSSL's that has the name of one of our errors
#include <openssl/evp.h>
#undef ERR_STATE

#include "common/ticket.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct signing_key {
    EVP_PKEY *pkey;
    uint8_t private_key[SIGNING_KEY_BYTES];
    uint8_t public_key[SIGNING_KEY_BYTES];
};

static void cleanse_key(uint8_t (*key)[SIGNING_KEY_BYTES]) {
    explicit_bzero(*key, sizeof *key);
}

void signing_key_free(struct signing_key *k) {
    if (k != NULL) {
        EVP_PKEY_free(k->pkey);
        explicit_bzero(k->private_key, sizeof k->private_key);
        free(k);
    }
}

enum err signing_key_from_private(const uint8_t private_key[SIGNING_KEY_BYTES],
                                  struct signing_key **ret_key) {
    struct signing_key *k = calloc(1, sizeof *k);
    if (k == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t n = sizeof k->public_key;
    memcpy(k->private_key, private_key, sizeof k->private_key);
    k->pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, SIGNING_KEY_BYTES);
    if (k->pkey == NULL || EVP_PKEY_get_raw_public_key(k->pkey, k->public_key, &n) != 1) {
        signing_key_free(k);
        return ERR_NO_MEMORY; // any 32 bytes are a key
    }
    *ret_key = k;
    return OK;
}

enum err signing_key_generate(struct signing_key **ret_key) {
    AUTO(cleanse_key) uint8_t private_key[SIGNING_KEY_BYTES];
    if (getentropy(private_key, sizeof private_key) != 0) {
        return ERR_INTERNAL;
    }
    return signing_key_from_private(private_key, ret_key);
}

// Writes @key to @path by way of a temporary, durably. ERR_EXISTS: somebody else was faster.
static enum err write_key_file(const char *path, const uint8_t key[SIGNING_KEY_BYTES],
                               struct failure *ret_failure) {
    AUTO(auto_free) char *temp = NULL;
    AUTO(auto_free) char *parent = NULL;
    AUTO(auto_close) int fd = -1;
    AUTO(auto_close) int dir = -1;
    size_t len = strlen(path);
    const char *slash = strrchr(path, '/');
    int parent_len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    if (asprintf(&temp, "%s.%d.new", path, (int)getpid()) < 0) {
        temp = NULL;
        return failure_set(ret_failure, ERR_NO_MEMORY, "make a key", path, len, NULL);
    }
    if (asprintf(&parent, "%.*s", parent_len, slash == NULL ? "." : path) < 0) {
        parent = NULL;
        return failure_set(ret_failure, ERR_NO_MEMORY, "make a key", path, len, NULL);
    }
    unlink(temp); // of an earlier process with this number
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "make a key", path, len);
    }
    errno = EIO; // for a short write
    if (write(fd, key, SIGNING_KEY_BYTES) != SIGNING_KEY_BYTES || fsync(fd) != 0 ||
        link(temp, path) != 0) {
        enum err err = failure_errno(ret_failure, errno, "make a key", path, len);
        unlink(temp);
        return err;
    }
    unlink(temp);
    dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) != 0) {
        return failure_errno(ret_failure, errno, "sync the directory of a key", path, len);
    }
    return OK;
}

// ERR_NOT_FOUND: there is no such file, which is no failure yet.
static enum err read_key_file(const char *path, uint8_t ret_key[SIGNING_KEY_BYTES],
                              struct failure *ret_failure) {
    size_t len = strlen(path);
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT) {
        return ERR_NOT_FOUND;
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        return failure_errno(ret_failure, errno, "read the key", path, len);
    }
    if ((st.st_mode & 077) != 0) {
        enum err err =
            failure_set(ret_failure, ERR_DENIED, "read the key", path, len,
                        "others may read this key (mode %04o)", (unsigned)(st.st_mode & 07777));
        failure_remedy(ret_failure, "chmod 600 it, or remove it if others may have read it");
        return err;
    }
    ssize_t n = read(fd, ret_key, SIGNING_KEY_BYTES);
    if (n < 0) {
        return failure_errno(ret_failure, errno, "read the key", path, len);
    }
    if (n != SIGNING_KEY_BYTES || st.st_size != SIGNING_KEY_BYTES) {
        enum err err = failure_set(ret_failure, ERR_CONFIG, "read the key", path, len,
                                   "not a key: %lld bytes long, not %d", (long long)st.st_size,
                                   SIGNING_KEY_BYTES);
        failure_remedy(ret_failure, "restore the file, or remove it to have a new key made");
        return err;
    }
    return OK;
}

enum err signing_key_load_or_create(const char *path, struct signing_key **ret_key,
                                    struct failure *ret_failure) {
    AUTO(cleanse_key) uint8_t key[SIGNING_KEY_BYTES];
    enum err err = read_key_file(path, key, ret_failure);
    if (err == ERR_NOT_FOUND) {
        if (getentropy(key, sizeof key) != 0) {
            return failure_errno(ret_failure, errno, "make a key", path, strlen(path));
        }
        err = write_key_file(path, key, ret_failure);
        if (err == ERR_EXISTS) {
            err = read_key_file(path, key, ret_failure);
        }
    }
    if (err != OK) {
        return err;
    }
    err = signing_key_from_private(key, ret_key);
    return err == OK ? OK : failure_set(ret_failure, err, "load the key", path, strlen(path), NULL);
}

void signing_key_private(const struct signing_key *k, uint8_t ret_key[SIGNING_KEY_BYTES]) {
    memcpy(ret_key, k->private_key, SIGNING_KEY_BYTES);
}

void signing_key_public(const struct signing_key *k, uint8_t ret_key[SIGNING_KEY_BYTES]) {
    memcpy(ret_key, k->public_key, SIGNING_KEY_BYTES);
}

enum err signing_key_sign(const struct signing_key *k, const void *data, size_t len,
                          uint8_t ret_signature[SIGNATURE_BYTES]) {
    size_t n = SIGNATURE_BYTES;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool signed_it = c != NULL && EVP_DigestSignInit(c, NULL, NULL, NULL, k->pkey) == 1 &&
                     EVP_DigestSign(c, ret_signature, &n, data, len) == 1;
    EVP_MD_CTX_free(c);
    return signed_it ? OK : ERR_NO_MEMORY;
}

enum err signature_check(const uint8_t public_key[SIGNING_KEY_BYTES], const void *data, size_t len,
                         const uint8_t signature[SIGNATURE_BYTES]) {
    enum err err = ERR_NO_MEMORY;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_PKEY *pkey =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, SIGNING_KEY_BYTES);
    if (c != NULL && pkey != NULL && EVP_DigestVerifyInit(c, NULL, NULL, NULL, pkey) == 1) {
        err = EVP_DigestVerify(c, signature, SIGNATURE_BYTES, data, len) == 1 ? OK : ERR_DENIED;
    }
    EVP_PKEY_free(pkey);
    EVP_MD_CTX_free(c);
    return err;
}
