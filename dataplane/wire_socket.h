// SPDX-License-Identifier: Apache-2.0
// A wire over a connected stream socket: what TCP and the in-process transport share.
#ifndef DATAPLANE_WIRE_SOCKET_H
#define DATAPLANE_WIRE_SOCKET_H

#include "dataplane/transport_impl.h"

// Takes @fd, in blocking mode, also on failure (ERR_NO_MEMORY). @peer: its address.
MUST_CHECK enum err wire_socket_new(int take_fd, const char *peer, bool is_tcp,
                                    struct wire **ret_wire);

#endif
