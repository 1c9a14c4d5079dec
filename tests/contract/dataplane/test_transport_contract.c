// SPDX-License-Identifier: Apache-2.0
#include "dataplane/transport_memory.h"
#include "dataplane/transport_tcp.h"
#include "tests/contract/dataplane/transport_contract.h"
#include "tests/lib/loopback.h"

int main(void) {
    char any_port[LOOPBACK_SIZE]; // where nobody else takes a port that was freed
    own_loopback(0, any_port);
    struct transport_kind kinds[] = {
        {.name = "tcp", .make = transport_tcp_new, .listen = any_port},
        {.name = "memory", .make = transport_memory_new, .listen = "here:0"},
    };
    int n_failed = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        n_failed += transport_contract(&kinds[i]);
    }
    return n_failed;
}
