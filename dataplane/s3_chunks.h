// SPDX-License-Identifier: Apache-2.0
// Writes consecutive bytes of an object into a multipart upload, chunk by chunk: one is sent while
// the next is filled. A chunk that the store has already, byte for byte, is not sent again.
#ifndef DATAPLANE_S3_CHUNKS_H
#define DATAPLANE_S3_CHUNKS_H

#include "dataplane/s3_upload.h"

struct s3_chunks {
    struct s3_upload *upload; // borrowed
    uint64_t object_bytes, chunk_bytes;
    // what is being filled
    uint8_t *filling;
    size_t len;
    uint64_t start; // its offset in the object
    bool is_begun;  // start is known
    // Where the upload has a CRC: added to while what came is in the processor's cache.
    struct s3_crc crc;
    // what is being sent
    uint8_t *sending;
    struct s3_call call;
    bool is_sending;
    struct s3_part part;
    char query[S3_PART_QUERY_MAX];
    // what is there
    struct s3_parts sent;  // by this writer, or recognised
    struct s3_parts known; // before it began
    uint64_t bytes_recognised;
};

// @u must outlive it.
void s3_chunks_init(struct s3_chunks *c, struct s3_upload *u, uint64_t object_bytes);
// The first write begins at a multiple of the chunk's size, the others follow each other.
MUST_CHECK enum err s3_chunks_write(struct s3_chunks *c, uint64_t offset, const void *buf,
                                    size_t len, struct failure *ret_failure);
// As sink_room().
void *s3_chunks_room(struct s3_chunks *c, uint64_t offset, size_t *ret_cap);
// Waits until all whole chunks (and the object's last one) are at the store; the rest is dropped.
MUST_CHECK enum err s3_chunks_flush(struct s3_chunks *c, struct failure *ret_failure);
void s3_chunks_deinit(struct s3_chunks *c); // whatever is under way ends

#endif
