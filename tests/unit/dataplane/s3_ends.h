// SPDX-License-Identifier: Apache-2.0
// Both ends of transfers with the scripted store, for the tests of the S3 source, sink and walk.
#ifndef TESTS_UNIT_DATAPLANE_S3_ENDS_H
#define TESTS_UNIT_DATAPLANE_S3_ENDS_H

#include "dataplane/sink_s3.h"
#include "dataplane/source_s3.h"
#include "dataplane/walk_s3.h"
#include "tests/lib/scripted_store.h"
#include "tests/lib/tree.h"

#define MIB ((size_t)1 << 20)

// The server, and the store that sinks and sources are made for: the server's own, or another.
extern struct scripted_store scripted;
extern struct s3_store *tested_store;

int s3_ends_start(void **state); // for the group
int s3_ends_stop(void **state);
int s3_ends_setup(void **state); // before each test: no rules, no settings, the server's store
// A store of the same server that knows nothing yet, until the next setup.
void s3_ends_new_store(const struct s3_store_options *like);

struct object_entry s3_file(const char *path, uint64_t size);
struct s3_client *s3_new_client(void);
struct sink *s3_new_sink(void);         // of bucket b
struct sink *s3_new_careful_sink(void); // that never replaces
extern char s3_temp[TEMP_NAME_SIZE];

// Whole objects: put() begins, finish() ends all; then what became of each, by tag.
extern enum err s3_results[16];
extern struct failure s3_failures[16];
void s3_put(struct sink *s, const char *path, const void *bytes, size_t len, uint32_t tag);
void s3_finish(struct sink *s);
void assert_object(const char *key, const void *bytes, size_t len);
// Header @name of the last request that contains @text; NULL: it had none.
void assert_sent(const char *text, const char *name, const char *value);

// The failure is @e of @object, and says both.
void assert_says(const struct failure *f, enum err e, const char *object, const char *text,
                 const char *remedy);

// What the walk lists of a directory.
struct s3_listing {
    struct object_table_builder all;
    unsigned n_pages, n_done;
};
void s3_list(const char *root, const char *path, uint64_t look_bytes, struct s3_listing *l,
             struct object_table *ret_table);
void s3_unlist(struct s3_listing *l, struct object_table *t);
uint32_t s3_find(const struct object_table *t, const char *path); // its index
// Of the table's objects, with their tags.
void s3_source(const char *root, const struct object_table *table, struct source **ret_source);
// Opens the range, reads all of it, closes.
enum err s3_read_all(struct source *s, const struct source_range *r, uint8_t *to, size_t cap,
                     size_t *ret_len, struct source_found *ret_found, struct failure *f);

#endif
