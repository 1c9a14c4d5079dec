// SPDX-License-Identifier: Apache-2.0
#include "agent/task_result.h"

#include "common/cleanup.h"

#include <string.h>

// A message of that type with its defaults. NULL: out of memory.
static void *message_new(const ProtobufCMessageDescriptor *d) {
    void *m = malloc(d->sizeof_message);
    if (m != NULL) {
        protobuf_c_message_init(d, m);
    }
    return m;
}

Sluice__V1__TaskResult *task_result_new(const Sluice__V1__Lease *l) {
    Sluice__V1__TaskResult *r = message_new(&sluice__v1__task_result__descriptor);
    if (r == NULL) {
        return NULL;
    }
    r->lease = message_new(&sluice__v1__lease_ref__descriptor);
    if (r->lease != NULL) {
        r->lease->task_id = l->spec->task_id;
        r->lease->epoch = message_new(&sluice__v1__epoch__descriptor);
    }
    if (r->lease == NULL || r->lease->epoch == NULL) {
        task_result_free(r);
        return NULL;
    }
    r->lease->epoch->term = l->epoch->term;
    r->lease->epoch->counter = l->epoch->counter;
    return r;
}

void task_result_free(Sluice__V1__TaskResult *r) {
    if (r != NULL) {
        sluice__v1__task_result__free_unpacked(r, NULL);
    }
}

enum err task_result_set_text(char **field, const char *text) {
    char *copy = strdup(text);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    if (*field != (char *)protobuf_c_empty_string) {
        free(*field);
    }
    *field = copy;
    return OK;
}

enum err task_result_set_bytes(ProtobufCBinaryData *field, const void *bytes, size_t len) {
    uint8_t *copy = malloc(len + 1);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, bytes, len);
    free(field->data);
    *field = (ProtobufCBinaryData){.len = len, .data = copy};
    return OK;
}

// A message of its own from @f.
static enum err failure_copy(const struct failure *f, const char *agent,
                             Sluice__V1__Failure **ret_message) {
    Sluice__V1__Failure *m = message_new(&sluice__v1__failure__descriptor);
    if (m == NULL) {
        return ERR_NO_MEMORY;
    }
    m->errnum = f->errnum;
    enum err e = task_result_set_text(&m->code, err_name(f->err));
    if (e == OK) {
        e = task_result_set_text(&m->operation, f->operation);
    }
    if (e == OK) {
        e = task_result_set_text(&m->message, f->message);
    }
    if (e == OK) {
        e = task_result_set_text(&m->remedy, f->remedy);
    }
    if (e == OK) {
        e = task_result_set_text(&m->agent, agent);
    }
    if (e == OK) {
        e = task_result_set_bytes(&m->object, f->object, f->object_len);
    }
    if (e != OK) {
        sluice__v1__failure__free_unpacked(m, NULL);
        return e;
    }
    *ret_message = m;
    return OK;
}

static void replace_failure(Sluice__V1__Failure **field, Sluice__V1__Failure *m) {
    if (*field != NULL) {
        sluice__v1__failure__free_unpacked(*field, NULL);
    }
    *field = m;
}

enum err task_result_fail(Sluice__V1__TaskResult *r, const struct failure *f, const char *agent) {
    Sluice__V1__Failure *m = NULL;
    enum err e = failure_copy(f, agent, &m);
    if (e == OK) {
        replace_failure(&r->failure, m);
        r->retryable = err_retry_class(f->err) != RETRY_NEVER;
    }
    return e;
}

enum err task_result_add_objects(Sluice__V1__TaskResult *r, size_t n) {
    r->objects = calloc(n + 1, sizeof(Sluice__V1__ObjectResult *));
    if (r->objects == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        Sluice__V1__ObjectResult *o = message_new(&sluice__v1__object_result__descriptor);
        if (o == NULL) {
            return ERR_NO_MEMORY;
        }
        o->index = (uint32_t)i;
        o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED;
        r->objects[i] = o;
        r->n_objects = i + 1;
    }
    return OK;
}

enum err task_result_object_done(Sluice__V1__TaskResult *r, size_t index,
                                 Sluice__V1__ObjectOutcome outcome, uint64_t bytes,
                                 const struct digest *digest, size_t digest_bytes) {
    Sluice__V1__ObjectResult *o = r->objects[index];
    o->outcome = outcome;
    o->bytes = bytes;
    return digest_bytes == 0 ? OK : task_result_set_bytes(&o->digest, digest->bytes, digest_bytes);
}

enum err task_result_object_failed(Sluice__V1__TaskResult *r, size_t index, const struct failure *f,
                                   const char *agent) {
    Sluice__V1__ObjectResult *o = r->objects[index];
    Sluice__V1__Failure *m = NULL;
    enum err e = failure_copy(f, agent, &m);
    o->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_FAILED;
    o->retryable = err_retry_class(f->err) != RETRY_NEVER;
    if (e == OK) {
        replace_failure(&o->failure, m);
    }
    return e;
}

enum err task_result_set_receipt(Sluice__V1__TaskResult *r, const struct receipt *rc, bool synced,
                                 const char *boot_id) {
    if (r->receipt == NULL) {
        r->receipt = message_new(&sluice__v1__receipt__descriptor);
        if (r->receipt == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    r->synced = synced;
    enum err e = task_result_set_bytes(&r->receipt->opaque, rc->bytes, rc->len);
    return e == OK ? task_result_set_text(&r->boot_id, boot_id) : e;
}

enum err task_result_set_times(Sluice__V1__TaskResult *r, const struct transfer_times *t) {
    if (r->why == NULL) {
        r->why = message_new(&sluice__v1__times__descriptor);
        if (r->why == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    r->why->walk_us = t->walk_us;
    r->why->read_us = t->read_us;
    r->why->hash_us = t->hash_us;
    r->why->send_us = t->send_us;
    r->why->receive_us = t->receive_us;
    r->why->write_us = t->write_us;
    r->why->sync_us = t->sync_us;
    r->why->wait_us = t->wait_us;
    return OK;
}

bool task_result_is_complete(const Sluice__V1__TaskResult *r) {
    for (size_t i = 0; i < r->n_objects; i++) {
        if (r->objects[i]->outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_UNSTARTED) {
            return false;
        }
    }
    return true;
}

static void clear_text(char **field) {
    if (*field != (char *)protobuf_c_empty_string) {
        (*field)[0] = '\0';
    }
}

void task_result_trim(Sluice__V1__TaskResult *r, size_t max_bytes) {
    // The master knows the path by the object's index, and a usual remedy by the code.
    for (int step = 0; step < 2 && sluice__v1__task_result__get_packed_size(r) > max_bytes;
         step++) {
        for (size_t i = 0; i < r->n_objects; i++) {
            Sluice__V1__Failure *f = r->objects[i]->failure;
            if (f == NULL) {
                continue;
            }
            if (step == 0) {
                clear_text(&f->remedy);
                f->object.len = 0;
            } else {
                clear_text(&f->message);
            }
        }
    }
}
