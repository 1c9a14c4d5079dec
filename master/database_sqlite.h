// SPDX-License-Identifier: Apache-2.0
// What the files of SQLite's driver share. Inside the database only.
#ifndef MASTER_DATABASE_SQLITE_H
#define MASTER_DATABASE_SQLITE_H

#include "master/database_sql_impl.h"

#include <sqlite3.h>

// Classifies @rc, fills the failure, logs nothing. ERR_DATABASE: the store is in trouble;
// ERR_NO_MEMORY, ERR_INTERNAL: only the statement.
enum err sqlite_failure(sqlite3 *db, int rc, const char *operation, struct failure *ret_failure);

// Before the file is opened, for which SQLite would take its log, and on closing bring it into the
// file or remove it: refuses a file whose header is broken, and one that is empty or missing beside
// a log, and changes nothing.
MUST_CHECK enum err sqlite_first_look(const char *path, struct failure *ret_failure);
// Opening: pragmas and tables. Nothing is written before the file was found to be ours, whole,
// and not newer than this program; with STORE_CHECK nothing at all.
MUST_CHECK enum err sqlite_schema_check(sqlite3 *db, const char *path, enum store_role role,
                                        struct failure *ret_failure);

#endif
