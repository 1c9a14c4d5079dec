// SPDX-License-Identifier: Apache-2.0
#include "dataplane/object_stat.h"

#define NS_PER_S 1000000000

int64_t object_ns_from_timespec(const struct timespec *t) {
    // Files can bear dates that int64_t nanoseconds cannot (before 1678, after 2261).
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t->tv_sec, (int64_t)NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns)) {
        return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    }
    return ns;
}

struct timespec object_timespec_from_ns(int64_t ns) {
    if (ns == OBJECT_MTIME_UNKNOWN) {
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    }

    struct timespec t = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += NS_PER_S;
    }
    return t;
}

struct object_version object_version_from_stat(const struct stat *st) {
    return (struct object_version){
        .size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? (uint64_t)st->st_size : 0,
        .mtime_ns = object_ns_from_timespec(&st->st_mtim),
        .ctime_ns = object_ns_from_timespec(&st->st_ctim),
        .inode = st->st_ino,
    };
}

enum err object_from_stat(const struct stat *st, struct object_entry *ret_entry) {
    enum object_type type;
    switch (st->st_mode & S_IFMT) {
    case S_IFREG: type = OBJECT_FILE; break;
    case S_IFDIR: type = OBJECT_DIRECTORY; break;
    case S_IFLNK: type = OBJECT_SYMLINK; break;
    case S_IFIFO: type = OBJECT_FIFO; break;
    case S_IFSOCK: type = OBJECT_SOCKET; break;
    case S_IFCHR: type = OBJECT_CHAR_DEVICE; break;
    case S_IFBLK: type = OBJECT_BLOCK_DEVICE; break;
    default: return ERR_UNSUPPORTED_TYPE;
    }
    *ret_entry = (struct object_entry){
        .type = type,
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .device = st->st_dev,
        .links = st->st_nlink > UINT32_MAX ? UINT32_MAX : (uint32_t)st->st_nlink,
        // Linux has 12 bits of major and 20 of minor number, which dev_t keeps in its low half.
        .rdev = (uint32_t)st->st_rdev,
        .version = object_version_from_stat(st),
    };
    return OK;
}
