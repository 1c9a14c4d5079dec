// SPDX-License-Identifier: Apache-2.0
// Wires over TCP. Addresses are "host:port", "[v6]:port"; an empty host listens everywhere.
#ifndef DATAPLANE_TRANSPORT_TCP_H
#define DATAPLANE_TRANSPORT_TCP_H

#include "dataplane/transport.h"

// ERR_NO_MEMORY.
MUST_CHECK enum err transport_tcp_new(struct transport **ret_transport);

#endif
