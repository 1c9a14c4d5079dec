// SPDX-License-Identifier: Apache-2.0
// A connection to a PostgreSQL server: made, asked, lost. Every wait has an end.
#include "master/database_postgres.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_MS = 10000,
    ANSWER_MS = 60000, // of one statement; what takes longer is a server that hangs
};

static int64_t now_ms(void) {
    return clock_mono_ms(&clock_system);
}

// ---- failures ----
// A message of libpq as one line.
static void one_line(const char *message, char *ret_text, size_t cap) {
    size_t n = 0;
    for (const char *at = message; *at != '\0' && n + 1 < cap; at++) {
        bool blank = *at == '\n' || *at == '\t' || *at == ' ';
        if (!blank) {
            ret_text[n++] = *at;
        } else if (n > 0 && ret_text[n - 1] != ' ') {
            ret_text[n++] = ' ';
        }
    }
    while (n > 0 && ret_text[n - 1] == ' ') {
        n--;
    }
    ret_text[n] = '\0';
}

static enum err fail(const struct postgres *p, enum err e, const char *operation,
                     const char *message, struct failure *f) {
    char text[FAILURE_TEXT_MAX];
    char op[32];
    one_line(message, text, sizeof text);
    snprintf(op, sizeof op, "%s", operation);
    failure_set(f, e, op, p->name, strlen(p->name), "%s", text);
    failure_remedy(f, "see docs/database.md, and the log of the PostgreSQL server");
    return e;
}

static void disconnect(struct postgres *p) {
    PQfinish(p->connection);
    p->connection = NULL;
    p->batching = false;
    p->n_sent = 0;
    p->prepared = NULL;
}

enum err postgres_lost(struct postgres *p, const char *operation, struct failure *ret_failure) {
    const char *message = p->connection == NULL ? "not connected" : PQerrorMessage(p->connection);
    fail(p, ERR_DATABASE, operation, message[0] == '\0' ? "the connection was lost" : message,
         ret_failure);
    disconnect(p);
    return ERR_DATABASE;
}

bool postgres_succeeded(const PGresult *r) {
    ExecStatusType status = PQresultStatus(r);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

enum err postgres_failure(const struct postgres *p, const PGresult *r, const char *operation,
                          struct failure *ret_failure) {
    // The classes of PostgreSQL's error codes (appendix A of its manual) that are about the
    // statement alone. All others say something about the server, or the whole transaction.
    static const char *const of_statement[] = {"21", "22", "23", "42", "54", "0A"};
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    enum err e = ERR_DATABASE;
    for (size_t i = 0; state != NULL && i < ARRAY_LEN(of_statement); i++) {
        if (strncmp(state, of_statement[i], 2) == 0 && strcmp(state, "42501") != 0) {
            e = ERR_INTERNAL;
        }
    }
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    return fail(p, e, operation, message != NULL ? message : PQresultErrorMessage(r), ret_failure);
}

// ---- asking ----
enum err postgres_result(struct postgres *p, PGresult **ret_result, struct failure *ret_failure) {
    int64_t until_ms = now_ms() + ANSWER_MS;
    for (;;) {
        int unsent = PQflush(p->connection);
        if (unsent < 0) {
            return postgres_lost(p, "send", ret_failure);
        }
        if (unsent == 0 && !PQisBusy(p->connection)) {
            *ret_result = PQgetResult(p->connection);
            return OK;
        }
        int64_t left_ms = until_ms - now_ms();
        struct pollfd fd = {.fd = PQsocket(p->connection),
                            .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
        int n = left_ms <= 0 ? 0 : poll(&fd, 1, (int)left_ms);
        if (n == 0) {
            fail(p, ERR_DATABASE, "wait", "the server gave no answer in time", ret_failure);
            disconnect(p);
            return ERR_DATABASE;
        }
        if (n > 0 && (fd.revents & ~POLLOUT) != 0 && PQconsumeInput(p->connection) == 0) {
            return postgres_lost(p, "receive", ret_failure);
        }
    }
}

enum err postgres_execute(struct postgres *p, const char *text, PGresult **ret_result,
                          struct failure *ret_failure) {
    if (p->connection == NULL || PQsendQuery(p->connection, text) == 0) {
        return postgres_lost(p, "send", ret_failure);
    }
    enum err first = OK;
    PGresult *last = NULL;
    for (;;) {
        PGresult *r = NULL;
        enum err e = postgres_result(p, &r, ret_failure);
        if (e != OK) {
            PQclear(last);
            return e;
        }
        if (r == NULL) {
            break;
        }
        if (!postgres_succeeded(r) && first == OK) {
            first = postgres_failure(p, r, text, ret_failure);
        }
        PQclear(last);
        last = r;
    }
    if (first == OK && ret_result != NULL) {
        *ret_result = last;
    } else {
        PQclear(last);
    }
    return first;
}

// ---- connecting ----

// What the server says unasked, as when it is shut down: libpq would write it to stderr, among the
// lines of the log.
static void notice(void *arg, const char *message) {
    const struct postgres *p = arg;
    char text[FAILURE_TEXT_MAX];
    one_line(message, text, sizeof text);
    log_event(LOG_INFO, "database_notice", LOG_STR("database", p->name), LOG_STR("message", text));
}

// Steps through libpq's handshake.
static enum err shake_hands(struct postgres *p, struct failure *f) {
    int64_t until_ms = now_ms() + CONNECT_MS;
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    while (next != PGRES_POLLING_OK) {
        if (next == PGRES_POLLING_FAILED || PQstatus(p->connection) == CONNECTION_BAD) {
            return postgres_lost(p, "connect", f);
        }
        int64_t left_ms = until_ms - now_ms();
        struct pollfd fd = {.fd = PQsocket(p->connection),
                            .events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int n = left_ms <= 0 ? 0 : poll(&fd, 1, (int)left_ms);
        if (n == 0) {
            fail(p, ERR_DATABASE, "connect", "the server gave no answer in time", f);
            disconnect(p);
            return ERR_DATABASE;
        }
        if (n > 0) {
            next = PQconnectPoll(p->connection);
        }
    }
    return OK;
}

static enum err prepare_session(struct postgres *p, struct failure *f) {
    // Plans are kept from when the tables were small: without an index they would stay slow.
    static const char always[] =
        "SET client_min_messages = warning; SET enable_seqscan = off; SET jit = off;"
        "SET default_transaction_isolation = 'read committed'";
    enum err e = postgres_execute(p, always, NULL, f);
    if (e != OK || p->role != STORE_WRITER) {
        return e == OK ? postgres_execute(p, "SET default_transaction_read_only = on", NULL, f) : e;
    }
    char text[512];
    // A master that is stopped or cut off loses its session, and with it the lock.
    snprintf(text, sizeof text,
             "SET idle_session_timeout = %lld; SET idle_in_transaction_session_timeout = %lld;"
             "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;"
             "SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000;"
             "SELECT CASE WHEN current_setting('synchronous_commit') = 'off'"
             " THEN set_config('synchronous_commit', 'on', false) END",
             (long long)p->session_ms, (long long)p->session_ms);
    return postgres_execute(p, text, NULL, f);
}

enum err postgres_connect(struct postgres *p, struct failure *ret_failure) {
    disconnect(p);
    // The URL comes last: what it says itself takes the place of these.
    const char *keys[] = {
        "fallback_application_name", "client_encoding",  "keepalives_idle", "keepalives_interval",
        "keepalives_count",          "tcp_user_timeout", "dbname",          NULL};
    const char *values[] = {"sluice-master", "UTF8", "5", "2", "3", "10000", p->url, NULL};
    p->connection = PQconnectStartParams(keys, values, 1);
    p->n_connects++;
    if (p->connection == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "connect", NULL, 0, NULL);
    }
    PQsetNoticeProcessor(p->connection, notice, p);
    enum err e = shake_hands(p, ret_failure);
    if (e == OK && PQsetnonblocking(p->connection, 1) != 0) {
        e = postgres_lost(p, "connect", ret_failure);
    }
    if (e == OK) {
        e = prepare_session(p, ret_failure);
    }
    if (e != OK) {
        disconnect(p);
        return ERR_DATABASE;
    }
    return OK;
}
