// SPDX-License-Identifier: Apache-2.0
// Writes consecutive bytes of an object into a multipart upload, chunk by chunk: one is sent while
// the next are gathered. A chunk that the store has already, byte for byte, is not sent again.
#ifndef DATAPLANE_S3_CHUNKS_H
#define DATAPLANE_S3_CHUNKS_H

#include "common/md5_lanes.h"
#include "dataplane/s3_upload.h"

enum { S3_GATHERED_MAX = MD5_LANES };

struct s3_gathered {
    uint8_t *bytes; // NULL: no buffer yet
    size_t len;
    bool has_md5;
    uint8_t md5[MD5_BYTES];
};

struct s3_chunks {
    struct s3_upload *upload; // borrowed
    uint64_t object_bytes, chunk_bytes;
    bool is_begun;  // start is known
    uint64_t start; // the first chunk's offset in the object
    uint64_t pos;   // where the next write goes
    // Chunks since then. Those that are not done, and the one that is being filled, are in the
    // ring.
    struct s3_gathered ring[S3_GATHERED_MAX];
    unsigned n_ring; // of it, so many are in use
    bool wants_md5;  // of as many chunks at once
    uint64_t n_full, n_hashed, n_done;
    // what is being sent: chunk n_done
    struct s3_call call;
    bool is_sending;
    struct s3_part part;
    char query[S3_PART_QUERY_MAX];
    char content_md5[S3_CHECKSUM_SIZE];
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
