// SPDX-License-Identifier: Apache-2.0
// What the master must not forget. One writer thread; writes are queued in order and committed
// in groups; `done` callbacks come on the core's thread after the commit, in order. Readers page
// in short transactions on a thread of their own. SQLite now (database_sqlite*.c), PostgreSQL
// behind the same table of operations later (database_impl.h).
#ifndef MASTER_DATABASE_H
#define MASTER_DATABASE_H

#include "common/err.h"
#include "common/failure.h"
#include "common/rpc/loop.h"

#include <stdint.h>

struct database;

// Opens (or makes) the database in @state_dir. ERR_LOCKED: another master has it;
// ERR_DATABASE: not ours, newer than this program, or damaged; the failure says which.
MUST_CHECK enum err database_open(const char *state_dir, struct loop *core,
                                  struct database **ret_database, struct failure *ret_failure);
void database_close(struct database *d); // commits what is queued
// Raises the term durably and gives it. Blocking; at start only.
MUST_CHECK enum err database_raise_term(struct database *d, uint64_t *ret_term,
                                        char ret_cluster[27], struct failure *ret_failure);
// If the database fails for good (disk full, EIO), writes stay queued and are tried again;
// @changed tells when that begins and ends, so that submits can be refused meanwhile.
void database_on_trouble(struct database *d, void (*changed)(void *arg, const struct failure *f),
                         void *arg);

#endif
