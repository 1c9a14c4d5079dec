// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct interrupt {
    // Set before the thread starts, not changed after.
    void (*fn)(int count, void *arg);
    void *arg;
    int signal_fd, stop_fd;
    pthread_t thread;
};

static void *wait_for_signals(void *arg) {
    struct interrupt *i = arg;
    struct pollfd fds[] = {{.fd = i->signal_fd, .events = POLLIN},
                           {.fd = i->stop_fd, .events = POLLIN}};
    int count = 0;
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return NULL;
        }
        if (fds[1].revents) {
            return NULL;
        }
        struct signalfd_siginfo caught;
        if (fds[0].revents && read(i->signal_fd, &caught, sizeof(caught)) == sizeof(caught)) {
            i->fn(++count, i->arg);
        }
    }
}

static void fill_set(sigset_t *ret_signals) {
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGTERM);
}

void interrupt_block(void) {
    sigset_t signals;
    fill_set(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

struct interrupt *interrupt_start(void (*fn)(int count, void *arg), void *arg) {
    struct interrupt *i = calloc(1, sizeof(*i));
    if (!i) {
        return NULL;
    }
    sigset_t signals;
    fill_set(&signals);
    i->fn = fn;
    i->arg = arg;
    i->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    i->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (i->signal_fd >= 0 && i->stop_fd >= 0 &&
        pthread_create(&i->thread, NULL, wait_for_signals, i) == 0) {
        return i;
    }
    if (i->signal_fd >= 0) {
        close(i->signal_fd);
    }
    if (i->stop_fd >= 0) {
        close(i->stop_fd);
    }
    free(i);
    return NULL;
}

void interrupt_stop(struct interrupt *i) {
    if (!i) {
        return;
    }
    uint64_t one = 1;
    while (write(i->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    pthread_join(i->thread, NULL);
    close(i->signal_fd);
    close(i->stop_fd);
    free(i);
}
