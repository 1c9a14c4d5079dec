// SPDX-License-Identifier: Apache-2.0
// The files below volumes' roots by which agents prove that they see the same volume.
//
// Each is noted in the state directory before it is written, so that none outlives a kill, or a
// master that never says that it may go. One thread uses them: the volume watch's.
#ifndef AGENT_PROOF_FILE_H
#define AGENT_PROOF_FILE_H

#include "agent/volume.h"

enum { PROOF_NONCE_MAX = 32 };

struct proof_files;

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

// Removes what the run before left. Both are borrowed and must outlive the files.
MUST_CHECK enum err proof_files_new(const char *state_dir, struct volumes *volumes,
                                    struct proof_files **ret_files, struct failure *ret_failure);
void proof_files_free(struct proof_files *p); // NULL is fine; what is written stays noted

// Writes, reads or removes, as @proof says; the outcome is put into it.
void proof_files_prove(struct proof_files *p, struct volume_proof *proof);
// Removes what was written @older_ms ago or before and nobody has removed since.
void proof_files_sweep(struct proof_files *p, int64_t older_ms);

#endif
