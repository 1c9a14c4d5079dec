// SPDX-License-Identifier: Apache-2.0
#include "common/ticket.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOW_MS = 1000, LATER_MS = 2000 };

struct fixture {
    struct signing_key *master;
    uint8_t public_key[SIGNING_KEY_BYTES];
    struct ticket ticket;
    uint8_t bytes[TICKET_MAX_BYTES];
    size_t len;
};

static int set_up(void **state) {
    struct fixture *x = calloc(1, sizeof *x);
    struct ticket *t = &x->ticket;
    assert_ok(signing_key_generate(&x->master));
    signing_key_public(x->master, x->public_key);
    strcpy(t->cluster, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    strcpy(t->flow, "01BX5ZZKBKACTAV9WEVGEMMVRZ");
    t->revision = 3;
    t->task_id = 42;
    t->term = 2;
    t->counter = UINT64_MAX;
    strcpy(t->executor, "node1");
    strcpy(t->source, "node2");
    memset(t->executor_key, 0x5a, sizeof t->executor_key);
    t->direction = TICKET_READ;
    t->digest = 1;
    t->expires_ms = LATER_MS;
    strcpy(t->volume, "scratch");
    memcpy(t->root, "a\xff/b", 4);
    t->root_len = 4;
    memset(t->objects_sha256, 0xa5, sizeof t->objects_sha256);
    assert_ok(ticket_sign(t, x->master, x->bytes, sizeof x->bytes, &x->len));
    *state = x;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *x = *state;
    signing_key_free(x->master);
    free(x);
    return 0;
}

static void a_ticket_says_again_what_was_signed(void **state) {
    struct fixture *x = *state;
    struct ticket got;
    assert_ok(ticket_open(x->bytes, x->len, x->public_key, NOW_MS, &got));
    assert_string_equal(got.cluster, x->ticket.cluster);
    assert_string_equal(got.flow, x->ticket.flow);
    assert_string_equal(got.executor, "node1");
    assert_string_equal(got.source, "node2");
    assert_string_equal(got.volume, "scratch");
    assert_int_equal(got.revision, 3);
    assert_int_equal(got.task_id, 42);
    assert_int_equal(got.term, 2);
    assert_true(got.counter == UINT64_MAX);
    assert_int_equal(got.digest, 1);
    assert_int_equal(got.expires_ms, LATER_MS);
    assert_int_equal(got.root_len, 4);
    assert_memory_equal(got.root, x->ticket.root, 4);
    assert_memory_equal(got.executor_key, x->ticket.executor_key, SIGNING_KEY_BYTES);
    assert_memory_equal(got.objects_sha256, x->ticket.objects_sha256, 32);
}

static void every_changed_byte_is_noticed(void **state) {
    struct fixture *x = *state;
    struct ticket got;
    for (size_t i = 0; i < x->len; i++) {
        x->bytes[i] ^= 1;
        enum err err = ticket_open(x->bytes, x->len, x->public_key, NOW_MS, &got);
        if (err != ERR_DENIED && err != ERR_INVALID) {
            fail_msg("byte %zu: %s", i, err_name(err));
        }
        x->bytes[i] ^= 1;
    }
}

static void a_truncated_ticket_is_refused(void **state) {
    struct fixture *x = *state;
    struct ticket got;
    for (size_t n = 0; n < x->len; n++) {
        uint8_t *part = malloc(n > 0 ? n : 1); // of just this size, for a sanitizer
        memcpy(part, x->bytes, n);
        enum err err = ticket_open(part, n, x->public_key, NOW_MS, &got);
        assert_true(err == ERR_INVALID || err == ERR_DENIED);
        free(part);
    }
}

static void another_masters_ticket_is_refused(void **state) {
    struct fixture *x = *state;
    struct signing_key *other = NULL;
    uint8_t public_key[SIGNING_KEY_BYTES];
    struct ticket got;
    assert_ok(signing_key_generate(&other));
    signing_key_public(other, public_key);
    assert_err(ticket_open(x->bytes, x->len, public_key, NOW_MS, &got), ERR_DENIED);
    signing_key_free(other);
}

static void an_expired_ticket_is_given_for_the_log(void **state) {
    struct fixture *x = *state;
    struct ticket got;
    assert_err(ticket_open(x->bytes, x->len, x->public_key, LATER_MS, &got), ERR_TIMEOUT);
    assert_int_equal(got.task_id, 42);
}

static void a_small_buffer_is_refused(void **state) {
    struct fixture *x = *state;
    uint8_t small[TICKET_MAX_BYTES];
    size_t len = 0;
    for (size_t cap = 0; cap < x->len; cap++) {
        assert_err(ticket_sign(&x->ticket, x->master, small, cap, &len), ERR_FULL);
    }
    assert_ok(ticket_sign(&x->ticket, x->master, small, x->len, &len));
}

static void the_longest_ticket_fits(void **state) {
    struct fixture *x = *state;
    struct ticket *t = &x->ticket, got;
    memset(t->executor, 'x', sizeof t->executor - 1);
    memset(t->source, 'x', sizeof t->source - 1);
    memset(t->volume, 'x', sizeof t->volume - 1);
    memset(t->root, 'x', sizeof t->root);
    t->root_len = sizeof t->root;
    assert_ok(ticket_sign(t, x->master, x->bytes, sizeof x->bytes, &x->len));
    assert_ok(ticket_open(x->bytes, x->len, x->public_key, NOW_MS, &got));
}

static void a_key_survives_in_its_file(void **state) {
    char dir[] = "/tmp/sluice-key-XXXXXX", path[64];
    struct signing_key *first = NULL, *second = NULL;
    uint8_t a[SIGNING_KEY_BYTES], b[SIGNING_KEY_BYTES];
    struct failure f;
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/ticket.key", dir);
    assert_ok(signing_key_load_or_create(path, &first, &f));
    assert_ok(signing_key_load_or_create(path, &second, &f));
    signing_key_public(first, a);
    signing_key_public(second, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    signing_key_free(first);
    signing_key_free(second);

    assert_int_equal(chmod(path, 0644), 0);
    assert_err(signing_key_load_or_create(path, &first, &f), ERR_DENIED);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 5), 0);
    assert_err(signing_key_load_or_create(path, &first, &f), ERR_CONFIG);
    assert_memory_equal(f.object, path, strlen(path));
    unlink(path);
    rmdir(dir);
    assert_err(signing_key_load_or_create(path, &first, &f), ERR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_ticket_says_again_what_was_signed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_changed_byte_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_truncated_ticket_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_masters_ticket_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_expired_ticket_is_given_for_the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_small_buffer_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_longest_ticket_fits, set_up, tear_down),
        cmocka_unit_test(a_key_survives_in_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
