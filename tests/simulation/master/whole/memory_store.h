// SPDX-License-Identifier: Apache-2.0
// The inside of the store in memory.
#ifndef TESTS_SIMULATION_MASTER_WHOLE_MEMORY_STORE_H
#define TESTS_SIMULATION_MASTER_WHOLE_MEMORY_STORE_H

#include "tests/simulation/master/whole/world.h"

enum { STAGES = 6, RANKS = 4 };

struct memory_order {
    struct memory_task *first, *last;
};
struct memory_task {
    struct hash_node by_id;
    struct task_row row; // spec owned; leases, large: unset
    struct lease_row *leases;
    size_t n_leases;
    struct memory_order *order;
    struct memory_task *prev, *next;
};
struct memory_walk {
    struct hash_node by_id;
    struct walk_row row;             // entry owned
    struct memory_walk *prev, *next; // of its state, by depth and id
};
struct memory_ack {
    struct ack_row row; // owned
};
// A large object, its acknowledgements, and how many tasks it has.
struct memory_object {
    struct hash_node by_id;
    uint64_t id;
    bool exists;
    struct large_row row; // entry and receipt owned
    struct ack_row *acks; // by offset; owned
    size_t n_acks, cap_acks;
    size_t n_tasks;
    struct memory_object *prev, *next; // those that exist, by id
};
struct memory_seen {
    struct hash_node by_digest;
    uint64_t walk;
    uint8_t digest[SEEN_BYTES];
};
struct memory_failed {
    uint64_t number, walk, generation;
};

struct memory_store {
    struct store store; // first member
    size_t bytes;
    bool has_plan;
    struct blob plan, progress;
    struct hash_index tasks, walks, objects, seen;
    struct memory_order ready[STAGES][RANKS][2], waiting, growing;
    size_t n_stage[STAGES];
    struct {
        struct memory_walk *first, *last;
        size_t n;
    } walk_states[3];
    struct memory_object *first_large, *last_large;
    size_t n_larges, n_acks;
    struct memory_failed *failed;
    size_t n_failed;
};

void memory_blob_set(struct memory_store *s, struct blob *to, struct blob from);
void memory_blob_free(struct memory_store *s, struct blob *b);
struct memory_task *memory_task(const struct memory_store *s, uint64_t id);

// ---- memory_store_objects.c ----
bool memory_apply_object(struct memory_store *s, const struct row *r);    // false: unknown
struct memory_object *memory_object(struct memory_store *s, uint64_t id); // made if need be
struct memory_walk *memory_walk(const struct memory_store *s, uint64_t id);
struct memory_walk *memory_each_walk(const struct memory_store *s, const struct memory_walk *w);
void memory_walk_in(struct memory_store *s, struct memory_walk *w);
void memory_walk_out(struct memory_store *s, struct memory_walk *w);
void memory_walks_clear(struct memory_store *s);
void memory_objects_abandon(struct memory_store *s);
void memory_objects_clear(struct memory_store *s);
struct memory_seen *memory_seen(const struct memory_store *s, uint64_t walk,
                                const uint8_t digest[SEEN_BYTES]);
void memory_seen_drop(struct memory_store *s, uint64_t walk, bool all);
void memory_failed_clear(struct memory_store *s);
bool memory_has_failed(const struct memory_store *s, uint64_t number);

// ---- memory_store_read.c ----
enum err memory_read(struct store *store, struct query *q, struct arena *a,
                     struct failure *ret_failure);

#endif
