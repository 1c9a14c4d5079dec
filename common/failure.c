// SPDX-License-Identifier: Apache-2.0
#include "common/failure.h"

#include "common/utf8.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// What to do about it, where nobody knows better.
static const char *usual_remedy(enum err e) {
    static const char *const table[ERR_COUNT] = {
        [ERR_NOT_FOUND] = "check the name",
        [ERR_DENIED] = "give the user that the process runs as the right to do this",
        [ERR_UNAUTHENTICATED] = "check the certificate",
        [ERR_UNIMPLEMENTED] = "leave it out, or use a version that has it",
        [ERR_FULL] = "try again later, or raise the limit",
        [ERR_AGAIN] = "try again",
        [ERR_NO_MEMORY] = "give the process more memory, or lower its buffers",
        [ERR_TIMEOUT] = "check that the peer runs and can be reached",
        [ERR_PEER_LOST] = "check that the peer runs and can be reached",
        [ERR_UNREACHABLE] = "check the address and that the peer runs",
        [ERR_PROTOCOL] = "check that both ends run the same version",
        [ERR_CORRUPT] = "check memory, network and storage of the agents named",
        [ERR_SOURCE_CHANGED] = "copy again when nothing writes to the source",
        [ERR_DEST_CHANGED] = "keep others from changing the destination meanwhile",
        [ERR_IO] = "check the storage and its log",
        [ERR_NO_SPACE] = "free some space, then resume or retry",
        [ERR_QUOTA] = "raise the quota or free some space, then resume or retry",
        [ERR_READ_ONLY] = "mount it writable, or choose another destination",
        [ERR_STALE] = "check the mount of the network file system",
        [ERR_NAME_TOO_LONG] = "shorten the name",
        [ERR_OUTSIDE] = "export a volume that contains what the path leads to",
        [ERR_UNSUPPORTED_TYPE] = "leave it out",
        [ERR_NO_AGENT] = "start an agent that has the volume",
        [ERR_NO_VOLUME] = "add a volume that contains the path to an agent's configuration",
        [ERR_NOT_SHARED] = "name the agent, as in SITE/AGENT:/path",
        [ERR_BUSY_PORT] = "choose another port, or stop what uses it",
        [ERR_LOCKED] = "stop the other process, or use a directory of its own",
        [ERR_DATABASE] = "check the state directory and its file system",
        [ERR_CONFIG] = "correct the configuration",
        [ERR_INTERNAL] = "report it with the log",
    };
    const char *remedy = (unsigned)e < ERR_COUNT ? table[e] : NULL;
    return remedy != NULL ? remedy : "";
}

static void set(struct failure *f, enum err e, int errnum, const char *operation,
                const void *object, size_t object_len) {
    memset(f, 0, sizeof *f);
    f->err = e;
    f->errnum = errnum;
    snprintf(f->operation, sizeof f->operation, "%s", operation != NULL ? operation : "");
    if (object != NULL) {
        size_t skip = object_len > FAILURE_OBJECT_MAX ? object_len - FAILURE_OBJECT_MAX : 0;
        f->object_len = object_len - skip;
        memcpy(f->object, (const unsigned char *)object + skip, f->object_len);
    }
    snprintf(f->remedy, sizeof f->remedy, "%s", usual_remedy(e));
}

enum err failure_set(struct failure *f, enum err e, const char *operation, const void *object,
                     size_t object_len, const char *fmt, ...) {
    if (f == NULL) {
        return e;
    }
    // @fmt's arguments may point into *@f.
    char message[FAILURE_TEXT_MAX], copy[FAILURE_OBJECT_MAX];
    if (fmt != NULL) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(message, sizeof message, fmt, args);
        va_end(args);
    } else {
        snprintf(message, sizeof message, "%s", err_text(e));
    }
    size_t skip = object_len > sizeof copy ? object_len - sizeof copy : 0;
    if (object != NULL) {
        memcpy(copy, (const char *)object + skip, object_len - skip);
    }
    set(f, e, 0, operation, object != NULL ? copy : NULL, object_len - skip);
    snprintf(f->message, sizeof f->message, "%s", message);
    return e;
}

enum err failure_errno(struct failure *f, int errnum, const char *operation, const void *object,
                       size_t object_len) {
    enum err e = err_from_errno(errnum);
    if (f == NULL) {
        return e;
    }
    set(f, e, errnum, operation, object, object_len);
    const char *text = strerrordesc_np(errnum);
    if (text == NULL) {
        snprintf(f->message, sizeof f->message, "error %d", errnum);
        return e;
    }
    snprintf(f->message, sizeof f->message, "%s", text);
    if (!isupper((unsigned char)text[1])) { // not "RPC ..."
        f->message[0] = (char)tolower((unsigned char)f->message[0]);
    }
    return e;
}

void failure_remedy(struct failure *f, const char *fmt, ...) {
    if (f == NULL) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->remedy, sizeof f->remedy, fmt, args);
    va_end(args);
}

static size_t append(char *buf, size_t cap, size_t used, const char *text) {
    return used + utf8_print(text, strlen(text), buf + used, cap - used);
}

void failure_format(const struct failure *f, char *buf, size_t cap) {
    size_t n = 0;
    if (cap == 0) {
        return;
    }
    buf[0] = '\0';
    if (f->operation[0] != '\0') {
        n = append(buf, cap, n, "cannot ");
        n = append(buf, cap, n, f->operation);
        if (f->object_len > 0) {
            n = append(buf, cap, n, " '");
            n += utf8_print(f->object, f->object_len, buf + n, cap - n);
            n = append(buf, cap, n, "'");
        }
        n = append(buf, cap, n, ": ");
    } else if (f->object_len > 0) {
        n = append(buf, cap, n, "'");
        n += utf8_print(f->object, f->object_len, buf + n, cap - n);
        n = append(buf, cap, n, "': ");
    }
    n = append(buf, cap, n, f->message[0] != '\0' ? f->message : err_text(f->err));
    if (f->remedy[0] != '\0') {
        n = append(buf, cap, n, "; ");
        append(buf, cap, n, f->remedy);
    }
}
