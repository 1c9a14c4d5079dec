// SPDX-License-Identifier: Apache-2.0
// A PostgreSQL server of a test's own: tests/lib/postgres_server.
#ifndef TESTS_CONTRACT_MASTER_POSTGRES_SERVER_H
#define TESTS_CONTRACT_MASTER_POSTGRES_SERVER_H

#include "common/failure.h"

// Starts one. If the package is not installed: says so, and ends the program as skipped (77).
void postgres_server_start(const char *password); // NULL: everybody may come in
void postgres_server_end(void);
// Sends a command and gives its answer; valid until the next one.
const char *postgres_server_ask(const char *fmt, ...) PRINTF_LIKE(1, 2);
// The URL of a new, empty database; to be freed.
char *postgres_server_database(void);

#endif
