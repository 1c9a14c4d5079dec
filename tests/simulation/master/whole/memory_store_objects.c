// SPDX-License-Identifier: Apache-2.0
// The store in memory: directories, large objects, acknowledgements, failures.
#include "tests/simulation/master/whole/memory_store.h"

#include <stdlib.h>
#include <string.h>

// ---- directories ----
struct memory_walk *memory_walk(const struct memory_store *s, uint64_t id) {
    struct hash_node *h = hash_index_first(&s->walks, hash_u64(id));
    for (; h != NULL; h = hash_index_again(h)) {
        struct memory_walk *w = CONTAINER_OF(h, struct memory_walk, by_id);
        if (w->row.id == id) {
            return w;
        }
    }
    return NULL;
}
struct memory_walk *memory_each_walk(const struct memory_store *s, const struct memory_walk *w) {
    struct hash_node *h = hash_index_each(&s->walks, w != NULL ? &w->by_id : NULL);
    return h != NULL ? CONTAINER_OF(h, struct memory_walk, by_id) : NULL;
}
static bool is_after(const struct memory_walk *a, const struct memory_walk *b) {
    return a->row.depth != b->row.depth ? a->row.depth > b->row.depth : a->row.id > b->row.id;
}
void memory_walk_in(struct memory_store *s, struct memory_walk *w) {
    int state = (int)w->row.state;
    struct memory_walk *before = s->walk_states[state].last;
    while (before != NULL && is_after(before, w)) {
        before = before->prev;
    }
    w->prev = before;
    w->next = before != NULL ? before->next : s->walk_states[state].first;
    *(w->prev != NULL ? &w->prev->next : &s->walk_states[state].first) = w;
    *(w->next != NULL ? &w->next->prev : &s->walk_states[state].last) = w;
    s->walk_states[state].n++;
}
void memory_walk_out(struct memory_store *s, struct memory_walk *w) {
    int state = (int)w->row.state;
    *(w->prev != NULL ? &w->prev->next : &s->walk_states[state].first) = w->next;
    *(w->next != NULL ? &w->next->prev : &s->walk_states[state].last) = w->prev;
    s->walk_states[state].n--;
}
static void walk_remove(struct memory_store *s, struct memory_walk *w) {
    memory_walk_out(s, w);
    hash_index_remove(&s->walks, &w->by_id);
    memory_blob_free(s, &w->row.entry);
    free(w);
}
void memory_walks_clear(struct memory_store *s) {
    struct memory_walk *w;
    while ((w = memory_each_walk(s, NULL)) != NULL) {
        walk_remove(s, w);
    }
}
static void walk_put(struct memory_store *s, const struct row *r, bool only_state) {
    const int64_t *n = r->numbers;
    struct memory_walk *w = memory_walk(s, (uint64_t)n[0]);
    if (w == NULL && only_state) {
        return;
    }
    if (w == NULL) {
        w = must(calloc(1, sizeof *w));
        w->row.id = (uint64_t)n[0];
        hash_index_add(&s->walks, &w->by_id, hash_u64(w->row.id));
    } else {
        memory_walk_out(s, w);
    }
    w->row.state = (enum walk_state)n[1];
    w->row.task = (uint64_t)n[2];
    w->row.depth = (uint32_t)n[3];
    w->row.attempt = (uint32_t)n[4];
    w->row.partial = n[5] != 0;
    w->row.generation = (uint64_t)n[6];
    w->row.counts = (struct walk_counts){(uint64_t)n[7],  (uint64_t)n[8],  (uint64_t)n[9],
                                         (uint64_t)n[10], (uint64_t)n[11], (uint64_t)n[12]};
    if (!only_state) {
        memory_blob_set(s, &w->row.entry, r->blobs[0]);
    }
    memory_walk_in(s, w);
}

// ---- large objects ----
static struct memory_object *object_find(const struct memory_store *s, uint64_t id) {
    struct hash_node *h = hash_index_first(&s->objects, hash_u64(id));
    for (; h != NULL; h = hash_index_again(h)) {
        struct memory_object *o = CONTAINER_OF(h, struct memory_object, by_id);
        if (o->id == id) {
            return o;
        }
    }
    return NULL;
}
struct memory_object *memory_object(struct memory_store *s, uint64_t id) {
    struct memory_object *o = object_find(s, id);
    if (o == NULL) {
        o = must(calloc(1, sizeof *o));
        o->id = id;
        hash_index_add(&s->objects, &o->by_id, hash_u64(id));
    }
    return o;
}
static void ack_free(struct memory_store *s, struct ack_row *a) {
    memory_blob_free(s, &a->leaves);
    memory_blob_free(s, &a->receipt);
    free((void *)(uintptr_t)a->agent);
    free((void *)(uintptr_t)a->boot_id);
}
static void acks_drop(struct memory_store *s, struct memory_object *o, const char *unsynced_of) {
    size_t n = 0;
    for (size_t i = 0; i < o->n_acks; i++) {
        struct ack_row *a = &o->acks[i];
        if (unsynced_of == NULL || (!a->synced && strcmp(a->agent, unsynced_of) == 0)) {
            ack_free(s, a);
            s->n_acks--;
        } else {
            o->acks[n++] = *a;
        }
    }
    o->n_acks = n;
}
static void large_remove(struct memory_store *s, struct memory_object *o) {
    acks_drop(s, o, NULL);
    if (!o->exists) {
        return;
    }
    memory_blob_free(s, &o->row.entry);
    memory_blob_free(s, &o->row.receipt);
    *(o->prev != NULL ? &o->prev->next : &s->first_large) = o->next;
    *(o->next != NULL ? &o->next->prev : &s->last_large) = o->prev;
    s->n_larges--;
    o->exists = false;
}
static void large_put(struct memory_store *s, const struct row *r) {
    const int64_t *n = r->numbers;
    struct memory_object *o = memory_object(s, (uint64_t)n[0]);
    if (!o->exists) {
        struct memory_object *before = s->last_large;
        while (before != NULL && before->id > o->id) {
            before = before->prev;
        }
        o->prev = before;
        o->next = before != NULL ? before->next : s->first_large;
        *(o->prev != NULL ? &o->prev->next : &s->first_large) = o;
        *(o->next != NULL ? &o->next->prev : &s->last_large) = o;
        s->n_larges++;
        o->exists = true;
        memcpy(o->row.flow, r->texts[0], strlen(r->texts[0]) + 1);
    }
    o->row.object = o->id;
    o->row.state = (enum large_state)n[1];
    o->row.size = (uint64_t)n[2];
    o->row.acked_bytes = (uint64_t)n[3];
    o->row.next_offset = (uint64_t)n[4];
    o->row.generation = (uint64_t)n[5];
    o->row.attempt = (uint32_t)n[6];
    o->row.fresh = n[7] != 0;
    o->row.opened = n[8] != 0;
    o->row.quiet_ms = n[9];
    memory_blob_set(s, &o->row.entry, r->blobs[0]);
    memory_blob_set(s, &o->row.receipt, r->blobs[1]);
}
void memory_objects_abandon(struct memory_store *s) {
    struct hash_node *h;
    for (h = hash_index_each(&s->objects, NULL); h != NULL; h = hash_index_each(&s->objects, h)) {
        struct memory_object *o = CONTAINER_OF(h, struct memory_object, by_id);
        if (o->exists && !o->row.opened) {
            large_remove(s, o);
        }
        acks_drop(s, o, NULL);
    }
}
void memory_objects_clear(struct memory_store *s) {
    struct hash_node *h;
    while ((h = hash_index_each(&s->objects, NULL)) != NULL) {
        struct memory_object *o = CONTAINER_OF(h, struct memory_object, by_id);
        large_remove(s, o);
        hash_index_remove(&s->objects, h);
        free(o->acks);
        free(o);
    }
}

// ---- acknowledgements ----
static void ack_add(struct memory_store *s, const struct row *r) {
    const int64_t *n = r->numbers;
    struct memory_object *o = memory_object(s, (uint64_t)n[0]);
    uint64_t offset = (uint64_t)n[1];
    size_t at = 0;
    while (at < o->n_acks && o->acks[at].offset < offset) {
        at++;
    }
    if (at < o->n_acks && o->acks[at].offset == offset) {
        ack_free(s, &o->acks[at]);
    } else {
        if (o->n_acks == o->cap_acks) {
            o->cap_acks = o->cap_acks * 2 + 8;
            o->acks = must(realloc(o->acks, o->cap_acks * sizeof *o->acks));
        }
        memmove(&o->acks[at + 1], &o->acks[at], (o->n_acks - at) * sizeof *o->acks);
        o->n_acks++;
        s->n_acks++;
    }
    struct ack_row *a = &o->acks[at];
    *a = (struct ack_row){.object = o->id,
                          .offset = offset,
                          .length = (uint64_t)n[2],
                          .synced = n[3] != 0,
                          .agent = must(strdup(r->texts[1])),
                          .boot_id = must(strdup(r->texts[2]))};
    memory_blob_set(s, &a->leaves, r->blobs[0]);
    memory_blob_set(s, &a->receipt, r->blobs[1]);
}
static void acks_synced(struct memory_store *s, const struct row *r) {
    struct memory_object *o = memory_object(s, (uint64_t)r->numbers[0]);
    for (size_t i = 0; i < o->n_acks; i++) {
        struct ack_row *a = &o->acks[i];
        a->synced |= strcmp(a->agent, r->texts[1]) == 0 && strcmp(a->boot_id, r->texts[2]) == 0;
    }
}

// ---- what was seen ----
static uint64_t hash_seen(uint64_t walk, const uint8_t digest[SEEN_BYTES]) {
    uint64_t first;
    memcpy(&first, digest, sizeof first);
    return hash_u64(first ^ walk * 31);
}
struct memory_seen *memory_seen(const struct memory_store *s, uint64_t walk,
                                const uint8_t digest[SEEN_BYTES]) {
    struct hash_node *h = hash_index_first(&s->seen, hash_seen(walk, digest));
    for (; h != NULL; h = hash_index_again(h)) {
        struct memory_seen *x = CONTAINER_OF(h, struct memory_seen, by_digest);
        if (x->walk == walk && memcmp(x->digest, digest, SEEN_BYTES) == 0) {
            return x;
        }
    }
    return NULL;
}
static void seen_add(struct memory_store *s, uint64_t walk, const uint8_t *digest) {
    if (memory_seen(s, walk, digest) == NULL) {
        struct memory_seen *x = must(calloc(1, sizeof *x));
        x->walk = walk;
        memcpy(x->digest, digest, SEEN_BYTES);
        hash_index_add(&s->seen, &x->by_digest, hash_seen(walk, digest));
    }
}
void memory_seen_drop(struct memory_store *s, uint64_t walk, bool all) {
    struct hash_node *h, *next;
    for (h = hash_index_each(&s->seen, NULL); h != NULL; h = next) {
        next = hash_index_each(&s->seen, h);
        struct memory_seen *x = CONTAINER_OF(h, struct memory_seen, by_digest);
        if (all || x->walk == walk) {
            hash_index_remove(&s->seen, h);
            free(x);
        }
    }
}

// ---- failures ----
static void object_failed(struct memory_store *s, const struct row *r) {
    const int64_t *n = r->numbers;
    size_t at = 0;
    while (at < s->n_failed && s->failed[at].number != (uint64_t)n[0]) {
        at++;
    }
    if (at == s->n_failed) {
        s->failed = must(realloc(s->failed, ++s->n_failed * sizeof *s->failed));
    }
    s->failed[at] = (struct memory_failed){(uint64_t)n[0], (uint64_t)n[1], (uint64_t)n[2]};
}
static void failed_drop(struct memory_store *s, const struct row *r) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_failed; i++) {
        const struct memory_failed *f = &s->failed[i];
        if (f->walk == 0 || f->walk != (uint64_t)r->numbers[0] ||
            f->generation >= (uint64_t)r->numbers[1]) {
            s->failed[n++] = *f;
        }
    }
    s->n_failed = n;
}
bool memory_has_failed(const struct memory_store *s, uint64_t number) {
    for (size_t i = 0; i < s->n_failed; i++) {
        if (s->failed[i].number == number) {
            return true;
        }
    }
    return false;
}
void memory_failed_clear(struct memory_store *s) {
    free(s->failed);
    s->failed = NULL;
    s->n_failed = 0;
}

bool memory_apply_object(struct memory_store *s, const struct row *r) {
    uint64_t id = (uint64_t)r->numbers[0];
    struct memory_walk *w;
    switch ((int)r->kind) {
    case ROW_WALK_PUT: walk_put(s, r, false); break;
    case ROW_WALK_STATE: walk_put(s, r, true); break;
    case ROW_WALK_REMOVE:
        if ((w = memory_walk(s, id)) != NULL) {
            walk_remove(s, w);
        }
        break;
    case ROW_LARGE_PUT: large_put(s, r); break;
    case ROW_LARGE_FRESH: memory_object(s, id)->row.fresh = true; break;
    case ROW_LARGE_REMOVE: large_remove(s, memory_object(s, id)); break;
    case ROW_SEEN_ADD: seen_add(s, id, r->blobs[0].bytes); break;
    case ROW_SEEN_DROP: memory_seen_drop(s, id, false); break;
    case ROW_ACK_ADD: ack_add(s, r); break;
    case ROW_ACKS_DROP_UNSYNCED: acks_drop(s, memory_object(s, id), r->texts[1]); break;
    case ROW_ACKS_DROP: acks_drop(s, memory_object(s, id), NULL); break;
    case ROW_ACKS_SYNCED: acks_synced(s, r); break;
    case ROW_OBJECT_FAILED: object_failed(s, r); break;
    case ROW_FAILED_DROP: failed_drop(s, r); break;
    default: return false;
    }
    return true;
}
