// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_encryption.h"

#include <string.h>

static const char header[] = "x-amz-server-side-encryption";

bool s3_etag_is_of_bytes(const struct s3_call *call) {
    const char *encryption = s3_answer_header(call, header);
    const char *own_key = s3_answer_header(call, "x-amz-server-side-encryption-customer-algorithm");
    return own_key == NULL && (encryption == NULL || strcmp(encryption, "AES256") == 0);
}

bool s3_is_encrypted_as(const struct s3_call *call, const char *encryption) {
    const char *told = s3_answer_header(call, header);
    return encryption == NULL || encryption[0] == '\0' ||
           (told != NULL && strcmp(told, encryption) == 0);
}

enum err s3_say_not_encrypted(const char *operation, const char *encryption, const void *object,
                              size_t len, struct failure *ret_failure) {
    (void)failure_set(ret_failure, ERR_UNIMPLEMENTED, operation, object, len,
                      "the store passed over the encryption %.20s, which was asked for",
                      encryption);
    if (ret_failure != NULL) {
        failure_remedy(ret_failure, "ask for another, or for none if the store encrypts by itself");
    }
    return ERR_UNIMPLEMENTED;
}

enum err s3_check_encryption(const struct s3_call *call, struct failure *ret_failure) {
    const char *encryption = s3_call_get_header(call, header);
    char object[FAILURE_OBJECT_MAX];
    if (s3_is_encrypted_as(call, encryption)) {
        return OK;
    }
    size_t n = s3_call_object(call, object, sizeof object);
    enum err e = s3_say_not_encrypted(call->operation, encryption, object, n, ret_failure);
    if (strcmp(call->method, "PUT") == 0 && ret_failure != NULL) {
        failure_remedy(ret_failure, "remove it, for its bytes are there as they are; ask for "
                                    "another, or for none if the store encrypts by itself");
    }
    return e;
}
