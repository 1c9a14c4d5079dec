// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/master/database_contract.h"
#include "tests/contract/master/postgres_server.h"

int main(void) {
    const struct database_kind kind = {.name = "postgresql", .make = postgres_server_database};
    postgres_server_start(NULL);
    int n_failed = database_contract(&kind);
    postgres_server_end();
    return n_failed;
}
