// SPDX-License-Identifier: Apache-2.0
#include "common/daemon.h"
#include "tests/lib/test.h"

#include <sys/resource.h>

static void a_daemon_takes_all_descriptors_that_it_may_have(void **state) {
    struct rlimit limit;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t hard = limit.rlim_max;
    limit.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    daemon_raise_descriptor_limit();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, hard);
    assert_int_equal(limit.rlim_max, hard);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_daemon_takes_all_descriptors_that_it_may_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
