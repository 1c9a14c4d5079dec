// SPDX-License-Identifier: Apache-2.0
// Proves that the agents of a site that have a volume of one name see the same storage: one
// writes a nonce below the root, the others read it. One round at a time for each volume of a
// site, with all that wait for a proof at that time; a volume that only one connected agent has
// is shared by that fact. Core thread.
#ifndef MASTER_VOLUME_PROOF_H
#define MASTER_VOLUME_PROOF_H

#include "master/agents_impl.h"

struct volume_proofs;

MUST_CHECK enum err volume_proofs_new(struct agents *as, struct volume_proofs **ret_proofs);
void volume_proofs_free(struct volume_proofs *p); // all volumes have left

// The volume of a connected agent is new, or was remounted: pending, until a round says more.
MUST_CHECK enum err volume_proofs_join(struct volume_proofs *p, struct agent_volume *v);
void volume_proofs_leave(struct volume_proofs *p, struct agent_volume *v);
void volume_proofs_answer(struct volume_proofs *p, struct agent *a,
                          const Sluice__V1__VolumeProof *m);
// Starts what is due after joins; tells the scheduler what it finds.
void volume_proofs_go_on(struct agent *a);

#endif
