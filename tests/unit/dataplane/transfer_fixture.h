// SPDX-License-Identifier: Apache-2.0
// Two directories, what moves objects from one to the other, and a source that lies.
#ifndef TESTS_UNIT_DATAPLANE_TRANSFER_FIXTURE_H
#define TESTS_UNIT_DATAPLANE_TRANSFER_FIXTURE_H

#include "dataplane/sink_posix.h"
#include "dataplane/source_impl.h"
#include "dataplane/source_posix.h"
#include "dataplane/transfer.h"
#include "tests/lib/tree.h"

enum { TRANSFER_BUFFER_BYTES = 64 << 10 };

struct transfer_world {
    struct tree from, to;
    struct transfer_control control;
    struct transfer_times times;
    bool fence_open;
    uint64_t direct_from_bytes;                               // of both ends
    struct transfer_object results[OBJECT_TABLE_MAX_OBJECTS]; // of the last batch
};
extern struct transfer_world world;
extern const char transfer_flow[];

void world_set_up(void);
void world_tear_down(void);
struct sink *new_sink(void); // below "out"
struct source *new_source(const struct tree_table *l);
struct transfer_options options_of(struct source *source, struct sink *sink,
                                   const struct tree_table *l);
// One batch with a source and a sink of its own.
MUST_CHECK enum err run_batch(const struct tree_table *l, enum durability durability, bool skip,
                              struct failure *ret_failure);

// One batch from this source, with a sink of its own.
MUST_CHECK enum err run_batch_from(struct source *source, const struct tree_table *l);

// A large object on its way, the first of a table: its temporary file, and the sink.
struct large_world {
    const struct tree_table *table;
    struct object_entry entry;
    char temp[TEMP_NAME_SIZE];
    struct receipt receipt;
    struct sink *sink;
};
void large_open(struct large_world *x, const struct tree_table *l);
// Moves a part of it from this source; free() its digests.
MUST_CHECK enum err large_part(struct large_world *x, struct source *source, uint64_t offset,
                               uint64_t length, struct transfer_part *ret_part);
void large_finish(struct large_world *x); // may be called again
void large_close(struct large_world *x);

// The digests of the leaves of these bytes; free() them.
uint8_t *leaf_digests_of(const void *bytes, size_t n, size_t *ret_n_leaves);

// A source that gives digests, and can lie.
struct lying_source {
    struct source source;
    struct source *inner;
    enum hash_algorithm digest;
    struct leaf_hasher *hasher;
    int lies; // so many times a byte is changed on the way
    uint64_t read_in_range;
    int n_announced, n_opened;
    struct source_range announced[256];
    int yield_after; // reads
};

struct lying_source *lying(struct source *s);
// Reads from a source of new_source(); @lies times a byte is changed on the way.
struct source *new_lying(const struct tree_table *l, int lies);

#endif
