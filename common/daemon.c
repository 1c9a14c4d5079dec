// SPDX-License-Identifier: Apache-2.0
#include "common/daemon.h"

#include "common/address.h"
#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- signals and limits ----

void daemon_block_signals(sigset_t *ret_signals) {
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

void daemon_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); // never refused up to the hard limit
    }
}

// ---- files ----

enum err daemon_write_port_file(const char *path, const char *addr, int port,
                                struct failure *ret_failure) {
    AUTO(auto_free) char *temp = NULL;
    AUTO(auto_close) int fd = -1;
    struct address a;
    char text[300];
    size_t len = strlen(path);
    enum err err = address_parse(addr, &a, ret_failure);
    if (err != OK) {
        return err;
    }
    bool v6 = strchr(a.host, ':') != NULL;
    int n = snprintf(text, sizeof text, "%s%s%s:%d\n", v6 ? "[" : "", a.host, v6 ? "]" : "", port);
    if (asprintf(&temp, "%s.%d.new", path, (int)getpid()) < 0) {
        temp = NULL;
        return failure_set(ret_failure, ERR_NO_MEMORY, "write the port file", path, len, NULL);
    }
    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "write the port file", path, len);
    }
    errno = ENOSPC; // for a short write
    if (write(fd, text, (size_t)n) != n || rename(temp, path) != 0) {
        err = failure_errno(ret_failure, errno, "write the port file", path, len);
        unlink(temp);
    }
    return err;
}

static enum err make_directories(const char *dir, struct failure *ret_failure) {
    AUTO(auto_free) char *path = strdup(dir);
    if (path == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "make the state directory", dir, strlen(dir),
                           NULL);
    }
    for (char *end = path;;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char after = *end;
        *end = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            return failure_errno(ret_failure, errno, "make the state directory", path,
                                 strlen(path));
        }
        if (after == '\0') {
            return OK;
        }
        *end = after;
    }
}

enum err daemon_lock_directory(const char *dir, int *ret_fd, struct failure *ret_failure) {
    size_t len = strlen(dir);
    enum err err = make_directories(dir, ret_failure);
    if (err != OK) {
        return err;
    }
    AUTO(auto_close) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return failure_errno(ret_failure, errno, "open the state directory", dir, len);
    }
    AUTO(auto_close) int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "lock the state directory", dir, len);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = take_fd(&fd);
        return OK;
    }
    if (errno != EWOULDBLOCK) {
        return failure_errno(ret_failure, errno, "lock the state directory", dir, len);
    }
    err = failure_set(ret_failure, ERR_LOCKED, "lock the state directory", dir, len,
                      "another process uses it");
    failure_remedy(ret_failure, "stop the other process, or give this one a state_dir of its own");
    return err;
}

// ---- ports ----

enum err daemon_hold_port(const char *addr, int *ret_fd, int *ret_port,
                          struct failure *ret_failure) {
    struct address a;
    enum err err = address_parse(addr, &a, ret_failure);
    if (err != OK) {
        return err;
    }
    char port[8];
    snprintf(port, sizeof port, "%d", a.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(a.host, port, &hints, &found);
    if (rc != 0) {
        return failure_set(ret_failure, ERR_INVALID, "listen", addr, strlen(addr), "%s",
                           gai_strerror(rc));
    }
    // With SO_REUSEADDR on both sides another socket may be bound, as long as none listens.
    int one = 1;
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    AUTO(auto_close) int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, sizeof port, NI_NUMERICSERV) !=
            0) {
        err = errno == EADDRINUSE
                  ? failure_set(ret_failure, ERR_BUSY_PORT, "listen", addr, strlen(addr), NULL)
                  : failure_errno(ret_failure, errno, "listen", addr, strlen(addr));
    } else {
        *ret_port = (int)strtol(port, NULL, 10);
        *ret_fd = take_fd(&fd);
    }
    freeaddrinfo(found);
    return err;
}

// ---- names ----

enum err daemon_boot_id(char ret_id[DAEMON_BOOT_ID_SIZE], struct failure *ret_failure) {
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    char text[DAEMON_BOOT_ID_SIZE] = "";
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "read the boot id", path, sizeof path - 1);
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n <= 0) {
        return failure_errno(ret_failure, n < 0 ? errno : EIO, "read the boot id", path,
                             sizeof path - 1);
    }
    text[strcspn(text, "\n")] = '\0';
    memcpy(ret_id, text, sizeof text);
    return OK;
}

void daemon_host_name(char ret_name[DAEMON_HOST_SIZE]) {
    if (gethostname(ret_name, DAEMON_HOST_SIZE) != 0) {
        snprintf(ret_name, DAEMON_HOST_SIZE, "localhost");
    }
    ret_name[DAEMON_HOST_SIZE - 1] = '\0';
}
