// SPDX-License-Identifier: Apache-2.0
#include "cli/log_tail.h"

#include "common/cleanup.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { TAIL_BYTES = 16 * 1024 };

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

// "cannot open '/x': permission denied; …" from the fields of a failure.
static void explain(const json_t *error, char *text, size_t cap) {
    const char *path = text_of(error, "path"), *operation = text_of(error, "operation");
    const char *remedy = text_of(error, "remedy");
    snprintf(text, cap, "%s%s%s%s%s%s%s%s%s", *operation ? "cannot " : "", operation,
             *path ? " '" : "", path, *path ? "'" : "", *operation || *path ? ": " : "",
             text_of(error, "reason"), *remedy ? "; " : "", remedy);
}

// Does the line say what went wrong (or anything, if @any)?
static bool line_message(const char *line, size_t len, bool any, char *text, size_t cap) {
    json_t *json = json_loadb(line, len, 0, NULL);
    const json_t *error = json_object_get(json, "error");
    bool found = true;
    if (json_is_object(error)) {
        explain(error, text, cap);
    } else if (any && json_is_object(json)) {
        snprintf(text, cap, "%s", text_of(json, "event"));
    } else if (!json) {
        snprintf(text, cap, "%.*s", (int)len, line);
    } else {
        found = false;
    }
    json_decref(json);
    return found;
}

bool log_tail_message(const char *path, off_t from, char *ret_text, size_t cap) {
    char tail[TAIL_BYTES];
    struct stat st;
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return false;
    }
    off_t begin = st.st_size - from > TAIL_BYTES ? st.st_size - TAIL_BYTES : from;
    ssize_t n = pread(fd, tail, sizeof(tail), begin);
    // First for a line that tells a failure, then for any.
    for (int any = 0; any < 2; any++) {
        size_t end = n > 0 ? (size_t)n : 0;
        while (end > 0) {
            size_t len = end - (tail[end - 1] == '\n');
            const char *newline = len > 0 ? memrchr(tail, '\n', len) : NULL;
            size_t start = newline ? (size_t)(newline - tail) + 1 : 0;
            if (len > start && line_message(tail + start, len - start, any, ret_text, cap)) {
                return true;
            }
            end = start;
        }
    }
    return false;
}
