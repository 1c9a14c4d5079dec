// SPDX-License-Identifier: Apache-2.0
// An address of this machine that is this process's own, for tests that free a port and expect
// it to be free, or to get it again: nobody else binds there, and a client that dials a free
// port from 127.0.0.1 cannot meet itself.
#ifndef TESTS_LIB_LOOPBACK_H
#define TESTS_LIB_LOOPBACK_H

#include <stdio.h>
#include <unistd.h>

enum { LOOPBACK_SIZE = 32 };

// "127.x.y.z:PORT"; port 0: any.
static inline void own_loopback(int port, char ret_address[LOOPBACK_SIZE]) {
    unsigned pid = (unsigned)getpid(); // less than 2^22
    snprintf(ret_address, LOOPBACK_SIZE, "127.%u.%u.%u:%d", 1 + (pid >> 14) % 250,
             1 + (pid >> 7) % 128, 2 + pid % 128, port);
}

#endif
