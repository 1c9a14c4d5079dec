// SPDX-License-Identifier: Apache-2.0
// Writes into one file, alone and as the sinks of an agent make them.
#include "dataplane/path_choice.h"
#include "dataplane/sink_posix.h"
#include "tests/lib/tree.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
    N_WRITERS = 4,
    N_ROUNDS = 2000,
    PART_BYTES = 4 << 20,
    PIECE_BYTES = 64 << 10,
    MANY = 1000, // pieces; a thread that writes so many for others has been forgotten
};

static struct write_queues *queues;

static int setup(void **state) {
    (void)state;
    assert_ok(write_queues_new(PIECE_BYTES, &queues));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    write_queues_free(queues);
    return 0;
}

// ---- a writer that notes what it is asked to write ----

struct noted {
    uint64_t offset;
    uint8_t first;
    size_t len;
};

struct notes {
    struct noted items[16];
    size_t n;
    size_t fails_from; // the piece of that number fails
};

static bool note(void *user, uint64_t offset, const void *bytes, size_t len) {
    struct notes *n = user;
    if (n->n >= n->fails_from) {
        n->n++;
        return false;
    }
    n->items[n->n++] = (struct noted){offset, *(const uint8_t *)bytes, len};
    return true;
}

static struct queue_writer *join(ino_t inode, queue_write_fn write, void *user) {
    struct queue_writer *w;
    assert_ok(write_queue_join(queues, 1, inode, write, user, &w));
    return w;
}

static void *room_of(struct queue_writer *w) {
    size_t cap;
    void *room = write_queue_room(w, &cap);
    assert_non_null(room);
    assert_int_equal(cap, PIECE_BYTES);
    assert_int_equal((uintptr_t)room % 4096, 0);
    return room;
}

static void what_is_put_is_written_from_where_it_is(void **state) {
    (void)state;
    struct notes notes = {.fails_from = SIZE_MAX};
    struct queue_writer *w = join(7, note, &notes);
    uint8_t *room = room_of(w);
    assert_ptr_equal(room_of(w), room); // until it is put
    room[0] = 'a';
    assert_true(write_queue_put(w, 100, room, 10));
    assert_true(write_queue_put(w, 0, "other", 5)); // bytes of the caller
    room = room_of(w);
    room[0] = 'b';
    assert_true(write_queue_put(w, 200, room, PIECE_BYTES));
    assert_true(write_queue_settle(w));
    assert_int_equal(write_queue_pending(w), UINT64_MAX);
    assert_int_equal(notes.n, 3);
    const struct noted wanted[] = {{100, 'a', 10}, {0, 'o', 5}, {200, 'b', PIECE_BYTES}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(notes.items[i].offset, wanted[i].offset);
        assert_int_equal(notes.items[i].first, wanted[i].first);
        assert_int_equal(notes.items[i].len, wanted[i].len);
    }
    write_queue_leave(w);
    write_queue_leave(NULL);
}

static void after_a_failure_nothing_more_of_that_writer_is_written(void **state) {
    (void)state;
    struct notes fails = {.fails_from = 1}, goes_on = {.fails_from = SIZE_MAX};
    struct queue_writer *bad = join(7, note, &fails), *good = join(7, note, &goes_on);
    assert_true(write_queue_put(bad, 0, room_of(bad), 1));
    assert_false(write_queue_put(bad, 1, room_of(bad), 1));
    assert_false(write_queue_put(bad, 2, room_of(bad), 1));
    assert_false(write_queue_put(bad, 3, "x", 1));
    assert_false(write_queue_settle(bad));
    assert_int_equal(fails.n, 2); // the first, and the one that failed
    assert_true(write_queue_put(good, 4, room_of(good), 1));
    assert_true(write_queue_settle(good));
    assert_int_equal(goes_on.n, 1);
    write_queue_leave(bad);
    write_queue_leave(good);
}

// ---- a file whose writer is held up ----

struct held {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct queue_writer *slow, *fast;
    size_t n_put, n_written; // of fast
    bool is_writing, slow_is_back;
};

static void held_set(struct held *h, bool *what) {
    pthread_mutex_lock(&h->mutex);
    *what = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
}

// Its thread writes until something of the other's is queued.
static bool write_slow(void *user, uint64_t offset, const void *bytes, size_t len) {
    struct held *h = user;
    (void)offset;
    (void)bytes;
    (void)len;
    held_set(h, &h->is_writing);
    pthread_mutex_lock(&h->mutex);
    while (h->n_put == 0) {
        pthread_cond_wait(&h->changed, &h->mutex);
    }
    pthread_mutex_unlock(&h->mutex);
    return true;
}

// There is always one more of these behind it.
static bool write_fast(void *user, uint64_t offset, const void *bytes, size_t len) {
    struct held *h = user;
    (void)bytes;
    assert_int_equal(len, 8);
    pthread_mutex_lock(&h->mutex);
    assert_int_equal(offset, h->n_written); // in their order
    h->n_written++;
    while (h->n_put <= h->n_written && !h->slow_is_back) {
        pthread_cond_wait(&h->changed, &h->mutex);
    }
    pthread_mutex_unlock(&h->mutex);
    return true;
}

static void *put_slow(void *arg) {
    struct held *h = arg;
    assert_true(write_queue_put(h->slow, 0, room_of(h->slow), 8));
    held_set(h, &h->slow_is_back);
    return NULL;
}

static void who_writes_for_others_comes_back_to_its_own_stream(void **state) {
    (void)state;
    struct held h = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    h.slow = join(7, write_slow, &h);
    h.fast = join(7, write_fast, &h);
    assert_int_equal(pthread_create(&thread, NULL, put_slow, &h), 0);
    pthread_mutex_lock(&h.mutex);
    while (!h.is_writing) {
        pthread_cond_wait(&h.changed, &h.mutex);
    }
    while (!h.slow_is_back && h.n_put < MANY) {
        uint64_t offset = h.n_put;
        pthread_mutex_unlock(&h.mutex);
        void *room = room_of(h.fast);
        assert_true(write_queue_put(h.fast, offset, room, 8));
        pthread_mutex_lock(&h.mutex);
        h.n_put++;
        pthread_cond_broadcast(&h.changed);
    }
    assert_true(h.n_put < MANY);
    pthread_mutex_unlock(&h.mutex);
    pthread_join(thread, NULL);
    assert_true(write_queue_settle(h.fast)); // what was left is written by its own thread
    assert_int_equal(h.n_written, h.n_put);
    write_queue_leave(h.slow);
    write_queue_leave(h.fast);
}

// ---- many at once ----

static atomic_int n_inside[2]; // a file

struct crowd {
    int file;
    uint64_t n_written, next;
    pthread_t thread;
};

static bool write_alone(void *user, uint64_t offset, const void *bytes, size_t len) {
    struct crowd *c = user;
    assert_int_equal(atomic_fetch_add(&n_inside[c->file], 1), 0);
    assert_int_equal(offset, c->next);
    assert_memory_equal(bytes, &offset, len);
    c->next = offset + 1;
    c->n_written++;
    atomic_fetch_sub(&n_inside[c->file], 1);
    return true;
}

static void *write_often(void *arg) {
    struct crowd *c = arg;
    struct queue_writer *w = NULL;
    for (uint64_t i = 0; i < N_ROUNDS; i++) {
        if (i % 100 == 0) {
            write_queue_leave(w); // with pieces that wait
            w = join((ino_t)c->file, write_alone, c);
        }
        void *room = i % 7 == 0 ? &i : room_of(w);
        memcpy(room, &i, sizeof(i));
        assert_true(write_queue_put(w, i, room, sizeof(i)));
    }
    write_queue_leave(w);
    return NULL;
}

static void one_writes_a_file_at_a_time(void **state) {
    (void)state;
    struct crowd crowd[2 * N_WRITERS];
    for (int i = 0; i < 2 * N_WRITERS; i++) {
        crowd[i] = (struct crowd){.file = i % 2};
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, write_often, &crowd[i]), 0);
    }
    for (int i = 0; i < 2 * N_WRITERS; i++) {
        pthread_join(crowd[i].thread, NULL);
        assert_int_equal(crowd[i].n_written, N_ROUNDS);
    }
}

static struct object_entry large_file(uint64_t size) {
    return (struct object_entry){.id = 1,
                                 .type = OBJECT_FILE,
                                 .mode = 0640,
                                 .uid = geteuid(),
                                 .gid = getegid(),
                                 .version = {.size = size, .mtime_ns = 1},
                                 .path = (const uint8_t *)"large",
                                 .path_len = 5};
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
        size_t cap = 0;
        void *room = at / PIECE_BYTES % 3 == 0 ? NULL : sink_room(w->sink, at, &cap);
        if (room) {
            assert_int_equal(cap, PIECE_BYTES);
            memcpy(room, w->bytes + at, PIECE_BYTES);
        }
        assert_ok(sink_write(w->sink, at, room ? room : w->bytes + at, PIECE_BYTES, NULL));
    }
    assert_ok(sink_settle(w->sink, NULL));
    assert_ok(sink_close_part(w->sink, true, &part, NULL));
    return NULL;
}

static void parts_of_a_file_are_written_by_several_sinks(void **state) {
    (void)state;
    const size_t size = (size_t)N_WRITERS * PART_BYTES;
    struct tree tree;
    tree_new(&tree);
    uint8_t *bytes = tree_pattern(size, 3);
    struct object_entry e = large_file(size);
    char temp[TEMP_NAME_SIZE];
    struct receipt open;
    struct part_writer writers[N_WRITERS];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    for (int i = 0; i < N_WRITERS; i++) {
        struct sink_posix_options o = {.volume_fd = tree.fd, .boot_id = "boot-1", .queues = queues};
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
    // One that is dropped leaves, too.
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

// ---- what is queued while the lease ends ----

static atomic_bool lease_is_held;

static bool may_act(void *user) {
    (void)user;
    return atomic_load(&lease_is_held);
}

static void end_lease(struct sink *sink) {
    (void)sink;
    atomic_store(&lease_is_held, false);
}

// @stop comes between sink_write() and the writing, for which another thread has no time yet.
static void stop_while_queued(void (*stop)(struct sink *sink), enum err want, bool is_closed) {
    struct tree tree;
    tree_new(&tree);
    struct object_entry e = large_file(PART_BYTES);
    char temp[TEMP_NAME_SIZE];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    struct sink_posix_options o = {
        .volume_fd = tree.fd, .boot_id = "boot-1", .queues = queues, .fence = {may_act, NULL}};
    struct held h = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct sink *sink;
    struct receipt open, part;
    struct stat st;
    pthread_t thread;
    atomic_store(&lease_is_held, true);
    assert_ok(sink_posix_new(&o, &sink, NULL));
    assert_ok(sink_open_large(sink, &e, temp, &open, NULL));
    assert_ok(sink_open_part(sink, &e, temp, &open, NULL));
    assert_int_equal(fstat(sink_fd(sink), &st), 0);
    assert_ok(write_queue_join(queues, st.st_dev, st.st_ino, write_slow, &h, &h.slow));
    assert_int_equal(pthread_create(&thread, NULL, put_slow, &h), 0);
    pthread_mutex_lock(&h.mutex);
    while (!h.is_writing) {
        pthread_cond_wait(&h.changed, &h.mutex);
    }
    size_t cap;
    void *room = sink_room(sink, 0, &cap);
    assert_non_null(room);
    memset(room, 'x', cap);
    assert_ok(sink_write(sink, 0, room, cap, NULL)); // left to the thread that writes
    stop(sink);
    h.n_put = 1;
    pthread_cond_broadcast(&h.changed);
    pthread_mutex_unlock(&h.mutex);
    if (is_closed) {
        assert_err(sink_close_part(sink, false, &part, NULL), want); // nobody knew
    } else {
        assert_err(sink_settle(sink, NULL), want);
        assert_int_equal(fstat(sink_fd(sink), &st), 0);
        assert_int_equal(st.st_blocks, 0);
        assert_ok(sink_close_part(sink, false, &part, NULL));
    }
    pthread_join(thread, NULL);
    write_queue_leave(h.slow);
    sink_free(sink);
    tree_free(&tree);
}

static void what_is_queued_is_not_written_without_the_lease(void **state) {
    (void)state;
    stop_while_queued(end_lease, ERR_FENCED, false);
    stop_while_queued(end_lease, ERR_FENCED, true);
}

static void what_is_queued_is_not_written_after_an_abort(void **state) {
    (void)state;
    stop_while_queued(sink_abort, ERR_CANCELLED, false);
    stop_while_queued(sink_abort, ERR_CANCELLED, true);
}

// A limit on the size of files stands for a full disk.
static void a_write_that_fails_later_is_told(void **state) {
    (void)state;
    struct tree tree;
    tree_new(&tree);
    struct object_entry e = large_file(PART_BYTES);
    char temp[TEMP_NAME_SIZE];
    temp_name("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, 1, temp);
    struct sink_posix_options o = {.volume_fd = tree.fd, .boot_id = "boot-1", .queues = queues};
    struct sink *sink;
    struct receipt open, part;
    struct failure f = {0};
    assert_ok(sink_posix_new(&o, &sink, NULL));
    assert_ok(sink_open_large(sink, &e, temp, &open, NULL));
    struct rlimit before, low = {PIECE_BYTES, PIECE_BYTES};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    for (int by_settle = 0; by_settle < 2; by_settle++) {
        assert_ok(sink_open_part(sink, &e, temp, &open, NULL));
        size_t cap;
        void *room = sink_room(sink, PIECE_BYTES, &cap);
        assert_non_null(room);
        memset(room, 'x', cap);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        enum err put = sink_write(sink, PIECE_BYTES, room, cap, &f); // by this thread: at once
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_not_equal(put, OK);
        assert_int_equal(f.errnum, EFBIG);
        assert_int_equal(f.object_len, 5);
        if (by_settle) {
            assert_int_equal(sink_settle(sink, &f), put);
        }
        assert_ok(sink_close_part(sink, true, &part, NULL)); // with what was written before
    }
    sink_free(sink);
    tree_free(&tree);
}

int main(void) {
#define IN_QUEUES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_QUEUES(what_is_put_is_written_from_where_it_is),
        IN_QUEUES(after_a_failure_nothing_more_of_that_writer_is_written),
        IN_QUEUES(who_writes_for_others_comes_back_to_its_own_stream),
        IN_QUEUES(one_writes_a_file_at_a_time),
        IN_QUEUES(parts_of_a_file_are_written_by_several_sinks),
        IN_QUEUES(what_is_queued_is_not_written_without_the_lease),
        IN_QUEUES(what_is_queued_is_not_written_after_an_abort),
        IN_QUEUES(a_write_that_fails_later_is_told),
        IN_QUEUES(what_is_no_file_system_of_that_kind_is_written_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
