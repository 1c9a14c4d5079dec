// SPDX-License-Identifier: Apache-2.0
// How fast bytes pass through one RDMA wire, either way: to the end that dialled, which offers
// buffers (RDMA WRITE WITH IMM), and to the end that accepted, which offers none (SEND).
// Usage: bench_rdma_wire ADDRESS [MIB]
#include "common/clock.h"
#include "dataplane/transport_rdma.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE_BYTES = 256 * 1024 };

struct stream {
    struct wire *from, *to;
    uint64_t bytes;
    enum err sent, received;
};

static void *run_send(void *arg) {
    struct stream *s = arg;
    static uint8_t piece[PIECE_BYTES];

    for (uint64_t done = 0; done < s->bytes && !s->sent; done += sizeof(piece)) {
        struct iovec iov = {piece, sizeof(piece)};
        s->sent = wire_send(s->from, &iov, 1);
    }
    return NULL;
}

static double cpu_s(void) {
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool measure(const char *name, struct stream s) {
    static uint8_t piece[PIECE_BYTES];
    double cpu = cpu_s(), gib = (double)s.bytes / (1 << 30), seconds;
    uint64_t begun_us = clock_mono_us();
    pthread_t thread;

    if (pthread_create(&thread, NULL, run_send, &s) != 0) {
        return false;
    }
    for (uint64_t done = 0; done < s.bytes && !s.received; done += sizeof(piece)) {
        s.received = wire_receive(s.to, piece, sizeof(piece));
    }
    pthread_join(thread, NULL);
    seconds = (double)(clock_mono_us() - begun_us) / 1e6;
    printf("%-6s %8.1f MiB/s  %6.2f CPU s/GiB of the process\n", name, gib * 1024 / seconds,
           (cpu_s() - cpu) / gib);
    return !s.sent && !s.received;
}

int main(int argc, char **argv) {
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 256;
    struct transport *t = NULL;
    struct listener *l = NULL;
    struct wire *near = NULL, *far = NULL;
    struct failure f = {0};
    char address[WIRE_ADDRESS_MAX], text[1024];
    bool ok = false;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_rdma_wire ADDRESS [MIB]\n");
        return 2;
    }
    (void)snprintf(address, sizeof(address), "%.300s:0", argv[1]);
    if (transport_rdma_new(&(struct transport_rdma_options){0}, &t, &f) == OK &&
        transport_listen(t, address, &l, &f) == OK &&
        transport_dial(t, listener_address(l), 10000, NULL, &near, &f) == OK &&
        listener_accept(l, &far) == OK) {
        ok = measure("write", (struct stream){.from = far, .to = near, .bytes = mib << 20}) &&
             measure("send", (struct stream){.from = near, .to = far, .bytes = mib << 20});
    } else {
        failure_format(&f, text, sizeof(text));
        fprintf(stderr, "bench_rdma_wire: %s\n", text);
    }
    wire_close(near);
    wire_close(far);
    listener_free(l);
    transport_free(t);
    return ok ? 0 : 1;
}
