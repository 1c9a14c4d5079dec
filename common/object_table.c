// SPDX-License-Identifier: Apache-2.0
#include "common/object_table.h"

#include "common/bytes.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEADER_BYTES = 8,
    LENGTH_BYTES = 4, // before each record
    // Offsets within a record.
    AT_ID = 0,
    AT_TYPE = 8,
    AT_FLAGS = 9,
    AT_ZERO = 10,
    AT_MODE = 12,
    AT_UID = 16,
    AT_GID = 20,
    AT_SIZE = 24,
    AT_MTIME = 32,
    AT_CTIME = 40,
    AT_INODE = 48,
    AT_DEVICE = 56,
    AT_LINKS = 64,
    AT_RDEV = 68,
    AT_PATH_LEN = 72,
    AT_TARGET_LEN = 76,
    FIXED_BYTES = 80,
    FLAG_KEY = 1,
};

static const char magic[4] = {'S', 'O', 'T', '1'};

const char *object_type_name(enum object_type t) {
    switch (t) {
    case OBJECT_FILE: return "file";
    case OBJECT_DIRECTORY: return "directory";
    case OBJECT_SYMLINK: return "symlink";
    case OBJECT_FIFO: return "fifo";
    case OBJECT_SOCKET: return "socket";
    case OBJECT_CHAR_DEVICE: return "char_device";
    case OBJECT_BLOCK_DEVICE: return "block_device";
    }
    return "?";
}

bool object_version_equal(const struct object_version *a, const struct object_version *b) {
    return a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
           a->inode == b->inode;
}

bool object_path_is_valid(const uint8_t *path, size_t len) {
    if (len == 0) {
        return true;
    }
    if (len > OBJECT_PATH_MAX || memchr(path, '\0', len) != NULL) {
        return false;
    }
    for (size_t start = 0; start <= len;) {
        const uint8_t *slash = start < len ? memchr(path + start, '/', len - start) : NULL;
        size_t end = slash != NULL ? (size_t)(slash - path) : len;
        size_t n = end - start;
        if (n == 0 || (n == 1 && path[start] == '.') ||
            (n == 2 && path[start] == '.' && path[start + 1] == '.')) {
            return false;
        }
        start = end + 1;
    }
    return true;
}

static bool key_is_valid(const uint8_t *key, size_t len) {
    return len <= OBJECT_PATH_MAX && (len == 0 || memchr(key, '\0', len) == NULL);
}

static bool type_is_valid(uint8_t type) {
    return type >= OBJECT_FILE && type <= OBJECT_BLOCK_DEVICE;
}

static bool target_is_valid(const uint8_t *target, size_t len) {
    return len == 0 || (len <= OBJECT_PATH_MAX && memchr(target, '\0', len) == NULL);
}

// ---- building ----

void object_table_init(struct object_table_builder *b) {
    *b = (struct object_table_builder){0};
}

void object_table_deinit(struct object_table_builder *b) {
    free(b->bytes);
    *b = (struct object_table_builder){0};
}

void object_table_reset(struct object_table_builder *b) {
    b->len = 0;
    b->count = 0;
}

// Room for @more bytes, and the header.
static enum err reserve(struct object_table_builder *b, size_t more) {
    size_t need = (b->len == 0 ? HEADER_BYTES : b->len) + more;
    if (need > b->cap) {
        size_t cap = b->cap == 0 ? 1024 : b->cap;
        while (cap < need) {
            cap *= 2;
        }
        uint8_t *grown = realloc(b->bytes, cap);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        b->bytes = grown;
        b->cap = cap;
    }
    if (b->len == 0) {
        memcpy(b->bytes, magic, sizeof magic);
        b->len = HEADER_BYTES;
    }
    put_u32(b->bytes + sizeof magic, b->count);
    return OK;
}

enum err object_table_add(struct object_table_builder *b, const struct object_entry *e) {
    bool is_valid =
        e->is_key ? key_is_valid(e->path, e->path_len) : object_path_is_valid(e->path, e->path_len);
    if (!is_valid || !target_is_valid(e->target, e->target_len) ||
        !type_is_valid((uint8_t)e->type)) {
        return ERR_INVALID;
    }
    size_t record = FIXED_BYTES + e->path_len + e->target_len;
    size_t len = b->len == 0 ? HEADER_BYTES : b->len;
    if (b->count >= OBJECT_TABLE_MAX_OBJECTS ||
        len + LENGTH_BYTES + record > OBJECT_TABLE_MAX_BYTES) {
        return ERR_FULL;
    }
    enum err err = reserve(b, LENGTH_BYTES + record);
    if (err != OK) {
        return err;
    }
    uint8_t *p = b->bytes + b->len;
    put_u32(p, (uint32_t)record);
    p += LENGTH_BYTES;
    put_u64(p + AT_ID, e->id);
    p[AT_TYPE] = (uint8_t)e->type;
    p[AT_FLAGS] = e->is_key ? FLAG_KEY : 0;
    put_u16(p + AT_ZERO, 0);
    put_u32(p + AT_MODE, e->mode & 07777);
    put_u32(p + AT_UID, e->uid);
    put_u32(p + AT_GID, e->gid);
    put_u64(p + AT_SIZE, e->version.size);
    put_u64(p + AT_MTIME, (uint64_t)e->version.mtime_ns);
    put_u64(p + AT_CTIME, (uint64_t)e->version.ctime_ns);
    put_u64(p + AT_INODE, e->version.inode);
    put_u64(p + AT_DEVICE, e->device);
    put_u32(p + AT_LINKS, e->links);
    put_u32(p + AT_RDEV, e->rdev);
    put_u32(p + AT_PATH_LEN, (uint32_t)e->path_len);
    put_u32(p + AT_TARGET_LEN, (uint32_t)e->target_len);
    if (e->path_len > 0) {
        memcpy(p + FIXED_BYTES, e->path, e->path_len);
    }
    if (e->target_len > 0) {
        memcpy(p + FIXED_BYTES + e->path_len, e->target, e->target_len);
    }
    b->len += LENGTH_BYTES + record;
    b->count++;
    put_u32(b->bytes + sizeof magic, b->count);
    return OK;
}

enum err object_table_bytes(struct object_table_builder *b, const uint8_t **ret_bytes,
                            size_t *ret_len) {
    enum err err = reserve(b, 0);
    if (err != OK) {
        return err;
    }
    *ret_bytes = b->bytes;
    *ret_len = b->len;
    return OK;
}

// ---- reading ----

// Is @p, of @n bytes, a record that keeps its promises?
static bool record_is_valid(const uint8_t *p, size_t n) {
    if (n < FIXED_BYTES || !type_is_valid(p[AT_TYPE]) || (p[AT_FLAGS] & ~FLAG_KEY) != 0 ||
        get_u16(p + AT_ZERO) != 0 || (get_u32(p + AT_MODE) & ~07777U) != 0) {
        return false;
    }
    uint64_t path_len = get_u32(p + AT_PATH_LEN), target_len = get_u32(p + AT_TARGET_LEN);
    return FIXED_BYTES + path_len + target_len == n &&
           ((p[AT_FLAGS] & FLAG_KEY) != 0
                ? key_is_valid(p + FIXED_BYTES, (size_t)path_len)
                : object_path_is_valid(p + FIXED_BYTES, (size_t)path_len)) &&
           target_is_valid(p + FIXED_BYTES + path_len, (size_t)target_len);
}

enum err object_table_open(const void *bytes, size_t len, struct object_table *ret_table) {
    const uint8_t *p = bytes;
    if (len < HEADER_BYTES || len > OBJECT_TABLE_MAX_BYTES || memcmp(p, magic, sizeof magic) != 0) {
        return ERR_INVALID;
    }
    uint32_t count = get_u32(p + sizeof magic);
    if (count > OBJECT_TABLE_MAX_OBJECTS) {
        return ERR_INVALID;
    }
    uint32_t *offsets = malloc((count > 0 ? count : 1) * sizeof *offsets);
    if (offsets == NULL) {
        return ERR_NO_MEMORY;
    }
    size_t at = HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        if (len - at < LENGTH_BYTES) {
            goto malformed;
        }
        size_t record = get_u32(p + at);
        at += LENGTH_BYTES;
        if (record > len - at || !record_is_valid(p + at, record)) {
            goto malformed;
        }
        offsets[i] = (uint32_t)at;
        at += record;
    }
    if (at != len) {
        goto malformed;
    }
    *ret_table = (struct object_table){.bytes = p, .len = len, .count = count, .offsets = offsets};
    return OK;
malformed:
    free(offsets);
    return ERR_INVALID;
}

void object_table_close(struct object_table *t) {
    free(t->offsets);
    *t = (struct object_table){0};
}

void object_table_get(const struct object_table *t, uint32_t index,
                      struct object_entry *ret_entry) {
    const uint8_t *p = t->bytes + t->offsets[index];
    uint32_t path_len = get_u32(p + AT_PATH_LEN);
    *ret_entry = (struct object_entry){
        .id = get_u64(p + AT_ID),
        .type = (enum object_type)p[AT_TYPE],
        .mode = get_u32(p + AT_MODE),
        .uid = get_u32(p + AT_UID),
        .gid = get_u32(p + AT_GID),
        .device = get_u64(p + AT_DEVICE),
        .links = get_u32(p + AT_LINKS),
        .rdev = get_u32(p + AT_RDEV),
        .version = {.size = get_u64(p + AT_SIZE),
                    .mtime_ns = (int64_t)get_u64(p + AT_MTIME),
                    .ctime_ns = (int64_t)get_u64(p + AT_CTIME),
                    .inode = get_u64(p + AT_INODE)},
        .path = p + FIXED_BYTES,
        .path_len = path_len,
        .target = p + FIXED_BYTES + path_len,
        .target_len = get_u32(p + AT_TARGET_LEN),
        .is_key = (p[AT_FLAGS] & FLAG_KEY) != 0,
    };
}
