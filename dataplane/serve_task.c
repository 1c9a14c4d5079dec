// SPDX-License-Identifier: Apache-2.0
#include "dataplane/serve_task.h"

#include "common/clock.h"
#include "dataplane/source_posix.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void serve_task_close(struct serve_task *t) {
    if (!t) {
        return;
    }
    source_free(t->source);
    leaf_hasher_free(t->hasher);
    object_table_close(&t->table);
    if (t->volume_fd >= 0) {
        close(t->volume_fd);
    }
    free(t->opening);
    free(t);
}

static enum err refuse(struct failure *f, enum err e, const char *why) {
    return failure_set(f, e, "open task", NULL, 0, "%s", why);
}

// Whose ticket it is, for what, and until when.
static enum err check_ticket(struct serve *s, const struct conn *c, uint64_t task_id,
                             const struct frame_open_task *open, struct ticket *t,
                             struct failure *f) {
    struct serve_authority authority;
    enum err e;

    if (!serve_get_authority(s, &authority)) {
        return refuse(f, ERR_AGAIN, "this agent is not registered with its master yet");
    }
    e = ticket_open(open->ticket, open->ticket_len, authority.master_public,
                    clock_wall_ms(&clock_system), t);
    if (e == ERR_TIMEOUT) {
        return refuse(f, ERR_DENIED, "the ticket has expired");
    }
    if (e) {
        return refuse(f, e,
                      e == ERR_DENIED ? "the ticket is not signed by our master"
                                      : "the ticket is malformed");
    }
    if (strcmp(t->cluster, authority.cluster) != 0) {
        return refuse(f, ERR_DENIED, "the ticket is for another cluster");
    }
    if (strcmp(t->source, s->agent) != 0) {
        return refuse(f, ERR_DENIED, "the ticket is for another source agent");
    }
    if (strcmp(t->executor, conn_agent(c)) != 0) {
        return refuse(f, ERR_DENIED, "the ticket is for another executor");
    }
    if (t->direction != TICKET_READ) {
        return refuse(f, ERR_DENIED, "the ticket does not allow reading");
    }
    if (t->task_id != task_id) {
        return refuse(f, ERR_DENIED, "the ticket is for another task");
    }
    if (t->digest != HASH_XXH3_128 && t->digest != HASH_SHA256) {
        return refuse(f, ERR_UNIMPLEMENTED, "the ticket asks for an unknown digest");
    }
    return OK;
}

static enum err check_proof(const struct serve *s, const struct conn *c,
                            const struct frame_open_task *open, const struct ticket *t,
                            struct failure *f) {
    uint8_t text[FRAME_PROOF_TEXT_MAX];
    size_t len =
        conn_proof_text(c, true, t->cluster, s->agent, open->ticket, open->ticket_len, text);

    if (signature_check(t->executor_key, text, len, open->proof)) {
        return refuse(f, ERR_DENIED, "the executor does not hold the key that the ticket names");
    }
    return OK;
}

static enum err open_objects(struct serve *s, struct serve_task *t, const struct ticket *ticket,
                             const struct frame_open_task *open, struct failure *f) {
    uint8_t sum[32];
    enum err e;

    sha256(open->objects, open->objects_len, sum);
    if (memcmp(sum, ticket->objects_sha256, sizeof(sum)) != 0) {
        return refuse(f, ERR_DENIED, "the objects are not those that the ticket is for");
    }
    e = object_table_open(open->objects, open->objects_len, &t->table);
    if (e) {
        return refuse(f, e, "the object table is malformed");
    }
    e = s->open_volume(s->user, ticket->volume, &t->volume_fd, f);
    if (e) {
        return e;
    }
    e = source_posix_new(t->volume_fd, ticket->root, ticket->root_len, &t->table, &t->source, f);
    if (!e) {
        source_posix_read_direct(t->source, s->direct_from_bytes);
    }
    return e;
}

enum err serve_task_open(struct serve *s, const struct conn *c, uint64_t task_id,
                         uint8_t *take_payload, size_t len, struct serve_task **ret_task,
                         struct failure *ret_failure) {
    struct serve_task *t = calloc(1, sizeof(*t));
    struct ticket *ticket = calloc(1, sizeof(*ticket));
    struct frame_open_task open;
    enum err e;

    if (!t || !ticket) {
        free(t);
        free(ticket);
        free(take_payload);
        return refuse(ret_failure, ERR_NO_MEMORY, err_text(ERR_NO_MEMORY));
    }
    t->opening = take_payload;
    t->volume_fd = -1;
    t->task_id = task_id;
    e = frame_open_task_decode(take_payload, len, &open);
    if (e) {
        refuse(ret_failure, e, "the request to open a task is malformed");
    }
    if (!e) {
        e = check_ticket(s, c, task_id, &open, ticket, ret_failure);
    }
    if (!e) {
        e = check_proof(s, c, &open, ticket, ret_failure);
    }
    if (!e) {
        t->digest = (enum hash_algorithm)ticket->digest;
        e = open_objects(s, t, ticket, &open, ret_failure);
    }
    if (!e) {
        t->hasher = leaf_hasher_new(t->digest);
        if (!t->hasher) {
            e = refuse(ret_failure, ERR_NO_MEMORY, err_text(ERR_NO_MEMORY));
        }
    }
    free(ticket);
    if (e) {
        serve_task_close(t);
        return e;
    }
    *ret_task = t;
    return OK;
}
