// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/test.h"

#include "common/cleanup.h"
#include "master/hash_index.h"
#include "master/ordered_heap.h"

enum { N = 1000 };

struct item {
    struct hash_node hash;
    struct heap_node heap;
    uint64_t key;
};

static struct item items[N];

static struct item *find(const struct hash_index *x, uint64_t key) {
    struct hash_node *n = hash_index_first(x, hash_u64(key));
    for (; n != NULL; n = hash_index_again(n)) {
        struct item *i = CONTAINER_OF(n, struct item, hash);
        if (i->key == key) {
            return i;
        }
    }
    return NULL;
}

static void an_index_finds_what_is_in_it_and_nothing_else(void **state) {
    (void)state;
    struct hash_index x;
    assert_ok(hash_index_init(&x));
    for (size_t i = 0; i < N; i++) {
        items[i] = (struct item){.key = i * i};
        hash_index_add(&x, &items[i].hash, hash_u64(items[i].key));
    }
    for (size_t i = 0; i < N; i += 2) {
        hash_index_remove(&x, &items[i].hash);
        hash_index_remove(&x, &items[i].hash); // not in: nothing happens
    }
    size_t n = 0;
    for (struct hash_node *p = hash_index_each(&x, NULL); p != NULL; p = hash_index_each(&x, p)) {
        n++;
    }
    assert_int_equal(n, N / 2);
    assert_int_equal(x.count, N / 2);
    for (size_t i = 0; i < N; i++) {
        assert_ptr_equal(find(&x, i * i), i % 2 == 1 ? &items[i] : NULL);
    }
    hash_index_deinit(&x);
}

static void things_with_one_hash_are_told_apart(void **state) {
    (void)state;
    struct hash_index x;
    assert_ok(hash_index_init(&x));
    for (size_t i = 0; i < 10; i++) {
        items[i] = (struct item){.key = i};
        hash_index_add(&x, &items[i].hash, 7);
    }
    size_t n = 0;
    for (struct hash_node *p = hash_index_first(&x, 7); p != NULL; p = hash_index_again(p)) {
        n++;
    }
    assert_int_equal(n, 10);
    assert_null(hash_index_first(&x, 8));
    hash_index_deinit(&x);
}

static bool smaller(const struct heap_node *a, const struct heap_node *b) {
    return CONTAINER_OF(a, const struct item, heap)->key <
           CONTAINER_OF(b, const struct item, heap)->key;
}

static void a_heap_gives_the_least_first_whatever_moves(void **state) {
    (void)state;
    struct ordered_heap h;
    ordered_heap_init(&h, smaller);
    assert_ok(ordered_heap_reserve(&h, N));
    for (size_t i = 0; i < N; i++) {
        items[i] = (struct item){.key = hash_u64(i) % 10000};
        ordered_heap_put(&h, &items[i].heap);
    }
    for (size_t i = 0; i < N; i += 3) {
        items[i].key = hash_u64(i + N) % 10000;
        ordered_heap_moved(&h, &items[i].heap);
    }
    size_t left = N;
    for (size_t i = 1; i < N; i += 5) {
        ordered_heap_take(&h, &items[i].heap);
        ordered_heap_take(&h, &items[i].heap); // not in: nothing happens
        left--;
    }
    uint64_t before = 0;
    struct heap_node *n;
    while ((n = ordered_heap_first(&h)) != NULL) {
        uint64_t key = CONTAINER_OF(n, struct item, heap)->key;
        assert_true(key >= before);
        before = key;
        ordered_heap_take(&h, n);
        left--;
    }
    assert_int_equal(left, 0);
    ordered_heap_deinit(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_finds_what_is_in_it_and_nothing_else),
        cmocka_unit_test(things_with_one_hash_are_told_apart),
        cmocka_unit_test(a_heap_gives_the_least_first_whatever_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
