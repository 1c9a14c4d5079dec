// SPDX-License-Identifier: Apache-2.0
// RDMA is held to the contract of all transports where there is a device; tests/integration/guest
// brings one. SLUICE_TEST_RDMA is the IP address that leads to it.
// TIMEOUT: 300
#include "dataplane/transport_rdma.h"
#include "tests/contract/dataplane/transport_contract.h"

#include <stdio.h>
#include <stdlib.h>

static enum err make(struct transport **ret_transport) {
    return transport_rdma_new(&(struct transport_rdma_options){.pool_bytes = 32 << 20},
                              ret_transport, NULL);
}

int main(void) {
    const char *address = getenv("SLUICE_TEST_RDMA");
    struct transport *t = NULL;
    struct failure f = {0};
    char text[1024], listen[320];
    struct transport_kind kind = {.name = "rdma", .make = make, .listen = listen, .borrows = true};

    if (!address) {
        fprintf(stderr, "skipped: SLUICE_TEST_RDMA does not say where an RDMA device is\n");
        return 77;
    }
    if (transport_rdma_new(&(struct transport_rdma_options){.pool_bytes = 8 << 20}, &t, &f)) {
        failure_format(&f, text, sizeof(text));
        fprintf(stderr, "skipped: %s\n", text);
        return 77;
    }
    transport_free(t);
    (void)snprintf(listen, sizeof(listen), "%s:0", address);
    return transport_contract(&kind);
}
