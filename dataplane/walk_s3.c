// SPDX-License-Identifier: Apache-2.0
#include "dataplane/walk_s3.h"

#include "common/cleanup.h"
#include "dataplane/s3_object.h"
#include "dataplane/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOKS_MAX = 16,       // HEAD requests at a time
    ODD_PREFIXES_MAX = 4, // "", "." and ".." are all that one level can have
    QUERY_MAX = 3 * (S3_KEY_MAX + 8) + 3 * 2048 + 256,
    TOKEN_MAX = 2048,
};

// What one answer of ListObjectsV2 told; entries wait here for their HEAD.
struct listed {
    uint8_t *path; // owned, relative to the place's root
    size_t path_len;
    struct object_entry entry; // path and target are set when it is given on
    char etag[S3_ETAG_MAX];
};

struct walk {
    const struct walk_s3_options *options;
    const struct walk_sink *sink;
    struct s3_place place;
    uint8_t *prefix; // the keys' common beginning at this level, with the '/' at its end
    size_t prefix_len;
    size_t base_len; // of it: the place's own, which paths leave out
    bool is_flat;    // all keys below, as keys
    struct object_table_builder page;
    // the answer being parsed
    struct listed *items;
    size_t n_items, cap_items;
    char *key;
    size_t key_len;
    struct listed now;
    char token[TOKEN_MAX];
    bool is_truncated, is_encoded;
    uint8_t *odd[ODD_PREFIXES_MAX]; // prefixes that are no paths, to be listed flat after
    size_t odd_len[ODD_PREFIXES_MAX];
    size_t n_odd;
    char query[QUERY_MAX];
};

static enum err fail(const struct walk *w, enum err e, const char *why,
                     struct failure *ret_failure) {
    return failure_set(ret_failure, e, "ListObjectsV2", w->options->root, w->options->root_len,
                       why != NULL ? "%s" : NULL, why);
}

static void forget_items(struct walk *w) {
    for (size_t i = 0; i < w->n_items; i++) {
        free(w->items[i].path);
    }
    w->n_items = 0;
}

// ---- parsing an answer ----

static enum err keep_text(struct walk *w, const char *text, size_t len) {
    free(w->key);
    w->key = malloc(len + 1);
    if (w->key == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(w->key, text, len);
    w->key[len] = '\0';
    w->key_len = len;
    return OK;
}

static enum err add_item(struct walk *w, const struct listed *item) {
    if (w->n_items == w->cap_items) {
        size_t cap = w->cap_items == 0 ? 256 : w->cap_items * 2;
        struct listed *grown = realloc(w->items, cap * sizeof *grown);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        w->items = grown;
        w->cap_items = cap;
    }
    w->items[w->n_items++] = *item;
    return OK;
}

// The kept key, decoded, without the place's prefix: an object's path.
static enum err take_path(struct walk *w, struct listed *item) {
    size_t len = w->is_encoded ? s3_url_decode(w->key, w->key_len) : w->key_len;
    if (len < w->base_len || memchr(w->key, '\0', len) != NULL) {
        return ERR_PROTOCOL;
    }
    item->path = (uint8_t *)strdup(""); // never NULL, even for no bytes
    if (item->path == NULL) {
        return ERR_NO_MEMORY;
    }
    item->path_len = len - w->base_len;
    if (item->path_len > 0) {
        free(item->path);
        item->path = malloc(item->path_len);
        if (item->path == NULL) {
            return ERR_NO_MEMORY;
        }
        memcpy(item->path, w->key + w->base_len, item->path_len);
    }
    return OK;
}

static enum err take_object(struct walk *w) {
    struct listed item = w->now;
    w->now = (struct listed){0};
    enum err e = take_path(w, &item);
    if (e == OK) {
        item.entry.is_key = item.path_len == 0 || !object_path_is_valid(item.path, item.path_len);
        item.entry.version.inode = s3_etag_number(item.etag);
        s3_entry_defaults(&item.entry);
        e = add_item(w, &item);
    }
    if (e != OK) {
        free(item.path);
    }
    return e;
}

// A common prefix: a directory, or, if it is no path, something to be listed flat.
static enum err take_prefix(struct walk *w) {
    struct listed item = {0};
    enum err e = take_path(w, &item);
    if (e == OK && item.path_len > 0 && object_path_is_valid(item.path, item.path_len - 1) &&
        item.path_len > 1) {
        item.path_len--; // the '/'
        item.entry.type = OBJECT_DIRECTORY;
        item.entry.mode = 0755;
        item.entry.uid = geteuid();
        item.entry.gid = getegid();
        item.entry.links = 1;
        item.entry.version.mtime_ns = OBJECT_MTIME_UNKNOWN;
        e = add_item(w, &item);
    } else if (e == OK && w->n_odd < ODD_PREFIXES_MAX) {
        w->odd[w->n_odd] = item.path;
        w->odd_len[w->n_odd++] = item.path_len;
        item.path = NULL;
        return OK;
    } else if (e == OK) {
        e = ERR_PROTOCOL;
    }
    if (e != OK) {
        free(item.path);
    }
    return e;
}

static enum err on_element(void *user, const char *path, const char *text, size_t len) {
    static const char top[] = "ListBucketResult/";
    struct walk *w = user;
    if (strncmp(path, top, sizeof top - 1) != 0) {
        return OK;
    }
    const char *name = path + sizeof top - 1;
    if (strcmp(name, "Contents/Key") == 0 || strcmp(name, "CommonPrefixes/Prefix") == 0) {
        return keep_text(w, text, len);
    }
    if (strcmp(name, "Contents/Size") == 0) {
        w->now.entry.version.size = strtoull(text, NULL, 10);
    } else if (strcmp(name, "Contents/ETag") == 0) {
        return s3_etag_copy(text, w->now.etag) ? OK : ERR_PROTOCOL;
    } else if (strcmp(name, "Contents/LastModified") == 0) {
        return s3_time_parse(text, &w->now.entry.version.mtime_ns);
    } else if (strcmp(name, "EncodingType") == 0) {
        w->is_encoded = strcmp(text, "url") == 0;
    } else if (strcmp(name, "IsTruncated") == 0) {
        w->is_truncated = strcmp(text, "true") == 0;
    } else if (strcmp(name, "NextContinuationToken") == 0) {
        if (len >= sizeof w->token) {
            return ERR_PROTOCOL;
        }
        memcpy(w->token, text, len + 1);
    } else if (strcmp(name, "Contents") == 0) {
        return w->key != NULL ? take_object(w) : ERR_PROTOCOL;
    } else if (strcmp(name, "CommonPrefixes") == 0) {
        return w->key != NULL ? take_prefix(w) : ERR_PROTOCOL;
    }
    return OK;
}

// ---- one page ----

static void write_query(struct walk *w, unsigned max_keys) {
    size_t n = 0;
    if (w->token[0] != '\0') {
        n += (size_t)sprintf(w->query + n, "continuation-token=");
        n += s3_encode(w->token, strlen(w->token), 0, w->query + n);
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
        char before[TOKEN_MAX];
        memcpy(before, w->token, sizeof before);
        w->token[0] = '\0';
        w->is_truncated = w->is_encoded = false;
        // Whether keys are encoded is said after some of them, by some stores.
        w->is_encoded = memmem(body, len, "<EncodingType>url</EncodingType>", 32) != NULL;
        e = s3_xml_parse(body, len, on_element, w);
        if (e == OK && w->is_truncated && (w->token[0] == '\0' || strcmp(w->token, before) == 0)) {
            e = ERR_PROTOCOL; // it would go on for ever
        }
        if (e != OK) {
            e = fail(w, e, "the store's listing makes no sense", ret_failure);
        }
    }
    s3_end(&call);
    return e;
}

// Completes what the listing tells of @item from the object's headers. An object that is gone
// by now keeps a size of UINT64_MAX.
static enum err settle_look(struct listed *item, struct s3_call *call,
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
    struct listed *item;
    uint8_t *key;
};

static enum err begin_look(struct walk *w, struct look *l, struct listed *item,
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
    for (size_t i = 0; i < w->n_items && e == OK; i++) {
        struct listed *item = &w->items[i];
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
    for (size_t i = 0; i < w->n_items && e == OK; i++) {
        struct listed *item = &w->items[i];
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
    forget_items(w);
    return e;
}

// All keys of the present prefix.
static enum err list_prefix(struct walk *w, struct failure *ret_failure) {
    enum err e = OK;
    w->token[0] = '\0';
    do {
        e = ask(w, 1000, ret_failure);
        if (e == OK) {
            e = look_at_items(w, ret_failure);
        }
        if (e == OK) {
            e = give_items(w, ret_failure);
        }
    } while (e == OK && w->is_truncated);
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
    w->base_len = w->place.has_prefix ? w->place.prefix_len + 1 : 0;
    w->prefix_len = w->base_len + (path_len > 0 ? path_len + 1 : 0);
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
        memcpy(w->prefix + w->base_len, path, path_len);
        w->prefix[w->prefix_len - 1] = '/';
    }
    return OK;
}

static void end(struct walk *w) {
    forget_items(w);
    free(w->items);
    free(w->key);
    free(w->prefix);
    for (size_t i = 0; i < w->n_odd; i++) {
        free(w->odd[i]);
    }
    object_table_deinit(&w->page);
    free(w);
}

static enum err list_odd(struct walk *w, struct failure *ret_failure) {
    enum err e = OK;
    w->is_flat = true;
    for (size_t i = 0; i < w->n_odd && e == OK; i++) {
        if (w->base_len + w->odd_len[i] > S3_KEY_MAX) {
            continue;
        }
        memcpy(w->prefix + w->base_len, w->odd[i], w->odd_len[i]);
        w->prefix_len = w->base_len + w->odd_len[i];
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
    if (w->n_items == 0 && w->n_odd == 0 && !is_bucket) {
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
