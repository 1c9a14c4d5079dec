// SPDX-License-Identifier: Apache-2.0
// docs/errors.md is what the table in common/err.h says. Run with SLUICE_WRITE_DOCS=1 to write
// it anew.
#include "common/failure.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    "# Errors\n\n"
    "Every way in which something can fail, with one code for gRPC (the `code` of the\n"
    "`sluice.v1.Failure` in the trailer `sluice-failure-bin`), the JSON log (`error.code`) and "
    "the\n"
    "command line (its exit code). A failure says besides what was tried (`operation`), on what\n"
    "(`object`), why (`message`, `errno`) and what to do (`remedy`).\n\n"
    "This page is made from the table in `common/err.h` by `tests/unit/master/"
    "test_errors_document.c`.\n\n"
    "Sluice itself tries again: *soon* with a short backoff, *later* with a long one, *elsewhere*\n"
    "with another agent, as often as `limits.task_retries` allows for a task and\n"
    "`limits.retries_per_flow` for all tasks of a flow; *never* what would fail the same way, and\n"
    "what is refused (`DENIED`, `UNAUTHENTICATED`), but for keys to a store that have expired: "
    "the\n"
    "flow waits for new ones.\n\n"
    "| code | means | gRPC status | exit code | tried again | usual remedy |\n"
    "|---|---|---|---|---|---|\n";

static const char tail[] =
    "\n## Exit codes of `sluice`\n\n"
    "| exit code | means |\n|---|---|\n"
    "| 0 | delivered; or the command did what it was asked |\n"
    "| 1 | failed |\n"
    "| 2 | the command line, the configuration or the request is wrong |\n"
    "| 3 | delivered in part: some objects failed (`sluice show ID --failed`) |\n"
    "| 4 | the master cannot be reached |\n"
    "| 5 | refused: not authenticated, or no permission |\n"
    "| 6 | cancelled |\n";

static const char *const grpc_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};
static const char *const retry_names[] = {"never", "soon", "later", "elsewhere"};

static void the_document_is_the_table(void **state) {
    (void)state;
    char path[4096], *text = NULL, was[65536];
    size_t len = 0;
    snprintf(path, sizeof path, "%s", __FILE__);
    char *root = strstr(path, "tests/unit/");
    assert_non_null(root);
    strcpy(root, "docs/errors.md");
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    fputs(head, out);
    for (unsigned e = ERR_INVALID; e < ERR_COUNT; e++) {
        struct failure f = {0};
        (void)failure_set(&f, (enum err)e, "", NULL, 0, NULL);
        fprintf(out, "| `%s` | %s | %s | %d | %s | %s |\n", err_name((enum err)e),
                err_text((enum err)e), grpc_names[err_grpc_status((enum err)e)],
                (int)err_exit_code((enum err)e), retry_names[err_retry_class((enum err)e)],
                f.remedy);
    }
    fputs(tail, out);
    assert_int_equal(fclose(out), 0);
    if (getenv("SLUICE_WRITE_DOCS") != NULL) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, len, file), len);
        assert_int_equal(fclose(file), 0);
    }
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(was, 1, sizeof was - 1, file);
    was[n] = '\0';
    fclose(file);
    assert_string_equal(was, text);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_document_is_the_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
