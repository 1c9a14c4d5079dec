// SPDX-License-Identifier: Apache-2.0
// The first byte says what the others are. What is accepted is the same after it was written
// and read again.
#include "dataplane/frame.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check_header(const uint8_t *data, size_t len) {
    uint8_t again[FRAME_HEADER_BYTES];
    struct frame_header h;
    if (len >= FRAME_HEADER_BYTES) {
        frame_header_decode(data, &h);
        frame_header_encode(&h, again);
        MUST(memcmp(again, data, sizeof again) == 0);
        MUST(frame_type_name(h.type) != NULL);
    }
}

static void check_hello(const uint8_t *data, size_t len) {
    uint8_t again[FRAME_HELLO_MAX];
    struct frame_hello f;
    if (frame_hello_decode(data, len, &f) == OK) {
        size_t n = frame_hello_encode(&f, again); // what follows is of later versions
        MUST(n <= len && n <= sizeof again && memcmp(again, data, n) == 0);
    }
}

static void check_welcome(const uint8_t *data, size_t len) {
    uint8_t again[FRAME_HELLO_MAX];
    struct frame_welcome f;
    if (frame_welcome_decode(data, len, &f) == OK) {
        size_t n = frame_welcome_encode(&f, again);
        MUST(n == len && n <= sizeof again && memcmp(again, data, n) == 0);
    }
}

static void check_open_task(const uint8_t *data, size_t len) {
    struct frame_open_task f;
    if (frame_open_task_decode(data, len, &f) == OK) {
        MUST(frame_open_task_bytes(&f) == len && len <= FRAME_OPEN_TASK_MAX);
        uint8_t *again = malloc(len);
        MUST(again != NULL && frame_open_task_encode(&f, again) == len);
        MUST(memcmp(again, data, len) == 0);
        free(again);
    }
}

static void check_read(const uint8_t *data, size_t len) {
    uint8_t again[FRAME_READ_BYTES];
    struct frame_read f;
    if (frame_read_decode(data, len, &f) == OK) {
        MUST(frame_read_encode(&f, again) == len && memcmp(again, data, len) == 0);
    }
}

static void check_object(const uint8_t *data, size_t len) {
    uint8_t again[FRAME_OBJECT_BYTES];
    struct object_entry e;
    if (frame_object_decode(data, len, &e) == OK) {
        MUST(frame_object_encode(&e, again) == len && memcmp(again, data, len) == 0);
    }
}

static void check_same_failure(const struct failure *f) {
    uint8_t bytes[FRAME_FAILURE_MAX];
    struct failure again;
    size_t n = frame_failure_encode(f, bytes);
    MUST(f->err != OK && n <= sizeof bytes);
    MUST(frame_failure_decode(bytes, n, &again) == OK);
    MUST(memcmp(&again, f, sizeof again) == 0);
}

static void check_failure(const uint8_t *data, size_t len) {
    struct failure f;
    char text[100];
    if (frame_failure_decode(data, len, &f) == OK) {
        check_same_failure(&f);
        failure_format(&f, text, sizeof text);
        MUST(strlen(text) < sizeof text);
    }
}

static void check_object_end(const uint8_t *data, size_t len, enum hash_algorithm a) {
    struct frame_object_end f;
    if (frame_object_end_decode(data, len, a, &f) != OK) {
        return;
    }
    if (f.failure.err != OK) {
        check_same_failure(&f.failure);
        return;
    }
    MUST(FRAME_END_FIXED_BYTES + f.n_digests * hash_digest_bytes(a) == len);
    uint8_t *again = malloc(len);
    MUST(again != NULL && frame_object_end_encode(&f, a, again) == len);
    MUST(memcmp(again + 4, data + 4, len - 4) == 0); // three bytes only align what follows
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len == 0) {
        return 0;
    }
    uint8_t kind = data[0];
    data++;
    len--;
    switch (kind % 9) {
    case 0: check_header(data, len); break;
    case 1: check_hello(data, len); break;
    case 2: check_welcome(data, len); break;
    case 3: check_open_task(data, len); break;
    case 4: check_read(data, len); break;
    case 5: check_object(data, len); break;
    case 6: check_failure(data, len); break;
    case 7: check_object_end(data, len, HASH_XXH3_128); break;
    default: check_object_end(data, len, HASH_SHA256); break;
    }
    return 0;
}
