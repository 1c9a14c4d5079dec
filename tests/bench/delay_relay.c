// SPDX-License-Identifier: Apache-2.0
// A relay that delays what passes by a fixed time, each way: a long path where the kernel has no
// netem. One thread; bytes wait in a ring for each direction, large enough for WINDOW_BYTES to be
// under way. What does not fit is not read, so that the sender's window closes as on a real path.
//
// Usage: delay_relay DELAY_MS TARGET_PORT [WINDOW_MIB [LISTEN_PORT]]; prints the port that it
// listens on.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PAIRS = 256, MARKS = 8192 };

// Bytes of one direction. Positions only grow; the place in the ring is the position modulo cap.
struct lane {
    int from, to;
    char *ring;
    size_t cap;
    uint64_t in, out;
    struct {
        uint64_t end; // of the bytes that came then
        uint64_t due_us;
    } marks[MARKS];
    unsigned mark_in, mark_out;
    bool ended, told; // the sender closed; and that was passed on
};

struct pair {
    struct lane lanes[2];
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// The free (for reading) or filled (for writing) bytes at @at, as one or two pieces.
static int pieces(const struct lane *l, uint64_t at, size_t n, struct iovec iov[2]) {
    size_t place = (size_t)(at % l->cap), first = l->cap - place < n ? l->cap - place : n;
    iov[0] = (struct iovec){l->ring + place, first};
    iov[1] = (struct iovec){l->ring, n - first};
    return n > first ? 2 : 1;
}

static bool can_take(const struct lane *l) {
    return !l->ended && l->in - l->out < l->cap && l->mark_in - l->mark_out < MARKS;
}

static void take(struct lane *l, uint64_t delay_us) {
    struct iovec iov[2];
    size_t room = l->cap - (size_t)(l->in - l->out);
    ssize_t n = readv(l->from, iov, pieces(l, l->in, room, iov));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        l->ended = true;
    } else if (n > 0) {
        l->in += (uint64_t)n;
        l->marks[l->mark_in % MARKS].end = l->in;
        l->marks[l->mark_in++ % MARKS].due_us = now_us() + delay_us;
    }
}

// Sends what is due. *@ret_wait_us: until the next is, UINT64_MAX if nothing waits for time;
// *@ret_blocked: the receiver takes no more.
static void give(struct lane *l, uint64_t *ret_wait_us, bool *ret_blocked) {
    *ret_wait_us = UINT64_MAX;
    *ret_blocked = false;
    uint64_t now = now_us(), end = l->out;
    unsigned m = l->mark_out;
    while (m != l->mark_in && l->marks[m % MARKS].due_us <= now) {
        end = l->marks[m++ % MARKS].end;
    }
    while (l->out < end) {
        struct iovec iov[2];
        ssize_t n = writev(l->to, iov, pieces(l, l->out, (size_t)(end - l->out), iov));
        if (n < 0 && errno != EINTR) {
            *ret_blocked = errno == EAGAIN;
            if (errno != EAGAIN) { // nobody takes it any more
                l->ended = true;
                l->out = l->in;
                l->mark_out = l->mark_in;
            }
            return;
        }
        l->out += n > 0 ? (uint64_t)n : 0;
    }
    l->mark_out = m;
    if (m != l->mark_in) {
        *ret_wait_us = l->marks[m % MARKS].due_us - now;
    } else if (l->ended && !l->told) {
        l->told = true;
        (void)shutdown(l->to, SHUT_WR);
        (void)shutdown(l->from, SHUT_RD);
    }
}

static int dial(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        perror("connect");
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static struct pair *pair_new(int client, uint16_t port, size_t window) {
    struct pair *p = calloc(1, sizeof *p);
    int server = dial(port), on = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(server, F_SETFL, O_NONBLOCK);
    for (int i = 0; p && i < 2; i++) {
        struct lane *l = &p->lanes[i];
        l->from = i == 0 ? client : server;
        l->to = i == 0 ? server : client;
        l->cap = window;
        l->ring = malloc(window);
        if (!l->ring) {
            exit(1);
        }
    }
    return p;
}

static void pair_free(struct pair *p) {
    close(p->lanes[0].from);
    close(p->lanes[0].to);
    free(p->lanes[0].ring);
    free(p->lanes[1].ring);
    free(p);
}

int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    static struct pair *pairs[MAX_PAIRS];
    static struct pollfd polls[1 + 2 * MAX_PAIRS];
    unsigned n = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: delay_relay DELAY_MS TARGET_PORT [WINDOW_MIB [LISTEN_PORT]]\n");
        return 2;
    }
    uint64_t delay_us = strtoull(argv[1], NULL, 10) * 1000;
    uint16_t port = (uint16_t)atoi(argv[2]);
    size_t window = (size_t)(argc > 3 ? atoi(argv[3]) : 32) << 20;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_port = htons((uint16_t)(argc > 4 ? atoi(argv[4]) : 0));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *)&a, &len) != 0) {
        perror("listen");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        uint64_t wait_us = UINT64_MAX;
        polls[0] = (struct pollfd){.fd = n < MAX_PAIRS ? listener : -1, .events = POLLIN};
        for (unsigned i = 0; i < n; i++) {
            bool blocked[2];
            for (int k = 0; k < 2; k++) {
                uint64_t w;
                give(&pairs[i]->lanes[k], &w, &blocked[k]);
                wait_us = w < wait_us ? w : wait_us;
            }
            if (pairs[i]->lanes[0].told && pairs[i]->lanes[1].told) {
                pair_free(pairs[i]);
                pairs[i--] = pairs[--n];
                continue;
            }
            for (int k = 0; k < 2;
                 k++) { // the socket that lane k reads is the one that the other writes
                short events = (short)((can_take(&pairs[i]->lanes[k]) ? POLLIN : 0) |
                                       (blocked[1 - k] ? POLLOUT : 0));
                polls[1 + 2 * i + (unsigned)k] =
                    (struct pollfd){.fd = events ? pairs[i]->lanes[k].from : -1, .events = events};
            }
        }
        struct timespec t = {.tv_sec = (time_t)(wait_us / 1000000),
                             .tv_nsec = (long)(wait_us % 1000000) * 1000};
        if (ppoll(polls, 1 + 2 * n, wait_us == UINT64_MAX ? NULL : &t, NULL) < 0 &&
            errno != EINTR) {
            perror("poll");
            return 1;
        }
        unsigned had = n;
        for (unsigned i = 0; i < had; i++) {
            for (int k = 0; k < 2; k++) {
                if (polls[1 + 2 * i + (unsigned)k].revents & (POLLIN | POLLHUP | POLLERR)) {
                    if (can_take(&pairs[i]->lanes[k])) {
                        take(&pairs[i]->lanes[k], delay_us);
                    }
                }
            }
        }
        if (polls[0].revents & POLLIN) {
            int client = accept(listener, NULL, NULL);
            struct pair *p = client < 0 ? NULL : pair_new(client, port, window);
            if (p) {
                pairs[n++] = p;
            }
        }
    }
}
