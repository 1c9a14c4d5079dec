// SPDX-License-Identifier: Apache-2.0
#include "cli/report.h"

#include "cli/byte_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json_t *failure_to_json(const struct failure *f, const char *agent) {
    json_t *object = json_object();
    bool has_agent = agent && *agent;
    json_t *who = has_agent ? json_string(agent) : json_null();
    char *message = byte_text_lossy(f->message, strlen(f->message));
    char *remedy = byte_text_lossy(f->remedy, strlen(f->remedy));
    char *operation = byte_text_lossy(f->operation, strlen(f->operation));
    int failed = !object || !message || !remedy || !operation ||
                 json_object_set_new(object, "code", json_string(err_name(f->err))) ||
                 json_object_set_new(object, "errno", json_integer(f->errnum)) ||
                 json_object_set_new(object, "operation", json_string(operation)) ||
                 byte_text_to_json(object, "path", "path_b64", f->object, f->object_len) ||
                 json_object_set_new(object, "message", json_string(message)) ||
                 json_object_set_new(object, "remedy", json_string(remedy)) ||
                 json_object_set(object, "agent", who);
    free(message);
    free(remedy);
    free(operation);
    json_decref(who);
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

// One line, in one write where stdio can.
static bool print_line(json_t *object) {
    char *line = json_dumps(object, JSON_COMPACT);
    bool printed = line && printf("%s\n", line) >= 0;
    free(line);
    return printed;
}

int report_failure(const struct invocation *inv, const struct failure *f) {
    char text[2048];
    failure_format(f, text, sizeof(text));
    fflush(stdout);
    fprintf(stderr, "sluice: %s\n", text);
    if (inv->json) {
        json_t *error = failure_to_json(f, NULL);
        json_t *object = error ? json_pack("{s:o}", "error", error) : NULL;
        if (!object || !print_line(object) || fflush(stdout) != 0) {
            fprintf(stderr, "sluice: cannot write the failure as JSON\n");
        }
        json_decref(object);
    }
    return (int)err_exit_code(f->err);
}

int report_json(const struct invocation *inv, json_t *take_object) {
    bool printed = take_object && print_line(take_object);
    if (printed) {
        json_decref(take_object);
        return EXIT_DELIVERED;
    }
    struct failure f;
    if (take_object) {
        failure_errno(&f, errno, "write to standard output", NULL, 0);
    } else {
        failure_set(&f, ERR_NO_MEMORY, "print the answer", NULL, 0, NULL);
    }
    json_decref(take_object);
    return report_failure(inv, &f);
}

int report_end(const struct invocation *inv, int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return exit_code;
    }
    struct failure f;
    failure_errno(&f, errno ? errno : EIO, "write to standard output", NULL, 0);
    int code = report_failure(inv, &f);
    return exit_code ? exit_code : code;
}

void report_note(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("sluice: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

int outcome_exit_code(enum flow_outcome o) {
    switch (o) {
    case OUTCOME_DELIVERED: return EXIT_DELIVERED;
    case OUTCOME_PARTIAL: return EXIT_PARTIAL;
    case OUTCOME_CANCELLED: return EXIT_CANCELLED;
    case OUTCOME_FAILED:
    case OUTCOME_NONE: break;
    }
    return EXIT_FAILED;
}
