// SPDX-License-Identifier: Apache-2.0
// A server on loopback that answers a few calls in the ways that tests of calls need, on a loop and
// a thread of its own.
#ifndef TESTS_UNIT_COMMON_RPC_FIXTURE_H
#define TESTS_UNIT_COMMON_RPC_FIXTURE_H

#include "common/rpc/rpc.h"

#include <pthread.h>

enum { N_EVENTS = 500 }; // of a flow that is watched

struct fixture {
    struct loop *loop;
    pthread_t thread;
    struct rpc_server *server;
    struct rpc_channel *channel;
    int port;
    // of the server's loop
    size_t n_received, max_queued;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_closed, last_code; // of calls at the server, under the lock
};

int rpc_fixture_set_up(void **state); // a struct fixture
int rpc_fixture_tear_down(void **state);

#endif
