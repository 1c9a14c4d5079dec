// SPDX-License-Identifier: Apache-2.0
// The command line of a daemon: a configuration, and what to do with it.
#ifndef COMMON_DAEMON_ARGUMENTS_H
#define COMMON_DAEMON_ARGUMENTS_H

#include <stdbool.h>

enum daemon_action { DAEMON_RUN, DAEMON_CHECK, DAEMON_CHECK_DATABASE };

struct daemon_arguments {
    const char *config; // of argv
    enum daemon_action action;
};

// False: there is nothing to do any more (--help, --version, wrong use, all of which have been
// answered), and *@ret_code is the process's exit code. @has_database: --check-database is known.
// @version and @usage are printed as they are. Before any thread: getopt is not made for them.
bool daemon_arguments_read(int argc, char **argv, const char *version, const char *usage,
                           bool has_database, struct daemon_arguments *ret_arguments,
                           int *ret_code);

#endif
