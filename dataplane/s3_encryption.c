// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_encryption.h"

#include <string.h>

static const char header[] = "x-amz-server-side-encryption";

bool s3_etag_is_of_bytes(const struct s3_call *call) {
    const char *encryption = s3_answer_header(call, header);
    const char *own_key = s3_answer_header(call, "x-amz-server-side-encryption-customer-algorithm");
    return own_key == NULL && (encryption == NULL || strcmp(encryption, "AES256") == 0);
}
