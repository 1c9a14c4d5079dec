// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/scratch.h"

#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void scratch_begin(struct scratch *s) {
    strcpy(s->path, "/tmp/sluice_agent.XXXXXX");
    assert_non_null(mkdtemp(s->path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void scratch_end(struct scratch *s) {
    assert_int_equal(nftw(s->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *scratch_path(const struct scratch *s, const char *name) {
    static char buffers[4][512];
    static unsigned next;
    char *p = buffers[next++ % 4];
    (void)snprintf(p, sizeof buffers[0], "%s/%s", s->path, name);
    return p;
}

void scratch_write(const struct scratch *s, const char *name, const void *bytes, size_t len) {
    int fd = open(scratch_path(s, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

char *scratch_read(const struct scratch *s, const char *name, size_t *ret_len) {
    FILE *f = fopen(scratch_path(s, name), "re");
    if (f == NULL) {
        return NULL;
    }
    char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *ret_len = fread(bytes, 1, (1 << 20) - 1, f);
    bytes[*ret_len] = '\0';
    (void)fclose(f);
    return bytes;
}

enum { PATIENCE_S = 200 };

struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t n;
};

struct tally *tally_new(void) {
    struct tally *t = calloc(1, sizeof *t);
    assert_non_null(t);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    return t;
}

void tally_free(struct tally *t) {
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void tally_add(struct tally *t, uint64_t n) {
    pthread_mutex_lock(&t->lock);
    t->n += n;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void tally_wait(struct tally *t, uint64_t at_least) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_S;
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    while (t->n < at_least && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&t->changed, &t->lock, &deadline);
    }
    uint64_t n = t->n;
    pthread_mutex_unlock(&t->lock);
    if (n < at_least) {
        fail_msg("waited %d s for %llu, got %llu", PATIENCE_S, (unsigned long long)at_least,
                 (unsigned long long)n);
    }
}
