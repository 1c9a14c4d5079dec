// SPDX-License-Identifier: Apache-2.0
// Tells the service supervisor (systemd's sd_notify protocol) how the daemon is, by one
// datagram to $NOTIFY_SOCKET. Nothing happens without that variable.
#ifndef COMMON_NOTIFY_SOCKET_H
#define COMMON_NOTIFY_SOCKET_H

// @state is e.g. "READY=1" or "STOPPING=1". Any thread; never waits.
void notify_socket_send(const char *state);

#endif
