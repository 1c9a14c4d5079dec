// SPDX-License-Identifier: Apache-2.0
// A thread that looks at the volumes now and then and carries out proofs that two agents see
// the same volume: both may block for as long as a file system hangs.
#ifndef AGENT_VOLUME_WATCH_H
#define AGENT_VOLUME_WATCH_H

#include "agent/volume.h"

enum { PROOF_NONCE_MAX = 32, PROOF_QUEUE_MAX = 256 };

struct volume_watch;

struct volume_proof {
    char volume[AGENT_NAME_MAX + 1];
    uint8_t nonce[PROOF_NONCE_MAX];
    size_t nonce_len;
    bool write, remove; // neither: read
    // the outcome
    bool wrote;
    uint8_t seen[PROOF_NONCE_MAX];
    size_t seen_len; // 0: the file was not there
    char error[FAILURE_TEXT_MAX];
};

struct volume_watch_options {
    struct volumes *volumes;
    int64_t every_ms; // between looks; 0: 5,000
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
