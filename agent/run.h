// SPDX-License-Identifier: Apache-2.0
// Running one task from start to end, blocking, on a slot's thread.
//
// Each kind of task has one function here; run_task() chooses it, and makes of its outcome what
// is told to the master. Kinds add to run->result what they did and return OK, or the error that
// ended the task, with run->failure filled.
#ifndef AGENT_RUN_H
#define AGENT_RUN_H

#include "agent/lease.h"
#include "agent/list_stream.h"
#include "agent/task_result.h"
#include "agent/volume.h"

struct conn_pool;
struct credential_table;
struct s3_client;
struct s3_store;
struct source_agent_peer;
struct write_queues;

// What all tasks of an agent use. Constant.
struct run_tools {
    const char *agent;   // our name
    const char *boot_id; // of this machine
    struct volumes *volumes;
    struct credential_table *credentials;
    struct conn_pool *pool;
    struct write_queues *queues;
    int64_t stall_ms;           // of data connections
    uint64_t direct_from_bytes; // files of that size go past the page cache; 0: none
    struct list_lane *lists;
};

struct run {
    // constant while the task runs
    const struct run_tools *tools;
    struct lease *lease;
    const Sluice__V1__TaskSpec *spec;
    void *buffer; // page-aligned, the slot's
    size_t buffer_bytes;
    struct object_table table;
    enum hash_algorithm digest;
    enum durability durability;
    // what was opened; run_task() releases it
    int source_fd, sink_fd;          // roots of volumes
    struct source_agent_peer *peers; // the source borrows them
    struct source *source;
    struct sink *sink;
    char *tagging; // the sink borrows it; NULL: none
    // the outcome
    struct transfer_times times;
    uint64_t store_retries;
    struct failure failure;
    Sluice__V1__TaskResult *result;
};

enum run_end {
    RUN_RESULT,  // *ret_result is to be sent
    RUN_STOPPED, // given back with nothing done: say Stopped
};

// @l is running. *@ret_result is NULL unless RUN_RESULT.
enum run_end run_task(const struct run_tools *tools, struct lease *l, void *buffer,
                      size_t buffer_bytes, Sluice__V1__TaskResult **ret_result);
const char *run_kind_name(Sluice__V1__TaskKind kind); // "batch"

// ---- for the kinds ----
// The other end and this end; ERR_INVALID if the spec lacks that place.
MUST_CHECK enum err run_open_source(struct run *r);
MUST_CHECK enum err run_open_sink(struct run *r);
// The object store that a place is in; NULL: it is in a directory.
MUST_CHECK enum err run_find_store(struct run *r, const Sluice__V1__Place *p, enum volume_use use,
                                   struct s3_store **ret_store);
// What the task signs with at @store, of name @volume: *@storage, or NULL: the store's own. The
// caller wipes the storage.
struct s3_credentials;
MUST_CHECK enum err run_find_keys(struct run *r, const char *volume, struct s3_credentials *storage,
                                  const struct s3_credentials **ret_keys);
// A client of the store, with these keys.
MUST_CHECK enum err run_open_client(struct run *r, const char *volume, struct s3_store *store,
                                    struct s3_client **ret_client);
// Just the root of the volume, for @use, of a place that the spec must have.
MUST_CHECK enum err run_open_root(struct run *r, const Sluice__V1__Place *p, enum volume_use use,
                                  int *ret_fd);
struct transfer_options run_transfer_options(struct run *r);
// The name of the temporary of @e: of a whole object, or of a large one's generation.
void run_temp_name(const struct run *r, const struct object_entry *e,
                   char ret_name[TEMP_NAME_SIZE]);
void run_large_temp_name(const struct run *r, const struct object_entry *e,
                         char ret_name[TEMP_NAME_SIZE]);
// The receipt that OPEN returned, from the spec. ERR_INVALID: it is not there.
MUST_CHECK enum err run_open_receipt(struct run *r, struct receipt *ret_receipt);
// Object @index failed: into the result and the log.
MUST_CHECK enum err run_object_failed(struct run *r, uint32_t index, const struct failure *f);
// Would the next object fail the same way?
bool run_error_ends_task(enum err e);

enum err run_list(struct run *r);
enum err run_batch(struct run *r);
enum err run_part(struct run *r);
enum err run_open(struct run *r);
enum err run_sync(struct run *r);
enum err run_finish(struct run *r);
enum err run_abort(struct run *r);
enum err run_mkdir(struct run *r);
enum err run_link(struct run *r);
enum err run_dirmeta(struct run *r);
enum err run_delete(struct run *r);
enum err run_cleanup(struct run *r);
enum err run_verify(struct run *r);
enum err run_stat(struct run *r);

#endif
