// SPDX-License-Identifier: Apache-2.0
// Turns at writing one file, alone and as the sinks of an agent take them.
#include "dataplane/path_choice.h"
#include "dataplane/sink_posix.h"
#include "tests/lib/tree.h"

#include <pthread.h>

enum { N_WRITERS = 4, N_ROUNDS = 2000, PART_BYTES = 4 << 20, PIECE_BYTES = 64 << 10 };

static struct write_turns *turns;

static int setup(void **state) {
    (void)state;
    assert_ok(write_turns_new(&turns));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    write_turns_free(turns);
    return 0;
}

static void a_file_has_one_turn_until_its_last_writer_left(void **state) {
    (void)state;
    struct write_turn *a, *same, *other_inode, *other_device;
    assert_ok(write_turns_join(turns, 1, 7, &a));
    assert_ok(write_turns_join(turns, 1, 8, &other_inode));
    assert_ok(write_turns_join(turns, 2, 7, &other_device));
    assert_ok(write_turns_join(turns, 1, 7, &same));
    assert_ptr_equal(a, same);
    assert_ptr_not_equal(a, other_inode);
    assert_ptr_not_equal(a, other_device);
    write_turns_leave(turns, a);
    write_turn_begin(same);        // still there
    write_turn_begin(other_inode); // and not held up by it
    write_turn_end(other_inode);
    write_turn_end(same);
    write_turns_leave(turns, other_inode);
    write_turns_leave(turns, same);
    write_turns_leave(turns, other_device);
    write_turns_leave(turns, NULL);
    write_turn_begin(NULL);
    write_turn_end(NULL);
}

static int n_written; // guarded by the turn: a race would be seen, and lose some

static void *write_often(void *arg) {
    struct write_turn *turn;
    (void)arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        if (i % 100 == 0) {
            assert_ok(write_turns_join(turns, 1, 1, &turn));
        }
        write_turn_begin(turn);
        n_written++;
        write_turn_end(turn);
        if (i % 100 == 99) {
            write_turns_leave(turns, turn);
        }
    }
    return NULL;
}

static void one_writes_at_a_time(void **state) {
    (void)state;
    pthread_t threads[N_WRITERS];
    struct write_turn *turn;
    n_written = 0;
    assert_ok(write_turns_join(turns, 1, 1, &turn)); // so that it is one and the same
    for (int i = 0; i < N_WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, NULL), 0);
    }
    for (int i = 0; i < N_WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    write_turns_leave(turns, turn);
    assert_int_equal(n_written, N_WRITERS * N_ROUNDS);
}

struct part_writer {
    struct sink *sink;
    const struct object_entry *entry;
    const char *temp;
    const struct receipt *open;
    uint64_t offset;
    const uint8_t *bytes; // of the whole object
    pthread_t thread;
};

static void *write_part(void *arg) {
    struct part_writer *w = arg;
    struct receipt part;
    assert_ok(sink_open_part(w->sink, w->entry, w->temp, w->open, NULL));
    for (uint64_t at = w->offset; at < w->offset + PART_BYTES; at += PIECE_BYTES) {
        assert_ok(sink_write(w->sink, at, w->bytes + at, PIECE_BYTES, NULL));
    }
    assert_ok(sink_close_part(w->sink, true, &part, NULL));
    return NULL;
}

static void parts_of_a_file_are_written_by_sinks_that_take_turns(void **state) {
    (void)state;
    const size_t size = (size_t)N_WRITERS * PART_BYTES;
    struct tree tree;
    tree_new(&tree);
    uint8_t *bytes = tree_pattern(size, 3);
    struct object_entry e = {.id = 1,
                             .type = OBJECT_FILE,
                             .mode = 0640,
                             .uid = geteuid(),
                             .gid = getegid(),
                             .version = {.size = size, .mtime_ns = 1},
                             .path = (const uint8_t *)"large",
                             .path_len = 5};
    char temp[TEMP_NAME_SIZE];
    struct receipt open;
    struct part_writer writers[N_WRITERS];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    for (int i = 0; i < N_WRITERS; i++) {
        struct sink_posix_options o = {.volume_fd = tree.fd, .boot_id = "boot-1", .turns = turns};
        writers[i] = (struct part_writer){.entry = &e,
                                          .temp = temp,
                                          .open = &open,
                                          .offset = (uint64_t)i * PART_BYTES,
                                          .bytes = bytes};
        assert_ok(sink_posix_new(&o, &writers[i].sink, NULL));
    }
    assert_ok(sink_open_large(writers[0].sink, &e, temp, &open, NULL));
    for (int i = 0; i < N_WRITERS; i++) {
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_part, &writers[i]), 0);
    }
    for (int i = 0; i < N_WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
    // One that is dropped leaves its turn, too.
    assert_ok(sink_open_part(writers[1].sink, &e, temp, &open, NULL));
    sink_drop(writers[1].sink);
    assert_ok(
        sink_finish_large(writers[0].sink, &e, temp, &open, NULL, NULL, DURABILITY_OBJECT, NULL));
    assert_file_is(&tree, "large", bytes, size);
    for (int i = 0; i < N_WRITERS; i++) {
        sink_free(writers[i].sink);
    }
    free(bytes);
    tree_free(&tree);
}

static void what_is_no_file_system_of_that_kind_is_written_side_by_side(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_false(path_writes_in_turn(ends[0]));
    close(ends[0]);
    close(ends[1]);
    assert_false(path_writes_in_turn(ends[0]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_has_one_turn_until_its_last_writer_left, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_writes_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_of_a_file_are_written_by_sinks_that_take_turns, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_system_of_that_kind_is_written_side_by_side,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
