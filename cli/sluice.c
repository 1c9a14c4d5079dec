// SPDX-License-Identifier: Apache-2.0
// The command line as a whole: finds the command, parses, runs.
#include "cli/command.h"
#include "cli/report.h"

#include <string.h>

static int refuse(const char *word, const char *why) {
    const struct invocation inv = {0};
    struct failure f;
    failure_set(&f, ERR_INVALID, "run", word, strlen(word), "%s", why);
    failure_remedy(&f, "see `sluice --help`");
    return report_failure(&inv, &f);
}

// `sluice --master X ls` is `sluice ls --master X`: moves the command to the front.
static void bring_command_forward(int argc, char **argv) {
    int at = 1;
    while (at < argc && strncmp(argv[at], "--", 2) == 0) {
        bool takes_value = strcmp(argv[at], "--master") == 0 || strcmp(argv[at], "--config") == 0;
        bool is_usual = takes_value || strcmp(argv[at], "--json") == 0 ||
                        strncmp(argv[at], "--master=", 9) == 0 ||
                        strncmp(argv[at], "--config=", 9) == 0;
        if (!is_usual) {
            return;
        }
        at += takes_value ? 2 : 1;
    }
    if (at > 1 && at < argc) {
        char *name = argv[at];
        memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
        argv[1] = name;
    }
}

int sluice_main(int argc, char **argv) {
    bring_command_forward(argc, argv);
    const struct invocation nothing = {0};
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        commands_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        const struct command *about = argc > 2 ? command_find(argv[2]) : NULL;
        if (argc > 2 && !about) {
            return refuse(argv[2], "there is no such command");
        }
        about ? command_help(about, stdout) : commands_help(stdout);
        return report_end(&nothing, EXIT_DELIVERED);
    }
    if (strcmp(name, "--version") == 0) {
        printf("sluice " SLUICE_VERSION "\n");
        return report_end(&nothing, EXIT_DELIVERED);
    }
    const struct command *command = command_find(name);
    if (!command) {
        return refuse(name, *name == '-' ? "it is no option" : "there is no such command");
    }
    struct invocation inv;
    struct failure f;
    if (invocation_parse(command, argc - 1, argv + 1, &inv, &f) != OK) {
        return report_failure(&inv, &f);
    }
    if (inv.help) {
        command_help(command, stdout);
        return report_end(&inv, EXIT_DELIVERED);
    }
    return command->run(&inv);
}
