// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/test.h"

#include "cli/command.h"

#include <stdlib.h>
#include <string.h>

static char *words[32];
static int n_words;

static enum err parse(const char *command, const char *line, struct invocation *inv,
                      struct failure *f) {
    static char text[512];
    n_words = 0;
    snprintf(text, sizeof(text), "%s %s", command, line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        words[n_words++] = word;
    }
    words[n_words] = NULL;
    return invocation_parse(command_find(command), n_words, words, inv, f);
}

static void options_may_stand_after_arguments(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    assert_ok(parse("cp", "a:/x --json b:/y --master 127.0.0.1:7 -p 3", &inv, &f));
    assert_true(inv.json);
    assert_string_equal(inv.master, "127.0.0.1:7");
    assert_int_equal(inv.n_args, 2);
    assert_string_equal(inv.args[0], "a:/x");
    assert_string_equal(inv.args[1], "b:/y");
    assert_string_equal(invocation_value(&inv, "priority", 0), "3");
}

static void after_two_dashes_all_are_arguments(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    assert_ok(parse("cp", "-- --json b:/y", &inv, &f));
    assert_false(inv.json);
    assert_string_equal(inv.args[0], "--json");
}

static void repeated_options_are_kept_in_order(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    assert_ok(parse("cp", "a:/x b:/y -l k=v --label=m=n", &inv, &f));
    assert_string_equal(invocation_value(&inv, "label", 0), "k=v");
    assert_string_equal(invocation_value(&inv, "label", 1), "m=n");
    assert_null(invocation_value(&inv, "label", 2));
    assert_false(invocation_has(&inv, "priority"));
}

static void a_wrong_line_is_refused_and_json_is_known_all_the_same(void **state) {
    (void)state;
    static const char *const lines[] = {"a:/x b:/y --nonsense --json", "a:/x --json",
                                        "a:/x b:/y c:/z --json", "--json a:/x b:/y -p"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct invocation inv;
        struct failure f;
        assert_err(parse("cp", lines[i], &inv, &f), ERR_INVALID);
        assert_true(inv.json);
        assert_non_null(strstr(f.remedy, "sluice cp --help"));
    }
}

static void help_needs_no_arguments(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    assert_ok(parse("show", "--help", &inv, &f));
    assert_true(inv.help);
    assert_ok(parse("show", "-h", &inv, &f));
    assert_true(inv.help);
}

static void a_local_command_knows_no_master(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    assert_err(parse("up", "--master 127.0.0.1:7", &inv, &f), ERR_INVALID);
}

static void integers_are_checked_against_their_range(void **state) {
    (void)state;
    struct invocation inv;
    struct failure f;
    int64_t n = 7;
    assert_ok(parse("ls", "", &inv, &f));
    assert_ok(invocation_integer(&inv, "limit", 1, 9, &n, &f));
    assert_int_equal(n, 7);
    assert_ok(parse("ls", "-n 3 -n 5", &inv, &f));
    assert_ok(invocation_integer(&inv, "limit", 1, 9, &n, &f));
    assert_int_equal(n, 5);
    assert_err(invocation_integer(&inv, "limit", 1, 4, &n, &f), ERR_INVALID);
    assert_ok(parse("ls", "-n 3x", &inv, &f));
    assert_err(invocation_integer(&inv, "limit", 1, 9, &n, &f), ERR_INVALID);
}

static void every_command_has_a_help_that_is_complete(void **state) {
    (void)state;
    for (const struct command *c = commands; c->name; c++) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        command_help(c, out);
        fclose(out);
        assert_non_null(strstr(text, "usage: sluice "));
        assert_non_null(strstr(text, "Options:\n"));
        assert_non_null(strstr(text, "--json"));
        assert_non_null(strstr(text, "Example:\n  "));
        assert_non_null(strstr(text, "Exit codes:\n  0  "));
        assert_non_null(c->run);
        for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
            assert_true(strcspn(line, "\n") <= 100);
        }
        free(text);
    }
    assert_null(command_find("sync"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_after_arguments),
        cmocka_unit_test(after_two_dashes_all_are_arguments),
        cmocka_unit_test(repeated_options_are_kept_in_order),
        cmocka_unit_test(a_wrong_line_is_refused_and_json_is_known_all_the_same),
        cmocka_unit_test(help_needs_no_arguments),
        cmocka_unit_test(a_local_command_knows_no_master),
        cmocka_unit_test(integers_are_checked_against_their_range),
        cmocka_unit_test(every_command_has_a_help_that_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
