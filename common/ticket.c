// SPDX-License-Identifier: Apache-2.0
#include "common/ticket.h"

#include "common/bytes.h"

#include <string.h>

static const uint8_t magic[4] = {'S', 'T', 'K', '1'};

// ---- writing ----

struct writer {
    uint8_t *p;
    size_t len, cap;
    bool full;
};

static void put_bytes(struct writer *w, const void *bytes, size_t n) {
    if (w->full || n > w->cap - w->len) {
        w->full = true;
        return;
    }
    if (n > 0) {
        memcpy(w->p + w->len, bytes, n);
        w->len += n;
    }
}

static void put_sized(struct writer *w, const void *bytes, size_t n) {
    uint8_t len[2];
    put_u16(len, (uint16_t)n);
    put_bytes(w, len, sizeof len);
    put_bytes(w, bytes, n);
}

static void put_text(struct writer *w, const char *text, size_t cap) {
    put_sized(w, text, strnlen(text, cap - 1));
}

static void put_number(struct writer *w, uint64_t v) {
    uint8_t bytes[8];
    put_u64(bytes, v);
    put_bytes(w, bytes, sizeof bytes);
}

enum err ticket_sign(const struct ticket *t, const struct signing_key *master, uint8_t *buf,
                     size_t cap, size_t *ret_len) {
    struct writer w = {.p = buf, .cap = cap};
    uint8_t direction = (uint8_t)t->direction;
    uint8_t signature[SIGNATURE_BYTES];
    if (t->root_len > TICKET_ROOT_MAX) {
        return ERR_INVALID;
    }
    put_bytes(&w, magic, sizeof magic);
    put_text(&w, t->cluster, sizeof t->cluster);
    put_text(&w, t->flow, sizeof t->flow);
    put_number(&w, t->revision);
    put_number(&w, t->task_id);
    put_number(&w, t->term);
    put_number(&w, t->counter);
    put_text(&w, t->executor, sizeof t->executor);
    put_text(&w, t->source, sizeof t->source);
    put_bytes(&w, t->executor_key, sizeof t->executor_key);
    put_bytes(&w, &direction, 1);
    put_bytes(&w, &t->digest, 1);
    put_number(&w, (uint64_t)t->expires_ms);
    put_text(&w, t->volume, sizeof t->volume);
    put_sized(&w, t->root, t->root_len);
    put_bytes(&w, t->objects_sha256, sizeof t->objects_sha256);
    if (w.full || sizeof signature > w.cap - w.len) {
        return ERR_FULL;
    }
    enum err err = signing_key_sign(master, buf, w.len, signature);
    if (err != OK) {
        return err;
    }
    put_bytes(&w, signature, sizeof signature);
    *ret_len = w.len;
    return OK;
}

// ---- reading ----

struct reader {
    const uint8_t *p;
    size_t len;
    bool bad;
};

static void get_bytes(struct reader *r, void *ret_bytes, size_t n) {
    if (r->bad || n > r->len) {
        r->bad = true;
        return;
    }
    memcpy(ret_bytes, r->p, n);
    r->p += n;
    r->len -= n;
}

static size_t get_sized(struct reader *r, void *ret_bytes, size_t cap) {
    uint8_t len[2] = {0};
    get_bytes(r, len, sizeof len);
    size_t n = get_u16(len);
    if (n > cap) {
        r->bad = true;
    }
    if (r->bad) {
        return 0;
    }
    get_bytes(r, ret_bytes, n);
    return r->bad ? 0 : n;
}

static void get_text(struct reader *r, char *ret_text, size_t cap) {
    size_t n = get_sized(r, ret_text, cap - 1);
    ret_text[n] = '\0';
    if (strlen(ret_text) != n) {
        r->bad = true;
    }
}

static uint64_t get_number(struct reader *r) {
    uint8_t bytes[8] = {0};
    get_bytes(r, bytes, sizeof bytes);
    return get_u64(bytes);
}

enum err ticket_open(const void *bytes, size_t len, const uint8_t master_public[SIGNING_KEY_BYTES],
                     int64_t now_ms, struct ticket *ret_ticket) {
    if (len < SIGNATURE_BYTES + sizeof magic || len > TICKET_MAX_BYTES) {
        return ERR_INVALID;
    }
    struct reader r = {.p = bytes, .len = len - SIGNATURE_BYTES};
    const uint8_t *signature = r.p + r.len;
    struct ticket t = {0};
    uint8_t found_magic[sizeof magic] = {0}, direction = 0;
    get_bytes(&r, found_magic, sizeof found_magic);
    if (memcmp(found_magic, magic, sizeof magic) != 0) {
        return ERR_INVALID;
    }
    get_text(&r, t.cluster, sizeof t.cluster);
    get_text(&r, t.flow, sizeof t.flow);
    t.revision = get_number(&r);
    t.task_id = get_number(&r);
    t.term = get_number(&r);
    t.counter = get_number(&r);
    get_text(&r, t.executor, sizeof t.executor);
    get_text(&r, t.source, sizeof t.source);
    get_bytes(&r, t.executor_key, sizeof t.executor_key);
    get_bytes(&r, &direction, 1);
    get_bytes(&r, &t.digest, 1);
    t.expires_ms = (int64_t)get_number(&r);
    get_text(&r, t.volume, sizeof t.volume);
    t.root_len = get_sized(&r, t.root, sizeof t.root);
    get_bytes(&r, t.objects_sha256, sizeof t.objects_sha256);
    if (r.bad || r.len != 0 || direction != TICKET_READ) {
        return ERR_INVALID;
    }
    t.direction = TICKET_READ;
    enum err err = signature_check(master_public, bytes, len - SIGNATURE_BYTES, signature);
    if (err != OK) {
        return err;
    }
    *ret_ticket = t;
    return t.expires_ms <= now_ms ? ERR_TIMEOUT : OK;
}
