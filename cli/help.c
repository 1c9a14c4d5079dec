// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 28 }; // where the options' explanations begin

static void print_indented(const char *text, int first, int others, FILE *out) {
    int indent = first;
    while (*text) {
        size_t len = strcspn(text, "\n");
        fprintf(out, "%*s%.*s\n", indent, "", (int)len, text);
        text += len + (text[len] == '\n');
        indent = others;
    }
}

static void print_option(const struct command_option *o, FILE *out) {
    char left[64];
    char letter[] = {'-', o->letter, ',', ' ', '\0'};
    snprintf(left, sizeof(left), "  %s--%s%s%s", o->letter ? letter : "    ", o->name,
             o->argument ? " " : "", o->argument ? o->argument : "");
    int len = (int)strlen(left);
    fputs(left, out);
    if (len + 2 > HELP_COLUMN) {
        fputc('\n', out);
        len = 0;
    }
    print_indented(o->help, HELP_COLUMN - len, HELP_COLUMN, out);
}

static const struct command_option usual[] = {
    {"json", 0, NULL, "print JSON, and errors as {\"error\": …} on standard output, too"},
    {"help", 'h', NULL, "this text"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option to_master[] = {
    {"master", 0, "HOST:PORT", "the master (default: $SLUICE_MASTER, or the configuration)"},
    {"config", 0, "FILE", "the client configuration (default: $SLUICE_CONFIG)"},
    {NULL, 0, NULL, NULL},
};

static void print_options(const struct command_option *options, FILE *out) {
    for (const struct command_option *o = options; o && o->name; o++) {
        print_option(o, out);
    }
}

void command_help(const struct command *command, FILE *out) {
    fprintf(out, "usage: sluice %s [OPTION]...%s%s\n\n", command->name,
            *command->arguments ? " " : "", command->arguments);
    fprintf(out, "sluice %s: %s.\n\n", command->name, command->summary);
    if (*command->about) {
        fprintf(out, "%s\n", command->about);
    }
    fputs("Options:\n", out);
    print_options(command->options, out);
    if (!command->local) {
        print_options(to_master, out);
    }
    print_options(usual, out);
    fputs("\nExample:\n", out);
    print_indented(command->example, 2, 2, out);
    fputs("\nExit codes:\n", out);
    print_indented(command->exit_codes, 2, 2, out);
}

void commands_help(FILE *out) {
    fputs("usage: sluice COMMAND [OPTION]... [ARGUMENT]...\n\n"
          "Moves bulk data between sites: nothing lost, nothing half there, every byte checked.\n\n"
          "Commands:\n",
          out);
    for (const struct command *c = commands; c->name; c++) {
        fprintf(out, "  %-9s %s\n", c->name, c->summary);
    }
    fputs("\n`sluice COMMAND --help` explains one of them. All take --json.\n\n"
          "The master is named by --master HOST:PORT, $SLUICE_MASTER, or `master` in the client\n"
          "configuration (--config FILE or $SLUICE_CONFIG), which also holds `tls`. With\n"
          "standbys: HOST:PORT,HOST:PORT.\n\n"
          "  --help     this text\n"
          "  --version  the version\n\n"
          "Exit codes: 0 delivered or done, 1 failed, 2 wrong use, 3 delivered in part, 4 master\n"
          "not reachable, 5 refused, 6 cancelled.\n\n"
          "To try it: run `sluice up`, and in another terminal what it prints.\n",
          out);
}
