// SPDX-License-Identifier: Apache-2.0
// Wires within one process, for tests and for two agents in one program. Addresses are any
// text; one that ends in ":0" gets a number of its own.
#ifndef DATAPLANE_TRANSPORT_MEMORY_H
#define DATAPLANE_TRANSPORT_MEMORY_H

#include "dataplane/transport.h"

// Only what was made with the same transport can be dialled. Thread-safe. All listeners must
// be freed before it. ERR_NO_MEMORY.
MUST_CHECK enum err transport_memory_new(struct transport **ret_transport);

#endif
