// SPDX-License-Identifier: Apache-2.0
// The commands of `sluice`: one table says for each what it takes, what --help shows and
// which function runs it. The line is parsed from the table, so that help cannot lie.
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "common/err.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct command_option {
    const char *name;     // long, without dashes; NULL ends a list
    char letter;          // 0: none
    const char *argument; // its word in --help; NULL: a flag
    const char *help;     // lines after the first are indented by --help
};

enum {
    OPTIONS_MAX = 32,        // different options a command may have
    OPTIONS_GIVEN_MAX = 256, // options on one line
};

// A command line, parsed. Borrows argv. One thread.
struct invocation {
    const struct command *command;
    bool json;
    bool help;
    const char *master; // --master; NULL: not given
    const char *config; // --config; NULL: not given
    struct {
        const char *name;
        const char *value; // NULL: a flag
    } given[OPTIONS_GIVEN_MAX];
    size_t n_given;
    char **args;
    int n_args;
};

struct command {
    const char *name;
    const char *arguments; // "SRC DST"; "": none
    int min_args, max_args;
    const char *summary;                  // one line for `sluice --help`
    const char *about;                    // paragraphs
    const struct command_option *options; // NULL: none but the usual ones
    bool local; // speaks with no master: --master and --config are unknown
    const char *example;
    const char *exit_codes;
    // Returns the exit code; has told the user about any failure.
    int (*run)(const struct invocation *inv);
};

extern const struct command commands[]; // ends with name NULL
const struct command *command_find(const char *name);

int sluice_main(int argc, char **argv);

// What the table runs.
int run_up(const struct invocation *inv);
int run_cp(const struct invocation *inv);
int run_submit(const struct invocation *inv);
int run_ls(const struct invocation *inv);
int run_show(const struct invocation *inv);
int run_watch(const struct invocation *inv);
int run_log(const struct invocation *inv);
int run_why(const struct invocation *inv);
int run_suspend(const struct invocation *inv);
int run_resume(const struct invocation *inv);
int run_cancel(const struct invocation *inv);
int run_retry(const struct invocation *inv);
int run_callbacks(const struct invocation *inv);
int run_credentials(const struct invocation *inv);
int run_agents(const struct invocation *inv);
int run_limits(const struct invocation *inv);
int run_drain(const struct invocation *inv);
int run_undrain(const struct invocation *inv);

// @argv[0] is the command's name. ERR_INVALID: the failure says what is wrong; --json is
// known all the same.
MUST_CHECK enum err invocation_parse(const struct command *command, int argc, char **argv,
                                     struct invocation *ret_inv, struct failure *ret_failure);
// The value of the @index-th use of an option; NULL: there is none.
const char *invocation_value(const struct invocation *inv, const char *option, size_t index);
bool invocation_has(const struct invocation *inv, const char *option);
// ERR_INVALID: given, but not a whole number from @min to @max. Absent: *@ret is untouched.
MUST_CHECK enum err invocation_integer(const struct invocation *inv, const char *option,
                                       int64_t min, int64_t max, int64_t *ret,
                                       struct failure *ret_failure);

void command_help(const struct command *command, FILE *out);
void commands_help(FILE *out);

#endif
