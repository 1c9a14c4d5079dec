// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_listing.h"

#include "common/array.h"
#include "dataplane/s3_xml.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void s3_listing_forget(struct s3_listing *l) {
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].path);
    }
    l->n = 0;
}

static enum err keep_text(struct s3_listing *l, const char *text, size_t len) {
    free(l->key);
    l->key = malloc(len + 1);
    if (l->key == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(l->key, text, len);
    l->key[len] = '\0';
    l->key_len = len;
    return OK;
}

static enum err add_item(struct s3_listing *l, const struct s3_listed *item) {
    struct s3_listed *grown = array_grown(l->items, sizeof *grown, l->n, &l->cap);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    l->items = grown;
    l->items[l->n++] = *item;
    return OK;
}

// The kept key, decoded, without the place's prefix: an object's path.
static enum err take_path(struct s3_listing *l, struct s3_listed *item) {
    size_t len = l->is_encoded ? s3_url_decode(l->key, l->key_len) : l->key_len;
    if (len < l->base_len || memchr(l->key, '\0', len) != NULL) {
        return ERR_PROTOCOL;
    }
    item->path = (uint8_t *)strdup(""); // never NULL, even for no bytes
    if (item->path == NULL) {
        return ERR_NO_MEMORY;
    }
    item->path_len = len - l->base_len;
    if (item->path_len > 0) {
        free(item->path);
        item->path = malloc(item->path_len);
        if (item->path == NULL) {
            return ERR_NO_MEMORY;
        }
        memcpy(item->path, l->key + l->base_len, item->path_len);
    }
    return OK;
}

static enum err take_object(struct s3_listing *l) {
    struct s3_listed item = l->now;
    l->now = (struct s3_listed){0};
    enum err e = take_path(l, &item);
    if (e == OK) {
        item.entry.is_key = item.path_len == 0 || !object_path_is_valid(item.path, item.path_len);
        item.entry.version.inode = s3_etag_number(item.etag);
        s3_entry_defaults(&item.entry);
        e = add_item(l, &item);
    }
    if (e != OK) {
        free(item.path);
    }
    return e;
}

// A common prefix: a directory, or, if it is no path, something to be listed flat.
static enum err take_prefix(struct s3_listing *l) {
    struct s3_listed item = {0};
    enum err e = take_path(l, &item);
    if (e == OK && item.path_len > 0 && object_path_is_valid(item.path, item.path_len - 1) &&
        item.path_len > 1) {
        item.path_len--; // the '/'
        item.entry.type = OBJECT_DIRECTORY;
        item.entry.mode = 0755;
        item.entry.uid = geteuid();
        item.entry.gid = getegid();
        item.entry.links = 1;
        item.entry.version.mtime_ns = OBJECT_MTIME_UNKNOWN;
        e = add_item(l, &item);
    } else if (e == OK && l->n_odd < S3_LISTING_ODD_MAX) {
        l->odd[l->n_odd] = item.path;
        l->odd_len[l->n_odd++] = item.path_len;
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
    struct s3_listing *l = user;
    if (strncmp(path, top, sizeof top - 1) != 0) {
        return OK;
    }
    const char *name = path + sizeof top - 1;
    if (strcmp(name, "Contents/Key") == 0 || strcmp(name, "CommonPrefixes/Prefix") == 0) {
        return keep_text(l, text, len);
    }
    if (strcmp(name, "Contents/Size") == 0) {
        l->now.entry.version.size = strtoull(text, NULL, 10);
    } else if (strcmp(name, "Contents/ETag") == 0) {
        return s3_etag_copy(text, l->now.etag) ? OK : ERR_PROTOCOL;
    } else if (strcmp(name, "Contents/LastModified") == 0) {
        return s3_time_parse(text, &l->now.entry.version.mtime_ns);
    } else if (strcmp(name, "EncodingType") == 0) {
        l->is_encoded = strcmp(text, "url") == 0;
    } else if (strcmp(name, "IsTruncated") == 0) {
        l->is_truncated = strcmp(text, "true") == 0;
    } else if (strcmp(name, "NextContinuationToken") == 0) {
        if (len >= sizeof l->token) {
            return ERR_PROTOCOL;
        }
        memcpy(l->token, text, len + 1);
    } else if (strcmp(name, "Contents") == 0) {
        return l->key != NULL ? take_object(l) : ERR_PROTOCOL;
    } else if (strcmp(name, "CommonPrefixes") == 0) {
        return l->key != NULL ? take_prefix(l) : ERR_PROTOCOL;
    }
    return OK;
}

enum err s3_listing_read(struct s3_listing *l, const char *body, size_t len) {
    char before[S3_LISTING_TOKEN_MAX];
    memcpy(before, l->token, sizeof before);
    l->token[0] = '\0';
    l->is_truncated = false;
    // Whether keys are encoded is said after some of them, by some stores.
    l->is_encoded = memmem(body, len, "<EncodingType>url</EncodingType>", 32) != NULL;
    enum err e = s3_xml_parse(body, len, on_element, l);
    if (e == OK && l->is_truncated && (l->token[0] == '\0' || strcmp(l->token, before) == 0)) {
        e = ERR_PROTOCOL; // it would go on for ever
    }
    return e;
}

void s3_listing_deinit(struct s3_listing *l) {
    s3_listing_forget(l);
    free(l->items);
    free(l->key);
    for (size_t i = 0; i < l->n_odd; i++) {
        free(l->odd[i]);
    }
}
