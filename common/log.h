// SPDX-License-Identifier: Apache-2.0
// One JSON object a line: ts, level, event, then the fields given.
//
// Thread-safe. Lines are written whole with one write(2) to stderr or the file given to
// log_open(). A line that cannot be written is counted, never waited for.
//
//   log_event(LOG_INFO, "flow_accepted", LOG_STR("flow", id), LOG_U64("bytes_total", n));
//   log_event(LOG_WARN, "object_failed", LOG_PATH("path", p, len), LOG_FAILURE(&failure));
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/err.h"
#include "common/failure.h"

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_field_kind {
    LOG_FIELD_STR,
    LOG_FIELD_PATH,
    LOG_FIELD_U64,
    LOG_FIELD_I64,
    LOG_FIELD_F64,
    LOG_FIELD_BOOL,
    LOG_FIELD_FAILURE,
};

struct log_field {
    enum log_field_kind kind;
    const char *key;
    const void *ptr; // STR: text (NULL: the field is left out); PATH: bytes; FAILURE
    size_t len;      // PATH
    union {
        uint64_t u64;
        int64_t i64;
        double f64;
        bool b;
    } value;
};

// clang-format off
#define LOG_STR(k, s)     ((struct log_field){.kind = LOG_FIELD_STR, .key = (k), .ptr = (s)})
// Arbitrary bytes: a lossy text under @k, and, if that loses something, "<k>_b64" beside it.
#define LOG_PATH(k, p, n) ((struct log_field){.kind = LOG_FIELD_PATH, .key = (k), .ptr = (p), .len = (n)})
#define LOG_U64(k, v)     ((struct log_field){.kind = LOG_FIELD_U64, .key = (k), .value.u64 = (v)})
#define LOG_I64(k, v)     ((struct log_field){.kind = LOG_FIELD_I64, .key = (k), .value.i64 = (v)})
#define LOG_F64(k, v)     ((struct log_field){.kind = LOG_FIELD_F64, .key = (k), .value.f64 = (v)})
#define LOG_BOOL(k, v)    ((struct log_field){.kind = LOG_FIELD_BOOL, .key = (k), .value.b = (v)})
// code, errno, operation, path, reason, remedy
#define LOG_FAILURE(f)    ((struct log_field){.kind = LOG_FIELD_FAILURE, .key = "error", .ptr = (f)})
// clang-format on

#define log_event(level, event, ...)                                                               \
    log_fields((level), (event), (const struct log_field[]){__VA_ARGS__},                          \
               sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

void log_fields(enum log_level level, const char *event, const struct log_field *fields,
                size_t n_fields);

// Lines go to @path (appended; reopened by log_reopen, e.g. on SIGHUP) instead of stderr.
// NULL: stderr. @service, e.g. "sluice-agent", is a field of every line; @name may be NULL.
MUST_CHECK enum err log_open(const char *path, const char *service, const char *name,
                             struct failure *ret_failure);
void log_reopen(void);
void log_set_level(enum log_level level);
MUST_CHECK enum err log_level_from_name(const char *name, enum log_level *ret_level);
bool log_enabled(enum log_level level);

#endif
