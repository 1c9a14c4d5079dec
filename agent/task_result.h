// SPDX-License-Identifier: Apache-2.0
// Making a TaskResult, piece by piece. All that it holds is its own memory, so that
// sluice__v1__task_result__free_unpacked() frees it whole. Not thread-safe.
#ifndef AGENT_TASK_RESULT_H
#define AGENT_TASK_RESULT_H

#include "common/failure.h"
#include "common/hash.h"
#include "dataplane/sink.h"
#include "dataplane/transfer.h"
#include "sluice/v1/task.pb-c.h"

// For this lease, with nothing done yet. NULL: out of memory.
Sluice__V1__TaskResult *task_result_new(const Sluice__V1__Lease *l);
void task_result_free(Sluice__V1__TaskResult *r); // NULL is fine

// The failure of the task as a whole (@agent: where it was seen); sets `retryable` too.
MUST_CHECK enum err task_result_fail(Sluice__V1__TaskResult *r, const struct failure *f,
                                     const char *agent);
// @n objects, all OBJECT_UNSTARTED, with their indexes.
MUST_CHECK enum err task_result_add_objects(Sluice__V1__TaskResult *r, size_t n);
// @digest_bytes 0: no digest.
MUST_CHECK enum err task_result_object_done(Sluice__V1__TaskResult *r, size_t index,
                                            Sluice__V1__ObjectOutcome outcome, uint64_t bytes,
                                            const struct digest *digest, size_t digest_bytes);
MUST_CHECK enum err task_result_object_failed(Sluice__V1__TaskResult *r, size_t index,
                                              const struct failure *f, const char *agent);
MUST_CHECK enum err task_result_set_receipt(Sluice__V1__TaskResult *r, const struct receipt *rc,
                                            bool synced, const char *boot_id);
MUST_CHECK enum err task_result_set_times(Sluice__V1__TaskResult *r,
                                          const struct transfer_times *t);
// A copy of @text or @bytes in @field, whose old value is freed.
MUST_CHECK enum err task_result_set_text(char **field, const char *text);
MUST_CHECK enum err task_result_set_bytes(ProtobufCBinaryData *field, const void *bytes,
                                          size_t len);
// Are all objects decided, none left unstarted?
bool task_result_is_complete(const Sluice__V1__TaskResult *r);
// Keeps the encoding below @max_bytes by shortening the texts of objects' failures.
void task_result_trim(Sluice__V1__TaskResult *r, size_t max_bytes);

#endif
