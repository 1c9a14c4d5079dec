// SPDX-License-Identifier: Apache-2.0
// A thread that looks at the volumes now and then and carries out proofs that two agents see
// the same volume: both may block for as long as a file system hangs.
#ifndef AGENT_VOLUME_WATCH_H
#define AGENT_VOLUME_WATCH_H

#include "agent/proof_file.h"

enum {
    PROOF_QUEUE_MAX = 256,
    PROOF_KEPT_MS = 15 * 1000, // a proof that the master has forgotten by then is removed
};

struct volume_watch;

struct volume_watch_options {
    struct volumes *volumes;
    struct proof_files *proofs; // used by the watch's thread alone while it runs
    int64_t every_ms;           // between looks; 0: 5,000
    // On the watch's thread: volumes_check() said so; a proof (not a removal) is done.
    void (*changed)(void *user);
    void (*proved)(void *user, const struct volume_proof *p);
    void *user;
};
MUST_CHECK enum err volume_watch_new(const struct volume_watch_options *o,
                                     struct volume_watch **ret_watch);
// Queues a proof. ERR_FULL: PROOF_QUEUE_MAX wait already.
MUST_CHECK enum err volume_watch_prove(struct volume_watch *w, const struct volume_proof *p);
void volume_watch_free(struct volume_watch *w); // waits for what it is doing

#endif
