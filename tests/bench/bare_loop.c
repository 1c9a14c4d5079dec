// SPDX-License-Identifier: Apache-2.0
// The least that moving a file over TCP can cost: bare system calls, no digests, no protocol.
// Two processes on loopback, one for each end; the file is cut into one range a stream.
// Usage: bare_loop sendfile-splice|read-write STREAMS SOURCE DESTINATION [STEP_BYTES]
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_STREAMS = 64 };

static bool zero_copy;
static size_t step = 256 << 10;
static const char *source, *destination;

struct range {
    int socket;
    uint64_t offset, length;
};

static void *send_range(void *arg) {
    struct range r = *(struct range *)arg;
    int fd = open(source, O_RDONLY);
    if (fd < 0) {
        err(1, "%s", source);
    }
    char *buf = aligned_alloc(4096, step);
    off_t at = (off_t)r.offset;
    uint64_t left = r.length;
    while (left > 0) {
        size_t want = left < step ? (size_t)left : step;
        if (zero_copy) {
            ssize_t n = sendfile(r.socket, fd, &at, left < (1U << 30) ? (size_t)left : 1U << 30);
            if (n <= 0) {
                err(1, "sendfile");
            }
            left -= (uint64_t)n;
            continue;
        }
        ssize_t n = pread(fd, buf, want, at);
        if (n <= 0) {
            err(1, "read");
        }
        for (ssize_t sent = 0; sent < n;) {
            ssize_t m = send(r.socket, buf + sent, (size_t)(n - sent), MSG_NOSIGNAL);
            if (m <= 0) {
                err(1, "send");
            }
            sent += m;
        }
        at += n;
        left -= (uint64_t)n;
    }
    shutdown(r.socket, SHUT_WR);
    close(r.socket);
    close(fd);
    free(buf);
    return NULL;
}

static void receive_by_splice(struct range r, int fd) {
    int pipes[2];
    if (pipe(pipes) || fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20) < 0) {
        err(1, "pipe");
    }
    loff_t at = (loff_t)r.offset;
    while (r.length > 0) {
        ssize_t n = splice(r.socket, NULL, pipes[1], NULL, 1 << 20, SPLICE_F_MOVE);
        if (n <= 0) {
            err(1, "splice");
        }
        r.length -= (uint64_t)n;
        while (n > 0) {
            ssize_t m = splice(pipes[0], NULL, fd, &at, (size_t)n, SPLICE_F_MOVE);
            if (m <= 0) {
                err(1, "splice");
            }
            n -= m;
        }
    }
}

static void *receive_range(void *arg) {
    struct range r = *(struct range *)arg;
    int fd = open(destination, O_WRONLY);
    if (fd < 0) {
        err(1, "%s", destination);
    }
    if (zero_copy) {
        receive_by_splice(r, fd);
    } else {
        char *buf = aligned_alloc(4096, step);
        uint64_t at = r.offset;
        while (r.length > 0) {
            size_t want = r.length < step ? (size_t)r.length : step;
            ssize_t n = recv(r.socket, buf, want, MSG_WAITALL);
            if (n <= 0) {
                err(1, "recv");
            }
            if (pwrite(fd, buf, (size_t)n, (off_t)at) != n) {
                err(1, "write");
            }
            at += (uint64_t)n;
            r.length -= (uint64_t)n;
        }
        free(buf);
    }
    close(fd);
    close(r.socket);
    return NULL;
}

static void run(void *(*work)(void *), struct range *ranges, int n) {
    pthread_t threads[MAX_STREAMS];
    for (int i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, work, &ranges[i])) {
            errx(1, "pthread_create");
        }
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(int argc, char **argv) {
    int streams = argc >= 5 ? atoi(argv[2]) : 0;
    if (streams < 1 || streams > MAX_STREAMS) {
        errx(2, "usage: %s sendfile-splice|read-write STREAMS SOURCE DESTINATION [STEP_BYTES]",
             argv[0]);
    }
    zero_copy = strcmp(argv[1], "sendfile-splice") == 0;
    source = argv[3];
    destination = argv[4];
    if (argc > 5) {
        step = strtoul(argv[5], NULL, 10);
    }
    struct stat st;
    int out = open(destination, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (stat(source, &st) || out < 0 || ftruncate(out, st.st_size)) {
        err(1, "%s or %s", source, destination);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, len) || listen(listener, MAX_STREAMS) ||
        getsockname(listener, (struct sockaddr *)&address, &len)) {
        err(1, "listen");
    }
    struct range ranges[MAX_STREAMS];
    uint64_t each = ((uint64_t)st.st_size / (uint64_t)streams + 4095) & ~UINT64_C(4095);
    for (int i = 0; i < streams; i++) {
        uint64_t begin = (uint64_t)i * each;
        uint64_t end = i == streams - 1 ? (uint64_t)st.st_size : begin + each;
        ranges[i] = (struct range){.offset = begin, .length = end - begin};
    }
    pid_t child = fork();
    for (int i = 0; i < streams; i++) {
        // One at a time, so that the ranges of both ends meet: the dialler waits for one byte.
        char go = 0;
        if (child == 0) {
            ranges[i].socket = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(ranges[i].socket, (struct sockaddr *)&address, len) ||
                read(ranges[i].socket, &go, 1) != 1) {
                err(1, "connect");
            }
        } else {
            ranges[i].socket = accept(listener, NULL, NULL);
            if (ranges[i].socket < 0 || write(ranges[i].socket, &go, 1) != 1) {
                err(1, "accept");
            }
        }
    }
    if (child == 0) {
        run(send_range, ranges, streams);
        _exit(0);
    }
    run(receive_range, ranges, streams);
    int status = 1;
    waitpid(child, &status, 0);
    return status == 0 ? 0 : 1;
}
