// SPDX-License-Identifier: Apache-2.0
// What answers of ListObjectsV2 tell of one level: objects, common prefixes as directories, and
// prefixes that are no paths, which are to be listed flat.
#ifndef DATAPLANE_S3_LISTING_H
#define DATAPLANE_S3_LISTING_H

#include "dataplane/s3_object.h"

enum {
    S3_LISTING_ODD_MAX = 4, // "", "." and ".." are all that one level can have
    S3_LISTING_TOKEN_MAX = 2048,
};

struct s3_listed {
    uint8_t *path; // owned, relative to the place's root
    size_t path_len;
    struct object_entry entry; // path and target are not set
    char etag[S3_ETAG_MAX];
};

// Zeroed, but for base_len: none yet.
struct s3_listing {
    size_t base_len;         // of each key: the place's own beginning, which paths leave out
    struct s3_listed *items; // until s3_listing_forget()
    size_t n, cap;
    uint8_t *odd[S3_LISTING_ODD_MAX];
    size_t odd_len[S3_LISTING_ODD_MAX];
    size_t n_odd;
    bool is_truncated;
    char token[S3_LISTING_TOKEN_MAX]; // to ask for what follows; "": the beginning
    // while an answer is read
    char *key;
    size_t key_len;
    struct s3_listed now;
    bool is_encoded;
};

// Adds what the answer tells. ERR_PROTOCOL: it makes no sense. ERR_NO_MEMORY.
MUST_CHECK enum err s3_listing_read(struct s3_listing *l, const char *body, size_t len);
void s3_listing_forget(struct s3_listing *l); // the items that were handed on
void s3_listing_deinit(struct s3_listing *l);

#endif
