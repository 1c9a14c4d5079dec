// SPDX-License-Identifier: Apache-2.0
// cmocka with its required headers, plus asserts in our own terms.
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/err.h"

#define assert_err(actual, expected)                                                               \
    do {                                                                                           \
        enum err got_ = (actual), want_ = (expected);                                              \
        if (got_ != want_) {                                                                       \
            fail_msg("%s: got %s, want %s", #actual, err_name(got_), err_name(want_));             \
        }                                                                                          \
    } while (0)
#define assert_ok(actual) assert_err(actual, OK)

#endif
