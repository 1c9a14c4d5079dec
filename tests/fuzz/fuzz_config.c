// SPDX-License-Identifier: Apache-2.0
// Any text is a configuration or a complaint that names a line; reading it as the daemons do
// changes nothing about that.
#include "common/config.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void must_be_told(enum err e, const struct failure *f) {
    MUST(e == OK || e == ERR_NOT_FOUND || (e == f->err && e != OK));
    MUST(e != ERR_CONFIG || strstr(f->message, "line ") != NULL);
}

static void read_mapping(struct config_node *n, int depth) {
    struct config_node *below = NULL;
    struct failure f = {0};
    const char *text = "unset";
    uint64_t number = 5;
    bool yes = false;
    must_be_told(config_string(n, "name", &text, &f), &f);
    MUST(text != NULL);
    must_be_told(config_bool(n, "yes", &yes, &f), &f);
    must_be_told(config_u64(n, "size", 1, 1 << 30, &number, &f), &f);
    MUST(number >= 1 && number <= 1 << 30);
    must_be_told(config_require(n, "name", &f), &f);
    for (size_t i = 0; config_item_string(n, "list", i, &text, &f) == OK; i++) {
        MUST(text != NULL);
    }
    for (size_t i = 0; depth < 8 && config_item(n, "items", i, &below, &f) == OK; i++) {
        read_mapping(below, depth + 1);
    }
    if (config_mapping(n, "map", &below, &f) == OK && below != NULL) {
        read_mapping(below, depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct config *c = NULL;
    struct failure f = {0};
    enum err e = config_parse("fuzz.yaml", (const char *)data, len, &c, &f);
    must_be_told(e, &f);
    if (e == OK) {
        read_mapping(config_root(c), 0);
        must_be_told(config_check_unknown(c, &f), &f);
        config_free(c);
    }
    return 0;
}
