// SPDX-License-Identifier: Apache-2.0
// The volumes that this agent exports: their roots, held open, and how they are.
//
// Thread-safe. volumes_check() may block as long as a file system hangs; the others do not
// wait for it.
#ifndef AGENT_VOLUME_H
#define AGENT_VOLUME_H

#include "agent/agent_options.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct s3_credentials;
struct s3_store;
struct volumes;

// How a volume is. A copy; the texts belong to the options.
struct volume_status {
    const char *name, *root; // of an object store: its URL
    bool readable, writable;
    bool is_store;
    uint64_t bytes_free, bytes_total;
    uint64_t generation;          // rises when another directory is found at the root: a remount
    char error[FAILURE_TEXT_MAX]; // "": it can be used
};

// Opens all roots. A root that is missing or no directory fails, with the remedy.
// @o must outlive the volumes.
MUST_CHECK enum err volumes_open(const struct agent_options *o, struct volumes **ret_volumes,
                                 struct failure *ret_failure);
void volumes_free(struct volumes *v);
size_t volumes_count(const struct volumes *v);
void volumes_get(struct volumes *v, size_t index, struct volume_status *ret_status);

enum volume_use { VOLUME_READ, VOLUME_WRITE };
// The root (O_PATH | O_DIRECTORY) as a new descriptor, which the caller closes. ERR_NO_VOLUME:
// not ours, or it cannot be used now; ERR_DENIED: not exported for that use.
MUST_CHECK enum err volumes_root(struct volumes *v, const char *name, enum volume_use use,
                                 int *ret_fd, struct failure *ret_failure);
// The object store of that name, for @use; NULL: the volume is none. It belongs to the volumes.
MUST_CHECK enum err volumes_store(struct volumes *v, const char *name, enum volume_use use,
                                  struct s3_store **ret_store, struct failure *ret_failure);
// Keys for the store of that name, if there is one, instead of those that it is configured with;
// NULL: those again, which are looked for once more.
void volumes_set_credentials(struct volumes *v, const char *name,
                             const struct s3_credentials *keys);
// The same whatever it is exported for: for proofs.
MUST_CHECK enum err volumes_any_root(struct volumes *v, const char *name, int *ret_fd,
                                     struct failure *ret_failure);

// Looks at all roots again. true: something changed that the master should know: an error came
// or went, a root was remounted, free space moved by more than 1 %.
bool volumes_check(struct volumes *v);

#endif
