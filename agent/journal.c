// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include "agent/journal_file.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { GROUP_MAX = 256 }; // results written at a time

struct kept {
    struct kept *next;
    uint64_t number;
    uint64_t task_id, term, counter;
    bool written; // may be sent
    size_t len;
    uint8_t bytes[]; // packed TaskResult
};

struct journal {
    struct journal_options options; // constant
    pthread_t thread;
    struct journal_file *file; // the thread's, once it runs
    bool is_failing;           // the thread's: the file does not hold all results
    bool is_unsynced;          // the thread's
    struct timespec sync_at;   // the thread's: when what is unsynced is synced
    pthread_mutex_t lock;
    pthread_cond_t wake; // CLOCK_MONOTONIC
    // under the lock; entries are freed by the journal's thread only
    struct kept *first, **last;
    struct kept *first_unwritten; // all from here on are
    uint64_t live_bytes;
    uint64_t next_number, committed_through;
    struct journal_memo memo;
    bool memo_changed, stop;
};

static struct kept *kept_new(uint64_t number, const uint8_t *bytes, size_t len) {
    struct kept *k = malloc(sizeof *k + len);
    if (k != NULL) {
        *k = (struct kept){.number = number, .len = len};
        if (bytes != NULL) {
            memcpy(k->bytes, bytes, len);
        }
    }
    return k;
}

static void add(struct journal *j, struct kept *k) {
    *j->last = k;
    j->last = &k->next;
    j->live_bytes += k->len;
    if (!k->written && j->first_unwritten == NULL) {
        j->first_unwritten = k;
    }
}

static enum err found_record(void *user, const struct journal_record *r) {
    struct journal *j = user;
    Sluice__V1__TaskResult *m = sluice__v1__task_result__unpack(NULL, r->len, r->bytes);
    if (m == NULL || m->lease == NULL || m->lease->epoch == NULL || r->number < j->next_number) {
        if (m != NULL) {
            sluice__v1__task_result__free_unpacked(m, NULL);
        }
        return OK; // of no use to anybody
    }
    struct kept *k = kept_new(r->number, r->bytes, r->len);
    if (k != NULL) {
        k->written = true;
        k->task_id = m->lease->task_id;
        k->term = m->lease->epoch->term;
        k->counter = m->lease->epoch->counter;
        add(j, k);
        j->next_number = r->number + 1;
    }
    sluice__v1__task_result__free_unpacked(m, NULL);
    return k == NULL ? ERR_NO_MEMORY : OK;
}

// Under the lock. Frees what is committed, as far as it was written.
static void prune(struct journal *j) {
    while (j->first != NULL && j->first->written && j->first->number <= j->committed_through) {
        struct kept *k = j->first;
        j->first = k->next;
        if (j->first == NULL) {
            j->last = &j->first;
        }
        j->live_bytes -= k->len;
        free(k);
    }
}

// Does the file need to be made anew? Under the lock.
static bool wants_rewrite(const struct journal *j) {
    uint64_t bytes = journal_file_bytes(j->file);
    uint64_t keep = j->stop ? JOURNAL_EMPTY_BYTES : JOURNAL_KEEP_BYTES;
    return j->memo_changed || (j->first == NULL && bytes > keep) ||
           (bytes > JOURNAL_COMPACT_BYTES && j->live_bytes < bytes / 2);
}

static struct timespec time_in(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (ms % 1000) * 1000000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void survived(struct journal *j, enum err e, const struct failure *f) {
    if (e != OK && !j->is_failing) {
        log_event(LOG_ERROR, "journal_failed", LOG_FAILURE(f),
                  LOG_STR("consequence", "results are kept in memory only until this is mended"));
    } else if (e == OK && j->is_failing) {
        log_event(LOG_INFO, "journal_mended", LOG_U64("bytes", journal_file_bytes(j->file)));
    }
    j->is_failing = e != OK;
}

// Collects up to @max entries from @k on. Under the lock.
static size_t collect(struct kept *k, struct journal_record *records, size_t max) {
    size_t n = 0;
    for (; k != NULL && n < max; k = k->next) {
        records[n++] = (struct journal_record){k->number, k->bytes, k->len};
    }
    return n;
}

static void mark_written(struct journal *j, size_t n) {
    for (; n > 0; n--) {
        j->first_unwritten->written = true;
        j->first_unwritten = j->first_unwritten->next;
    }
}

// Called with the lock, which it gives up meanwhile. All entries go into a new file.
static void rewrite(struct journal *j) {
    size_t n = 0;
    for (struct kept *k = j->first; k != NULL; k = k->next) {
        n++;
    }
    struct journal_record *records = calloc(n + 1, sizeof *records);
    size_t n_new = 0;
    for (struct kept *k = j->first_unwritten; k != NULL; k = k->next) {
        n_new++;
    }
    j->memo.next_number = j->next_number;
    struct journal_memo memo = j->memo;
    j->memo_changed = false;
    if (records != NULL) {
        (void)collect(j->first, records, n);
    }
    pthread_mutex_unlock(&j->lock);
    struct failure f = {0};
    enum err e = records == NULL ? failure_set(&f, ERR_NO_MEMORY, "rewrite", NULL, 0, NULL)
                                 : journal_file_rewrite(j->file, &memo, records, n, &f);
    survived(j, e, &f);
    j->is_unsynced = false; // a new file was synced; where it failed, it is made anew
    free(records);
    pthread_mutex_lock(&j->lock);
    j->memo_changed = j->memo_changed || e != OK;
    mark_written(j, n_new);
    if (n_new > 0) {
        pthread_mutex_unlock(&j->lock);
        j->options.written(j->options.user);
        pthread_mutex_lock(&j->lock);
    }
}

// Called with the lock, which it gives up meanwhile.
static void append_group(struct journal *j) {
    struct journal_record records[GROUP_MAX];
    struct failure f = {0};
    size_t n = collect(j->first_unwritten, records, GROUP_MAX);
    pthread_mutex_unlock(&j->lock);
    enum err e = journal_file_append(j->file, records, n, &f);
    survived(j, e, &f);
    pthread_mutex_lock(&j->lock);
    mark_written(j, n);
    pthread_mutex_unlock(&j->lock);
    j->options.written(j->options.user);
    if (!j->is_unsynced) {
        j->is_unsynced = true;
        j->sync_at = time_in(JOURNAL_SYNC_MS);
    }
    pthread_mutex_lock(&j->lock);
}

static bool sync_is_due(const struct journal *j) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return j->is_unsynced &&
           (now.tv_sec > j->sync_at.tv_sec ||
            (now.tv_sec == j->sync_at.tv_sec && now.tv_nsec >= j->sync_at.tv_nsec));
}

// Called with the lock, which it gives up meanwhile. Syncs if it is time for that (or the end),
// else waits for that time or for something to do.
static void sync_or_wait(struct journal *j) {
    if (!j->stop && !sync_is_due(j) &&
        pthread_cond_timedwait(&j->wake, &j->lock, &j->sync_at) != ETIMEDOUT) {
        return;
    }
    struct failure f = {0};
    pthread_mutex_unlock(&j->lock);
    survived(j, journal_file_sync(j->file, &f), &f);
    j->is_unsynced = false;
    pthread_mutex_lock(&j->lock);
}

static void wait_to_retry(struct journal *j) {
    struct timespec t = time_in(JOURNAL_RETRY_MS);
    while (!j->stop && j->first_unwritten == NULL &&
           pthread_cond_timedwait(&j->wake, &j->lock, &t) != ETIMEDOUT) {
    }
}

static void *journal_thread(void *arg) {
    struct journal *j = arg;
    pthread_mutex_lock(&j->lock);
    for (;;) {
        prune(j);
        if (j->is_failing) {
            wait_to_retry(j);
            rewrite(j);
            if (j->stop && j->is_failing) {
                break;
            }
        } else if (wants_rewrite(j)) {
            rewrite(j);
        } else if (j->first_unwritten != NULL && !sync_is_due(j)) {
            append_group(j);
        } else if (j->is_unsynced) {
            sync_or_wait(j);
        } else if (j->stop) {
            break;
        } else {
            pthread_cond_wait(&j->wake, &j->lock);
        }
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

static void journal_free(struct journal *j) {
    while (j->first != NULL) {
        struct kept *k = j->first;
        j->first = k->next;
        free(k);
    }
    journal_file_close(j->file);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

enum err journal_open(const struct journal_options *o, struct journal **ret_journal,
                      struct failure *ret_failure) {
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", NULL, 0, NULL);
    }
    pthread_condattr_t attr;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attr);
    pthread_condattr_destroy(&attr);
    j->options = *o;
    j->last = &j->first;
    struct journal_found found = {.each = found_record, .user = j};
    enum err e = journal_file_open(o->state_dir, &found, &j->file, ret_failure);
    if (e == OK) {
        j->memo = found.memo;
        j->next_number =
            j->next_number > found.memo.next_number ? j->next_number : found.memo.next_number;
        if (found.torn_bytes > 0 || found.n_records > 0) {
            log_event(LOG_INFO, "journal_recovered", LOG_U64("results", found.n_records),
                      LOG_U64("torn_bytes", found.torn_bytes));
        }
        if (pthread_create(&j->thread, NULL, journal_thread, j) != 0) {
            e = failure_set(ret_failure, ERR_NO_MEMORY, "pthread_create", NULL, 0, NULL);
        }
    }
    if (e != OK) {
        journal_free(j);
        return e;
    }
    *ret_journal = j;
    return OK;
}

void journal_close(struct journal *j) {
    if (j == NULL) {
        return;
    }
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    journal_free(j);
}

enum err journal_append(struct journal *j, Sluice__V1__TaskResult *r) {
    enum err e = OK;
    pthread_mutex_lock(&j->lock);
    r->number = j->next_number;
    size_t len = sluice__v1__task_result__get_packed_size(r);
    struct kept *k = len > JOURNAL_RESULT_MAX_BYTES ? NULL : kept_new(r->number, NULL, len);
    if (k == NULL) {
        e = len > JOURNAL_RESULT_MAX_BYTES ? ERR_TOO_LARGE : ERR_NO_MEMORY;
    } else {
        (void)sluice__v1__task_result__pack(r, k->bytes);
        k->task_id = r->lease->task_id;
        k->term = r->lease->epoch->term;
        k->counter = r->lease->epoch->counter;
        add(j, k);
        j->next_number++;
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    return e;
}

enum err journal_next(struct journal *j, uint64_t after, Sluice__V1__TaskResult **ret_result) {
    enum err e = ERR_NOT_FOUND;
    pthread_mutex_lock(&j->lock);
    after = after > j->committed_through ? after : j->committed_through;
    for (const struct kept *k = j->first; k != NULL && k->written; k = k->next) {
        if (k->number > after) {
            *ret_result = sluice__v1__task_result__unpack(NULL, k->len, k->bytes);
            e = *ret_result == NULL ? ERR_NO_MEMORY : OK;
            break;
        }
    }
    pthread_mutex_unlock(&j->lock);
    return e;
}

void journal_committed(struct journal *j, uint64_t through) {
    pthread_mutex_lock(&j->lock);
    if (through > j->committed_through) {
        j->committed_through = through;
        j->next_number = j->next_number > through ? j->next_number : through + 1;
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
}

bool journal_holds(struct journal *j, uint64_t task_id, uint64_t term, uint64_t counter) {
    bool found = false;
    pthread_mutex_lock(&j->lock);
    for (const struct kept *k = j->first; k != NULL && !found; k = k->next) {
        found = k->number > j->committed_through && k->task_id == task_id && k->term == term &&
                k->counter == counter;
    }
    pthread_mutex_unlock(&j->lock);
    return found;
}

void journal_each_lease(struct journal *j,
                        void (*each)(void *user, uint64_t number, uint64_t task_id, uint64_t term,
                                     uint64_t counter),
                        void *user) {
    pthread_mutex_lock(&j->lock);
    for (const struct kept *k = j->first; k != NULL; k = k->next) {
        if (k->number > j->committed_through) {
            each(user, k->number, k->task_id, k->term, k->counter);
        }
    }
    pthread_mutex_unlock(&j->lock);
}

uint64_t journal_written_through(struct journal *j) {
    pthread_mutex_lock(&j->lock);
    // Where writing fails, results are marked all the same: they are not in the file.
    uint64_t through = j->is_failing                ? 0
                       : j->first_unwritten == NULL ? j->next_number - 1
                                                    : j->first_unwritten->number - 1;
    pthread_mutex_unlock(&j->lock);
    return through;
}

bool journal_is_empty(struct journal *j) {
    pthread_mutex_lock(&j->lock);
    bool empty = j->next_number <= j->committed_through + 1 || j->first == NULL;
    pthread_mutex_unlock(&j->lock);
    return empty;
}

uint64_t journal_next_number(struct journal *j) {
    pthread_mutex_lock(&j->lock);
    uint64_t n = j->next_number;
    pthread_mutex_unlock(&j->lock);
    return n;
}

void journal_remember(struct journal *j, const char *cluster, uint64_t term) {
    pthread_mutex_lock(&j->lock);
    bool is_other = strncmp(j->memo.cluster, cluster, IDENT_LEN) != 0;
    if (is_other && j->memo.cluster[0] != '\0') {
        j->committed_through = j->next_number - 1;
    }
    if (is_other || j->memo.term != term) {
        memset(j->memo.cluster, 0, sizeof j->memo.cluster);
        memcpy(j->memo.cluster, cluster, strnlen(cluster, IDENT_LEN));
        j->memo.term = term;
        j->memo_changed = true;
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
}

void journal_recall(struct journal *j, char ret_cluster[27], uint64_t *ret_term) {
    pthread_mutex_lock(&j->lock);
    memcpy(ret_cluster, j->memo.cluster, IDENT_SIZE);
    *ret_term = j->memo.term;
    pthread_mutex_unlock(&j->lock);
}
