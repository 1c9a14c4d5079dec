// SPDX-License-Identifier: Apache-2.0
// The objects of a task or of a page of a listing, in one compact encoding that the master
// stores, the executor works through and the source agent checks against the ticket.
//
// Format (little-endian): magic "SOT1", u32 count, then for each object u32 record length and
// the record: u64 id, u8 type, u8 flags (1: is_key), u16 0, u32 mode, u32 uid, u32 gid, u64 size,
// i64 mtime_ns, i64 ctime_ns, u64 inode, u64 device, u32 links, u32 rdev, u32 path length,
// u32 target length, path bytes, target bytes.
// A table comes from the network: every length is checked when it is opened.
#ifndef COMMON_OBJECT_TABLE_H
#define COMMON_OBJECT_TABLE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum object_type {
    OBJECT_FILE = 1,
    OBJECT_DIRECTORY,
    OBJECT_SYMLINK,
    OBJECT_FIFO,
    OBJECT_SOCKET,
    OBJECT_CHAR_DEVICE,
    OBJECT_BLOCK_DEVICE,
};
const char *object_type_name(enum object_type t);

enum {
    OBJECT_TABLE_MAX_OBJECTS = 1000,
    OBJECT_TABLE_MAX_BYTES = 256 * 1024,
    OBJECT_PATH_MAX = 64 * 1024, // deeper trees are failed with NAME_TOO_LONG
};

// What a source had when it was listed or opened: compared to find changes.
struct object_version {
    uint64_t size;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t inode;
};
bool object_version_equal(const struct object_version *a, const struct object_version *b);

struct object_entry {
    uint64_t id; // within the flow; 0 in listings
    enum object_type type;
    uint32_t mode; // permission bits, 07777
    uint32_t uid, gid;
    uint64_t device;
    uint32_t links, rdev;
    struct object_version version;
    // Relative to the place's root, no leading or trailing '/', no "." or ".." component, no
    // empty component, no NUL; empty: the root itself. Borrowed; NOT terminated.
    const uint8_t *path;
    size_t path_len;
    const uint8_t *target; // of a symbolic link; may hold anything but NUL. Of a key: its ETag
    size_t target_len;
    // The path is (the rest of) a key in an object store that has no form as a path: any bytes but
    // NUL, as "a//b", "../x" or "dir/". Only a sink that holds keys can take it.
    bool is_key;
};

// The mtime of what has none (the prefixes of an object store): it is not set at the sink.
#define OBJECT_MTIME_UNKNOWN INT64_MIN

// Is this a path as described above?
bool object_path_is_valid(const uint8_t *path, size_t len);

// Building one. Not thread-safe.
struct object_table_builder {
    uint8_t *bytes;
    size_t len, cap;
    uint32_t count;
};
void object_table_init(struct object_table_builder *b);
void object_table_deinit(struct object_table_builder *b);
// ERR_FULL: it would pass OBJECT_TABLE_MAX_OBJECTS or _MAX_BYTES; nothing was added.
// ERR_INVALID: not a valid path. ERR_NO_MEMORY.
MUST_CHECK enum err object_table_add(struct object_table_builder *b, const struct object_entry *e);
// The encoded bytes; they belong to @b. An empty table is valid.
MUST_CHECK enum err object_table_bytes(struct object_table_builder *b, const uint8_t **ret_bytes,
                                       size_t *ret_len);
void object_table_reset(struct object_table_builder *b);

// Reading one. The bytes are borrowed and must outlive the table. Any thread.
struct object_table {
    const uint8_t *bytes;
    size_t len;
    uint32_t count;
    uint32_t *offsets; // owned
};
// ERR_INVALID: not a table, or one of its paths is not valid. ERR_NO_MEMORY.
MUST_CHECK enum err object_table_open(const void *bytes, size_t len,
                                      struct object_table *ret_table);
void object_table_close(struct object_table *t);
// @index below count.
void object_table_get(const struct object_table *t, uint32_t index, struct object_entry *ret_entry);

#endif
