// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include "cli/quantity.h"

#include <getopt.h>
#include <string.h>

enum { LONG_ONLY = 256 }; // getopt's value of the first option, others follow

// The options that every command has.
static const struct command_option usual[] = {
    {"json", 0, NULL, ""},     {"help", 'h', NULL, ""}, {"master", 0, "HOST:PORT", ""},
    {"config", 0, "FILE", ""}, {NULL, 0, NULL, NULL},
};

// What getopt_long is given, and what its answers stand for.
struct option_table {
    const struct command_option *options[OPTIONS_MAX];
    struct option longs[OPTIONS_MAX + 1];
    char letters[2 * OPTIONS_MAX + 4];
    size_t n;
};

static void table_add(struct option_table *t, const struct command_option *options, bool local) {
    for (const struct command_option *o = options; o && o->name; o++) {
        bool about_master = options == usual && o->argument;
        if ((about_master && local) || t->n == OPTIONS_MAX) {
            continue;
        }
        t->options[t->n] = o;
        t->longs[t->n] = (struct option){
            .name = o->name,
            .has_arg = o->argument ? required_argument : no_argument,
            .val = LONG_ONLY + (int)t->n,
        };
        if (o->letter) {
            size_t len = strlen(t->letters);
            t->letters[len++] = o->letter;
            t->letters[len++] = o->argument ? ':' : '\0';
            t->letters[len] = '\0';
        }
        t->n++;
    }
}

static const struct command_option *table_find(const struct option_table *t, int answer) {
    for (size_t i = 0; i < t->n; i++) {
        bool by_letter = t->options[i]->letter && answer == (unsigned char)t->options[i]->letter;
        if (by_letter || answer == LONG_ONLY + (int)i) {
            return t->options[i];
        }
    }
    return NULL;
}

static enum err usage(const struct command *command, struct failure *f, const char *what,
                      size_t len, const char *why) {
    enum err e = failure_set(f, ERR_INVALID, "use", what, len, "%s", why);
    failure_remedy(f, "see `sluice %s --help`", command->name);
    return e;
}

static enum err take(struct invocation *inv, const struct command_option *o, const char *value,
                     struct failure *f) {
    if (strcmp(o->name, "json") == 0) {
        inv->json = true;
    } else if (strcmp(o->name, "help") == 0) {
        inv->help = true;
    } else if (strcmp(o->name, "master") == 0) {
        inv->master = value;
    } else if (strcmp(o->name, "config") == 0) {
        inv->config = value;
    } else if (inv->n_given == OPTIONS_GIVEN_MAX) {
        return usage(inv->command, f, o->name, strlen(o->name), "too many options on one line");
    } else {
        inv->given[inv->n_given].name = o->name;
        inv->given[inv->n_given].value = value;
        inv->n_given++;
    }
    return OK;
}

enum err invocation_parse(const struct command *command, int argc, char **argv,
                          struct invocation *ret_inv, struct failure *ret_failure) {
    struct option_table table = {.letters = ":"};
    table_add(&table, usual, command->local);
    table_add(&table, command->options, command->local);
    *ret_inv = (struct invocation){.command = command};
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        // Known even if the line is wrong: the complaint is in JSON, too.
        ret_inv->json = ret_inv->json || strcmp(argv[i], "--json") == 0;
    }
    optind = 0; // forget an earlier parse
    opterr = 0;
    for (;;) {
        int at = optind > 0 ? optind : 1;
        int answer = getopt_long(argc, argv, table.letters, table.longs, NULL);
        if (answer == -1) {
            break;
        }
        if (answer == ':' || answer == '?') {
            const char *word = argv[optind > at ? optind - 1 : at];
            return usage(command, ret_failure, word, strlen(word),
                         answer == ':' ? "the option needs a value"
                                       : "no such option, or it takes no value");
        }
        const struct command_option *o = table_find(&table, answer);
        enum err e = o ? take(ret_inv, o, optarg, ret_failure) : ERR_INTERNAL;
        if (e) {
            return e;
        }
    }
    ret_inv->args = argv + optind;
    ret_inv->n_args = argc - optind;
    if (ret_inv->help) {
        return OK;
    }
    if (ret_inv->n_args < command->min_args) {
        return usage(command, ret_failure, command->name, strlen(command->name),
                     "an argument is missing");
    }
    if (ret_inv->n_args > command->max_args) {
        const char *extra = ret_inv->args[command->max_args];
        return usage(command, ret_failure, extra, strlen(extra), "one argument too many");
    }
    return OK;
}

const char *invocation_value(const struct invocation *inv, const char *option, size_t index) {
    for (size_t i = 0; i < inv->n_given; i++) {
        if (strcmp(inv->given[i].name, option) == 0 && index-- == 0) {
            return inv->given[i].value;
        }
    }
    return NULL;
}

bool invocation_has(const struct invocation *inv, const char *option) {
    for (size_t i = 0; i < inv->n_given; i++) {
        if (strcmp(inv->given[i].name, option) == 0) {
            return true;
        }
    }
    return false;
}

enum err invocation_integer(const struct invocation *inv, const char *option, int64_t min,
                            int64_t max, int64_t *ret, struct failure *ret_failure) {
    const char *last = NULL;
    for (size_t i = 0; invocation_value(inv, option, i); i++) {
        last = invocation_value(inv, option, i);
    }
    if (!last || quantity_integer(last, min, max, ret)) {
        return OK;
    }
    enum err e = failure_set(ret_failure, ERR_INVALID, "use", last, strlen(last),
                             "--%s takes a whole number from %lld to %lld", option, (long long)min,
                             (long long)max);
    failure_remedy(ret_failure, "see `sluice %s --help`", inv->command->name);
    return e;
}
