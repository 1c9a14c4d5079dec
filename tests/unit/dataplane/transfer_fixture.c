// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/dataplane/transfer_fixture.h"

#include <stdlib.h>

const char transfer_flow[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
struct transfer_world world;
static char buffer[TRANSFER_BUFFER_BYTES] __attribute__((aligned(4096)));

void world_set_up(void) {
    memset(&world, 0, sizeof(world));
    world.fence_open = true;
    tree_new(&world.from);
    tree_new(&world.to);
}

void world_tear_down(void) {
    tree_free(&world.from);
    tree_free(&world.to);
}

static bool may_act(void *user) {
    (void)user;
    return world.fence_open;
}

struct sink *new_sink(void) {
    struct sink *sink;
    struct sink_posix_options o = {
        .volume_fd = world.to.fd,
        .root = (const uint8_t *)"out",
        .root_len = 3,
        .boot_id = "boot",
        .fence = {.may_act = may_act},
        .direct_from_bytes = world.direct_from_bytes,
    };
    assert_ok(sink_posix_new(&o, &sink, NULL));
    return sink;
}

struct source *new_source(const struct tree_table *l) {
    struct source *source;
    assert_ok(source_posix_new(world.from.fd, NULL, 0, &l->table, &source, NULL));
    source_posix_read_direct(source, world.direct_from_bytes);
    return source;
}

struct transfer_options options_of(struct source *source, struct sink *sink,
                                   const struct tree_table *l) {
    return (struct transfer_options){
        .source = source,
        .sink = sink,
        .table = &l->table,
        .digest = HASH_XXH3_128,
        .durability = DURABILITY_OBJECT,
        .flow = transfer_flow,
        .major = 1,
        .minor = 7,
        .buffer = buffer,
        .buffer_bytes = TRANSFER_BUFFER_BYTES,
        .control = &world.control,
        .times = &world.times,
    };
}

enum err run_batch(const struct tree_table *l, enum durability durability, bool skip,
                   struct failure *ret_failure) {
    struct source *source = new_source(l);
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, l);
    o.durability = durability;
    o.skip_identical = skip;
    memset(world.results, 0, sizeof(world.results));
    enum err e = transfer_batch(&o, world.results, ret_failure);
    sink_free(sink);
    source_free(source);
    return e;
}

enum err run_batch_from(struct source *source, const struct tree_table *l) {
    struct sink *sink = new_sink();
    struct transfer_options o = options_of(source, sink, l);
    memset(world.results, 0, sizeof(world.results));
    enum err e = transfer_batch(&o, world.results, NULL);
    sink_free(sink);
    return e;
}

void large_open(struct large_world *x, const struct tree_table *l) {
    *x = (struct large_world){.table = l, .entry = tree_table_entry(l, 0), .sink = new_sink()};
    temp_name(transfer_flow, x->entry.id, 0, 1, x->temp);
    assert_ok(sink_open_large(x->sink, &x->entry, x->temp, &x->receipt, NULL));
}

enum err large_part(struct large_world *x, struct source *source, uint64_t offset, uint64_t length,
                    struct transfer_part *ret_part) {
    struct transfer_options o = options_of(source, x->sink, x->table);
    o.major = 0;
    o.minor = 1;
    return transfer_part(&o, offset, length, &x->receipt, ret_part, NULL);
}

void large_finish(struct large_world *x) {
    assert_ok(sink_finish_large(x->sink, &x->entry, x->temp, &x->receipt, NULL, NULL,
                                DURABILITY_OBJECT, NULL));
}

void large_close(struct large_world *x) {
    sink_free(x->sink);
}

uint8_t *leaf_digests_of(const void *bytes, size_t n, size_t *ret_n_leaves) {
    struct leaf_hasher *h = leaf_hasher_new(HASH_XXH3_128);
    const uint8_t *leaves;
    assert_non_null(h);
    assert_ok(leaf_hasher_update(h, bytes, n));
    assert_ok(leaf_hasher_finish(h, &leaves, ret_n_leaves));
    uint8_t *copy = malloc(*ret_n_leaves * 16);
    assert_non_null(copy);
    memcpy(copy, leaves, *ret_n_leaves * 16);
    leaf_hasher_free(h);
    return copy;
}

// ---- a source that gives digests, and can lie ----

struct lying_source *lying(struct source *s) {
    return (struct lying_source *)s;
}

static enum err lying_expect(struct source *s, const struct source_range *r, size_t n,
                             struct failure *f) {
    (void)f;
    for (size_t i = 0; i < n; i++) {
        lying(s)->announced[lying(s)->n_announced++] = r[i];
    }
    return OK;
}

static enum err lying_open(struct source *s, const struct source_range *r,
                           struct source_found *found, struct failure *f) {
    // In the order in which they were announced.
    assert_true(lying(s)->n_opened < lying(s)->n_announced);
    const struct source_range *want = &lying(s)->announced[lying(s)->n_opened++];
    assert_int_equal(want->index, r->index);
    assert_true(want->offset == r->offset && want->length == r->length);
    leaf_hasher_reset(lying(s)->hasher);
    return source_open(lying(s)->inner, r, found, f);
}

static enum err lying_read(struct source *s, void *buf, size_t cap, size_t *len, uint64_t *hole,
                           struct failure *f) {
    enum err e = source_read(lying(s)->inner, buf, cap, len, hole, f);
    if (e != OK) {
        return e;
    }
    if (*hole > 0) {
        assert_ok(leaf_hasher_update_zeros(lying(s)->hasher, *hole));
    } else {
        assert_ok(leaf_hasher_update(lying(s)->hasher, buf, *len));
    }
    if (*len > 0 && lying(s)->lies > 0) {
        lying(s)->lies--;
        ((uint8_t *)buf)[*len / 2] ^= 1;
    }
    if (lying(s)->yield_after > 0 && --lying(s)->yield_after == 0) {
        atomic_store(&world.control.yield, true);
    }
    return OK;
}

static enum err lying_close(struct source *s, struct source_closed *closed, struct failure *f) {
    enum err e = source_close(lying(s)->inner, closed, f);
    if (e == OK) {
        assert_ok(leaf_hasher_finish(lying(s)->hasher, &closed->leaf_digests, &closed->n_leaves));
    }
    return e;
}

static void lying_abort(struct source *s) {
    (void)s;
}

static void lying_destroy(struct source *s) {
    source_free(lying(s)->inner);
    leaf_hasher_free(lying(s)->hasher);
    free(s);
}

struct source *new_lying(const struct tree_table *l, int lies) {
    static const struct source_ops ops = {
        .kind = "lying",
        .open = lying_open,
        .read = lying_read,
        .close = lying_close,
        .abort = lying_abort,
        .destroy = lying_destroy,
        .expect = lying_expect,
    };
    struct lying_source *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->source.ops = &ops;
    s->source.capabilities = (struct source_capabilities){.has_digests = true, .is_remote = true};
    s->inner = new_source(l);
    s->hasher = leaf_hasher_new(HASH_XXH3_128);
    s->lies = lies;
    return &s->source;
}
