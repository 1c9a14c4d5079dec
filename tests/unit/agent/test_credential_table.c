// SPDX-License-Identifier: Apache-2.0
#include "agent/credential_table.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

static void put(struct credential_table *t, const char *name, const char *key) {
    struct s3_credentials k = {0};
    snprintf(k.access_key, sizeof k.access_key, "%s", key);
    assert_ok(credential_table_put(t, name, &k));
}

static void a_name_for_the_store_wins(void **state) {
    char *names[] = {"all", "s3=one", "aws=other"};
    struct credential_table *t;
    struct s3_credentials k;
    (void)state;
    assert_ok(credential_table_new(&t));
    put(t, "all", "A");
    put(t, "one", "1");
    assert_ok(credential_table_choose(t, "s3", names, 3, &k, NULL));
    assert_string_equal(k.access_key, "1");
    assert_ok(credential_table_choose(t, "ceph", names, 3, &k, NULL));
    assert_string_equal(k.access_key, "A");
    assert_err(credential_table_choose(t, "ceph", names + 1, 2, &k, NULL), ERR_NOT_FOUND);
    assert_err(credential_table_choose(t, "s", names + 1, 2, &k, NULL), ERR_NOT_FOUND);
    credential_table_free(t);
}

static void what_is_named_and_not_here_is_no_reason_to_take_others(void **state) {
    char *names[] = {"gone"};
    struct credential_table *t;
    struct s3_credentials k;
    struct failure f = {0};
    (void)state;
    assert_ok(credential_table_new(&t));
    put(t, "gone", "G");
    put(t, "gone", "H"); // takes its place
    assert_ok(credential_table_choose(t, "s3", names, 1, &k, NULL));
    assert_string_equal(k.access_key, "H");
    credential_table_remove(t, "gone");
    credential_table_remove(t, "gone");
    assert_err(credential_table_choose(t, "s3", names, 1, &k, &f), ERR_UNAUTHENTICATED);
    assert_non_null(strstr(f.remedy, "credentials update gone"));
    credential_table_free(t);
}

static void there_is_room_for_so_many(void **state) {
    struct credential_table *t;
    struct s3_credentials k = {0};
    char name[32];
    (void)state;
    assert_ok(credential_table_new(&t));
    for (int i = 0; i < CREDENTIAL_TABLE_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        put(t, name, "K");
    }
    assert_err(credential_table_put(t, "more", &k), ERR_FULL);
    put(t, "n7", "again");
    credential_table_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_for_the_store_wins),
        cmocka_unit_test(what_is_named_and_not_here_is_no_reason_to_take_others),
        cmocka_unit_test(there_is_room_for_so_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
