// SPDX-License-Identifier: Apache-2.0
// PostgreSQL keeps the promises of a database, also when its connections break.
// WRAP: sql_schema_version PQsendQuery
#include "master/database_plan.h"
#include "tests/contract/master/database_contract.h"
#include "tests/contract/master/postgres_server.h"
#include "tests/lib/test.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char FLOW[] = "01HZZZZZZZZZZZZZZZZZZZZZZA";

// ---- a connection that breaks at a commit ----
enum breaks { NEVER, BEFORE_COMMIT, AFTER_COMMIT };
static atomic_int breaks;

int __real_PQsendQuery(PGconn *c, const char *query);
int __wrap_PQsendQuery(PGconn *c, const char *query);
int __wrap_PQsendQuery(PGconn *c, const char *query) {
    if (strcmp(query, "COMMIT") != 0) {
        return __real_PQsendQuery(c, query);
    }
    int when = atomic_exchange(&breaks, NEVER);
    int sent = 1;
    if (when == BEFORE_COMMIT) {
        (void)shutdown(PQsocket(c), SHUT_RDWR);
    }
    sent = __real_PQsendQuery(c, query);
    if (when == AFTER_COMMIT) { // the server's answer is lost with the connection
        char answer[256];
        (void)PQflush(c);
        struct pollfd fd = {.fd = PQsocket(c), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 60000), 1);
        assert_true(recv(fd.fd, answer, sizeof answer, 0) > 0);
        (void)shutdown(fd.fd, SHUT_RDWR);
    }
    return sent;
}

static const char *name_of(const char *url) {
    static char name[32];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(strrchr(url, '@') + 2, "?"),
             strrchr(url, '@') + 2);
    return name;
}

static void execute(const char *dir, const char *url, const char *statements) {
    (void)dir;
    (void)postgres_server_ask("sql %s %s", name_of(url), statements);
}

static int64_t mark(const char *dir, const char *url) {
    (void)dir;
    return strtoll(postgres_server_ask("sql %s SELECT count(*) FROM pg_class WHERE relnamespace ="
                                       " 'public'::regnamespace",
                                       name_of(url)),
                   NULL, 10);
}

static void raise_term(struct database_world *w) {
    uint64_t term = 0;
    char cluster[27];
    struct failure f = {0};
    assert_ok(database_raise_term(w->database, &term, cluster, &f));
}

// Committing this twice would show: each row has a number of its own.
static void add_callback(struct database_world *w, uint64_t seq) {
    struct change *c = change_new();
    change_outbox_add(c, FLOW, seq, false, "t", (struct blob){(const uint8_t *)"x", 1});
    database_world_commit(w, c);
}

static long n_callbacks(const struct database_world *w) {
    return strtol(postgres_server_ask("sql %s SELECT count(*) FROM outbox", name_of(w->url)), NULL,
                  10);
}

static void a_commit_whose_answer_is_lost_is_done_once(void **state) {
    struct database_world *w = *state;
    raise_term(w);
    for (int i = 1; i <= 6; i++) {
        atomic_store(&breaks, i % 2 == 0 ? BEFORE_COMMIT : AFTER_COMMIT);
        add_callback(w, (uint64_t)i);
        assert_ok(w->result);
        assert_int_equal(atomic_load(&breaks), NEVER);
        assert_int_equal(n_callbacks(w), i);
    }
}

static void a_server_that_crashes_is_waited_for(void **state) {
    struct database_world *w = *state;
    raise_term(w);
    add_callback(w, 1);
    (void)postgres_server_ask("stop");
    (void)postgres_server_ask("start");
    add_callback(w, 2);
    assert_ok(w->result);
    assert_int_equal(n_callbacks(w), 2);
    database_world_unfinished(w);
    assert_ok(w->result);
}

static void sessions_that_are_ended_are_replaced(void **state) {
    struct database_world *w = *state;
    raise_term(w);
    for (int i = 1; i <= 5; i++) {
        (void)postgres_server_ask("sql postgres SELECT count(pg_terminate_backend(pid)) FROM"
                                  " pg_stat_activity WHERE datname = '%s'",
                                  name_of(w->url));
        add_callback(w, (uint64_t)i);
        assert_ok(w->result);
    }
    assert_int_equal(n_callbacks(w), 5);
}

static void on_lost(void *arg, const struct failure *f) {
    atomic_store((atomic_int *)arg, (int)f->err);
}

static void a_master_whose_term_is_over_writes_nothing(void **state) {
    struct database_world *w = *state;
    atomic_int lost = OK;
    raise_term(w);
    add_callback(w, 1);
    database_on_lost(w->database, on_lost, &lost);
    (void)postgres_server_ask("sql %s UPDATE cluster SET term = term + 1", name_of(w->url));
    add_callback(w, 2);
    assert_err(w->result, ERR_CANCELLED);
    assert_int_equal(atomic_load(&lost), ERR_FENCED);
    assert_int_equal(n_callbacks(w), 1);
    add_callback(w, 3);
    assert_err(w->result, ERR_CANCELLED);
    assert_int_equal(n_callbacks(w), 1);
}

static void text_that_is_not_utf8_is_stored_all_the_same(void **state) {
    struct database_world *w = *state;
    add_callback(w, 1);
    struct change *c = change_new();
    change_outbox_dead(c, FLOW, 1, "no \xff\xfe such thing", 7, 10);
    database_world_commit(w, c);
    assert_ok(w->result);
}

// ---- a server that wants a password ----
static void a_wrong_password_is_refused(void **state) {
    (void)state;
    char *url = postgres_server_database(); // postgresql://sluice:WORD@/…
    char wrong[512];
    snprintf(wrong, sizeof wrong, "postgresql://sluice:hunter2%s", strchr(url, '@'));
    struct database_place place = {.state_dir = "/tmp", .url = wrong, .session_ms = 10000};
    struct failure f = {0};
    char told[2048];
    assert_err(database_check(&place, &f), ERR_DATABASE);
    assert_non_null(strstr(f.message, "password authentication failed"));
    failure_format(&f, told, sizeof told);
    assert_null(strstr(told, "hunter2"));
    assert_string_not_equal(f.remedy, "");
    place.url = "postgresql://sluice:hunter2@[::1/";
    assert_err(database_check(&place, &f), ERR_CONFIG);
    failure_format(&f, told, sizeof told);
    assert_null(strstr(told, "hunter2"));
    place.url = url;
    assert_ok(database_check(&place, &f)); // empty: a master would make its tables
    assert_string_equal(postgres_server_ask("sql %s SELECT count(*) FROM pg_class WHERE"
                                            " relnamespace = 'public'::regnamespace",
                                            name_of(url)),
                        "0 ");
    free(url);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, database_world_set_up, database_world_tear_down)

int main(void) {
    const struct database_kind kind = {
        .name = "postgresql", .make = postgres_server_database, .execute = execute, .mark = mark};
    const struct CMUnitTest tests[] = {
        TEST(a_commit_whose_answer_is_lost_is_done_once),
        TEST(sessions_that_are_ended_are_replaced),
        TEST(a_server_that_crashes_is_waited_for),
        TEST(a_master_whose_term_is_over_writes_nothing),
        TEST(text_that_is_not_utf8_is_stored_all_the_same),
    };
    const struct CMUnitTest with_password[] = {cmocka_unit_test(a_wrong_password_is_refused)};
    postgres_server_start(NULL);
    int n_failed = database_contract(&kind) + schema_contract(&kind) + event_contract(&kind);
    n_failed += cmocka_run_group_tests_name("broken connections", tests, NULL, NULL);
    postgres_server_end();
    postgres_server_start("word");
    n_failed += cmocka_run_group_tests_name("password", with_password, NULL, NULL);
    postgres_server_end();
    return n_failed;
}
