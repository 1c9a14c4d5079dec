// SPDX-License-Identifier: Apache-2.0
#include "agent/under_way.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char file_name[] = "under-way";

// As it is in the file; zeros: a free one.
struct entry {
    _Atomic uint64_t task_id; // set last
    _Atomic uint64_t term, counter;
    _Atomic uint64_t bytes;
};

enum entry_state { ENTRY_FREE, ENTRY_RUNS, ENTRY_ENDED, ENTRY_LEFT, ENTRY_TOLD };

struct under_way {
    struct entry *entries; // mapped
    pthread_mutex_t lock;
    // under the lock
    enum entry_state states[UNDER_WAY_ENTRIES];
    uint64_t numbers[UNDER_WAY_ENTRIES]; // ENDED: of its result
};

enum { FILE_BYTES = UNDER_WAY_ENTRIES * sizeof(struct entry) };

static void free_entry(struct under_way *u, size_t i) {
    atomic_store(&u->entries[i].task_id, 0);
    u->states[i] = ENTRY_FREE;
}

// The pages of a file that has no room on its disk must not be touched: those are anonymous.
static enum err map(struct under_way *u, const char *state_dir, struct failure *f) {
    AUTO(auto_free) char *path = NULL;
    if (asprintf(&path, "%s/%s", state_dir, file_name) < 0) {
        path = NULL;
        return failure_set(f, ERR_NO_MEMORY, "open", NULL, 0, NULL);
    }
    AUTO(auto_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failure_errno(f, errno, "open", path, strlen(path));
    }
    int full = posix_fallocate(fd, 0, FILE_BYTES);
    if (full != 0) {
        struct failure why = {0};
        (void)failure_errno(&why, full, "allocate", path, strlen(path));
        log_event(LOG_WARN, "under_way_not_kept", LOG_FAILURE(&why),
                  LOG_STR("consequence", "what a kill makes move again is not counted"));
    }
    int flags = full == 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, flags, full == 0 ? fd : -1, 0);
    if (p == MAP_FAILED) {
        return failure_errno(f, errno, "mmap", path, strlen(path));
    }
    u->entries = p;
    return OK;
}

enum err under_way_open(const char *state_dir, struct journal *journal,
                        struct under_way **ret_under_way, struct failure *ret_failure) {
    struct under_way *u = calloc(1, sizeof *u);
    if (u == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", NULL, 0, NULL);
    }
    enum err e = map(u, state_dir, ret_failure);
    if (e != OK) {
        free(u);
        return e;
    }
    pthread_mutex_init(&u->lock, NULL);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        struct entry *n = &u->entries[i];
        uint64_t task_id = atomic_load(&n->task_id);
        u->states[i] = task_id == 0 ? ENTRY_FREE : ENTRY_LEFT;
        if (task_id != 0 &&
            (atomic_load(&n->bytes) == 0 ||
             journal_holds(journal, task_id, atomic_load(&n->term), atomic_load(&n->counter)))) {
            free_entry(u, i);
        }
    }
    *ret_under_way = u;
    return OK;
}

void under_way_close(struct under_way *u) {
    if (u == NULL) {
        return;
    }
    (void)munmap(u->entries, FILE_BYTES);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

_Atomic uint64_t *under_way_begin(struct under_way *u, uint64_t task_id, uint64_t term,
                                  uint64_t counter) {
    _Atomic uint64_t *bytes = NULL;
    if (u == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES && bytes == NULL; i++) {
        if (u->states[i] != ENTRY_FREE) {
            continue;
        }
        struct entry *n = &u->entries[i];
        u->states[i] = ENTRY_RUNS;
        atomic_store(&n->bytes, 0);
        atomic_store(&n->term, term);
        atomic_store(&n->counter, counter);
        atomic_store(&n->task_id, task_id);
        bytes = &n->bytes;
    }
    pthread_mutex_unlock(&u->lock);
    return bytes;
}

void under_way_end(struct under_way *u, const _Atomic uint64_t *bytes, uint64_t number) {
    if (u == NULL || bytes == NULL) {
        return;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        if (&u->entries[i].bytes != bytes) {
            continue;
        }
        u->numbers[i] = number;
        u->states[i] = number == 0 ? ENTRY_LEFT : ENTRY_ENDED;
        if (atomic_load(bytes) == 0) {
            free_entry(u, i);
        }
        break;
    }
    pthread_mutex_unlock(&u->lock);
}

void under_way_written(struct under_way *u, uint64_t through) {
    if (u == NULL) {
        return;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        if (u->states[i] == ENTRY_ENDED && u->numbers[i] <= through) {
            free_entry(u, i);
        }
    }
    pthread_mutex_unlock(&u->lock);
}

static bool is_left(const struct under_way *u, size_t i) {
    return u->states[i] == ENTRY_LEFT || u->states[i] == ENTRY_TOLD;
}

void under_way_each_left(struct under_way *u,
                         void (*each)(void *user, uint64_t task_id, uint64_t term, uint64_t counter,
                                      uint64_t bytes),
                         void *user) {
    if (u == NULL) {
        return;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        const struct entry *n = &u->entries[i];
        if (is_left(u, i)) {
            u->states[i] = ENTRY_TOLD;
            each(user, atomic_load(&n->task_id), atomic_load(&n->term), atomic_load(&n->counter),
                 atomic_load(&n->bytes));
        }
    }
    pthread_mutex_unlock(&u->lock);
}

uint64_t under_way_take_left(struct under_way *u, uint64_t task_id, uint64_t term,
                             uint64_t counter) {
    uint64_t bytes = 0;
    if (u == NULL) {
        return 0;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES && bytes == 0; i++) {
        const struct entry *n = &u->entries[i];
        if (is_left(u, i) && atomic_load(&n->task_id) == task_id && atomic_load(&n->term) == term &&
            atomic_load(&n->counter) == counter) {
            bytes = atomic_load(&n->bytes);
            free_entry(u, i);
        }
    }
    pthread_mutex_unlock(&u->lock);
    return bytes;
}

void under_way_forget_left(struct under_way *u) {
    if (u == NULL) {
        return;
    }
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < UNDER_WAY_ENTRIES; i++) {
        if (u->states[i] == ENTRY_TOLD) {
            free_entry(u, i);
        }
    }
    pthread_mutex_unlock(&u->lock);
}
