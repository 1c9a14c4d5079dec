// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_memory.h"
#include "dataplane/transport_tcp.h"
#include "tests/contract/dataplane/transport_contract.h"

int main(void) {
    struct transport_kind kinds[] = {
        {.name = "tcp", .make = transport_tcp_new, .listen = "127.0.0.1:0"},
        {.name = "memory", .make = transport_memory_new, .listen = "here:0"},
    };
    int n_failed = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        n_failed += transport_contract(&kinds[i]);
    }
    return n_failed;
}
