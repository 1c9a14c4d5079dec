// SPDX-License-Identifier: Apache-2.0
// A thread with a connection and a queue of its own. Inside the database only.
#ifndef MASTER_DATABASE_LANE_H
#define MASTER_DATABASE_LANE_H

#include "master/database_request.h"

#include <pthread.h>
#include <stdatomic.h>

struct lane {
    struct database *database;
    struct store *store;
    bool writes;
    bool started;
    pthread_t thread;
    // below: under database.lock
    struct request *first, **last;
    pthread_cond_t wake;
};

struct database {
    struct loop *core;
    int lock_fd;
    int64_t outage_ms; // how long the writer goes on trying; 0: without end
    pthread_mutex_t lock;
    bool closing;                                        // under lock
    int64_t closing_ms;                                  // under lock
    void (*on_lost)(void *arg, const struct failure *f); // under lock
    void *on_lost_arg;                                   // under lock
    struct lane writer, reader;
    atomic_size_t queued;  // writes
    atomic_bool is_active; // the term was raised
    // core thread
    bool stopped;
    void (*on_trouble)(void *arg, const struct failure *f);
    void *on_trouble_arg;
    // writer thread
    bool in_trouble;
    int64_t trouble_ms; // since when
    bool lost;          // what is queued, and all that comes, is refused
};

// ERR_NO_MEMORY: there is nothing to be ended.
MUST_CHECK enum err lane_init(struct lane *l, struct database *d, bool writes);
MUST_CHECK enum err lane_start(struct lane *l, struct failure *ret_failure);
// database.closing is set. Waits for the thread, and frees the store.
void lane_end(struct lane *l);
void lane_enqueue(struct lane *l, struct request *take_request);
// On the core's thread: delivers the answers of a group, a list of requests, and frees it.
void lane_answer(void *group);

#endif
