// SPDX-License-Identifier: Apache-2.0
// Keys to object stores that the master handed out, by name: in memory only, until this agent ends
// or the master takes them back. Thread-safe.
#ifndef AGENT_CREDENTIAL_TABLE_H
#define AGENT_CREDENTIAL_TABLE_H

#include "common/failure.h"
#include "common/s3_credentials.h"

struct credential_table;

enum { CREDENTIAL_TABLE_MAX = 1024 };

MUST_CHECK enum err credential_table_new(struct credential_table **ret_table);
void credential_table_free(struct credential_table *t); // wipes them; NULL is fine
// ERR_FULL, ERR_NO_MEMORY.
MUST_CHECK enum err credential_table_put(struct credential_table *t, const char *name,
                                         const struct s3_credentials *keys);
void credential_table_remove(struct credential_table *t, const char *name);

// Which a task uses at @store, of the names that its lease has ("NAME", "STORE=NAME"). Wipe them.
// ERR_NOT_FOUND: the lease names none for it: the store's own are to be used.
// ERR_UNAUTHENTICATED: it does, and they are not here.
MUST_CHECK enum err credential_table_choose(struct credential_table *t, const char *store,
                                            char *const *names, size_t n,
                                            struct s3_credentials *ret_keys,
                                            struct failure *ret_failure);

#endif
