// SPDX-License-Identifier: Apache-2.0
#include "dataplane/walk_s3.h"

#include "common/cleanup.h"
#include "dataplane/s3_listing.h"
#include "dataplane/s3_object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOKS_MAX = 16, // HEAD requests at a time
    QUERY_MAX = 3 * (S3_KEY_MAX + 8) + 3 * S3_LISTING_TOKEN_MAX + 256,
};

struct walk {
    const struct walk_s3_options *options;
    const struct walk_sink *sink;
    struct s3_place place;
    uint8_t *prefix; // the keys' common beginning at this level, with the '/' at its end
    size_t prefix_len;
    bool is_flat; // all keys below, as keys
    struct object_table_builder page;
    struct s3_listing listing; // the answers so far
    char query[QUERY_MAX];
};

static enum err fail(const struct walk *w, enum err e, const char *why,
                     struct failure *ret_failure) {
    return failure_set(ret_failure, e, "ListObjectsV2", w->options->root, w->options->root_len,
                       why != NULL ? "%s" : NULL, why);
}

// ---- one page ----

static void write_query(struct walk *w, unsigned max_keys) {
    size_t n = 0;
    if (w->listing.token[0] != '\0') {
        n += (size_t)sprintf(w->query + n, "continuation-token=");
        n += s3_encode(w->listing.token, strlen(w->listing.token), 0, w->query + n);
        w->query[n++] = '&';
    }
    n += (size_t)sprintf(w->query + n, "%sencoding-type=url&list-type=2&max-keys=%u&prefix=",
                         w->is_flat ? "" : "delimiter=%2F&", max_keys);
    (void)s3_encode(w->prefix, w->prefix_len, 0, w->query + n);
}

static enum err ask(struct walk *w, unsigned max_keys, struct failure *ret_failure) {
    write_query(w, max_keys);
    struct s3_call call = {.operation = "ListObjectsV2",
                           .method = "GET",
                           .bucket = w->place.bucket,
                           .query = w->query};
    enum err e = s3_run(w->options->client, &call, ret_failure);
    if (e == OK) {
        size_t len = 0;
        const char *body = s3_answer_body(&call, &len);
        e = s3_listing_read(&w->listing, body, len);
        if (e != OK) {
            e = fail(w, e, "the store's listing makes no sense", ret_failure);
        }
    }
    s3_end(&call);
    return e;
}

// Completes what the listing tells of @item from the object's headers. An object that is gone
// by now keeps a size of UINT64_MAX.
static enum err settle_look(struct s3_listed *item, struct s3_call *call,
                            struct failure *ret_failure) {
    struct failure f = {0};
    bool has_mtime;
    enum err e = s3_await(call, &f);
    if (e == OK) {
        e = s3_entry_from_answer(call, &item->entry, item->etag, &has_mtime, &f);
    } else if (e == ERR_NOT_FOUND) {
        item->entry.version.size = UINT64_MAX;
        e = OK;
    }
    if (e != OK && ret_failure != NULL) {
        *ret_failure = f;
    }
    return e;
}

struct look {
    struct s3_call call;
    struct s3_listed *item;
    uint8_t *key;
};

static enum err begin_look(struct walk *w, struct look *l, struct s3_listed *item,
                           struct failure *ret_failure) {
    struct object_entry e = item->entry;
    size_t key_len = 0;
    e.path = item->path;
    e.path_len = item->path_len;
    l->item = item;
    enum err err = s3_place_key(&w->place, &e, &l->key, &key_len, ret_failure);
    if (err != OK) {
        return err;
    }
    l->call = (struct s3_call){.operation = "HeadObject",
                               .method = "HEAD",
                               .bucket = w->place.bucket,
                               .key = l->key,
                               .key_len = key_len};
    return s3_begin(w->options->client, &l->call, ret_failure);
}

static enum err end_look(struct look *l, enum err e, struct failure *ret_failure) {
    if (l->item != NULL && e == OK) {
        e = settle_look(l->item, &l->call, ret_failure);
    }
    s3_end(&l->call);
    free(take_ptr(l->key));
    l->item = NULL;
    return e;
}

static enum err look_at_items(struct walk *w, struct failure *ret_failure) {
    AUTO(auto_free) struct look *looks = calloc(LOOKS_MAX, sizeof *looks);
    size_t n = 0;
    enum err e = OK;
    if (looks == NULL) {
        return fail(w, ERR_NO_MEMORY, NULL, ret_failure);
    }
    for (size_t i = 0; i < w->listing.n && e == OK; i++) {
        struct s3_listed *item = &w->listing.items[i];
        if (item->entry.type != OBJECT_FILE || item->entry.version.size < w->options->look_bytes) {
            continue;
        }
        struct look *l = &looks[n++ % LOOKS_MAX];
        e = end_look(l, e, ret_failure);
        if (e == OK) {
            e = begin_look(w, l, item, ret_failure);
        }
    }
    for (size_t i = 0; i < LOOKS_MAX; i++) {
        e = end_look(&looks[i], e, ret_failure);
    }
    return e;
}

static enum err give_page(struct walk *w, bool is_last, struct failure *ret_failure) {
    const uint8_t *bytes;
    size_t len;
    enum err e = object_table_bytes(&w->page, &bytes, &len);
    if (e == OK) {
        e = w->sink->page(w->sink->user, bytes, len, is_last);
    }
    object_table_reset(&w->page);
    return e == OK ? OK : fail(w, e, NULL, ret_failure);
}

static enum err give_items(struct walk *w, struct failure *ret_failure) {
    enum err e = OK;
    for (size_t i = 0; i < w->listing.n && e == OK; i++) {
        struct s3_listed *item = &w->listing.items[i];
        struct object_entry *entry = &item->entry;
        if (entry->version.size == UINT64_MAX) {
            continue; // it vanished: it is not part of the source any more
        }
        entry->path = item->path;
        entry->path_len = item->path_len;
        entry->target = (const uint8_t *)item->etag;
        entry->target_len = entry->type == OBJECT_FILE ? strlen(item->etag) : 0;
        e = object_table_add(&w->page, entry);
        if (e == ERR_FULL) {
            e = give_page(w, false, ret_failure);
            if (e == OK) {
                e = object_table_add(&w->page, entry);
            }
        }
        if (e != OK) {
            e = fail(w, e, NULL, ret_failure);
        }
    }
    s3_listing_forget(&w->listing);
    return e;
}

// All keys of the present prefix.
static enum err list_prefix(struct walk *w, struct failure *ret_failure) {
    enum err e = OK;
    w->listing.token[0] = '\0';
    do {
        e = ask(w, 1000, ret_failure);
        if (e == OK) {
            e = look_at_items(w, ret_failure);
        }
        if (e == OK) {
            e = give_items(w, ret_failure);
        }
    } while (e == OK && w->listing.is_truncated);
    return e;
}

// ---- a level ----

static enum err begin(struct walk *w, const struct walk_s3_options *o, const uint8_t *path,
                      size_t path_len, struct failure *ret_failure) {
    w->options = o;
    object_table_init(&w->page);
    enum err e = s3_place_init(o->root, o->root_len, &w->place, ret_failure);
    if (e != OK) {
        return e;
    }
    w->listing.base_len = w->place.has_prefix ? w->place.prefix_len + 1 : 0;
    w->prefix_len = w->listing.base_len + (path_len > 0 ? path_len + 1 : 0);
    if (w->prefix_len > S3_KEY_MAX) {
        return failure_set(ret_failure, ERR_NAME_TOO_LONG, "ListObjectsV2", path, path_len, NULL);
    }
    w->prefix = malloc(S3_KEY_MAX + 8);
    if (w->prefix == NULL) {
        return fail(w, ERR_NO_MEMORY, NULL, ret_failure);
    }
    if (w->place.prefix_len > 0) {
        memcpy(w->prefix, w->place.prefix, w->place.prefix_len);
    }
    if (w->place.has_prefix) {
        w->prefix[w->place.prefix_len] = '/';
    }
    if (path_len > 0) {
        memcpy(w->prefix + w->listing.base_len, path, path_len);
        w->prefix[w->prefix_len - 1] = '/';
    }
    return OK;
}

static void end(struct walk *w) {
    s3_listing_deinit(&w->listing);
    free(w->prefix);
    object_table_deinit(&w->page);
    free(w);
}

static enum err list_odd(struct walk *w, struct failure *ret_failure) {
    enum err e = OK;
    w->is_flat = true;
    for (size_t i = 0; i < w->listing.n_odd && e == OK; i++) {
        if (w->listing.base_len + w->listing.odd_len[i] > S3_KEY_MAX) {
            continue;
        }
        memcpy(w->prefix + w->listing.base_len, w->listing.odd[i], w->listing.odd_len[i]);
        w->prefix_len = w->listing.base_len + w->listing.odd_len[i];
        e = list_prefix(w, ret_failure);
    }
    return e;
}

// The root as the only object, if there is one of that key.
static enum err list_single(struct walk *w, bool *ret_done, struct failure *ret_failure) {
    struct failure f = {0};
    enum err e = w->place.has_prefix && w->place.prefix_len > 0
                     ? walk_s3_look(w->options, NULL, 0, &w->page, &f)
                     : ERR_NOT_FOUND;
    const uint8_t *bytes;
    size_t len;
    struct object_table table;
    if (e == ERR_NOT_FOUND) {
        return OK;
    }
    if (e == OK && object_table_bytes(&w->page, &bytes, &len) == OK &&
        object_table_open(bytes, len, &table) == OK) {
        struct object_entry entry;
        object_table_get(&table, 0, &entry);
        *ret_done = entry.type == OBJECT_FILE;
        object_table_close(&table);
        if (*ret_done) {
            return give_page(w, true, ret_failure);
        }
        object_table_reset(&w->page);
        return OK;
    }
    if (ret_failure != NULL) {
        *ret_failure = f;
    }
    return e == OK ? fail(w, ERR_NO_MEMORY, NULL, ret_failure) : e;
}

enum err walk_s3_directory(const struct walk_s3_options *o, const uint8_t *path, size_t path_len,
                           const struct walk_sink *sink, struct failure *ret_failure) {
    struct walk *w = calloc(1, sizeof *w);
    bool is_done = false;
    if (w == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "ListObjectsV2", path, path_len, NULL);
    }
    w->sink = sink;
    enum err e = begin(w, o, path, path_len, ret_failure);
    if (e == OK && o->single && path_len == 0) {
        e = list_single(w, &is_done, ret_failure);
    }
    if (e == OK && !is_done) {
        e = list_prefix(w, ret_failure);
        if (e == OK) {
            e = list_odd(w, ret_failure);
        }
        if (e == OK) {
            e = give_page(w, true, ret_failure);
        }
    }
    end(w);
    return e;
}

// ---- looking ----

static enum err look_for_object(const struct walk *w, const struct object_entry *where,
                                struct object_table_builder *b, struct failure *ret_failure) {
    AUTO(auto_free) uint8_t *key = NULL;
    size_t key_len = 0;
    struct object_entry e = *where;
    char etag[S3_ETAG_MAX];
    bool has_mtime;
    enum err err = s3_place_key(&w->place, where, &key, &key_len, ret_failure);
    if (err == OK && key_len == 0) {
        return ERR_NOT_FOUND;
    }
    if (err != OK) {
        return err;
    }
    struct s3_call call = {.operation = "HeadObject",
                           .method = "HEAD",
                           .bucket = w->place.bucket,
                           .key = key,
                           .key_len = key_len};
    err = s3_run(w->options->client, &call, ret_failure);
    if (err == OK) {
        err = s3_entry_from_answer(&call, &e, etag, &has_mtime, ret_failure);
    }
    if (err == OK) {
        e.target = (const uint8_t *)etag;
        e.target_len = strlen(etag);
        err = object_table_add(b, &e);
    }
    s3_end(&call);
    return err;
}

static enum err look_for_prefix(struct walk *w, struct object_entry *where,
                                struct object_table_builder *b, struct failure *ret_failure) {
    bool is_bucket = w->prefix_len == 0;
    enum err e = ask(w, 1, ret_failure);
    if (e != OK) {
        return e;
    }
    if (w->listing.n == 0 && w->listing.n_odd == 0 && !is_bucket) {
        return failure_set(ret_failure, ERR_NOT_FOUND, "ListObjectsV2", w->options->root,
                           w->options->root_len, "there is no object of this key, and none below");
    }
    where->type = OBJECT_DIRECTORY;
    where->mode = 0755;
    where->uid = geteuid();
    where->gid = getegid();
    where->links = 1;
    where->version.mtime_ns = OBJECT_MTIME_UNKNOWN;
    return object_table_add(b, where);
}

enum err walk_s3_look(const struct walk_s3_options *o, const uint8_t *path, size_t path_len,
                      struct object_table_builder *b, struct failure *ret_failure) {
    struct walk *w = calloc(1, sizeof *w);
    struct object_entry where = {.path = path, .path_len = path_len, .type = OBJECT_FILE};
    if (w == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "HeadObject", path, path_len, NULL);
    }
    enum err e = begin(w, o, path, path_len, ret_failure);
    bool may_be_object = o->single || path_len > 0;
    if (e == OK) {
        e = may_be_object ? look_for_object(w, &where, b, ret_failure) : ERR_NOT_FOUND;
    }
    if (e == ERR_NOT_FOUND) {
        e = look_for_prefix(w, &where, b, ret_failure);
    }
    end(w);
    return e;
}
