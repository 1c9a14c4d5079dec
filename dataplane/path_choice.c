// SPDX-License-Identifier: Apache-2.0
#include "dataplane/path_choice.h"

#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

enum { REFLINK_MIN_BYTES = 64 << 10 }; // less is written as fast as it is shared

bool path_may_share(const struct path_choice *c, const struct source *source,
                    const struct sink *sink, uint64_t length) {
    return !c->reflink_failed && length >= REFLINK_MIN_BYTES &&
           source_capabilities(source)->has_fd && sink_capabilities(sink)->has_fd;
}

bool path_share(struct path_choice *c, const struct source *source, const struct sink *sink,
                uint64_t offset, uint64_t length, bool to_end) {
    if (!path_may_share(c, source, sink, length)) {
        return false;
    }
    int from = source_fd(source), to = sink_fd(sink);
    if (from < 0 || to < 0) {
        return false;
    }
    struct file_clone_range range = {
        .src_fd = from,
        .src_offset = offset,
        .src_length = to_end ? 0 : length, // 0: to the end, which need not be a block's
        .dest_offset = offset,
    };
    if (ioctl(to, FICLONERANGE, &range) == 0) {
        return true;
    }
    c->reflink_failed = true;
    return false;
}

bool path_writes_in_turn(int fd) {
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) {
        return false;
    }
    switch (fs.f_type) { // those whose buffered writes hold the inode's lock
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case (__fsword_t)BTRFS_SUPER_MAGIC: return true;
    default: return false; // parallel ones are faster with many writers
    }
}

const char *path_name(const struct source *source) {
    return source_capabilities(source)->is_remote ? "receive-hash-write" : "read-hash-write";
}
