// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/master/database_contract.h"

int main(void) {
    const struct database_kind kind = {.name = "sqlite"};
    return database_contract(&kind);
}
