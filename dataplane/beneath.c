// SPDX-License-Identifier: Apache-2.0
#include "dataplane/beneath.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum {
    STEP_MAX = 4095, // PATH_MAX without its NUL
    NAME_LEN_MAX = 255,
    RACES_MAX = 64, // EAGAIN: something above was renamed while ".." of a link was resolved
};

// openat2() of one stretch of a path that fits PATH_MAX. Gives a descriptor or -errno.
static int open_step(int dir_fd, const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) ? mode & 07777 : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    for (int i = 0;; i++) {
        long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
        if (fd >= 0) {
            return (int)fd;
        }
        if (errno != EINTR && (errno != EAGAIN || i >= RACES_MAX)) {
            return -errno;
        }
    }
}

// The whole path, walked in steps where it passes PATH_MAX. A descriptor or -errno.
static int open_path(int root_fd, const uint8_t *path, size_t len, int flags, mode_t mode) {
    char step[STEP_MAX + 1];
    AUTO(auto_close) int owned = -1;
    int at = root_fd;

    while (len > STEP_MAX) {
        size_t cut = STEP_MAX;
        while (cut > 0 && path[cut] != '/') {
            cut--;
        }
        if (cut == 0) {
            return -ENAMETOOLONG;
        }
        memcpy(step, path, cut);
        step[cut] = '\0';
        int fd = open_step(at, step, O_PATH | O_DIRECTORY, 0);
        if (fd < 0) {
            return fd;
        }
        if (owned >= 0) {
            close(owned);
        }
        owned = at = fd;
        path += cut + 1;
        len -= cut + 1;
    }
    if (len == 0) {
        // The root itself: "." resolves without leaving it.
        step[0] = '.';
        len = 1;
    } else {
        memcpy(step, path, len);
    }
    step[len] = '\0';
    return open_step(at, step, flags, mode);
}

static enum err explain(struct failure *f, int errnum, const char *operation, const uint8_t *path,
                        size_t len) {
    switch (errnum) {
    case EXDEV:
        failure_set(f, ERR_OUTSIDE, operation, path, len,
                    "a symbolic link or '..' on the way leads out of the volume");
        failure_remedy(f, "give the path without that link, or export a volume that holds its "
                          "target (absolute links always count as leading out)");
        return ERR_OUTSIDE;
    case ENOSYS:
        failure_set(f, ERR_UNIMPLEMENTED, operation, path, len,
                    "this kernel or its sandbox lacks openat2, which keeps paths inside a volume");
        failure_remedy(f, "run on Linux 5.6 or newer, and allow openat2 in the seccomp profile");
        return ERR_UNIMPLEMENTED;
    case ENOTDIR:
        return failure_set(f, ERR_NOT_DIRECTORY, operation, path, len,
                           "something on the way is not a directory");
    default: return failure_errno(f, errnum, operation, path, len);
    }
}

enum err beneath_open(int root_fd, const uint8_t *path, size_t path_len, int flags, mode_t mode,
                      int *ret_fd, struct failure *ret_failure) {
    int fd = open_path(root_fd, path, path_len, flags, mode);
    if (fd < 0) {
        return explain(ret_failure, -fd, "open", path, path_len);
    }
    *ret_fd = fd;
    return OK;
}

// The length of what is above the last component, and that component's place.
static size_t parent_len(const uint8_t *path, size_t len, size_t *ret_name_at) {
    size_t at = len;
    while (at > 0 && path[at - 1] != '/') {
        at--;
    }
    *ret_name_at = at;
    return at > 0 ? at - 1 : 0;
}

enum err beneath_open_parent(int root_fd, const uint8_t *path, size_t path_len, int *ret_dir_fd,
                             char ret_name[256], struct failure *ret_failure) {
    if (path_len == 0) {
        return failure_set(ret_failure, ERR_INVALID, "open parent", NULL, 0,
                           "the volume's root has no parent");
    }
    size_t name_at, dir_len = parent_len(path, path_len, &name_at);
    size_t name_len = path_len - name_at;
    if (name_len > NAME_LEN_MAX) {
        return failure_errno(ret_failure, ENAMETOOLONG, "open parent", path, path_len);
    }
    int fd = open_path(root_fd, path, dir_len, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) {
        return explain(ret_failure, -fd, "open parent", path, path_len);
    }
    memcpy(ret_name, path + name_at, name_len);
    ret_name[name_len] = '\0';
    *ret_dir_fd = fd;
    return OK;
}

// Where the component after @from ends.
static size_t component_end(const uint8_t *path, size_t len, size_t from) {
    const uint8_t *slash = memchr(path + from, '/', len - from);
    return slash ? (size_t)(slash - path) : len;
}

// Opens the longest beginning of @path that exists as a directory: a search by halves over its
// components, for what exists has all above it. *@ret_len: how long it is. -errno if it cannot
// be told.
static int open_existing(int root_fd, const uint8_t *path, size_t len, size_t *ret_len) {
    size_t good = 0, bad = len; // lengths; bad is known not to exist
    AUTO(auto_close) int fd = open_path(root_fd, path, 0, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) {
        return fd;
    }
    for (;;) {
        // A component's end between the two, near the middle.
        size_t low = good == 0 ? 0 : good + 1;
        if (low >= bad) {
            break;
        }
        size_t try = component_end(path, len, low + (bad - low) / 2);
        if (try >= bad) {
            try = component_end(path, len, low);
            if (try >= bad) {
                break;
            }
        }
        int found = open_path(root_fd, path, try, O_PATH | O_DIRECTORY, 0);
        if (found >= 0) {
            close(fd);
            fd = found;
            good = try;
        } else if (found == -ENOENT) {
            bad = try;
        } else {
            return found;
        }
    }
    *ret_len = good;
    return take_fd(&fd);
}

// Makes the directories of @path from @from on, below @take_fd. A descriptor or -errno.
static int make_rest(int take_fd_, const uint8_t *path, size_t len, size_t from,
                     uint32_t *ret_n_made) {
    AUTO(auto_close) int fd = take_fd_;
    char name[NAME_LEN_MAX + 1];
    while (from < len) {
        size_t end = component_end(path, len, from);
        if (end - from > NAME_LEN_MAX) {
            return -ENAMETOOLONG;
        }
        memcpy(name, path + from, end - from);
        name[end - from] = '\0';
        if (mkdirat(fd, name, 0700) == 0) {
            ++*ret_n_made;
        } else if (errno != EEXIST) {
            return -errno;
        }
        int next = open_step(fd, name, O_PATH | O_DIRECTORY, 0);
        if (next == -ENOENT) {
            return -ENOTDIR; // a link that leads nowhere is in the way
        }
        if (next < 0) {
            return next;
        }
        close(fd);
        fd = next;
        from = end + 1;
    }
    return take_fd(&fd);
}

enum err beneath_make_directories(int root_fd, const uint8_t *path, size_t path_len, int *ret_fd,
                                  uint32_t *ret_n_made, struct failure *ret_failure) {
    uint32_t n_made = 0;
    int fd = open_path(root_fd, path, path_len, O_PATH | O_DIRECTORY, 0);
    if (fd == -ENOENT) {
        size_t have;
        fd = open_existing(root_fd, path, path_len, &have);
        if (fd >= 0) {
            fd = make_rest(fd, path, path_len, have == 0 ? 0 : have + 1, &n_made);
        }
    }
    if (fd < 0) {
        return explain(ret_failure, -fd, "make directory", path, path_len);
    }
    if (ret_n_made) {
        *ret_n_made = n_made;
    }
    if (ret_fd) {
        *ret_fd = fd;
    } else {
        close(fd);
    }
    return OK;
}
