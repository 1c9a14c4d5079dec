// SPDX-License-Identifier: Apache-2.0
#include "agent/incarnation.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static const char boot_id_path[] = "/proc/sys/kernel/random/boot_id";

static enum err make_directories(const char *path, struct failure *f) {
    char prefix[4096];
    size_t len = strlen(path);
    if (len >= sizeof prefix) {
        return failure_set(f, ERR_NAME_TOO_LONG, "mkdir", path, len, NULL);
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        if (mkdir(prefix, 0700) < 0 && errno != EEXIST) {
            return failure_errno(f, errno, "mkdir", prefix, i);
        }
    }
    return OK;
}

static enum err read_boot_id(char ret_id[BOOT_ID_SIZE], struct failure *f) {
    AUTO(auto_close) int fd = open(boot_id_path, O_RDONLY | O_CLOEXEC);
    char text[BOOT_ID_SIZE];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0) {
        return failure_errno(f, errno, "read", boot_id_path, sizeof boot_id_path - 1);
    }
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    memcpy(ret_id, text, BOOT_ID_SIZE);
    return OK;
}

static enum err lock(const char *state_dir, int *ret_fd, struct failure *f) {
    char path[4200];
    int n = snprintf(path, sizeof path, "%s/lock", state_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return failure_set(f, ERR_NAME_TOO_LONG, "open", state_dir, strlen(state_dir), NULL);
    }
    AUTO(auto_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failure_errno(f, errno, "open", path, (size_t)n);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            return failure_errno(f, errno, "flock", path, (size_t)n);
        }
        enum err e = failure_set(f, ERR_LOCKED, "flock", state_dir, strlen(state_dir),
                                 "another sluice-agent uses this state directory");
        failure_remedy(f, "stop it, or give each agent a state_dir of its own");
        return e;
    }
    *ret_fd = take_fd(&fd);
    return OK;
}

enum err incarnation_begin(const char *state_dir, const struct clock *clock,
                           struct incarnation *ret_incarnation, struct failure *ret_failure) {
    struct incarnation i = {.lock_fd = -1};
    enum err e = make_directories(state_dir, ret_failure);
    if (e == OK) {
        e = read_boot_id(i.boot_id, ret_failure);
    }
    if (e == OK) {
        e = lock(state_dir, &i.lock_fd, ret_failure);
    }
    if (e == OK) {
        ident_new(clock_wall_ms(clock), i.id);
        *ret_incarnation = i;
    }
    return e;
}

void incarnation_end(struct incarnation *i) {
    if (i->lock_fd >= 0) {
        close(i->lock_fd);
        i->lock_fd = -1;
    }
}
