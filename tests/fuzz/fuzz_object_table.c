// SPDX-License-Identifier: Apache-2.0
// A table that is accepted holds valid entries, and building it anew gives the same bytes.
#include "common/object_table.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct object_table t;
    struct object_table_builder b;
    const uint8_t *bytes = NULL;
    size_t n = 0;
    if (object_table_open(data, len, &t) != OK) {
        return 0;
    }
    MUST(t.count <= OBJECT_TABLE_MAX_OBJECTS);
    object_table_init(&b);
    for (uint32_t i = 0; i < t.count; i++) {
        struct object_entry e;
        object_table_get(&t, i, &e);
        MUST(e.is_key || object_path_is_valid(e.path, e.path_len));
        MUST(strcmp(object_type_name(e.type), "?") != 0);
        MUST(object_table_add(&b, &e) == OK);
    }
    MUST(object_table_bytes(&b, &bytes, &n) == OK);
    MUST(n == len && memcmp(bytes, data, len) == 0);
    object_table_deinit(&b);
    object_table_close(&t);
    return 0;
}
