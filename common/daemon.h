// SPDX-License-Identifier: Apache-2.0
// What a daemon needs of its machine, whatever it serves: signals, its port file, its state
// directory, names.
#ifndef COMMON_DAEMON_H
#define COMMON_DAEMON_H

#include "common/err.h"
#include "common/failure.h"

#include <signal.h>

// ---- signals and limits ----

// Before any thread is started (so before loop_new()): SIGTERM, SIGINT and SIGHUP then wait for
// sigwait() or a signalfd on *@ret_signals, and SIGPIPE is ignored.
void daemon_block_signals(sigset_t *ret_signals);

// As many descriptors as this process may have: most systems begin with 1024, which connections,
// files and directories of a busy daemon pass.
void daemon_raise_descriptor_limit(void);

// ---- files ----

// "127.0.0.1:7000\n" into @path, whole or not at all; readers that wait for the file see no
// half of it. @addr is what was configured, whose port is replaced by @port.
MUST_CHECK enum err daemon_write_port_file(const char *path, const char *addr, int port,
                                           struct failure *ret_failure);

// Makes @dir (mode 0700) with what is missing above it, and holds it until the returned
// descriptor is closed or the process ends. ERR_LOCKED: another process has it.
MUST_CHECK enum err daemon_lock_directory(const char *dir, int *ret_fd,
                                          struct failure *ret_failure);

// ---- ports ----

// Takes the port of @addr (0: any free one) without listening: who connects is refused, nobody
// else gets it, and a server of this process may listen on it while it is held. Closing *@ret_fd
// gives it back. ERR_BUSY_PORT, ERR_INVALID.
MUST_CHECK enum err daemon_hold_port(const char *addr, int *ret_fd, int *ret_port,
                                     struct failure *ret_failure);

// ---- names ----

enum { DAEMON_BOOT_ID_SIZE = 37, DAEMON_HOST_SIZE = 256 };
// A new one with each boot of the machine.
MUST_CHECK enum err daemon_boot_id(char ret_id[DAEMON_BOOT_ID_SIZE], struct failure *ret_failure);
void daemon_host_name(char ret_name[DAEMON_HOST_SIZE]);

#endif
