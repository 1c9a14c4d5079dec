// SPDX-License-Identifier: Apache-2.0
// A location that is accepted is the same after it was written and read again, as text and as
// message.
#include "common/location.h"
#include "common/rpc/location_message.h"
#include "common/utf8.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check_message(const struct location *l) {
    struct location_message m;
    struct location again;
    struct failure f;
    location_to_message(l, &m);
    MUST(location_from_message(&m.message, &again, &f) == OK);
    MUST(location_equal(l, &again));
    location_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct location l, again;
    struct failure f = {0};
    size_t n = 0;
    if (location_parse(data, len, &l, &f) != OK) {
        MUST(f.err == ERR_INVALID && f.message[0] != '\0' && f.remedy[0] != '\0');
        return 0;
    }
    MUST(l.bytes[l.len] == '\0' && memchr(l.bytes, '\0', l.len) == NULL);
    char *text = location_text(&l, &n);
    MUST(text != NULL && location_parse(text, n, &again, &f) == OK);
    MUST(location_equal(&l, &again));
    char *printable = location_printable(&l);
    MUST(printable != NULL && utf8_is_valid(printable, strlen(printable)));
    check_message(&l);
    free(printable);
    free(text);
    location_deinit(&again);
    location_deinit(&l);
    return 0;
}
