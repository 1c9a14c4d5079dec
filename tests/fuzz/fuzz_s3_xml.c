// SPDX-License-Identifier: Apache-2.0
// Whatever a store answers, it is parsed to an end, within the limits.
#include "dataplane/s3_xml.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static enum err on_element(void *user, const char *path, const char *text, size_t len) {
    int64_t ns;
    (void)user;
    MUST(strlen(path) < S3_XML_MAX_PATH);
    MUST(len <= S3_XML_MAX_TEXT && text[len] == '\0');
    char *copy = malloc(len + 1);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, text, len + 1);
    MUST(s3_url_decode(copy, len) <= len);
    free(copy);
    return s3_time_parse(text, &ns) == ERR_NO_MEMORY ? ERR_NO_MEMORY : OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct s3_error_text e;
    if (s3_xml_error((const char *)data, len, &e)) {
        MUST(strlen(e.code) < sizeof e.code && strlen(e.message) < sizeof e.message);
    }
    enum err parsed = s3_xml_parse((const char *)data, len, on_element, NULL);
    MUST(parsed == OK || parsed == ERR_PROTOCOL || parsed == ERR_NO_MEMORY);
    return 0;
}
