// SPDX-License-Identifier: Apache-2.0
// Which way the bytes of a range take from this source to this sink.
//
// Chosen here and nowhere else, from both sides' capabilities. Where the file system lets two
// files share blocks nothing is read, hashed or written; else every byte is hashed on its way.
#ifndef DATAPLANE_PATH_CHOICE_H
#define DATAPLANE_PATH_CHOICE_H

#include "dataplane/sink.h"
#include "dataplane/source.h"

#define PATH_REFLINK      "reflink"
#define PATH_WITHIN_STORE "copy-within-store"

struct path_choice {
    bool reflink_failed; // this pair cannot: do not try again in this task
};

// Is it worth opening the source for sharing @length bytes?
bool path_may_share(const struct path_choice *c, const struct source *source,
                    const struct sink *sink, uint64_t length);
// Shares the blocks of [offset, offset + length) of the open source with the open object of
// @sink. With @to_end up to the source's end, which need not be a block's. False: nothing was
// changed, the bytes have to be moved.
bool path_share(struct path_choice *c, const struct source *source, const struct sink *sink,
                uint64_t offset, uint64_t length, bool to_end);

// Does the file system of @fd let one writer into a file at a time? Then those who write parts
// of it had better share a queue (write_queue.h); else they write side by side.
bool path_writes_in_turn(int fd);

// "receive-hash-write" or "read-hash-write": for the log.
const char *path_name(const struct source *source);

#endif
