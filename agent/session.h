// SPDX-License-Identifier: Apache-2.0
// The session with the master: one call, dialled again for as long as the agent lives.
//
// All of it happens on one loop's thread, the control thread, which never blocks. After each
// Welcome, results that are not committed are sent again. Leases are fenced when the master was
// not heard for its hold time (agent/hold.h), and stopped when it refuses or revokes them.
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include "agent/agent_options.h"
#include "agent/executor.h"
#include "agent/incarnation.h"
#include "agent/journal.h"
#include "agent/list_stream.h"
#include "agent/under_way.h"
#include "agent/volume_watch.h"
#include "common/s3_credentials.h"
#include "common/ticket.h"

struct session;

enum {
    SESSION_WELCOME_MS = 10000,    // from Register to Welcome
    SESSION_BACKOFF_MS = 2000,     // between dials, at most
    SESSION_REFUSED_MS = 5000,     // after a Goodbye or a refused term
    SESSION_DRAIN_MS = 30000,      // for tasks that run
    SESSION_STOP_MS = 5000,        // then for them to stop
    SESSION_QUEUE_BYTES = 2 << 20, // of results that wait to be sent
};

struct session_options {
    struct loop *loop;
    const struct clock *clock;
    const struct agent_options *agent;
    const struct incarnation *incarnation;
    struct hold *hold;
    const uint8_t *public_key; // SIGNING_KEY_BYTES
    int64_t drain_ms;          // 0: SESSION_DRAIN_MS
    // On the loop's thread. A master welcomed us: its cluster's id, and the key that it signs
    // tickets with.
    void (*welcomed)(void *user, const char *cluster, const uint8_t ticket_key[SIGNING_KEY_BYTES]);
    uint64_t (*bytes_served)(void *user);
    // Keys to object stores: see agent/credential_table.h. NULL: look again, or with @removed,
    // there are none any more.
    void (*credentials)(void *user, const char *name, const struct s3_credentials *keys,
                        bool removed);
    // After session_drain(): nothing runs any more, and the call is closed.
    void (*drained)(void *user);
    void *user;
};

// What the session commands, made after it (they report to it). All outlive it.
struct session_parts {
    struct journal *journal;
    struct under_way *under_way; // NULL: none is kept
    struct volumes *volumes;
    struct volume_watch *watch;
    struct executor *executor;
    const char *const *data_addresses;
    size_t n_data_addresses;
};

MUST_CHECK enum err session_new(const struct session_options *o, struct session **ret_session,
                                struct failure *ret_failure);
struct list_lane *session_list_lane(struct session *s);
void session_start(struct session *s, const struct session_parts *p); // any thread
// No new tasks; what runs may end within the drain time, then `drained`. Any thread.
void session_drain(struct session *s);
// After `drained` and after the loop's end, or if it was never started. NULL is fine.
void session_free(struct session *s);

// Reports; any thread. @session is a struct session.
void session_results_written(void *session);
void session_lease_stopped(void *session, uint64_t task_id, uint64_t term, uint64_t counter);
void session_executor_idle(void *session);
void session_volumes_changed(void *session);
void session_volume_proved(void *session, const struct volume_proof *p);

#endif
