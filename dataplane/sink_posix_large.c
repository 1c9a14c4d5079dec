// SPDX-License-Identifier: Apache-2.0
// One large object: a temporary of its final size, parts written into it by any number of
// agents, and the end of it.
//
// Receipt (little-endian): magic "SPR1", u8 kind (1: open, 2: part), u8 synced, u16 length of
// the boot id, u64 inode, u64 device, i64 birth in ns (0: the file system does not tell), boot
// id. Device numbers differ from agent to agent: they are for people. An inode number may come
// again after a file was removed; its birth tells the two apart.
#include "common/bytes.h"
#include "common/cleanup.h"
#include "dataplane/object_stat.h"
#include "dataplane/path_choice.h"
#include "dataplane/sink_posix_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    RECEIPT_HEADER_BYTES = 32,
    COPY_STEP_BYTES = 64 << 20, // between two looks at the fence
    BUFFER_BYTES = 256 << 10,
};
enum receipt_kind { RECEIPT_OPEN = 1, RECEIPT_PART = 2 };
static const uint8_t receipt_magic[4] = {'S', 'P', 'R', '1'};

// What tells one temporary from another of the same name.
struct identity {
    uint64_t inode, device;
    int64_t birth_ns;
    uint64_t size;
};

static int identify(int fd, struct identity *ret_identity) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return errno;
    }
    struct identity id = {.inode = st.st_ino, .device = st.st_dev, .size = (uint64_t)st.st_size};
    struct statx stx;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx) == 0 && (stx.stx_mask & STATX_BTIME)) {
        id.birth_ns = stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec;
    }
    *ret_identity = id;
    return 0;
}

static void encode_receipt(const struct sink_posix *p, enum receipt_kind kind, bool synced,
                           const struct identity *id, struct receipt *ret_receipt) {
    size_t boot_len = strnlen(p->boot_id, RECEIPT_MAX_BYTES - RECEIPT_HEADER_BYTES);
    uint8_t *b = ret_receipt->bytes;
    memcpy(b, receipt_magic, 4);
    b[4] = (uint8_t)kind;
    b[5] = synced;
    put_u16(b + 6, (uint16_t)boot_len);
    put_u64(b + 8, id->inode);
    put_u64(b + 16, id->device);
    put_u64(b + 24, (uint64_t)id->birth_ns);
    memcpy(b + RECEIPT_HEADER_BYTES, p->boot_id, boot_len);
    ret_receipt->len = RECEIPT_HEADER_BYTES + boot_len;
}

static bool is_own(const struct identity *id, const struct receipt *open) {
    int64_t birth_ns = (int64_t)get_u64(open->bytes + 24);
    return id->inode == get_u64(open->bytes + 8) &&
           (id->birth_ns == 0 || birth_ns == 0 || id->birth_ns == birth_ns);
}

static enum err check_receipt(struct sink_posix *p, const struct object_entry *e,
                              const struct receipt *open, struct failure *ret_failure) {
    if (open->len < RECEIPT_HEADER_BYTES || memcmp(open->bytes, receipt_magic, 4) != 0 ||
        open->bytes[4] != RECEIPT_OPEN) {
        sink_posix_fail(p, e, ERR_INVALID, "open temporary",
                        "not the receipt of an open temporary file", ret_failure);
        return ERR_INVALID;
    }
    return OK;
}

static enum err changed(struct sink_posix *p, const struct object_entry *e,
                        struct failure *ret_failure) {
    sink_posix_fail(p, e, ERR_DEST_CHANGED, "open temporary", NULL, ret_failure);
    return ERR_DEST_CHANGED;
}

enum err sink_posix_open_large(struct sink *s, const struct object_entry *e, const char *temp,
                               struct receipt *ret_receipt, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir = NULL;
    char name[256];
    AUTO(auto_close) int fd = -1;
    enum err err = sink_posix_create(p, e, temp, &dir, name, &fd, ret_failure);
    if (err != OK) {
        return err;
    }
    struct stat st;
    struct identity id = {0};
    int errnum = 0;
    const char *operation = "replace";
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
        errnum = EISDIR; // known now rather than after all the bytes
    } else {
        operation = "set size";
        if (ftruncate(fd, (off_t)e->version.size) != 0 || fsync(fd) != 0) {
            errnum = errno;
        } else {
            errnum = identify(fd, &id);
        }
    }
    if (errnum != 0) {
        (void)unlinkat(dir->fd, temp, 0);
        return sink_posix_errno(p, e, errnum, operation, ret_failure);
    }
    // Parts are reported as synced later: the name that leads to them must last as well.
    dir->changed = true;
    err = dir_set_sync(&p->dirs, ret_failure);
    if (err == OK) {
        encode_receipt(p, RECEIPT_OPEN, true, &id, ret_receipt);
    }
    return err;
}

// Opens @name in the directory of @e if it is what @open stands for. ERR_DEST_CHANGED: it is
// not there, or not that one; the failure is filled in for all else.
static enum err open_own(struct sink_posix *p, const struct object_entry *e, const struct dir *dir,
                         const char *name, const struct receipt *open, int flags, int *ret_fd,
                         struct identity *ret_id, struct failure *ret_failure) {
    AUTO(auto_close) int fd = openat(dir->fd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ELOOP || errno == EISDIR || errno == ENXIO
                   ? ERR_DEST_CHANGED
                   : sink_posix_errno(p, e, errno, "open temporary", ret_failure);
    }
    struct identity id = {0};
    int errnum = identify(fd, &id);
    if (errnum != 0) {
        return sink_posix_errno(p, e, errnum, "stat", ret_failure);
    }
    if (!is_own(&id, open)) {
        return ERR_DEST_CHANGED;
    }
    *ret_fd = take_fd(&fd);
    if (ret_id) {
        *ret_id = id;
    }
    return OK;
}

// The directory of a temporary that should be there.
static enum err temp_parent(struct sink_posix *p, const struct object_entry *e,
                            const struct receipt *open, struct dir **ret_dir, char ret_name[256],
                            struct failure *ret_failure) {
    enum err err = check_receipt(p, e, open, ret_failure);
    if (err == OK) {
        err = sink_posix_parent(p, e, false, ret_dir, ret_name, ret_failure);
    }
    return err == ERR_NOT_FOUND ? changed(p, e, ret_failure) : err;
}

enum err sink_posix_open_part(struct sink *s, const struct object_entry *e, const char *temp,
                              const struct receipt *open, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir = NULL;
    AUTO(auto_close) int fd = -1;
    struct identity id = {0};
    enum err err = temp_parent(p, e, open, &dir, p->open.name, ret_failure);
    if (err != OK) {
        return err;
    }
    err = open_own(p, e, dir, temp, open, O_RDWR, &fd, &id, ret_failure);
    if (err != OK) {
        return err == ERR_DEST_CHANGED ? changed(p, e, ret_failure) : err;
    }
    struct queue_writer *writer = NULL;
    if (p->queues && path_writes_in_turn(fd)) {
        err = write_queue_join(p->queues, id.device, id.inode, sink_posix_write_queued, p, &writer);
    }
    if (err != OK) {
        return sink_posix_errno(p, e, ENOMEM, "open temporary", ret_failure);
    }
    dir->n_users++;
    p->open.fd = take_fd(&fd);
    p->open.direct = sink_posix_direct(p, e);
    p->open.writer = writer;
    p->open.err = OK;
    p->open.is_told = false;
    p->open.dir = dir;
    memcpy(p->open.temp, temp, TEMP_NAME_SIZE);
    p->open.is_part = true;
    p->open.end = p->open.kicked_from = p->open.kicked_to = 0;
    return OK;
}

enum err sink_posix_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                               struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct identity id = {0};
    const char *operation = "sync";
    // A failure that was told counts no more: what was written before it is good.
    enum err err = p->open.is_told ? OK : sink_posix_settle(s, ret_failure);
    if (err != OK) {
        sink_posix_drop(s);
        return err;
    }
    write_queue_leave(take_ptr(p->open.writer));
    int errnum = sync && fdatasync(p->open.fd) != 0 ? errno : 0;
    if (errnum == 0) {
        operation = "stat";
        errnum = identify(p->open.fd, &id);
    }
    if (close(take_fd(&p->open.fd)) != 0 && errno != EINTR && errnum == 0) {
        operation = "close";
        errnum = errno;
    }
    p->open.dir->n_users--;
    const struct dir *dir = take_ptr(p->open.dir);
    if (errnum != 0) {
        return sink_posix_name_errno(dir, p->open.name, errnum, operation, ret_failure);
    }
    encode_receipt(p, RECEIPT_PART, sync, &id, ret_receipt);
    return OK;
}

// Opens the object wherever it is by now: still the temporary, or under its name already.
// ERR_DEST_CHANGED without failure: neither.
static enum err find_own(struct sink_posix *p, const struct object_entry *e, const struct dir *dir,
                         const char *name, const char *temp, const struct receipt *open,
                         int *ret_fd, struct identity *ret_id, bool *ret_is_final,
                         struct failure *ret_failure) {
    enum err err = open_own(p, e, dir, temp, open, O_RDWR, ret_fd, ret_id, ret_failure);
    if (err != ERR_DEST_CHANGED) {
        *ret_is_final = false;
        return err;
    }
    // The final one may have any permissions, which matter for all but root.
    err = open_own(p, e, dir, name, open, O_RDONLY, ret_fd, ret_id, ret_failure);
    if (err == ERR_DENIED) {
        err = open_own(p, e, dir, name, open, O_WRONLY, ret_fd, ret_id, ret_failure);
    }
    *ret_is_final = err == OK;
    return err;
}

enum err sink_posix_sync_large(struct sink *s, const struct object_entry *e, const char *temp,
                               const struct receipt *open, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir = NULL;
    char name[256];
    enum err err = temp_parent(p, e, open, &dir, name, ret_failure);
    if (err != OK) {
        return err;
    }
    AUTO(auto_close) int fd = -1;
    bool is_final = false;
    struct identity id = {0};
    err = find_own(p, e, dir, name, temp, open, &fd, &id, &is_final, ret_failure);
    if (err != OK) {
        return err == ERR_DEST_CHANGED ? changed(p, e, ret_failure) : err;
    }
    return fsync(fd) == 0 ? OK : sink_posix_errno(p, e, errno, "sync", ret_failure);
}

// @len bytes at @offset; by the kernel where it can. 0 or an errno.
static int copy_data(int from, int to, uint64_t offset, uint64_t len) {
    off_t in = (off_t)offset, out = (off_t)offset;
    while (len > 0) {
        ssize_t n = copy_file_range(from, &in, to, &out, len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        len -= (uint64_t)n;
    }
    if (len == 0) {
        return 0;
    }
    AUTO(auto_free) char *buf = malloc(BUFFER_BYTES);
    if (!buf) {
        return ENOMEM;
    }
    while (len > 0) {
        ssize_t n = pread(from, buf, len < BUFFER_BYTES ? (size_t)len : BUFFER_BYTES, in);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? errno : EIO;
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t w = pwrite(to, buf + done, (size_t)(n - done), in + done);
            if (w < 0 && errno != EINTR) {
                return errno;
            }
            done += w > 0 ? w : 0;
        }
        in += n;
        len -= (uint64_t)n;
    }
    return 0;
}

// The same bytes and holes in another inode.
static enum err copy_all(struct sink_posix *p, const struct object_entry *e, int from, int to,
                         uint64_t size, struct failure *ret_failure) {
    if (ioctl(to, FICLONE, from) == 0) {
        return OK;
    }
    if (ftruncate(to, (off_t)size) != 0) {
        return sink_posix_errno(p, e, errno, "set size", ret_failure);
    }
    uint64_t pos = 0;
    while (pos < size) {
        enum err err = sink_check_fence(&p->sink, ret_failure);
        if (err != OK) {
            return err;
        }
        if (sink_posix_is_aborted(p)) {
            return sink_posix_errno(p, e, ECANCELED, "copy", ret_failure);
        }
        uint64_t end = size;
        off_t data = lseek(from, (off_t)pos, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break; // a hole up to the end
        }
        if (data >= 0) {
            pos = (uint64_t)data;
            off_t hole = lseek(from, data, SEEK_HOLE);
            end = hole > data && (uint64_t)hole < size ? (uint64_t)hole : size;
        }
        if (pos >= size) {
            break; // somebody writes behind the end
        }
        uint64_t n = end - pos < COPY_STEP_BYTES ? end - pos : COPY_STEP_BYTES;
        int errnum = copy_data(from, to, pos, n);
        if (errnum != 0) {
            return sink_posix_errno(p, e, errnum, "copy", ret_failure);
        }
        pos += n;
    }
    return OK;
}

// Metadata, sync, and the name. On failure @temp stays: the next attempt goes on with it.
static enum err publish(struct sink_posix *p, const struct object_entry *e, struct dir *dir,
                        const char *name, const char *temp, int *take_fd_,
                        enum durability durability, struct failure *ret_failure) {
    AUTO(auto_close) int fd = take_fd(take_fd_);
    int errnum = sink_posix_set_metadata(p, fd, NULL, e);
    if (errnum != 0) {
        return sink_posix_errno(p, e, errnum, "set metadata", ret_failure);
    }
    if (durability != DURABILITY_NONE && fsync(fd) != 0) {
        return sink_posix_errno(p, e, errno, "sync", ret_failure);
    }
    if (close(take_fd(&fd)) != 0 && errno != EINTR) {
        return sink_posix_errno(p, e, errno, "close", ret_failure);
    }
    enum err err = sink_check_fence_for(&p->sink, e, ret_failure);
    if (err != OK) {
        return err;
    }
    errnum = sink_posix_rename(p, dir, temp, name);
    if (errnum != 0) {
        return sink_posix_rename_failed(p, e, errnum, ret_failure);
    }
    if (durability == DURABILITY_NONE) {
        return OK;
    }
    dir->changed = true;
    return dir_set_sync(&p->dirs, ret_failure);
}

// On a fresh inode, so that a writer that was lost and comes back cannot touch the result.
static enum err finish_fresh(struct sink_posix *p, const struct object_entry *e, struct dir *dir,
                             const char *name, const char *temp, const char *fresh_temp, int from,
                             enum durability durability, struct failure *ret_failure) {
    AUTO(auto_close) int to = -1;
    char same_name[256];
    struct dir *same_dir;
    enum err err = sink_posix_create(p, e, fresh_temp, &same_dir, same_name, &to, ret_failure);
    if (err != OK) {
        return err;
    }
    err = copy_all(p, e, from, to, e->version.size, ret_failure);
    if (err == OK) {
        err = publish(p, e, dir, name, fresh_temp, &to, durability, ret_failure);
    }
    if (err != OK) {
        (void)unlinkat(dir->fd, fresh_temp, 0);
        return err;
    }
    // Only now: as long as it is there, an interrupted finish starts again from it.
    (void)unlinkat(dir->fd, temp, 0);
    return OK;
}

// The temporary is gone. Was it an earlier finish that ended, but for the acknowledgement?
static enum err recognise(struct sink_posix *p, const struct object_entry *e, struct dir *dir,
                          bool is_final, int fd, bool is_fresh, enum durability durability,
                          struct failure *ret_failure) {
    if (!is_final) {
        enum sink_identical identical = SINK_DIFFERS;
        enum err err = is_fresh ? sink_posix_compare(&p->sink, e, &identical, ret_failure) : OK;
        if (err != OK || identical != SINK_SAME) {
            return err != OK ? err : changed(p, e, ret_failure);
        }
    } else if (durability != DURABILITY_NONE && fsync(fd) != 0) {
        return sink_posix_errno(p, e, errno, "sync", ret_failure);
    }
    if (durability == DURABILITY_NONE) {
        return OK;
    }
    dir->changed = true;
    return dir_set_sync(&p->dirs, ret_failure);
}

static enum err finish(struct sink_posix *p, const struct object_entry *e, struct dir *dir,
                       const char *name, const char *temp, const struct receipt *open,
                       const char *fresh_temp, enum durability durability,
                       struct failure *ret_failure) {
    AUTO(auto_close) int fd = -1;
    struct identity id = {0};
    bool is_final = false;
    enum err err = find_own(p, e, dir, name, temp, open, &fd, &id, &is_final, ret_failure);
    if (err != OK && err != ERR_DEST_CHANGED) {
        return err;
    }
    if (err == ERR_DEST_CHANGED || is_final) {
        return recognise(p, e, dir, is_final, fd, fresh_temp != NULL, durability, ret_failure);
    }
    if (id.size != e->version.size) {
        return sink_posix_fail(p, e, ERR_DEST_CHANGED, "finish",
                               "the temporary file does not have the object's size", ret_failure);
    }
    return fresh_temp ? finish_fresh(p, e, dir, name, temp, fresh_temp, fd, durability, ret_failure)
                      : publish(p, e, dir, name, temp, &fd, durability, ret_failure);
}

enum err sink_posix_finish_large(struct sink *s, const struct object_entry *e, const char *temp,
                                 const struct receipt *open, const struct receipt_list *parts,
                                 const char *fresh_temp, enum durability durability,
                                 struct failure *ret_failure) {
    (void)parts; // they are in the file

    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir = NULL;
    char name[256];
    enum err err = temp_parent(p, e, open, &dir, name, ret_failure);
    if (err != OK) {
        return err;
    }
    dir->n_users++;
    err = finish(p, e, dir, name, temp, open, fresh_temp, durability, ret_failure);
    dir->n_users--;
    return err;
}
