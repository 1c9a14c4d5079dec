// SPDX-License-Identifier: Apache-2.0
#include "dataplane/source_impl.h"

#include <string.h>

const struct source_capabilities *source_capabilities(const struct source *s) {
    return &s->capabilities;
}

static enum err misused(const char *operation, struct failure *ret_failure) {
    return failure_set(ret_failure, ERR_STATE, operation, NULL, 0,
                       "calls to the source came in the wrong order");
}

static bool is_range(const struct source_range *r) {
    return r->length == SOURCE_TO_END || r->offset <= UINT64_MAX - r->length;
}

enum err source_expect(struct source *s, const struct source_range *ranges, size_t n,
                       struct failure *ret_failure) {
    for (size_t i = 0; i < n; i++) {
        if (!is_range(&ranges[i])) {
            return failure_set(ret_failure, ERR_INVALID, "read", NULL, 0, "a range overflows");
        }
    }
    if (n == 0 || !s->ops->expect) {
        return OK;
    }
    return s->ops->expect(s, ranges, n, ret_failure);
}

enum err source_open(struct source *s, const struct source_range *range,
                     struct source_found *ret_found, struct failure *ret_failure) {
    if (s->is_open) {
        return misused("open", ret_failure);
    }
    if (!is_range(range)) {
        return failure_set(ret_failure, ERR_INVALID, "open", NULL, 0, "a range overflows");
    }
    enum err e = s->ops->open(s, range, ret_found, ret_failure);
    if (e == OK && !s->capabilities.store) {
        ret_found->properties = NULL; // only object stores know of such
    }
    s->is_open = e == OK;
    return e;
}

enum err source_read(struct source *s, void *buf, size_t cap, size_t *ret_len, uint64_t *ret_hole,
                     struct failure *ret_failure) {
    if (!s->is_open || cap == 0) {
        return misused("read", ret_failure);
    }
    size_t len = 0;
    uint64_t hole = 0;
    enum err e = s->ops->read(s, buf, cap, &len, &hole, ret_failure);
    if (e != OK) {
        return e;
    }
    *ret_len = hole > 0 ? 0 : len;
    *ret_hole = hole;
    return OK;
}

enum err source_read_in_place(struct source *s, void *buf, size_t cap, const void **ret_bytes,
                              size_t *ret_len, uint64_t *ret_hole, struct failure *ret_failure) {
    if (!s->ops->read_in_place) {
        enum err e = source_read(s, buf, cap, ret_len, ret_hole, ret_failure);
        if (e == OK) {
            *ret_bytes = buf;
        }
        return e;
    }
    if (!s->is_open || cap == 0) {
        return misused("read", ret_failure);
    }
    const void *bytes = buf;
    size_t len = 0;
    uint64_t hole = 0;
    enum err e = s->ops->read_in_place(s, buf, cap, &bytes, &len, &hole, ret_failure);
    if (e != OK) {
        return e;
    }
    *ret_bytes = bytes;
    *ret_len = hole > 0 ? 0 : len;
    *ret_hole = hole;
    return OK;
}

enum err source_close(struct source *s, struct source_closed *ret_closed,
                      struct failure *ret_failure) {
    if (!s->is_open) {
        return misused("close", ret_failure);
    }
    s->is_open = false;
    struct source_closed closed = {0};
    enum err e = s->ops->close(s, &closed, ret_failure);
    if (e == OK) {
        *ret_closed = closed;
    }
    return e;
}

int source_fd(const struct source *s) {
    return s->is_open && s->ops->fd ? s->ops->fd(s) : -1;
}

void source_abort(struct source *s) {
    s->ops->abort(s);
}

void source_free(struct source *s) {
    if (s) {
        s->ops->destroy(s);
    }
}

enum err source_origin(struct source *s, uint32_t index, struct object_origin *ret_origin) {
    return s->ops->origin ? s->ops->origin(s, index, ret_origin) : ERR_UNIMPLEMENTED;
}

enum err source_kept_digest(struct source *s, uint32_t index, bool *ret_has,
                            struct digest *ret_digest, struct failure *ret_failure) {
    *ret_has = false;
    return s->ops->kept_digest ? s->ops->kept_digest(s, index, ret_has, ret_digest, ret_failure)
                               : OK;
}

enum err source_check_kept(enum hash_algorithm a, const struct object_entry *e,
                           const struct digest *ours, const struct digest *kept,
                           struct failure *ret_failure) {
    char here[2 * HASH_MAX_BYTES + 1], there[2 * HASH_MAX_BYTES + 1];
    size_t n = hash_digest_bytes(a);
    if (memcmp(ours->bytes, kept->bytes, n) == 0) {
        return OK;
    }
    hash_hex(ours->bytes, n, here);
    hash_hex(kept->bytes, n, there);
    (void)failure_set(ret_failure, ERR_CORRUPT, "check digest", e->path, e->path_len,
                      "what was read has %s, and it was put there with %s", here, there);
    failure_remedy(ret_failure, "put it there again; if it is right, remove the digest that is "
                                "kept with it");
    return ERR_CORRUPT;
}

struct source_spent source_remote_spent(const struct source *s) {
    return s->ops->remote_spent ? s->ops->remote_spent(s) : (struct source_spent){0};
}
