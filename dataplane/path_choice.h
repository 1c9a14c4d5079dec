// SPDX-License-Identifier: Apache-2.0
// Which way the bytes of a range take from this source to this sink.
//
// Chosen here and nowhere else, from both sides' capabilities. Digests are always taken, so
// that bytes pass through memory once in any case; what a fast path saves is the writing.
#ifndef DATAPLANE_PATH_CHOICE_H
#define DATAPLANE_PATH_CHOICE_H

#include "dataplane/sink.h"
#include "dataplane/source.h"

enum transfer_path {
    PATH_PLAIN,   // read, hash, write
    PATH_REFLINK, // share the blocks, then read and hash
};

struct path_choice {
    bool reflink_failed; // this pair cannot: do not try again in this task
};

// Chooses, and if blocks can be shared does so: with PATH_REFLINK the open object of @sink has
// bytes [offset, offset + length) of @source's already.
enum transfer_path path_choose(struct path_choice *c, const struct source *source,
                               const struct sink *sink, uint64_t offset, uint64_t length,
                               bool to_end);

// Does the file system of @fd let one writer into a file at a time? Then those who write parts
// of it had better take turns (write_turn.h); else they write side by side.
bool path_writes_in_turn(int fd);

// "receive-hash-write", "read-hash-write" or "reflink-read-hash": for the log.
const char *path_name(const struct source *source, enum transfer_path path);

#endif
