// SPDX-License-Identifier: Apache-2.0
#include "common/daemon_arguments.h"

#include "common/err.h"

#include <getopt.h>
#include <stdio.h>

bool daemon_arguments_read(int argc, char **argv, const char *version, const char *usage,
                           bool has_database, struct daemon_arguments *ret_arguments,
                           int *ret_code) {
    const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {has_database ? "check-database" : NULL, no_argument, NULL, 'd'},
        {NULL, 0, NULL, 0},
    };
    *ret_arguments = (struct daemon_arguments){.action = DAEMON_RUN};
    *ret_code = EXIT_USAGE;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'c') {
            ret_arguments->config = optarg;
        } else if (c == 'k' || c == 'd') {
            ret_arguments->action = c == 'k' ? DAEMON_CHECK : DAEMON_CHECK_DATABASE;
        } else if (c == 'h' || c == 'v') {
            fputs(c == 'h' ? usage : version, stdout);
            *ret_code = 0;
            return false;
        } else {
            return false;
        }
    }
    if (ret_arguments->config == NULL || optind != argc) {
        fputs(usage, stderr);
        return false;
    }
    return true;
}
