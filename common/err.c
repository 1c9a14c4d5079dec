// SPDX-License-Identifier: Apache-2.0
#include "common/err.h"

#include "common/cleanup.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    enum retry_class retry;
    int grpc_status;
    enum exit_code exit;
} table[ERR_COUNT] = {
#define X(id, name_, retry_, status_, exit_, text_)                                                \
    [id] = {.name = (name_),                                                                       \
            .text = (text_),                                                                       \
            .retry = (retry_),                                                                     \
            .grpc_status = (status_),                                                              \
            .exit = (exit_)},
    ERR_TABLE(X)
#undef X
};

static enum err within(enum err e) {
    return (unsigned)e < ERR_COUNT ? e : ERR_INTERNAL;
}

const char *err_name(enum err e) {
    return table[within(e)].name;
}

const char *err_text(enum err e) {
    return table[within(e)].text;
}

enum retry_class err_retry_class(enum err e) {
    return table[within(e)].retry;
}

int err_grpc_status(enum err e) {
    return table[within(e)].grpc_status;
}

enum exit_code err_exit_code(enum err e) {
    return table[within(e)].exit;
}

enum err err_from_name(const char *name) {
    for (unsigned i = 0; name != NULL && i < ERR_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return (enum err)i;
        }
    }
    return ERR_INTERNAL;
}

static const struct {
    int errnum;
    enum err err;
} errno_table[] = {
    {0, OK},
    {ENOENT, ERR_NOT_FOUND},
    {EEXIST, ERR_EXISTS},
    {EACCES, ERR_DENIED},
    {EPERM, ERR_DENIED},
    {EINVAL, ERR_INVALID},
    {ELOOP, ERR_INVALID},
    {ENOMEM, ERR_NO_MEMORY},
    {EMFILE, ERR_FULL},
    {ENFILE, ERR_FULL},
    {EMLINK, ERR_FULL},
    {ENOBUFS, ERR_FULL},
    {EAGAIN, ERR_AGAIN},
    {EINTR, ERR_AGAIN},
    {EBUSY, ERR_AGAIN},
    {ETXTBSY, ERR_AGAIN},
    {ECANCELED, ERR_CANCELLED},
    {ETIMEDOUT, ERR_TIMEOUT},
    {ECONNRESET, ERR_PEER_LOST},
    {ECONNABORTED, ERR_PEER_LOST},
    {ENETRESET, ERR_PEER_LOST},
    {ENOTCONN, ERR_PEER_LOST},
    {EPIPE, ERR_PEER_LOST},
    {ECONNREFUSED, ERR_UNREACHABLE},
    {EHOSTUNREACH, ERR_UNREACHABLE},
    {EHOSTDOWN, ERR_UNREACHABLE},
    {ENETUNREACH, ERR_UNREACHABLE},
    {ENETDOWN, ERR_UNREACHABLE},
    {EPROTO, ERR_PROTOCOL},
    {EBADMSG, ERR_PROTOCOL},
    {ENOSPC, ERR_NO_SPACE},
    {EDQUOT, ERR_QUOTA},
    {EROFS, ERR_READ_ONLY},
    {ESTALE, ERR_STALE},
    {ENAMETOOLONG, ERR_NAME_TOO_LONG},
    {EFBIG, ERR_TOO_LARGE},
    {EOVERFLOW, ERR_TOO_LARGE},
    {ENOTDIR, ERR_NOT_DIRECTORY},
    {EISDIR, ERR_IS_DIRECTORY},
    {ENOTEMPTY, ERR_NOT_EMPTY},
    {EXDEV, ERR_OUTSIDE}, // what RESOLVE_BENEATH says of a path that leads out
    {EADDRINUSE, ERR_BUSY_PORT},
    {ENOSYS, ERR_UNIMPLEMENTED},
    {EOPNOTSUPP, ERR_UNIMPLEMENTED},
    {ENOTTY, ERR_UNIMPLEMENTED},
};

enum err err_from_errno(int errnum) {
    for (size_t i = 0; i < ARRAY_LEN(errno_table); i++) {
        if (errno_table[i].errnum == errnum) {
            return errno_table[i].err;
        }
    }
    return ERR_IO;
}
