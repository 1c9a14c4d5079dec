// SPDX-License-Identifier: Apache-2.0
// Every way an operation can fail, in one enum shared by all layers, gRPC details, the
// JSON log and the exit codes of the command line.
//
// An expected outcome is named in the callee's comment and handled by its direct caller.
// Any other value goes up unchanged: whoever first saw the failure has logged it, or has
// filled a struct failure (common/failure.h) that travels to the user.
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdbool.h>

// What a retry may help against.
enum retry_class {
    RETRY_NEVER,     // the same again will fail the same way
    RETRY_SOON,      // transient: lost connection, busy
    RETRY_LATER,     // throttled, no space: wait longer
    RETRY_ELSEWHERE, // this agent cannot, another may
};

// Exit codes of the command line (docs/errors.md).
enum exit_code {
    EXIT_DELIVERED = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_PARTIAL = 3,
    EXIT_UNREACHABLE = 4,
    EXIT_REFUSED = 5,
    EXIT_CANCELLED = 6,
};

// clang-format off
//      name                  code in JSON and gRPC   retry            gRPC status          exit code         text
#define ERR_TABLE(X)                                                                                                          \
    X(OK,                     "OK",                   RETRY_NEVER,     0 /* OK */,          EXIT_DELIVERED,   "success")                                \
    X(ERR_INVALID,            "INVALID",              RETRY_NEVER,     3 /* INVALID_ARG */, EXIT_USAGE,       "invalid value")                          \
    X(ERR_NOT_FOUND,          "NOT_FOUND",            RETRY_NEVER,     5 /* NOT_FOUND */,   EXIT_FAILED,      "no such thing")                          \
    X(ERR_EXISTS,             "EXISTS",               RETRY_NEVER,     6 /* ALREADY */,     EXIT_FAILED,      "exists already")                         \
    X(ERR_DENIED,             "DENIED",               RETRY_NEVER,     7 /* PERMISSION */,  EXIT_REFUSED,     "permission denied")                      \
    X(ERR_UNAUTHENTICATED,    "UNAUTHENTICATED",      RETRY_NEVER,     16 /* UNAUTH */,     EXIT_REFUSED,     "not authenticated")                      \
    X(ERR_STATE,              "STATE",                RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "not possible in this state")             \
    X(ERR_UNIMPLEMENTED,      "UNIMPLEMENTED",        RETRY_NEVER,     12 /* UNIMPL */,     EXIT_USAGE,       "not supported by this version")          \
    X(ERR_FULL,               "FULL",                 RETRY_LATER,     8 /* EXHAUSTED */,   EXIT_FAILED,      "a limit is reached")                     \
    X(ERR_AGAIN,              "AGAIN",                RETRY_SOON,      14 /* UNAVAILABLE */,EXIT_FAILED,      "busy, try again")                        \
    X(ERR_NO_MEMORY,          "NO_MEMORY",            RETRY_LATER,     8 /* EXHAUSTED */,   EXIT_FAILED,      "out of memory")                          \
    X(ERR_CANCELLED,          "CANCELLED",            RETRY_NEVER,     1 /* CANCELLED */,   EXIT_CANCELLED,   "cancelled")                              \
    X(ERR_TIMEOUT,            "TIMEOUT",              RETRY_SOON,      4 /* DEADLINE */,    EXIT_FAILED,      "no answer in time")                      \
    X(ERR_PEER_LOST,          "PEER_LOST",            RETRY_SOON,      14 /* UNAVAILABLE */,EXIT_FAILED,      "connection lost")                        \
    X(ERR_UNREACHABLE,        "UNREACHABLE",          RETRY_SOON,      14 /* UNAVAILABLE */,EXIT_UNREACHABLE, "cannot be reached")                      \
    X(ERR_PROTOCOL,           "PROTOCOL",             RETRY_SOON,      13 /* INTERNAL */,   EXIT_FAILED,      "the peer broke the protocol")            \
    X(ERR_CORRUPT,            "CORRUPT",              RETRY_SOON,      15 /* DATA_LOSS */,  EXIT_FAILED,      "digests differ")                         \
    X(ERR_SOURCE_CHANGED,     "SOURCE_CHANGED",       RETRY_SOON,      10 /* ABORTED */,    EXIT_FAILED,      "the source changed while it was read")   \
    X(ERR_DEST_CHANGED,       "DEST_CHANGED",         RETRY_SOON,      10 /* ABORTED */,    EXIT_FAILED,      "the temporary object is gone or replaced") \
    X(ERR_FENCED,             "FENCED",               RETRY_NEVER,     10 /* ABORTED */,    EXIT_FAILED,      "the lease is no longer held")            \
    X(ERR_IO,                 "IO",                   RETRY_ELSEWHERE, 13 /* INTERNAL */,   EXIT_FAILED,      "input/output error")                     \
    X(ERR_NO_SPACE,           "NO_SPACE",             RETRY_LATER,     8 /* EXHAUSTED */,   EXIT_FAILED,      "no space left")                          \
    X(ERR_QUOTA,              "QUOTA",                RETRY_LATER,     8 /* EXHAUSTED */,   EXIT_FAILED,      "disk quota exceeded")                    \
    X(ERR_READ_ONLY,          "READ_ONLY",            RETRY_ELSEWHERE, 9 /* PRECONDITION */,EXIT_FAILED,      "file system is read-only")               \
    X(ERR_STALE,              "STALE",                RETRY_SOON,      14 /* UNAVAILABLE */,EXIT_FAILED,      "stale file handle")                      \
    X(ERR_NAME_TOO_LONG,      "NAME_TOO_LONG",        RETRY_NEVER,     3 /* INVALID_ARG */, EXIT_FAILED,      "name too long")                          \
    X(ERR_TOO_LARGE,          "TOO_LARGE",            RETRY_NEVER,     11 /* RANGE */,      EXIT_FAILED,      "too large")                              \
    X(ERR_NOT_DIRECTORY,      "NOT_DIRECTORY",        RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "not a directory")                        \
    X(ERR_IS_DIRECTORY,       "IS_DIRECTORY",         RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "is a directory")                         \
    X(ERR_NOT_EMPTY,          "NOT_EMPTY",            RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "directory not empty")                    \
    X(ERR_OUTSIDE,            "OUTSIDE",              RETRY_NEVER,     7 /* PERMISSION */,  EXIT_REFUSED,     "leads out of the volume")                \
    X(ERR_UNSUPPORTED_TYPE,   "UNSUPPORTED_TYPE",     RETRY_NEVER,     12 /* UNIMPL */,     EXIT_FAILED,      "a kind of file that cannot be copied")   \
    X(ERR_NO_AGENT,           "NO_AGENT",             RETRY_LATER,     14 /* UNAVAILABLE */,EXIT_FAILED,      "no agent can do this")                   \
    X(ERR_NO_VOLUME,          "NO_VOLUME",            RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "no volume covers this path")             \
    X(ERR_NOT_SHARED,         "NOT_SHARED",           RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "the volume is local to each agent")      \
    X(ERR_BUSY_PORT,          "BUSY_PORT",            RETRY_NEVER,     14 /* UNAVAILABLE */,EXIT_FAILED,      "address in use")                         \
    X(ERR_LOCKED,             "LOCKED",               RETRY_NEVER,     9 /* PRECONDITION */,EXIT_FAILED,      "in use by another process")              \
    X(ERR_DATABASE,           "DATABASE",             RETRY_SOON,      13 /* INTERNAL */,   EXIT_FAILED,      "database error")                         \
    X(ERR_CONFIG,             "CONFIG",               RETRY_NEVER,     3 /* INVALID_ARG */, EXIT_USAGE,       "bad configuration")                      \
    X(ERR_DEADLINE,           "DEADLINE",             RETRY_NEVER,     4 /* DEADLINE */,    EXIT_FAILED,      "the flow's deadline passed")             \
    X(ERR_INTERNAL,           "INTERNAL",             RETRY_NEVER,     13 /* INTERNAL */,   EXIT_FAILED,      "a defect in Sluice")
// clang-format on

enum err {
#define X(name, code, retry, status, exit, text) name,
    ERR_TABLE(X)
#undef X
        ERR_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))

const char *err_name(enum err e); // "NO_SPACE"
const char *err_text(enum err e); // "no space left"
enum retry_class err_retry_class(enum err e);
int err_grpc_status(enum err e);
enum exit_code err_exit_code(enum err e);

// The error with this name (as err_name() gives it); ERR_INTERNAL if there is none.
enum err err_from_name(const char *name);

// ERR_IO for what has no code of its own; OK for 0.
enum err err_from_errno(int errnum);

#endif
