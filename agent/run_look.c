// SPDX-License-Identifier: Apache-2.0
// STAT: what is at one end. VERIFY: the digests of what is at the sink.
#include "agent/run.h"

#include "common/cleanup.h"
#include "dataplane/beneath.h"
#include "dataplane/source.h"
#include "dataplane/walk.h"
#include "dataplane/walk_s3.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void abort_client(void *client) {
    s3_client_abort(client);
}

enum err run_stat(struct run *r) {
    const Sluice__V1__Place *p = r->spec->source != NULL ? r->spec->source : r->spec->sink;
    enum volume_use use = r->spec->source != NULL ? VOLUME_READ : VOLUME_WRITE;
    struct s3_store *store = NULL;
    struct s3_client *client = NULL;
    enum err e = run_find_store(r, p, use, &store);
    if (e == OK) {
        e = store != NULL ? run_open_client(r, p->volume, store, &client)
                          : run_open_root(r, p, use, &r->source_fd);
    }
    if (e != OK) {
        return e;
    }
    if (client != NULL) {
        lease_add_interrupt(r->lease, abort_client, client);
    }
    struct walk_s3_options in_store = {
        .client = client, .root = p->root.data, .root_len = p->root.len, .single = r->spec->single};
    struct walk_options o = {.volume_fd = r->source_fd,
                             .root = p->root.data,
                             .root_len = p->root.len,
                             .single = r->spec->single};
    struct object_table_builder found;
    object_table_init(&found);
    for (uint32_t i = 0; e == OK && i < r->table.count; i++) {
        struct object_entry entry;
        struct failure f = {0};
        object_table_get(&r->table, i, &entry);
        e = client != NULL ? walk_s3_look(&in_store, entry.path, entry.path_len, &found, &f)
                           : walk_look(&o, entry.path, entry.path_len, &found, &f);
        if (e == ERR_NOT_FOUND || e == ERR_NOT_DIRECTORY) {
            e = OK;
        } else if (e != OK) {
            r->failure = f;
        }
    }
    if (e == OK) {
        const uint8_t *bytes = NULL;
        size_t len = 0;
        e = object_table_bytes(&found, &bytes, &len);
        if (e == OK) {
            e = task_result_set_bytes(&r->result->found, bytes, len);
        }
    }
    object_table_deinit(&found);
    if (client != NULL) {
        lease_remove_interrupt(r->lease, client);
        s3_client_free(client);
    }
    return e;
}

static enum err hash_file(struct run *r, int fd, struct leaf_hasher *l,
                          const struct object_entry *e, struct digest *ret_digest,
                          struct failure *f) {
    uint64_t offset = 0;
    leaf_hasher_reset(l);
    for (;;) {
        if (atomic_load(&r->lease->control.cancelled)) {
            return failure_set(f, ERR_CANCELLED, "verify", NULL, 0, NULL);
        }
        ssize_t n = pread(fd, r->buffer, r->buffer_bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return failure_errno(f, errno, "pread", e->path, e->path_len);
        }
        if (n == 0) {
            break;
        }
        enum err err = leaf_hasher_update(l, r->buffer, (size_t)n);
        if (err != OK) {
            return failure_set(f, err, "verify", e->path, e->path_len, NULL);
        }
        offset += (uint64_t)n;
        atomic_fetch_add(&r->lease->control.bytes, (uint64_t)n);
    }
    if (offset != e->version.size) {
        return failure_set(f, ERR_CORRUPT, "verify", e->path, e->path_len,
                           "it has %llu bytes, not %llu", (unsigned long long)offset,
                           (unsigned long long)e->version.size);
    }
    const uint8_t *digests = NULL;
    size_t n_leaves = 0;
    enum err err = leaf_hasher_finish(l, &digests, &n_leaves);
    if (err != OK) {
        return failure_set(f, err, "verify", e->path, e->path_len, NULL);
    }
    tree_digest(r->digest, offset, digests, n_leaves, ret_digest);
    return OK;
}

static enum err verify_one(struct run *r, struct leaf_hasher *l, const struct object_entry *e,
                           struct digest *ret_digest, struct failure *f) {
    const Sluice__V1__Place *p = r->spec->sink;
    size_t root_len = p->root.len, len = root_len;
    AUTO(auto_free) uint8_t *path = malloc(root_len + 1 + e->path_len + 1);
    if (path == NULL) {
        return failure_set(f, ERR_NO_MEMORY, "verify", NULL, 0, NULL);
    }
    if (root_len > 0) {
        memcpy(path, p->root.data, root_len);
    }
    if (e->path_len > 0) {
        if (root_len > 0) {
            path[len++] = '/';
        }
        memcpy(path + len, e->path, e->path_len);
        len += e->path_len;
    }
    AUTO(auto_close) int fd = -1;
    struct stat st;
    enum err err =
        beneath_open(r->sink_fd, path, len, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, f);
    if (err != OK) {
        return err;
    }
    if (fstat(fd, &st) < 0) {
        return failure_errno(f, errno, "fstat", e->path, e->path_len);
    }
    if (!S_ISREG(st.st_mode)) {
        return failure_set(f, ERR_CORRUPT, "verify", e->path, e->path_len,
                           "it is no regular file any more");
    }
    return hash_file(r, fd, l, e, ret_digest, f);
}

enum err run_verify(struct run *r) {
    enum err e = run_open_root(r, r->spec->sink, VOLUME_WRITE, &r->sink_fd);
    if (e == OK) {
        e = task_result_add_objects(r->result, r->table.count);
    }
    struct leaf_hasher *l = e == OK ? leaf_hasher_new(r->digest) : NULL;
    if (e == OK && l == NULL) {
        e = failure_set(&r->failure, ERR_NO_MEMORY, "verify", NULL, 0, NULL);
    }
    for (uint32_t i = 0; e == OK && i < r->table.count; i++) {
        struct object_entry entry;
        struct digest digest;
        struct failure f = {0};
        if (atomic_load(&r->lease->control.yield)) {
            break;
        }
        object_table_get(&r->table, i, &entry);
        if (entry.type != OBJECT_FILE) {
            e = task_result_object_done(r->result, i, SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL,
                                        0, NULL, 0);
            continue;
        }
        enum err result = verify_one(r, l, &entry, &digest, &f);
        if (run_error_ends_task(result)) {
            r->failure = f;
            e = result;
        } else if (result == OK) {
            e = task_result_object_done(r->result, i, SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED,
                                        entry.version.size, &digest, hash_digest_bytes(r->digest));
            atomic_fetch_add(&r->lease->control.objects, 1);
        } else {
            e = run_object_failed(r, i, &f);
        }
    }
    leaf_hasher_free(l);
    return e;
}
