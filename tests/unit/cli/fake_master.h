// SPDX-License-Identifier: Apache-2.0
// A master made of paper: FlowService as a script, in this process, on a free port.
#ifndef TESTS_UNIT_CLI_FAKE_MASTER_H
#define TESTS_UNIT_CLI_FAKE_MASTER_H

#include "common/rpc/rpc.h"
#include "sluice/v1/flow_service.pb-c.h"
#include "tests/lib/loopback.h"

#include <pthread.h>
#include <stdatomic.h>

enum { FAKE_EVENTS_MAX = 8, FAKE_PAGE_MAX = 500 };

struct fake_event {
    uint64_t seq;
    Sluice__V1__FlowState state;
    Sluice__V1__FlowOutcome outcome;
};

struct fake_master {
    // The script, set before fake_master_start().
    struct fake_event events[FAKE_EVENTS_MAX];
    size_t n_events;
    size_t break_after; // the first WatchFlow ends with UNAVAILABLE after so many; 0: never
    bool hold;          // WatchFlow stays open after the last event
    uint64_t objects_failed;
    uint32_t n_flows;      // that ListFlows knows, all with the same id
    enum err submit_fails; // SubmitFlow's answer; OK: the id "F"
    // What was asked.
    atomic_int n_watches, n_terminates;
    _Atomic uint64_t last_from_seq;

    char address[LOOPBACK_SIZE];
    struct loop *loop;
    struct rpc_server *server;
    pthread_t thread;
};

void fake_master_start(struct fake_master *m);
void fake_master_stop(struct fake_master *m);

#endif
