// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"
#include "common/log.h"
#include "dataplane/serve_object.h"

#include <stdlib.h>

struct connection {
    struct serve *serve;
    struct conn *conn;
    struct serve_task *tasks[SERVE_TASKS_MAX];
    size_t n_tasks;
    bool is_trusted;         // has shown a ticket
    int64_t ticket_until_ms; // when one must have been shown
    struct object_sender sender;
};

bool serve_get_authority(struct serve *s, struct serve_authority *ret_authority) {
    bool has;

    pthread_mutex_lock(&s->mutex);
    has = s->has_authority;
    if (has) {
        *ret_authority = s->authority;
    }
    pthread_mutex_unlock(&s->mutex);
    return has;
}

static size_t find_task(const struct connection *k, uint64_t task_id) {
    size_t i = 0;

    while (i < k->n_tasks && k->tasks[i]->task_id != task_id) {
        i++;
    }
    return i;
}

static void close_task(struct connection *k, uint64_t task_id) {
    size_t i = find_task(k, task_id);

    if (i < k->n_tasks) {
        serve_task_close(k->tasks[i]);
        k->tasks[i] = k->tasks[--k->n_tasks];
    }
}

static enum err broke_protocol(struct failure *f, const char *what) {
    return failure_set(f, ERR_PROTOCOL, "receive", NULL, 0, "%s", what);
}

static enum err open_task(struct connection *k, const struct frame_header *h, struct failure *f) {
    uint8_t *payload;
    struct serve_task *t;
    enum err e;

    if (h->length > FRAME_OPEN_TASK_MAX) {
        return broke_protocol(f, "a request to open a task is longer than the limit");
    }
    close_task(k, h->aux); // opened again: with another ticket
    if (k->n_tasks == SERVE_TASKS_MAX) {
        return failure_set(f, ERR_FULL, "open task", NULL, 0,
                           "no more than %d tasks can be open on a connection", SERVE_TASKS_MAX);
    }
    payload = malloc(h->length > 0 ? h->length : 1);
    if (!payload) {
        return failure_set(f, ERR_NO_MEMORY, "open task", NULL, 0, NULL);
    }
    e = conn_receive_payload(k->conn, payload, h->length, f);
    if (e) {
        free(payload);
        return e;
    }
    e = serve_task_open(k->serve, k->conn, h->aux, payload, h->length, &t, f);
    if (e) {
        return e;
    }
    k->tasks[k->n_tasks++] = t;
    k->is_trusted = true;
    return conn_put(k->conn, &(struct frame_header){.type = FRAME_TASK_OPEN, .aux = h->aux}, NULL,
                    f);
}

static enum err read_object(struct connection *k, const struct frame_header *h, struct failure *f) {
    uint8_t buf[FRAME_READ_BYTES];
    struct frame_read read;
    struct source_range range;
    size_t i;
    enum err e;

    if (h->length != sizeof(buf)) {
        return broke_protocol(f, "a READ has the wrong length");
    }
    e = conn_receive_payload(k->conn, buf, sizeof(buf), f);
    if (e) {
        return e;
    }
    if (frame_read_decode(buf, sizeof(buf), &read)) {
        return broke_protocol(f, "a READ is malformed");
    }
    i = find_task(k, read.task_id);
    if (i == k->n_tasks) {
        return failure_set(f, ERR_DENIED, "read", NULL, 0, "a READ names a task that is not open");
    }
    if (read.index >= k->tasks[i]->table.count) {
        return broke_protocol(f, "a READ names an object that the task does not have");
    }
    range = (struct source_range){.index = read.index,
                                  .accept_changed = read.accept_changed,
                                  .offset = h->offset,
                                  .length = h->aux};
    if (range.length != SOURCE_TO_END && range.offset > UINT64_MAX - range.length) {
        return broke_protocol(f, "a READ asks for a range that overflows");
    }
    return object_sender_send(&k->sender, k->tasks[i], h->request, &range, f);
}

static enum err obey(struct connection *k, const struct frame_header *h, struct failure *f) {
    switch ((enum frame_type)h->type) {
    case FRAME_OPEN_TASK: return open_task(k, h, f);
    case FRAME_READ: return read_object(k, h, f);
    case FRAME_CLOSE_TASK: close_task(k, h->aux); return OK;
    case FRAME_PING:
        return conn_put(k->conn, &(struct frame_header){.type = FRAME_PONG, .request = h->request},
                        NULL, f);
    case FRAME_CANCEL: // came too late, or was seen before
    case FRAME_PONG: return OK;
    case FRAME_HELLO:
    case FRAME_WELCOME:
    case FRAME_TASK_OPEN:
    case FRAME_OBJECT:
    case FRAME_DATA:
    case FRAME_HOLE:
    case FRAME_DIGEST:
    case FRAME_OBJECT_END:
    case FRAME_ERROR:
    case FRAME_GOAWAY: break;
    }
    return broke_protocol(f, "a frame came that an executor does not send");
}

// How long to wait for the next frame; 0 or less: the time is over.
static int64_t wait_ms(const struct connection *k) {
    int64_t idle_ms = k->serve->idle_ms;

    if (!k->is_trusted) {
        int64_t left_ms = k->ticket_until_ms - clock_mono_ms(&clock_system);
        return left_ms < idle_ms ? left_ms : idle_ms;
    }
    return k->n_tasks > 0 ? idle_ms * SERVE_TASK_IDLE_FACTOR : idle_ms;
}

// Frames until there are no more. *@ret_is_idle: none came for so long.
static enum err serve_frames(struct connection *k, bool *ret_is_idle, struct failure *f) {
    for (;;) {
        struct frame_header h;
        int64_t idle_ms = wait_ms(k);
        bool must_wait = !conn_has_buffered(k->conn);
        enum err e = OK;

        if (idle_ms <= 0) {
            *ret_is_idle = true;
            return failure_set(f, ERR_TIMEOUT, "open task", NULL, 0, "no ticket was shown");
        }
        if (must_wait) {
            e = conn_flush(k->conn, f);
        }
        if (!e) {
            e = conn_receive(k->conn, idle_ms, &h, f);
            *ret_is_idle = e == ERR_TIMEOUT && !conn_has_buffered(k->conn);
        }
        if (!e) {
            e = obey(k, &h, f);
        }
        if (e) {
            return e;
        }
    }
}

static void log_end(const struct connection *k, enum err e, bool is_idle, const struct failure *f) {
    bool is_usual = is_idle || e == ERR_CANCELLED || (e == ERR_PEER_LOST && conn_ended(k->conn));

    log_event(is_usual ? LOG_DEBUG : LOG_WARN, "data_connection_closed",
              LOG_STR("agent", k->serve->agent), LOG_STR("peer", conn_agent(k->conn)),
              LOG_STR("address", conn_peer(k->conn)), LOG_FAILURE(f));
}

void serve_connection(struct serve *s, struct conn *c) {
    struct connection k = {.serve = s, .conn = c};
    struct serve_authority authority;
    struct failure f = {0};
    bool is_idle = false, is_greeted;
    enum err e;

    k.sender.serve = s;
    k.sender.conn = c;
    k.sender.cpu_mark_us = clock_thread_cpu_us();
    e = conn_welcome(c, serve_get_authority(s, &authority) ? authority.cluster : NULL, s->agent,
                     &f);
    is_greeted = e == OK;
    if (is_greeted) {
        k.ticket_until_ms = clock_mono_ms(&clock_system) +
                            (s->idle_ms < SERVE_FIRST_TASK_MS ? s->idle_ms : SERVE_FIRST_TASK_MS);
        conn_set_stall_ms(c, s->idle_ms); // an executor may be slow to take what it asked for
        e = serve_frames(&k, &is_idle, &f);
    }
    log_end(&k, e, is_idle, &f);
    if (is_idle) {
        if (conn_put(c, &(struct frame_header){.type = FRAME_GOAWAY}, NULL, NULL) == OK &&
            conn_flush(c, NULL) != OK) {
            log_event(LOG_DEBUG, "goaway_not_sent", LOG_STR("peer", conn_agent(c)));
        }
    } else if (is_greeted && e != ERR_PEER_LOST && e != ERR_CANCELLED && e != ERR_TIMEOUT) {
        conn_refuse(c, &f);
    }
    while (k.n_tasks > 0) {
        serve_task_close(k.tasks[--k.n_tasks]);
    }
    object_sender_deinit(&k.sender);
}
