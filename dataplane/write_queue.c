// SPDX-License-Identifier: Apache-2.0
#include "dataplane/write_queue.h"

#include "dataplane/buffer_stock.h"

#include <pthread.h>
#include <stdlib.h>

// So many pieces of others a thread writes before it goes back to its own stream.
enum { FOR_OTHERS_MAX = 4 * WRITE_QUEUE_PIECES };
enum { PIECE_ALIGN = 4096 };

struct piece {
    struct piece *next; // in the file's queue, or free
    struct queue_writer *writer;
    uint64_t offset;
    const void *bytes;
    size_t len;
};

struct write_queue { // of one file
    // under write_queues.mutex
    struct write_queue *next;
    dev_t device;
    ino_t inode;
    uint32_t n_users;

    pthread_mutex_t mutex; // of all below, and of the writers
    struct piece *first, **end;
    bool is_busy; // a thread writes
    struct queue_writer *writers;
};

struct queue_writer {
    struct write_queues *queues;
    struct write_queue *queue;
    queue_write_fn write;
    void *user;
    uint8_t *buffer;    // of all pieces; NULL: none was asked for yet
    struct piece *room; // taken, not put yet; the owner's

    // under queue.mutex
    struct queue_writer *next;
    pthread_cond_t changed;
    struct piece pieces[WRITE_QUEUE_PIECES];
    struct piece *free; // the one used last is first: it is still in the cache
    size_t n_pending;
    bool is_waiting, is_failed;
};

struct write_queues {
    size_t piece_bytes;
    struct buffer_stock buffers;
    pthread_mutex_t mutex;
    struct write_queue *first; // as many as there are slots, at most
};

enum err write_queues_new(size_t piece_bytes, struct write_queues **ret_queues) {
    struct write_queues *q = calloc(1, sizeof(*q));
    if (!q || pthread_mutex_init(&q->mutex, NULL) != 0) {
        free(q);
        return ERR_NO_MEMORY;
    }
    q->piece_bytes = (piece_bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    buffer_stock_init(&q->buffers, q->piece_bytes * WRITE_QUEUE_PIECES);
    *ret_queues = q;
    return OK;
}

void write_queues_free(struct write_queues *q) {
    if (q) {
        buffer_stock_deinit(&q->buffers);
        pthread_mutex_destroy(&q->mutex);
        free(q);
    }
}

// ---- who writes a file ----

static struct write_queue *make(dev_t device, ino_t inode) {
    struct write_queue *f = calloc(1, sizeof(*f));
    if (!f || pthread_mutex_init(&f->mutex, NULL) != 0) {
        free(f);
        return NULL;
    }
    f->device = device;
    f->inode = inode;
    f->end = &f->first;
    return f;
}

static struct write_queue *enter(struct write_queues *q, dev_t device, ino_t inode) {
    pthread_mutex_lock(&q->mutex);
    struct write_queue *f = q->first;
    while (f && (f->device != device || f->inode != inode)) {
        f = f->next;
    }
    if (!f) {
        f = make(device, inode);
        if (f) {
            f->next = q->first;
            q->first = f;
        }
    }
    if (f) {
        f->n_users++;
    }
    pthread_mutex_unlock(&q->mutex);
    return f;
}

static void leave(struct write_queues *q, struct write_queue *f) {
    pthread_mutex_lock(&q->mutex);
    bool is_last = --f->n_users == 0;
    if (is_last) {
        struct write_queue **at = &q->first;
        while (*at != f) {
            at = &(*at)->next;
        }
        *at = f->next;
    }
    pthread_mutex_unlock(&q->mutex);
    if (is_last) {
        pthread_mutex_destroy(&f->mutex);
        free(f);
    }
}

enum err write_queue_join(struct write_queues *q, dev_t device, ino_t inode, queue_write_fn write,
                          void *user, struct queue_writer **ret_writer) {
    struct queue_writer *w = calloc(1, sizeof(*w));
    if (!w || pthread_cond_init(&w->changed, NULL) != 0) {
        free(w);
        return ERR_NO_MEMORY;
    }
    w->queue = enter(q, device, inode);
    if (!w->queue) {
        pthread_cond_destroy(&w->changed);
        free(w);
        return ERR_NO_MEMORY;
    }
    w->queues = q;
    w->write = write;
    w->user = user;
    pthread_mutex_lock(&w->queue->mutex);
    w->next = w->queue->writers;
    w->queue->writers = w;
    pthread_mutex_unlock(&w->queue->mutex);
    *ret_writer = w;
    return OK;
}

void write_queue_leave(struct queue_writer *w) {
    if (!w) {
        return;
    }
    (void)!write_queue_settle(w);
    pthread_mutex_lock(&w->queue->mutex);
    struct queue_writer **at = &w->queue->writers;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    pthread_mutex_unlock(&w->queue->mutex);
    leave(w->queues, w->queue);
    pthread_cond_destroy(&w->changed);
    buffer_stock_give(&w->queues->buffers, w->buffer, w->queues->buffers.bytes);
    free(w);
}

// ---- writing; under the file's mutex ----

// It is let go while the bytes are written.
static void write_piece(struct write_queue *f, struct queue_writer *w, uint64_t offset,
                        const void *bytes, size_t len) {
    if (w->is_failed) {
        return;
    }
    pthread_mutex_unlock(&f->mutex);
    bool ok = w->write(w->user, offset, bytes, len);
    pthread_mutex_lock(&f->mutex);
    w->is_failed = !ok;
}

// Nobody writes any more: one of those who wait may have to.
static void wake_all(struct write_queue *f) {
    for (struct queue_writer *w = f->writers; w; w = w->next) {
        if (w->is_waiting) {
            pthread_cond_signal(&w->changed);
        }
    }
}

// Writes what is queued, for @self and others, until nothing is or others have had their share.
static void write_queued(struct write_queue *f, struct queue_writer *self) {
    int n_for_others = 0;
    f->is_busy = true;
    while (f->first && (n_for_others < FOR_OTHERS_MAX || self->n_pending > 0)) {
        struct piece *p = f->first;
        struct queue_writer *w = p->writer;
        write_piece(f, w, p->offset, p->bytes, p->len); // pending() sees it until it is written
        f->first = p->next;
        if (!f->first) {
            f->end = &f->first;
        }
        p->next = w->free;
        w->free = p;
        w->n_pending--;
        n_for_others += w != self;
        if (w != self && w->is_waiting) {
            pthread_cond_signal(&w->changed);
        }
    }
    f->is_busy = false;
    wake_all(f);
}

// Waits for something to change; writes meanwhile if nobody does.
static void wait_or_write(struct write_queue *f, struct queue_writer *w) {
    if (!f->is_busy && f->first) {
        write_queued(f, w);
        return;
    }
    w->is_waiting = true;
    pthread_cond_wait(&w->changed, &f->mutex);
    w->is_waiting = false;
}

static void settle(struct write_queue *f, struct queue_writer *w) {
    while (w->n_pending > 0) {
        wait_or_write(f, w);
    }
}

// ---- for writers ----

static bool make_room(struct queue_writer *w) {
    w->buffer = buffer_stock_take(&w->queues->buffers, w->queues->buffers.bytes);
    if (!w->buffer) {
        return false;
    }
    for (size_t i = WRITE_QUEUE_PIECES; i-- > 0;) {
        struct piece *p = &w->pieces[i];
        *p = (struct piece){
            .next = w->free, .writer = w, .bytes = w->buffer + i * w->queues->piece_bytes};
        w->free = p;
    }
    return true;
}

void *write_queue_room(struct queue_writer *w, size_t *ret_cap) {
    if (!w->buffer && !make_room(w)) {
        return NULL;
    }
    if (!w->room) {
        pthread_mutex_lock(&w->queue->mutex);
        while (!w->free) {
            wait_or_write(w->queue, w);
        }
        w->room = w->free;
        w->free = w->room->next;
        pthread_mutex_unlock(&w->queue->mutex);
    }
    *ret_cap = w->queues->piece_bytes;
    return w->buffer + (size_t)(w->room - w->pieces) * w->queues->piece_bytes;
}

// Not from the room: nobody else could keep the bytes.
static void write_now(struct write_queue *f, struct queue_writer *w, uint64_t offset,
                      const void *bytes, size_t len) {
    settle(f, w);
    while (f->is_busy) {
        wait_or_write(f, w);
    }
    f->is_busy = true;
    write_piece(f, w, offset, bytes, len);
    f->is_busy = false;
    wake_all(f);
}

bool write_queue_put(struct queue_writer *w, uint64_t offset, const void *bytes, size_t len) {
    struct write_queue *f = w->queue;
    pthread_mutex_lock(&f->mutex);
    if (w->room && bytes == w->room->bytes) {
        struct piece *p = w->room;
        w->room = NULL;
        p->offset = offset;
        p->len = len;
        p->next = NULL;
        *f->end = p;
        f->end = &p->next;
        w->n_pending++;
        if (!f->is_busy) {
            write_queued(f, w);
        }
    } else {
        write_now(f, w, offset, bytes, len);
    }
    bool ok = !w->is_failed;
    pthread_mutex_unlock(&f->mutex);
    return ok;
}

bool write_queue_settle(struct queue_writer *w) {
    pthread_mutex_lock(&w->queue->mutex);
    settle(w->queue, w);
    bool ok = !w->is_failed;
    pthread_mutex_unlock(&w->queue->mutex);
    return ok;
}

uint64_t write_queue_pending(struct queue_writer *w) {
    uint64_t first = UINT64_MAX;
    pthread_mutex_lock(&w->queue->mutex);
    for (const struct piece *p = w->queue->first; p && first == UINT64_MAX; p = p->next) {
        first = p->writer == w ? p->offset : UINT64_MAX;
    }
    pthread_mutex_unlock(&w->queue->mutex);
    return first;
}
