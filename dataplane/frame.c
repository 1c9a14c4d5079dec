// SPDX-License-Identifier: Apache-2.0
#include "dataplane/frame.h"

#include <string.h>

enum { READ_ACCEPT_CHANGED = 1 }; // flag in a READ

// Where an encoder is. The buffers are large enough by definition of their sizes.
struct writer {
    uint8_t *at;
};

// Where a decoder is; after the first read past the end it only gives zeros.
struct reader {
    const uint8_t *at;
    size_t left;
    bool is_short;
};

static void put(struct writer *w, uint64_t value, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) {
        *w->at++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_bytes(struct writer *w, const void *bytes, size_t len) {
    if (len > 0) {
        memcpy(w->at, bytes, len);
        w->at += len;
    }
}

static void put_text(struct writer *w, const void *text, size_t len) {
    put(w, len, 2);
    put_bytes(w, text, len);
}

static const uint8_t *take(struct reader *r, size_t len) {
    const uint8_t *at = r->at;

    if (r->is_short || len > r->left) {
        r->is_short = true;
        return NULL;
    }
    r->at += len;
    r->left -= len;
    return at;
}

static uint64_t get(struct reader *r, size_t n_bytes) {
    const uint8_t *at = take(r, n_bytes);
    uint64_t value = 0;

    for (size_t i = 0; at && i < n_bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static void get_bytes(struct reader *r, void *buf, size_t len) {
    const uint8_t *at = take(r, len);

    if (at) {
        memcpy(buf, at, len);
    }
}

// A text without NUL that fits into @cap with one at its end.
static void get_text(struct reader *r, char *buf, size_t cap) {
    size_t len = (size_t)get(r, 2);
    const uint8_t *at = take(r, len);

    buf[0] = '\0';
    if (!at || len == 0) {
        return;
    }
    if (len >= cap || memchr(at, 0, len)) {
        r->is_short = true;
        return;
    }
    memcpy(buf, at, len);
    buf[len] = '\0';
}

static enum err ended(const struct reader *r) {
    return r->is_short || r->left > 0 ? ERR_PROTOCOL : OK;
}

static void put_version(struct writer *w, const struct object_version *v) {
    put(w, v->size, 8);
    put(w, (uint64_t)v->mtime_ns, 8);
    put(w, (uint64_t)v->ctime_ns, 8);
    put(w, v->inode, 8);
}

static void get_version(struct reader *r, struct object_version *v) {
    v->size = get(r, 8);
    v->mtime_ns = (int64_t)get(r, 8);
    v->ctime_ns = (int64_t)get(r, 8);
    v->inode = get(r, 8);
}

void frame_header_encode(const struct frame_header *h, uint8_t buf[FRAME_HEADER_BYTES]) {
    struct writer w = {buf};

    put(&w, h->length, 4);
    put(&w, h->type, 2);
    put(&w, h->flags, 2);
    put(&w, h->request, 8);
    put(&w, h->offset, 8);
    put(&w, h->aux, 8);
}

void frame_header_decode(const uint8_t buf[FRAME_HEADER_BYTES], struct frame_header *ret_header) {
    struct reader r = {.at = buf, .left = FRAME_HEADER_BYTES};

    ret_header->length = (uint32_t)get(&r, 4);
    ret_header->type = (uint16_t)get(&r, 2);
    ret_header->flags = (uint16_t)get(&r, 2);
    ret_header->request = get(&r, 8);
    ret_header->offset = get(&r, 8);
    ret_header->aux = get(&r, 8);
}

const char *frame_type_name(uint16_t type) {
    static const char *const names[] = {
        [FRAME_HELLO] = "HELLO",
        [FRAME_WELCOME] = "WELCOME",
        [FRAME_OPEN_TASK] = "OPEN_TASK",
        [FRAME_TASK_OPEN] = "TASK_OPEN",
        [FRAME_READ] = "READ",
        [FRAME_OBJECT] = "OBJECT",
        [FRAME_DATA] = "DATA",
        [FRAME_HOLE] = "HOLE",
        [FRAME_DIGEST] = "DIGEST",
        [FRAME_OBJECT_END] = "OBJECT_END",
        [FRAME_ERROR] = "ERROR",
        [FRAME_CANCEL] = "CANCEL",
        [FRAME_CLOSE_TASK] = "CLOSE_TASK",
        [FRAME_PING] = "PING",
        [FRAME_PONG] = "PONG",
        [FRAME_GOAWAY] = "GOAWAY",
    };

    return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}

size_t frame_hello_encode(const struct frame_hello *f, uint8_t buf[FRAME_HELLO_MAX]) {
    struct writer w = {buf};

    put(&w, f->version_min, 2);
    put(&w, f->version_max, 2);
    put(&w, f->role, 1);
    put(&w, f->capabilities, 8);
    put_bytes(&w, f->nonce, sizeof(f->nonce));
    put_text(&w, f->cluster, strlen(f->cluster));
    put_text(&w, f->agent, strlen(f->agent));
    return (size_t)(w.at - buf);
}

enum err frame_hello_decode(const uint8_t *buf, size_t len, struct frame_hello *ret_hello) {
    struct reader r = {.at = buf, .left = len};
    struct frame_hello f = {0};

    f.version_min = (uint16_t)get(&r, 2);
    f.version_max = (uint16_t)get(&r, 2);
    f.role = (uint8_t)get(&r, 1);
    f.capabilities = get(&r, 8);
    get_bytes(&r, f.nonce, sizeof(f.nonce));
    get_text(&r, f.cluster, sizeof(f.cluster));
    get_text(&r, f.agent, sizeof(f.agent));
    // What follows belongs to later versions.
    if (r.is_short || f.version_min > f.version_max) {
        return ERR_PROTOCOL;
    }
    *ret_hello = f;
    return OK;
}

size_t frame_welcome_encode(const struct frame_welcome *f, uint8_t buf[FRAME_HELLO_MAX]) {
    struct writer w = {buf};

    put(&w, f->version, 2);
    put(&w, f->capabilities, 8);
    put_bytes(&w, f->nonce, sizeof(f->nonce));
    put_text(&w, f->cluster, strlen(f->cluster));
    put_text(&w, f->agent, strlen(f->agent));
    return (size_t)(w.at - buf);
}

enum err frame_welcome_decode(const uint8_t *buf, size_t len, struct frame_welcome *ret_welcome) {
    struct reader r = {.at = buf, .left = len};
    struct frame_welcome f = {0};

    f.version = (uint16_t)get(&r, 2);
    f.capabilities = get(&r, 8);
    get_bytes(&r, f.nonce, sizeof(f.nonce));
    get_text(&r, f.cluster, sizeof(f.cluster));
    get_text(&r, f.agent, sizeof(f.agent));
    if (ended(&r)) {
        return ERR_PROTOCOL;
    }
    *ret_welcome = f;
    return OK;
}

size_t frame_open_task_bytes(const struct frame_open_task *f) {
    return 4 + f->ticket_len + 4 + f->objects_len + SIGNATURE_BYTES;
}

size_t frame_open_task_encode(const struct frame_open_task *f, uint8_t *buf) {
    struct writer w = {buf};

    put(&w, f->ticket_len, 4);
    put_bytes(&w, f->ticket, f->ticket_len);
    put(&w, f->objects_len, 4);
    put_bytes(&w, f->objects, f->objects_len);
    put_bytes(&w, f->proof, SIGNATURE_BYTES);
    return (size_t)(w.at - buf);
}

enum err frame_open_task_decode(const uint8_t *buf, size_t len, struct frame_open_task *ret_open) {
    struct reader r = {.at = buf, .left = len};
    struct frame_open_task f;

    f.ticket_len = (size_t)get(&r, 4);
    f.ticket = take(&r, f.ticket_len);
    f.objects_len = (size_t)get(&r, 4);
    f.objects = take(&r, f.objects_len);
    f.proof = take(&r, SIGNATURE_BYTES);
    if (ended(&r) || f.ticket_len > TICKET_MAX_BYTES || f.objects_len > OBJECT_TABLE_MAX_BYTES) {
        return ERR_PROTOCOL;
    }
    *ret_open = f;
    return OK;
}

size_t frame_proof_text(const struct frame_proof *p, uint8_t buf[FRAME_PROOF_TEXT_MAX]) {
    static const char prefix[] = "sluice-data-proof-1";
    struct writer w = {buf};

    put_bytes(&w, prefix, sizeof(prefix));
    put_bytes(&w, p->ticket_sha256, 32);
    put_bytes(&w, p->source_nonce, FRAME_NONCE_BYTES);
    put_bytes(&w, p->executor_nonce, FRAME_NONCE_BYTES);
    put_text(&w, p->cluster, strnlen(p->cluster, IDENT_SIZE));
    put_text(&w, p->executor, strnlen(p->executor, TICKET_NAME_MAX));
    put_text(&w, p->source, strnlen(p->source, TICKET_NAME_MAX));
    return (size_t)(w.at - buf);
}

size_t frame_read_encode(const struct frame_read *f, uint8_t buf[FRAME_READ_BYTES]) {
    struct writer w = {buf};

    put(&w, f->task_id, 8);
    put(&w, f->index, 4);
    put(&w, f->accept_changed ? READ_ACCEPT_CHANGED : 0, 4);
    return (size_t)(w.at - buf);
}

enum err frame_read_decode(const uint8_t *buf, size_t len, struct frame_read *ret_read) {
    struct reader r = {.at = buf, .left = len};
    struct frame_read f;
    uint64_t flags;

    f.task_id = get(&r, 8);
    f.index = (uint32_t)get(&r, 4);
    flags = get(&r, 4);
    f.accept_changed = (flags & READ_ACCEPT_CHANGED) != 0;
    if (ended(&r) || (flags & ~(uint64_t)READ_ACCEPT_CHANGED) != 0) {
        return ERR_PROTOCOL;
    }
    *ret_read = f;
    return OK;
}

size_t frame_object_encode(const struct object_entry *e, uint8_t buf[FRAME_OBJECT_BYTES]) {
    struct writer w = {buf};

    put(&w, (uint64_t)e->type, 4);
    put(&w, e->mode, 4);
    put(&w, e->uid, 4);
    put(&w, e->gid, 4);
    put(&w, e->device, 8);
    put(&w, e->links, 4);
    put(&w, e->rdev, 4);
    put_version(&w, &e->version);
    return (size_t)(w.at - buf);
}

enum err frame_object_decode(const uint8_t *buf, size_t len, struct object_entry *ret_entry) {
    struct reader r = {.at = buf, .left = len};
    struct object_entry e = {0};
    uint64_t type = get(&r, 4);

    e.mode = (uint32_t)get(&r, 4);
    e.uid = (uint32_t)get(&r, 4);
    e.gid = (uint32_t)get(&r, 4);
    e.device = get(&r, 8);
    e.links = (uint32_t)get(&r, 4);
    e.rdev = (uint32_t)get(&r, 4);
    get_version(&r, &e.version);
    if (ended(&r) || type < OBJECT_FILE || type > OBJECT_BLOCK_DEVICE || (e.mode & ~07777U) != 0) {
        return ERR_PROTOCOL;
    }
    e.type = (enum object_type)type;
    *ret_entry = e;
    return OK;
}

size_t frame_failure_encode(const struct failure *f, uint8_t buf[FRAME_FAILURE_MAX]) {
    struct writer w = {buf};
    const char *name = err_name(f->err);

    put_text(&w, name, strlen(name));
    put(&w, (uint64_t)(int64_t)f->errnum, 4);
    put_text(&w, f->operation, strnlen(f->operation, sizeof(f->operation) - 1));
    put_text(&w, f->object, f->object_len);
    put_text(&w, f->message, strnlen(f->message, sizeof(f->message) - 1));
    put_text(&w, f->remedy, strnlen(f->remedy, sizeof(f->remedy) - 1));
    return (size_t)(w.at - buf);
}

enum err frame_failure_decode(const uint8_t *buf, size_t len, struct failure *ret_failure) {
    struct reader r = {.at = buf, .left = len};
    struct failure f = {0};
    char name[32];

    get_text(&r, name, sizeof(name));
    f.errnum = (int)(uint32_t)get(&r, 4);
    get_text(&r, f.operation, sizeof(f.operation));
    f.object_len = (size_t)get(&r, 2);
    if (f.object_len > sizeof(f.object)) {
        return ERR_PROTOCOL;
    }
    get_bytes(&r, f.object, f.object_len);
    get_text(&r, f.message, sizeof(f.message));
    get_text(&r, f.remedy, sizeof(f.remedy));
    if (ended(&r)) {
        return ERR_PROTOCOL;
    }
    f.err = err_from_name(name);
    if (f.err == OK) {
        return ERR_PROTOCOL;
    }
    *ret_failure = f;
    return OK;
}

size_t frame_object_end_encode(const struct frame_object_end *f, enum hash_algorithm a,
                               uint8_t *buf) {
    struct writer w = {buf};

    put(&w, f->failure.err != OK, 1);
    if (f->failure.err != OK) {
        return 1 + frame_failure_encode(&f->failure, buf + 1);
    }
    put(&w, 0, 3); // so that what follows is aligned
    put(&w, f->n_digests, 4);
    put_version(&w, &f->version);
    put_bytes(&w, f->digests, f->n_digests * hash_digest_bytes(a));
    return (size_t)(w.at - buf);
}

enum err frame_object_end_decode(const uint8_t *buf, size_t len, enum hash_algorithm a,
                                 struct frame_object_end *ret_end) {
    struct reader r = {.at = buf, .left = len};
    struct frame_object_end f = {0};
    uint64_t has_failure = get(&r, 1);

    if (has_failure == 1) {
        enum err e = frame_failure_decode(r.at, r.left, &f.failure);
        if (e) {
            return e;
        }
        *ret_end = f;
        return OK;
    }
    (void)get(&r, 3);
    f.n_digests = (size_t)get(&r, 4);
    get_version(&r, &f.version);
    if (r.is_short || has_failure != 0 || f.n_digests > FRAME_PAYLOAD_MAX) {
        return ERR_PROTOCOL;
    }
    f.digests = take(&r, f.n_digests * hash_digest_bytes(a));
    if (ended(&r)) {
        return ERR_PROTOCOL;
    }
    *ret_end = f;
    return OK;
}
