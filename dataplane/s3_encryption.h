// SPDX-License-Identifier: Apache-2.0
// What a store's answers say of how it encrypted an object.
#ifndef DATAPLANE_S3_ENCRYPTION_H
#define DATAPLANE_S3_ENCRYPTION_H

#include "dataplane/s3_client.h"

// May the ETag in this answer be the MD5 of the object's bytes? Not if they were encrypted with a
// key of a KMS or of the client: then it is whatever the store likes, though it may look like one.
bool s3_etag_is_of_bytes(const struct s3_call *call);

#endif
