// SPDX-License-Identifier: Apache-2.0
#include "dataplane/walk.h"

#include "common/cleanup.h"
#include "common/ident.h"
#include "dataplane/beneath.h"
#include "dataplane/object_stat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

static const char proof_prefix[] = ".sluice-proof-"; // of volumes that prove that they are shared

static void auto_closedir(DIR **d) {
    if (*d) {
        closedir(*d);
    }
}

struct walk {
    const struct walk_options *options;
    const struct walk_sink *sink;
    struct object_table_builder page;
    uint8_t *path;  // of the entry at hand, from the root: "<directory>/<name>"
    size_t dir_len; // with the '/'
    char target[PATH_MAX];
};

// Failures name the path from the volume's root.
static enum err fail(const struct walk_options *o, const uint8_t *path, size_t path_len,
                     enum err err, int errnum, const char *operation, const char *message,
                     struct failure *ret_failure) {
    size_t len = o->root_len;
    AUTO(auto_free) uint8_t *full = malloc(o->root_len + path_len + 1);
    const uint8_t *object = path;
    if (full) {
        if (o->root_len > 0) {
            memcpy(full, o->root, o->root_len);
        }
        if (path_len > 0) {
            if (len > 0) {
                full[len++] = '/';
            }
            memcpy(full + len, path, path_len);
        }
        object = full;
        path_len += len;
    }
    return errnum != 0 ? failure_errno(ret_failure, errnum, operation, object, path_len)
                       : failure_set(ret_failure, err, operation, object, path_len, "%s", message);
}

// Opens root + path.
static enum err open_below(const struct walk_options *o, const uint8_t *path, size_t path_len,
                           int flags, int *ret_fd, struct failure *ret_failure) {
    size_t len = o->root_len;
    AUTO(auto_free) uint8_t *full = malloc(o->root_len + path_len + 2);
    if (!full) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", path, path_len, NULL);
    }
    if (len > 0) {
        memcpy(full, o->root, len);
    }
    if (path_len > 0) {
        if (len > 0) {
            full[len++] = '/';
        }
        memcpy(full + len, path, path_len);
        len += path_len;
    }
    return beneath_open(o->volume_fd, full, len, flags, 0, ret_fd, ret_failure);
}

// Adds what @fd (O_PATH) or, with @name, the name below @fd is. ERR_NOT_FOUND without failure:
// it vanished.
static enum err look(const struct walk_options *o, int fd, const char *name, const uint8_t *path,
                     size_t path_len, char target[PATH_MAX], struct object_table_builder *b,
                     struct failure *ret_failure) {
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | (name[0] == '\0' ? AT_EMPTY_PATH : 0)) != 0) {
        return errno == ENOENT ? ERR_NOT_FOUND
                               : fail(o, path, path_len, OK, errno, "stat", NULL, ret_failure);
    }
    struct object_entry e;
    if (object_from_stat(&st, &e) != OK) {
        return fail(o, path, path_len, ERR_UNSUPPORTED_TYPE, 0, "list",
                    err_text(ERR_UNSUPPORTED_TYPE), ret_failure);
    }
    if (e.type == OBJECT_SYMLINK) {
        ssize_t n = readlinkat(fd, name, target, PATH_MAX);
        if (n < 0) {
            return errno == ENOENT
                       ? ERR_NOT_FOUND
                       : fail(o, path, path_len, OK, errno, "read link", NULL, ret_failure);
        }
        e.target = (const uint8_t *)target;
        e.target_len = (size_t)n;
    }
    e.path = path;
    e.path_len = path_len;
    enum err err = object_table_add(b, &e);
    if (err != OK && err != ERR_FULL) {
        return fail(o, path, path_len, err, 0, "list", err_text(err), ret_failure);
    }
    return err;
}

static enum err give_page(struct walk *w, bool directory_done, struct failure *ret_failure) {
    const uint8_t *bytes;
    size_t len;
    enum err e = object_table_bytes(&w->page, &bytes, &len);
    if (e != OK) {
        return failure_set(ret_failure, e, "list", NULL, 0, NULL);
    }
    e = w->sink->page(w->sink->user, bytes, len, directory_done);
    object_table_reset(&w->page);
    return e == OK ? OK : failure_set(ret_failure, e, "pass on a listing", NULL, 0, NULL);
}

static enum err walk_entry(struct walk *w, int dir_fd, const char *name,
                           struct failure *ret_failure) {
    const struct walk_options *o = w->options;
    size_t name_len = strlen(name), path_len = w->dir_len + name_len;
    struct failure failure = {0};
    enum err e;
    if (name_len > NAME_MAX) { // network file systems have such, which no call takes
        fail(o, w->path, w->dir_len > 0 ? w->dir_len - 1 : 0, ERR_NAME_TOO_LONG, 0, "list",
             "a name in it is longer than 255 bytes", &failure);
        e = w->sink->failed(w->sink->user, &failure);
        return e == OK ? OK : failure_set(ret_failure, e, "pass on a failure", NULL, 0, NULL);
    }
    memcpy(w->path + w->dir_len, name, name_len);
    if (path_len > OBJECT_PATH_MAX) {
        e = fail(o, w->path, path_len, ERR_NAME_TOO_LONG, 0, "list",
                 "the path is longer than 64 KiB", &failure);
    } else {
        e = look(o, dir_fd, name, w->path, path_len, w->target, &w->page, &failure);
    }
    if (e == ERR_FULL && w->page.count > 0) {
        e = give_page(w, false, ret_failure);
        if (e != OK) {
            return e;
        }
        e = look(o, dir_fd, name, w->path, path_len, w->target, &w->page, &failure);
    }
    if (e == OK || e == ERR_NO_MEMORY) {
        if (e != OK && ret_failure) {
            *ret_failure = failure;
        }
        return e;
    }
    if (e == ERR_NOT_FOUND && failure.err == OK) {
        return OK; // it vanished: it is not part of the source any more
    }
    e = w->sink->failed(w->sink->user, &failure);
    return e == OK ? OK : failure_set(ret_failure, e, "pass on a failure", NULL, 0, NULL);
}

static bool is_left_out(const struct walk_options *o, const char *name) {
    if (name[0] != '.') {
        return false;
    }
    if (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')) {
        return true;
    }
    return o->skip_temporaries && (temp_name_matches(name, strlen(name)) ||
                                   strncmp(name, proof_prefix, sizeof(proof_prefix) - 1) == 0);
}

static enum err walk_entries(struct walk *w, int *take_dir_fd, const uint8_t *path, size_t path_len,
                             struct failure *ret_failure) {
    AUTO(auto_closedir) DIR *dir = fdopendir(*take_dir_fd);
    if (!dir) {
        return fail(w->options, path, path_len, OK, errno, "list", NULL, ret_failure);
    }
    (void)take_fd(take_dir_fd);
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d && errno != 0) {
            return fail(w->options, path, path_len, OK, errno, "list", NULL, ret_failure);
        }
        if (!d) {
            return give_page(w, true, ret_failure);
        }
        if (is_left_out(w->options, d->d_name)) {
            continue;
        }
        enum err e = walk_entry(w, dirfd(dir), d->d_name, ret_failure);
        if (e != OK) {
            return e;
        }
    }
}

// With `single`: the root as the only object, if it is not a directory.
static enum err walk_single(struct walk *w, bool *ret_done, struct failure *ret_failure) {
    AUTO(auto_close) int fd = -1;
    enum err e = open_below(w->options, NULL, 0, O_PATH | O_NOFOLLOW, &fd, ret_failure);
    if (e != OK) {
        return e;
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return fail(w->options, NULL, 0, OK, errno, "stat", NULL, ret_failure);
    }
    if (S_ISDIR(st.st_mode)) {
        return OK;
    }
    e = look(w->options, fd, "", w->path, 0, w->target, &w->page, ret_failure);
    if (e != OK) {
        return e;
    }
    *ret_done = true;
    return give_page(w, true, ret_failure);
}

enum err walk_directory(const struct walk_options *o, const uint8_t *path, size_t path_len,
                        const struct walk_sink *sink, struct failure *ret_failure) {
    AUTO(auto_free) struct walk *w = calloc(1, sizeof(*w));
    AUTO(auto_free) uint8_t *entry_path = malloc(path_len + 1 + NAME_MAX + 1);
    if (!w || !entry_path) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "list", path, path_len, NULL);
    }
    w->options = o;
    w->sink = sink;
    w->path = entry_path;
    if (path_len > 0) {
        memcpy(w->path, path, path_len);
        w->path[path_len] = '/';
        w->dir_len = path_len + 1;
    }
    object_table_init(&w->page);

    bool done = false;
    enum err e = o->single && path_len == 0 ? walk_single(w, &done, ret_failure) : OK;
    if (e == OK && !done) {
        // The user named the root: if it is a link it is followed. What a listing named is not.
        AUTO(auto_close) int fd = -1;
        int flags = O_RDONLY | O_DIRECTORY | (path_len > 0 ? O_NOFOLLOW : 0);
        e = open_below(o, path, path_len, flags, &fd, ret_failure);
        if (e == OK) {
            e = walk_entries(w, &fd, path, path_len, ret_failure);
        }
    }
    object_table_deinit(&w->page);
    return e;
}

enum err walk_look(const struct walk_options *o, const uint8_t *path, size_t path_len,
                   struct object_table_builder *b, struct failure *ret_failure) {
    char target[PATH_MAX];
    AUTO(auto_close) int fd = -1;
    int flags = O_PATH | (path_len > 0 || o->single ? O_NOFOLLOW : 0);
    enum err e = open_below(o, path, path_len, flags, &fd, ret_failure);
    if (e == OK) {
        e = look(o, fd, "", path, path_len, target, b, ret_failure);
    }
    return e;
}
