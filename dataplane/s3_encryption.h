// SPDX-License-Identifier: Apache-2.0
// What a store's answers say of how it encrypted an object.
#ifndef DATAPLANE_S3_ENCRYPTION_H
#define DATAPLANE_S3_ENCRYPTION_H

#include "dataplane/s3_client.h"

// May the ETag in this answer be the MD5 of the object's bytes? Not if they were encrypted with a
// key of a KMS or of the client: then it is whatever the store likes, though it may look like one.
bool s3_etag_is_of_bytes(const struct s3_call *call);
// Of a call that had success. ERR_UNIMPLEMENTED: it asked for an encryption, and the answer does
// not tell of it: there are stores that pass over what they do not know, and keep the bytes plain.
MUST_CHECK enum err s3_check_encryption(const struct s3_call *call, struct failure *ret_failure);
// That failure, for another object.
enum err s3_say_not_encrypted(const char *operation, const char *encryption, const void *object,
                              size_t len, struct failure *ret_failure);
// Does the answer say that the object is encrypted so? @encryption NULL, "": any way will do.
bool s3_is_encrypted_as(const struct s3_call *call, const char *encryption);

#endif
