// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include "common/base64.h"
#include "common/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int current_level = LOG_INFO;

static struct {
    pthread_mutex_t lock;
    int fd;
    char *path;
    char *service, *name;
    uint64_t dropped; // lines since the last that could be written
} out = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

// ---- a line in the making ----

struct line {
    char *text; // @inline_text, or allocated
    size_t len, cap;
    bool failed; // out of memory
    char inline_text[2048];
};

static void put(struct line *l, const char *text, size_t n) {
    if (l->failed) {
        return;
    }
    if (n > l->cap - l->len) {
        size_t cap = (l->len + n) * 2;
        char *grown = malloc(cap);
        if (grown == NULL) {
            l->failed = true;
            return;
        }
        memcpy(grown, l->text, l->len);
        if (l->text != l->inline_text) {
            free(l->text);
        }
        l->text = grown;
        l->cap = cap;
    }
    memcpy(l->text + l->len, text, n);
    l->len += n;
}

static void put_text(struct line *l, const char *text) {
    put(l, text, strlen(text));
}

static void put_string(struct line *l, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    put(l, "\"", 1);
    for (size_t i = 0; i < n;) {
        char piece[UTF8_JSON_MAX];
        size_t len = 0;
        i += utf8_json_char(p + i, n - i, piece, &len);
        put(l, piece, len);
    }
    put(l, "\"", 1);
}

static void put_key(struct line *l, const char *key) {
    if (l->len > 0 && l->text[l->len - 1] != '{') {
        put(l, ",", 1);
    }
    put_string(l, key, strlen(key));
    put(l, ":", 1);
}

static void put_str_field(struct line *l, const char *key, const char *text) {
    if (text != NULL) {
        put_key(l, key);
        put_string(l, text, strlen(text));
    }
}

static void put_path_field(struct line *l, const char *key, const void *bytes, size_t n) {
    put_key(l, key);
    put_string(l, bytes, n);
    if (utf8_is_valid(bytes, n)) {
        return;
    }
    char *b64 = malloc(BASE64_LEN(n) + 1), b64_key[64];
    if (b64 == NULL) {
        l->failed = true;
        return;
    }
    base64_encode(bytes, n, b64);
    snprintf(b64_key, sizeof b64_key, "%s_b64", key);
    put_str_field(l, b64_key, b64);
    free(b64);
}

static void put_failure_field(struct line *l, const char *key, const struct failure *f) {
    char number[24];
    put_key(l, key);
    put_text(l, "{");
    put_str_field(l, "code", err_name(f->err));
    if (f->errnum != 0) {
        put_key(l, "errno");
        snprintf(number, sizeof number, "%d", f->errnum);
        put_text(l, number);
    }
    put_str_field(l, "operation", f->operation[0] != '\0' ? f->operation : NULL);
    if (f->object_len > 0) {
        put_path_field(l, "path", f->object, f->object_len);
    }
    put_str_field(l, "reason", f->message[0] != '\0' ? f->message : err_text(f->err));
    put_str_field(l, "remedy", f->remedy[0] != '\0' ? f->remedy : NULL);
    put_text(l, "}");
}

static void put_field(struct line *l, const struct log_field *f) {
    char number[40];
    switch (f->kind) {
    case LOG_FIELD_STR: put_str_field(l, f->key, f->ptr); return;
    case LOG_FIELD_PATH: put_path_field(l, f->key, f->ptr, f->len); return;
    case LOG_FIELD_FAILURE:
        if (f->ptr != NULL) {
            put_failure_field(l, f->key, f->ptr);
        }
        return;
    case LOG_FIELD_U64: snprintf(number, sizeof number, "%" PRIu64, f->value.u64); break;
    case LOG_FIELD_I64: snprintf(number, sizeof number, "%" PRId64, f->value.i64); break;
    case LOG_FIELD_F64:
        if (isfinite(f->value.f64)) {
            snprintf(number, sizeof number, "%.6g", f->value.f64);
        } else {
            snprintf(number, sizeof number, "null");
        }
        break;
    case LOG_FIELD_BOOL: snprintf(number, sizeof number, f->value.b ? "true" : "false"); break;
    }
    put_key(l, f->key);
    put_text(l, number);
}

static void put_time(struct line *l) {
    struct timespec now;
    struct tm tm;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%06ldZ", now.tv_nsec / 1000);
    put_str_field(l, "ts", text);
}

// ---- writing ----

// Never waits for a reader: what cannot be written now is dropped and counted.
static bool write_now(int fd, const char *text, size_t len) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
        return false;
    }
    ssize_t n;
    do {
        n = write(fd, text, len);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)len;
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields,
                size_t n_fields) {
    if (!log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    struct line l;
    l.text = l.inline_text;
    l.len = 0;
    l.cap = sizeof l.inline_text;
    l.failed = false;
    put_text(&l, "{");
    put_time(&l);
    put_str_field(&l, "level", level_names[level]);
    put_str_field(&l, "event", event);
    for (size_t i = 0; i < n_fields; i++) {
        put_field(&l, &fields[i]);
    }

    pthread_mutex_lock(&out.lock);
    put_str_field(&l, "service", out.service);
    put_str_field(&l, "name", out.name);
    if (out.dropped > 0) {
        const struct log_field dropped = LOG_U64("lines_dropped", out.dropped);
        put_field(&l, &dropped);
    }
    put_text(&l, "}\n");
    if (!l.failed && write_now(out.fd, l.text, l.len)) {
        out.dropped = 0;
    } else {
        out.dropped++;
    }
    pthread_mutex_unlock(&out.lock);

    if (l.text != l.inline_text) {
        free(l.text);
    }
    errno = saved_errno;
}

static int open_file(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

enum err log_open(const char *path, const char *service, const char *name,
                  struct failure *ret_failure) {
    int fd = STDERR_FILENO;
    char *path_copy = path != NULL ? strdup(path) : NULL;
    char *service_copy = service != NULL ? strdup(service) : NULL;
    char *name_copy = name != NULL ? strdup(name) : NULL;
    enum err err = OK;
    if ((path != NULL && path_copy == NULL) || (service != NULL && service_copy == NULL) ||
        (name != NULL && name_copy == NULL)) {
        err = failure_set(ret_failure, ERR_NO_MEMORY, "open the log", path,
                          path != NULL ? strlen(path) : 0, NULL);
        goto release;
    }
    if (path != NULL && (fd = open_file(path)) < 0) {
        err = failure_errno(ret_failure, errno, "open the log", path, strlen(path));
        goto release;
    }
    pthread_mutex_lock(&out.lock);
    char *old_path = out.path, *old_service = out.service, *old_name = out.name;
    int old_fd = out.fd;
    out.fd = fd;
    out.path = path_copy;
    out.service = service_copy;
    out.name = name_copy;
    pthread_mutex_unlock(&out.lock);
    if (old_fd != STDERR_FILENO) {
        close(old_fd);
    }
    path_copy = old_path;
    service_copy = old_service;
    name_copy = old_name;
release:
    free(path_copy);
    free(service_copy);
    free(name_copy);
    return err;
}

void log_reopen(void) {
    struct failure f;
    int old_fd = -1, errnum = 0;
    pthread_mutex_lock(&out.lock);
    if (out.path != NULL) {
        int fd = open_file(out.path);
        if (fd >= 0) {
            old_fd = out.fd;
            out.fd = fd;
        } else {
            errnum = errno;
        }
    }
    if (errnum != 0) {
        failure_errno(&f, errnum, "reopen the log", out.path, strlen(out.path));
    }
    pthread_mutex_unlock(&out.lock);
    if (old_fd >= 0) {
        close(old_fd);
    }
    if (errnum != 0) { // survived: the old file is written on
        log_event(LOG_WARN, "log_not_reopened", LOG_FAILURE(&f));
    }
}

void log_set_level(enum log_level level) {
    atomic_store(&current_level, (int)level);
}

enum err log_level_from_name(const char *name, enum log_level *ret_level) {
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return OK;
        }
    }
    return ERR_INVALID;
}

bool log_enabled(enum log_level level) {
    return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}
