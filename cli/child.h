// SPDX-License-Identifier: Apache-2.0
// A child process: in a process group of its own, killed with this process, its output at the
// end of a file. The calling thread must live as long as the child is wanted.
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <sys/types.h>

struct child {
    pid_t pid;     // 0: none runs
    int pidfd;     // readable when it has ended; -1: none
    off_t log_end; // of its log when it was started
};

// @argv[0] is the program's path.
MUST_CHECK enum err child_start(char *const argv[], const char *log_path, struct child *ret_child,
                                struct failure *ret_failure);
void child_signal(const struct child *c, int sig);
// Has it ended? Then it is reaped with what is left of its group, and "exit code 1" or
// "signal 9" is in @ret_how.
bool child_reap(struct child *c, char *ret_how, size_t cap);

// The program @name beside this one, or else in $PATH. free() it. ERR_NOT_FOUND,
// ERR_NO_MEMORY.
MUST_CHECK enum err child_find_program(const char *name, char **ret_path,
                                       struct failure *ret_failure);

#endif
