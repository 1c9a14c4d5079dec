// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"
#include "common/hash.h"
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

static const enum hash_algorithm algorithms[] = {HASH_XXH3_128, HASH_SHA256};
enum { N_ALGORITHMS = 2 };

static void assert_hex(const struct digest *d, size_t n, const char *expected) {
    char hex[2 * HASH_MAX_BYTES + 1];
    hash_hex(d->bytes, n, hex);
    assert_string_equal(hex, expected);
}

static void the_algorithms_are_the_known_ones(void **state) {
    struct digest d;
    (void)state;
    struct hash *h = hash_new(HASH_SHA256);
    hash_update(h, "abc", 3);
    hash_final(h, &d);
    assert_hex(&d, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_final(h, &d); // of nothing: it was reset
    assert_hex(&d, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_free(h);
    h = hash_new(HASH_XXH3_128);
    hash_final(h, &d);
    assert_hex(&d, 16, "99aa06d3014798d86001c324468d497f");
    hash_free(h);
    sha256("abc", 3, d.bytes);
    assert_hex(&d, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// Of a published layout, so that others can compute it: see common/hash.h.
static void the_tree_digest_is_what_the_header_says(void **state) {
    struct digest d, e;
    uint8_t text[13 + 1 + 4 + 8] = "sluice-tree-1";
    (void)state;
    text[13] = HASH_SHA256;
    text[13 + 1 + 2] = 0x40; // 4 MiB
    sha256(text, sizeof text, e.bytes);
    tree_digest(HASH_SHA256, 0, NULL, 0, &d);
    assert_memory_equal(d.bytes, e.bytes, 32);
}

static uint8_t *make_object(size_t len) {
    uint8_t *p = malloc(len);
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    return p;
}

// Digest of the object in parts of @part bytes, each cut into chunks of @chunk.
static void digest_in_parts(enum hash_algorithm a, const uint8_t *object, size_t len, size_t part,
                            size_t chunk, struct digest *ret_digest) {
    struct leaf_hasher *l = leaf_hasher_new(a);
    struct hash *tree = NULL;
    assert_ok(tree_digest_begin(a, len, &tree));
    for (size_t at = 0; at < len; at += part) {
        size_t end = at + part < len ? at + part : len, n_leaves = 0;
        const uint8_t *leaves = NULL;
        leaf_hasher_reset(l);
        for (size_t i = at; i < end; i += chunk) {
            assert_ok(leaf_hasher_update(l, object + i, i + chunk < end ? chunk : end - i));
        }
        assert_ok(leaf_hasher_finish(l, &leaves, &n_leaves));
        assert_int_equal(n_leaves, (end - at + LEAF_BYTES - 1) / LEAF_BYTES);
        hash_update(tree, leaves, n_leaves * hash_digest_bytes(a));
    }
    tree_digest_end(tree, ret_digest);
    leaf_hasher_free(l);
}

static void neither_parts_nor_chunks_change_the_digest(void **state) {
    size_t len = 3 * LEAF_BYTES + 12345;
    uint8_t *object = make_object(len);
    (void)state;
    for (size_t i = 0; i < N_ALGORITHMS; i++) {
        struct digest whole, d;
        digest_in_parts(algorithms[i], object, len, len, len, &whole);
        digest_in_parts(algorithms[i], object, len, len, 1000003, &d);
        assert_memory_equal(d.bytes, whole.bytes, sizeof d.bytes);
        digest_in_parts(algorithms[i], object, len, LEAF_BYTES, 65536, &d);
        assert_memory_equal(d.bytes, whole.bytes, sizeof d.bytes);
        digest_in_parts(algorithms[i], object, len, 2 * LEAF_BYTES, 4097, &d);
        assert_memory_equal(d.bytes, whole.bytes, sizeof d.bytes);
        object[len / 2] ^= 1;
        digest_in_parts(algorithms[i], object, len, len, len, &d);
        assert_memory_not_equal(d.bytes, whole.bytes, sizeof d.bytes);
        object[len / 2] ^= 1;
    }
    free(object);
}

static void a_hole_is_hashed_as_its_zeros(void **state) {
    static const size_t holes[] = {1, 4095, LEAF_BYTES - 100, LEAF_BYTES, 2 * LEAF_BYTES + 7};
    uint8_t *zeros = calloc(1, 3 * LEAF_BYTES);
    (void)state;
    for (size_t a = 0; a < N_ALGORITHMS; a++) {
        for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++) {
            struct leaf_hasher *read = leaf_hasher_new(algorithms[a]),
                               *skipped = leaf_hasher_new(algorithms[a]);
            const uint8_t *x = NULL, *y = NULL;
            size_t n = 0, m = 0;
            assert_ok(leaf_hasher_update(read, "data", 4));
            assert_ok(leaf_hasher_update(skipped, "data", 4));
            assert_ok(leaf_hasher_update(read, zeros, holes[i]));
            assert_ok(leaf_hasher_update_zeros(skipped, holes[i]));
            assert_ok(leaf_hasher_update(read, "tail", 4));
            assert_ok(leaf_hasher_update(skipped, "tail", 4));
            leaf_hasher_complete(skipped, &y, &m);
            assert_int_equal(m, (8 + holes[i]) / LEAF_BYTES);
            assert_ok(leaf_hasher_finish(read, &x, &n));
            assert_ok(leaf_hasher_finish(skipped, &y, &m));
            assert_int_equal(n, m);
            assert_memory_equal(x, y, n * hash_digest_bytes(algorithms[a]));
            leaf_hasher_free(read);
            leaf_hasher_free(skipped);
        }
    }
    free(zeros);
}

// By reading, 1 TiB of zeros would take minutes and end in the time-out.
static void a_huge_hole_costs_nothing(void **state) {
    struct leaf_hasher *l = leaf_hasher_new(HASH_SHA256);
    const uint8_t *leaves = NULL;
    size_t n = 0;
    (void)state;
    assert_ok(leaf_hasher_update_zeros(l, (uint64_t)1 << 40));
    assert_ok(leaf_hasher_finish(l, &leaves, &n));
    assert_int_equal(n, ((uint64_t)1 << 40) / LEAF_BYTES);
    assert_memory_equal(leaves, leaves + (n - 1) * 32, 32);
    leaf_hasher_free(l);
}

static void reset_forgets_an_open_leaf(void **state) {
    struct leaf_hasher *l = leaf_hasher_new(HASH_XXH3_128);
    const uint8_t *leaves = NULL;
    struct digest first, expected;
    size_t n = 0;
    (void)state;
    assert_ok(leaf_hasher_update(l, "abc", 3));
    assert_ok(leaf_hasher_finish(l, &leaves, &n));
    memcpy(expected.bytes, leaves, 16);
    leaf_hasher_reset(l);
    assert_ok(leaf_hasher_update(l, "half a leaf", 11));
    leaf_hasher_reset(l);
    assert_ok(leaf_hasher_finish(l, &leaves, &n));
    assert_int_equal(n, 0);
    assert_ok(leaf_hasher_update(l, "abc", 3));
    assert_ok(leaf_hasher_finish(l, &leaves, &n));
    memcpy(first.bytes, leaves, 16);
    assert_memory_equal(first.bytes, expected.bytes, 16);
    leaf_hasher_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_algorithms_are_the_known_ones),
        cmocka_unit_test(the_tree_digest_is_what_the_header_says),
        cmocka_unit_test(neither_parts_nor_chunks_change_the_digest),
        cmocka_unit_test(a_hole_is_hashed_as_its_zeros),
        cmocka_unit_test(a_huge_hole_costs_nothing),
        cmocka_unit_test(reset_forgets_an_open_leaf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
