// SPDX-License-Identifier: Apache-2.0
// The journal's file: a memo of what the agent knows of its cluster, then results, framed.
//
// Format (little-endian). Memo, 64 bytes: magic "SAJ1", u32 0, cluster id (27 bytes with NUL,
// 5 of 0), u64 term, u64 next number, u64 checksum of the 56 bytes before. Then for each result
// u32 payload length, u32 0, u64 number, u64 checksum of those 16 bytes and the payload, payload
// (a packed sluice.v1.TaskResult). Checksums: the first 8 bytes of XXH3-128.
// A tail that is torn is cut off when the file is opened. One thread at a time.
#ifndef AGENT_JOURNAL_FILE_H
#define AGENT_JOURNAL_FILE_H

#include "common/failure.h"
#include "common/ident.h"

#include <stdint.h>

enum { JOURNAL_RECORD_MAX_BYTES = 1 << 20, JOURNAL_EMPTY_BYTES = 64 };

struct journal_file;

struct journal_memo {
    char cluster[IDENT_SIZE]; // "": no master was met yet
    uint64_t term;            // the highest seen
    uint64_t next_number;     // of results
};

struct journal_record {
    uint64_t number;
    const uint8_t *bytes;
    size_t len;
};

struct journal_found {
    struct journal_memo memo;
    uint64_t n_records;
    uint64_t torn_bytes; // cut off at the end
    // Called for each record, in the order of writing. Anything but OK ends the opening.
    enum err (*each)(void *user, const struct journal_record *r);
    void *user;
};

// Opens (or makes) @state_dir/journal. What is no journal any more is begun anew, with
// torn_bytes set.
MUST_CHECK enum err journal_file_open(const char *state_dir, struct journal_found *found,
                                      struct journal_file **ret_file, struct failure *ret_failure);
void journal_file_close(struct journal_file *f);
uint64_t journal_file_bytes(const struct journal_file *f);
// Adds the records, all or none.
MUST_CHECK enum err journal_file_append(struct journal_file *f, const struct journal_record *r,
                                        size_t n, struct failure *ret_failure);
MUST_CHECK enum err journal_file_sync(struct journal_file *f, struct failure *ret_failure);
// A new file with just these, synced, put in the old one's place.
MUST_CHECK enum err journal_file_rewrite(struct journal_file *f, const struct journal_memo *m,
                                         const struct journal_record *r, size_t n,
                                         struct failure *ret_failure);

#endif
