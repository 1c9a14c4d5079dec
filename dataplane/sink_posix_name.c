// SPDX-License-Identifier: Apache-2.0
// Names: comparing, directories, links, special files, removing.
#include "common/cleanup.h"
#include "dataplane/beneath.h"
#include "dataplane/object_stat.h"
#include "dataplane/sink_posix_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

// ENOENT and ENOTDIR on the way mean that the name is not there.
static bool is_absent(enum err e) {
    return e == ERR_NOT_FOUND || e == ERR_NOT_DIRECTORY;
}

enum err sink_posix_compare(struct sink *s, const struct object_entry *e,
                            enum sink_identical *ret_result, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    char name[256];
    enum err err = sink_posix_parent(p, e, false, &dir, name, ret_failure);
    if (is_absent(err)) {
        *ret_result = SINK_ABSENT;
        return OK;
    }
    if (err != OK) {
        return err;
    }
    struct stat st;
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT) {
            return sink_posix_errno(p, e, errno, "stat", ret_failure);
        }
        *ret_result = SINK_ABSENT;
        return OK;
    }
    struct object_entry found;
    bool same = object_from_stat(&st, &found) == OK && found.type == e->type;
    if (same && e->type != OBJECT_DIRECTORY) {
        same = found.version.mtime_ns == e->version.mtime_ns;
    }
    if (same && e->type == OBJECT_FILE) {
        same = found.version.size == e->version.size;
    } else if (same && e->type == OBJECT_SYMLINK) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(dir->fd, name, target, sizeof(target));
        same = n >= 0 && (size_t)n == e->target_len &&
               (n == 0 || memcmp(target, e->target, (size_t)n) == 0);
    } else if (same && (e->type == OBJECT_CHAR_DEVICE || e->type == OBJECT_BLOCK_DEVICE)) {
        same = found.rdev == e->rdev;
    }
    *ret_result = same ? SINK_SAME : SINK_DIFFERS;
    dir->found_files = dir->found_files || (same && e->type == OBJECT_FILE);
    return same ? sink_posix_changed(p, dir, ret_failure) : OK;
}

enum err sink_posix_remove_temp(struct sink *s, const struct object_entry *e, const char *temp,
                                struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    char name[256];
    enum err err = sink_posix_parent(p, e, false, &dir, name, ret_failure);
    if (err != OK) {
        return is_absent(err) ? OK : err;
    }
    // Also if it is not there: who removed it may have ended before the sync.
    if (unlinkat(dir->fd, temp, 0) != 0 && errno != ENOENT) {
        return sink_posix_errno(p, e, errno, "remove temporary", ret_failure);
    }
    return sink_posix_changed(p, dir, ret_failure);
}

// The directory that @e itself is.
static enum err get_directory(struct sink_posix *p, const struct object_entry *e, bool make,
                              struct dir **ret_dir, struct failure *ret_failure) {
    const uint8_t *full;
    size_t len;
    enum err err = dir_set_join(&p->dirs, e->path, e->path_len, &full, &len, ret_failure);
    return err == OK ? dir_set_get(&p->dirs, full, len, make, ret_dir, ret_failure) : err;
}

static int chmod_by_fd(int fd, mode_t mode) {
    if (fchmod(fd, mode) == 0) {
        return 0;
    }
    if (errno != EBADF) {
        return errno;
    }
    char path[40]; // an O_PATH descriptor can be changed through its name only
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return chmod(path, mode) == 0 ? 0 : errno;
}

enum err sink_posix_make_directory(struct sink *s, const struct object_entry *e,
                                   struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    enum err err = get_directory(p, e, true, &dir, ret_failure);
    if (err != OK) {
        return err;
    }
    // One that was there may forbid its owner to write; its real mode is set at the end.
    struct stat st;
    if (!p->is_root && fstat(dir->fd, &st) == 0 && st.st_uid == p->uid &&
        (st.st_mode & S_IRWXU) != S_IRWXU) {
        int errnum = chmod_by_fd(dir->fd, (st.st_mode & 07777) | S_IRWXU);
        if (errnum != 0) {
            return sink_posix_errno(p, e, errnum, "make writable", ret_failure);
        }
    }
    if (dir->n_made_above > 0) {
        return sink_posix_changed(p, dir, ret_failure);
    }
    return OK;
}

enum err sink_posix_set_directory_metadata(struct sink *s, const struct object_entry *e,
                                           struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    enum err err = get_directory(p, e, false, &dir, ret_failure);
    if (err != OK) {
        return err;
    }
    int errnum = 0;
    if (!dir->is_readable) {
        errnum = chmod_by_fd(dir->fd, S_IRWXU);
        int fd = errnum == 0 ? openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (errnum == 0 && fd < 0) {
            errnum = errno;
        }
        if (fd >= 0) {
            close(dir->fd);
            dir->fd = fd;
            dir->is_readable = true;
        }
    }
    if (errnum == 0) {
        errnum = sink_posix_set_metadata(p, dir->fd, NULL, e);
    }
    if (errnum != 0) {
        return sink_posix_errno(p, e, errnum, "set metadata", ret_failure);
    }
    return sink_posix_changed(p, dir, ret_failure);
}

static int make_temp(const struct dir *dir, const struct object_entry *e, const char *temp) {
    mode_t kind;
    switch (e->type) {
    case OBJECT_SYMLINK: {
        char target[PATH_MAX];
        if (e->target_len == 0 || e->target_len >= sizeof(target)) {
            return ENAMETOOLONG;
        }
        memcpy(target, e->target, e->target_len);
        target[e->target_len] = '\0';
        return symlinkat(target, dir->fd, temp) == 0 ? 0 : errno;
    }
    case OBJECT_FIFO: kind = S_IFIFO; break;
    case OBJECT_SOCKET: kind = S_IFSOCK; break;
    case OBJECT_CHAR_DEVICE: kind = S_IFCHR; break;
    case OBJECT_BLOCK_DEVICE: kind = S_IFBLK; break;
    case OBJECT_FILE:
    case OBJECT_DIRECTORY:
    default: return EINVAL;
    }
    return mknodat(dir->fd, temp, kind | 0600, (dev_t)e->rdev) == 0 ? 0 : errno;
}

// Of something that is not opened: a symbolic link, a fifo, a device.
static int set_name_metadata(const struct sink_posix *p, const struct dir *dir, const char *name,
                             const struct object_entry *e) {
    if (p->is_root && fchownat(dir->fd, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    if (e->type != OBJECT_SYMLINK &&
        fchmodat(dir->fd, name, sink_posix_mode(p, e), AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        object_timespec_from_ns(e->version.mtime_ns),
    };
    return utimensat(dir->fd, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

int sink_posix_rename(const struct sink_posix *p, const struct dir *dir, const char *temp,
                      const char *name) {
    if (!p->sink.capabilities.never_replaces) {
        return renameat(dir->fd, temp, dir->fd, name) == 0 ? 0 : errno;
    }
    if (renameat2(dir->fd, temp, dir->fd, name, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return errno;
    }
    // A file system that cannot: a second name replaces none either.
    if (linkat(dir->fd, temp, dir->fd, name, 0) != 0) {
        return errno;
    }
    (void)unlinkat(dir->fd, temp, 0); // the object is there, whatever becomes of this name
    return 0;
}

enum err sink_posix_rename_failed(struct sink_posix *p, const struct object_entry *e, int errnum,
                                  struct failure *ret_failure) {
    return errnum == EEXIST && p->sink.capabilities.never_replaces
               ? sink_exists(e, "rename", ret_failure)
               : sink_posix_errno(p, e, errnum, "rename", ret_failure);
}

static enum err rename_temp(struct sink_posix *p, const struct object_entry *e, struct dir *dir,
                            const char *temp, const char *name, struct failure *ret_failure) {
    enum err err = sink_check_fence_for(&p->sink, e, ret_failure);
    int errnum = err == OK ? sink_posix_rename(p, dir, temp, name) : 0;
    if (errnum != 0) {
        err = sink_posix_rename_failed(p, e, errnum, ret_failure);
    }
    if (err != OK) {
        (void)unlinkat(dir->fd, temp, 0);
        return err;
    }
    return sink_posix_changed(p, dir, ret_failure);
}

enum err sink_posix_make_special(struct sink *s, const struct object_entry *e, const char *temp,
                                 struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    char name[256];
    enum err err = sink_posix_parent(p, e, true, &dir, name, ret_failure);
    if (err != OK) {
        return err;
    }
    int errnum = make_temp(dir, e, temp);
    if (errnum == EEXIST && unlinkat(dir->fd, temp, 0) == 0) {
        errnum = make_temp(dir, e, temp);
    }
    if (errnum != 0) {
        sink_posix_errno(p, e, errnum, "make special file", ret_failure);
        if (errnum == EPERM) {
            failure_remedy(ret_failure, "run the agent as root to copy devices, or leave them out");
        }
        return err_from_errno(errnum);
    }
    errnum = set_name_metadata(p, dir, temp, e);
    if (errnum != 0) {
        (void)unlinkat(dir->fd, temp, 0);
        return sink_posix_errno(p, e, errnum, "set metadata", ret_failure);
    }
    return rename_temp(p, e, dir, temp, name, ret_failure);
}

enum err sink_posix_make_link(struct sink *s, const struct object_entry *e, const uint8_t *existing,
                              size_t existing_len, const char *temp, struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct object_entry first = {.path = existing, .path_len = existing_len};
    struct dir *first_dir, *dir;
    char first_name[256], name[256];
    enum err err = sink_posix_parent(p, &first, false, &first_dir, first_name, ret_failure);
    if (err != OK) {
        return err;
    }
    first_dir->n_users++;
    err = sink_posix_parent(p, e, true, &dir, name, ret_failure);
    first_dir->n_users--;
    if (err != OK) {
        return err;
    }
    struct stat st, first_st;
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        fstatat(first_dir->fd, first_name, &first_st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_ino == first_st.st_ino && st.st_dev == first_st.st_dev) {
        return sink_posix_changed(p, dir, ret_failure); // it is that link already
    }
    int result = linkat(first_dir->fd, first_name, dir->fd, temp, 0);
    if (result != 0 && errno == EEXIST && unlinkat(dir->fd, temp, 0) == 0) {
        result = linkat(first_dir->fd, first_name, dir->fd, temp, 0);
    }
    if (result != 0) {
        return sink_posix_errno(p, e, errno, "link", ret_failure);
    }
    err = rename_temp(p, e, dir, temp, name, ret_failure);
    if (err == OK) {
        (void)unlinkat(dir->fd, temp, 0); // rename does nothing if both are that link already
    }
    return err;
}

enum err sink_posix_remove(struct sink *s, const struct object_entry *e,
                           struct failure *ret_failure) {
    struct sink_posix *p = sink_posix_of(s);
    struct dir *dir;
    char name[256];
    enum err err = sink_posix_parent(p, e, false, &dir, name, ret_failure);
    if (err != OK) {
        return is_absent(err) ? OK : err;
    }
    if (unlinkat(dir->fd, name, e->type == OBJECT_DIRECTORY ? AT_REMOVEDIR : 0) != 0 &&
        errno != ENOENT) {
        return sink_posix_errno(p, e, errno, "remove", ret_failure);
    }
    return sink_posix_changed(p, dir, ret_failure);
}
