// SPDX-License-Identifier: Apache-2.0
// The promises of dataplane/transport.h, checked against a transport.
#ifndef TESTS_CONTRACT_DATAPLANE_TRANSPORT_CONTRACT_H
#define TESTS_CONTRACT_DATAPLANE_TRANSPORT_CONTRACT_H

#include "dataplane/transport.h"

struct transport_kind {
    const char *name;
    enum err (*make)(struct transport **ret_transport);
    const char *listen; // an address of which the transport chooses a part
    bool borrows;       // large pieces need not be copied out of it
};

// How many of the tests failed.
int transport_contract(struct transport_kind *k);

#endif
