// SPDX-License-Identifier: Apache-2.0
// How large objects are cut for an object store. The master and the data plane compute the same.
#ifndef COMMON_S3_LIMITS_H
#define COMMON_S3_LIMITS_H

#include "common/hash.h"

#include <stdint.h>

enum { S3_CHUNKS_MAX = 10000 };                   // parts of a multipart upload
#define S3_CHUNK_LEAST_BYTES ((uint64_t)16 << 20) // and kept in memory while it is sent
#define S3_OBJECT_MAX_BYTES  ((uint64_t)5 << 40)
#define S3_COPY_MAX_BYTES    ((uint64_t)256 << 20) // a store copies larger ones within itself in parts
#define S3_WHOLE_MAX_BYTES   ((uint64_t)32 << 20) // larger objects travel in parts
#define S3_READ_WHOLE_MAX_BYTES                                                                    \
    ((uint64_t)64 << 20) // larger ones are read over several connections

// The size of all parts of an upload but the last: whole leaves, so that chunk number
// offset / chunk + 1 is the same whoever sends it.
static inline uint64_t s3_chunk_bytes(uint64_t object_bytes) {
    uint64_t least = (object_bytes + S3_CHUNKS_MAX - 1) / S3_CHUNKS_MAX;
    uint64_t chunk = (least + LEAF_BYTES - 1) / LEAF_BYTES * LEAF_BYTES;
    return chunk > S3_CHUNK_LEAST_BYTES ? chunk : S3_CHUNK_LEAST_BYTES;
}

// Of a task's part: whole chunks, as many as fit into @part_bytes, but at least one.
static inline uint64_t s3_part_bytes(uint64_t object_bytes, uint64_t part_bytes) {
    uint64_t chunk = s3_chunk_bytes(object_bytes);
    return part_bytes >= chunk ? part_bytes / chunk * chunk : chunk;
}

#endif
