// SPDX-License-Identifier: Apache-2.0
// A directory of its own for a test, files in it, and object tables that list it.
#ifndef TESTS_LIB_TREE_H
#define TESTS_LIB_TREE_H

#include "common/object_table.h"
#include "dataplane/walk.h"
#include "tests/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

struct tree {
    char path[256];
    int fd; // O_PATH, as volumes are given
};

UNUSED static void tree_new(struct tree *t) {
    const char *above = getenv("TMPDIR");
    snprintf(t->path, sizeof(t->path), "%s/sluice-test-XXXXXX", above ? above : "/tmp");
    assert_non_null(mkdtemp(t->path));
    t->fd = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(t->fd >= 0);
}

// Removes what is below @dir_fd, however deep.
UNUSED static void tree_clear(int dir_fd) {
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        return;
    }
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (unlinkat(fd, e->d_name, 0) == 0) {
            continue;
        }
        (void)fchmodat(fd, e->d_name, 0700, 0);
        int below = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0) {
            tree_clear(below);
            close(below);
        }
        (void)unlinkat(fd, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
}

UNUSED static void tree_free(struct tree *t) {
    tree_clear(t->fd);
    close(t->fd);
    assert_int_equal(rmdir(t->path), 0);
}

UNUSED static void tree_mkdir(const struct tree *t, const char *path) {
    assert_int_equal(mkdirat(t->fd, path, 0755), 0);
}

UNUSED static void tree_write(const struct tree *t, const char *path, const void *bytes,
                              size_t len) {
    int fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)bytes + done, len - done, (off_t)done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    close(fd);
}

// Bytes that differ everywhere.
UNUSED static uint8_t *tree_pattern(size_t len, uint64_t seed) {
    uint8_t *bytes = malloc(len + 8);
    assert_non_null(bytes);
    uint64_t x = seed * 2654435761u + 88172645463325252u;
    for (size_t i = 0; i < len; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(bytes + i, &x, 8);
    }
    return bytes;
}

UNUSED static void assert_file_is(const struct tree *t, const char *path, const void *bytes,
                                  size_t len) {
    int fd = openat(t->fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        fail_msg("%s: %s", path, strerror(errno));
    }
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, len);
    uint8_t *got = malloc(len + 1);
    assert_non_null(got);
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, got + done, len - done, (off_t)done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    assert_true(len == 0 || memcmp(got, bytes, len) == 0);
    free(got);
    close(fd);
}

// How many names there are in @path.
UNUSED static int tree_count(const struct tree *t, const char *path) {
    int fd = openat(t->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
    DIR *d = fdopendir(fd);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(d);
    return n;
}

// A table of the objects that @paths (from @t on, NULL at the end) are, with ids from 1.
struct tree_table {
    struct object_table_builder builder;
    struct object_table table;
};

UNUSED static void tree_table_add(struct tree_table *l, const struct tree *t, const char *path) {
    struct object_table_builder one;
    struct object_table seen;
    struct object_entry e;
    const uint8_t *bytes;
    size_t len;
    object_table_init(&one);
    assert_ok(walk_look(&(struct walk_options){.volume_fd = t->fd, .single = true},
                        (const uint8_t *)path, strlen(path), &one, NULL));
    assert_ok(object_table_bytes(&one, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &seen));
    object_table_get(&seen, 0, &e);
    e.id = l->builder.count + 1;
    assert_ok(object_table_add(&l->builder, &e));
    object_table_close(&seen);
    object_table_deinit(&one);
}

UNUSED static void tree_table_done(struct tree_table *l) {
    const uint8_t *bytes;
    size_t len;
    assert_ok(object_table_bytes(&l->builder, &bytes, &len));
    assert_ok(object_table_open(bytes, len, &l->table));
}

UNUSED static void tree_table_new(struct tree_table *l, const struct tree *t,
                                  const char *const *paths) {
    object_table_init(&l->builder);
    for (; *paths; paths++) {
        tree_table_add(l, t, *paths);
    }
    tree_table_done(l);
}

UNUSED static void tree_table_free(struct tree_table *l) {
    object_table_close(&l->table);
    object_table_deinit(&l->builder);
}

UNUSED static struct object_entry tree_table_entry(const struct tree_table *l, uint32_t index) {
    struct object_entry e;
    object_table_get(&l->table, index, &e);
    return e;
}

#endif
