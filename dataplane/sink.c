// SPDX-License-Identifier: Apache-2.0
#include "dataplane/sink_impl.h"

#include <stdio.h>

const struct sink_capabilities *sink_capabilities(const struct sink *s) {
    return &s->capabilities;
}

static enum err check_fence(const struct sink *s, const void *object, size_t object_len,
                            struct failure *ret_failure) {
    if (!s->fence.may_act || s->fence.may_act(s->fence.user)) {
        return OK;
    }
    return failure_set(ret_failure, ERR_FENCED, "write", object, object_len, NULL);
}

enum err sink_check_fence(struct sink *s, struct failure *ret_failure) {
    return check_fence(s, NULL, 0, ret_failure);
}

enum err sink_check_fence_for(const struct sink *s, const struct object_entry *e,
                              struct failure *ret_failure) {
    return check_fence(s, e->path, e->path_len, ret_failure);
}

static enum err misused(const char *operation, struct failure *ret_failure) {
    return failure_set(ret_failure, ERR_STATE, operation, NULL, 0,
                       "calls to the sink came in the wrong order");
}

static enum err unsupported(const char *operation, const struct object_entry *e,
                            struct failure *ret_failure) {
    return failure_set(ret_failure, ERR_UNSUPPORTED_TYPE, operation, e->path, e->path_len,
                       "the destination cannot hold this kind of object");
}

static enum err check_name(const struct sink *s, const struct object_entry *e,
                           const char *operation, struct failure *ret_failure) {
    if (!e->is_key || s->capabilities.holds_keys) {
        return OK;
    }
    enum err err = failure_set(ret_failure, ERR_INVALID, operation, e->path, e->path_len,
                               "this key has no form as a path");
    failure_remedy(ret_failure, "copy it to an object store, or under another key");
    return err;
}

// What every operation on a temporary checks first.
static enum err check_temp(const struct sink *s, const struct object_entry *e, const char *temp,
                           const char *operation, struct failure *ret_failure) {
    if (!temp_name_matches(temp, TEMP_NAME_LEN) || temp[TEMP_NAME_LEN] != '\0') {
        return failure_set(ret_failure, ERR_INVALID, operation, e->path, e->path_len,
                           "not the name of a temporary");
    }
    enum err err = check_name(s, e, operation, ret_failure);
    return err == OK ? sink_check_fence_for(s, e, ret_failure) : err;
}

static enum err check_receipt(const struct receipt *r, const struct object_entry *e,
                              struct failure *ret_failure) {
    if (r->len == 0 || r->len > RECEIPT_MAX_BYTES) {
        return failure_set(ret_failure, ERR_INVALID, "open temporary", e->path, e->path_len,
                           "a receipt of %zu bytes", r->len);
    }
    return OK;
}

enum err sink_compare(struct sink *s, const struct object_entry *e, enum sink_identical *ret_result,
                      struct failure *ret_failure) {
    enum err err = check_name(s, e, "compare", ret_failure);
    return err == OK ? s->ops->compare(s, e, ret_result, ret_failure) : err;
}

enum err sink_exists(const struct object_entry *e, const char *operation,
                     struct failure *ret_failure) {
    enum err err = failure_set(ret_failure, ERR_EXISTS, operation, e->path, e->path_len, NULL);
    sink_say_exists(ret_failure);
    return err;
}

void sink_say_exists(struct failure *f) {
    if (f != NULL) {
        snprintf(f->message, sizeof f->message, "there is another object of this name");
        failure_remedy(f, "remove it, or let the flow replace it (without if_none_match)");
    }
}

enum err sink_check_replaced(const struct sink *s, const struct object_entry *e,
                             enum sink_identical found, struct failure *ret_failure) {
    return s->capabilities.never_replaces && found == SINK_DIFFERS && e->type != OBJECT_DIRECTORY
               ? sink_exists(e, "compare", ret_failure)
               : OK;
}

enum err sink_begin(struct sink *s, const struct object_entry *e, const char temp[TEMP_NAME_SIZE],
                    struct failure *ret_failure) {
    if (s->is_begun || s->n_staged >= s->capabilities.max_staged) {
        return misused("begin", ret_failure);
    }
    enum err err = check_temp(s, e, temp, "begin", ret_failure);
    if (err == OK) {
        err = s->ops->begin(s, e, temp, ret_failure);
        s->is_begun = err == OK;
    }
    return err;
}

enum err sink_write(struct sink *s, uint64_t offset, const void *buf, size_t len,
                    struct failure *ret_failure) {
    if (!s->is_begun || len > INT64_MAX || offset > INT64_MAX - len) {
        return misused("write", ret_failure);
    }
    enum err e = sink_check_fence(s, ret_failure);
    return e == OK && len > 0 ? s->ops->write(s, offset, buf, len, ret_failure) : e;
}

enum err sink_write_hole(struct sink *s, uint64_t offset, uint64_t len,
                         struct failure *ret_failure) {
    if (!s->is_begun || len > INT64_MAX || offset > INT64_MAX - len) {
        return misused("write", ret_failure);
    }
    enum err e = sink_check_fence(s, ret_failure);
    return e == OK && len > 0 ? s->ops->write_hole(s, offset, len, ret_failure) : e;
}

void *sink_room(struct sink *s, uint64_t offset, size_t *ret_cap) {
    return s->is_begun && s->ops->room ? s->ops->room(s, offset, ret_cap) : NULL;
}

enum err sink_settle(struct sink *s, struct failure *ret_failure) {
    return s->is_begun && s->ops->settle ? s->ops->settle(s, ret_failure) : OK;
}

void sink_set_digest(struct sink *s, enum hash_algorithm a, const struct digest *digest) {
    if (s->ops->set_digest) {
        s->ops->set_digest(s, a, digest);
    }
}

void sink_set_properties(struct sink *s, const struct object_properties *p) {
    if (s->ops->set_properties) {
        s->ops->set_properties(s, p);
    }
}

enum err sink_copy(struct sink *s, const struct object_entry *e, const struct object_origin *origin,
                   uint32_t tag, struct failure *ret_failure) {
    if (!s->ops->copy) {
        return unsupported("copy", e, ret_failure);
    }
    if (s->is_begun || s->n_staged >= s->capabilities.max_staged) {
        return misused("copy", ret_failure);
    }
    enum err err = sink_check_fence_for(s, e, ret_failure);
    if (err == OK) {
        err = s->ops->copy(s, e, origin, tag, ret_failure);
    }
    if (err == OK) {
        s->n_staged++;
    }
    return err;
}

uint64_t sink_part_align(const struct sink *s, const struct object_entry *e) {
    return s->ops->part_align ? s->ops->part_align(s, e) : 1;
}

int sink_fd(const struct sink *s) {
    return s->is_begun && s->ops->fd ? s->ops->fd(s) : -1;
}

enum err sink_stage(struct sink *s, uint32_t tag, struct failure *ret_failure) {
    if (!s->is_begun) {
        return misused("stage", ret_failure);
    }
    enum err e = sink_check_fence(s, ret_failure);
    if (e == OK) {
        e = s->ops->stage(s, tag, ret_failure);
    }
    if (e == OK) {
        s->is_begun = false;
        s->n_staged++;
    }
    return e;
}

void sink_drop(struct sink *s) {
    if (s->is_begun) {
        s->is_begun = false;
        s->ops->drop(s);
    }
}

enum err sink_finish_staged(struct sink *s, enum durability durability,
                            void (*each)(void *user, uint32_t tag, enum err result,
                                         const struct failure *failure),
                            void *user, struct failure *ret_failure) {
    if (s->is_begun) {
        return misused("finish", ret_failure);
    }
    if (s->n_staged == 0) {
        return OK;
    }
    enum err e = sink_check_fence(s, ret_failure);
    if (e == OK) {
        e = s->ops->finish_staged(s, durability, each, user, ret_failure);
        s->n_staged = 0;
    }
    return e;
}

enum err sink_open_large(struct sink *s, const struct object_entry *e,
                         const char temp[TEMP_NAME_SIZE], struct receipt *ret_receipt,
                         struct failure *ret_failure) {
    if (s->is_begun) {
        return misused("open large", ret_failure);
    }
    enum err err = check_temp(s, e, temp, "open large", ret_failure);
    return err == OK ? s->ops->open_large(s, e, temp, ret_receipt, ret_failure) : err;
}

enum err sink_open_part(struct sink *s, const struct object_entry *e,
                        const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                        struct failure *ret_failure) {
    if (s->is_begun) {
        return misused("open part", ret_failure);
    }
    enum err err = check_temp(s, e, temp, "open part", ret_failure);
    if (err == OK) {
        err = check_receipt(open, e, ret_failure);
    }
    if (err == OK) {
        err = s->ops->open_part(s, e, temp, open, ret_failure);
        s->is_begun = err == OK;
    }
    return err;
}

enum err sink_copy_part(struct sink *s, const struct object_entry *e,
                        const struct object_origin *origin, uint64_t offset, uint64_t length,
                        struct failure *ret_failure) {
    if (!s->ops->copy_part) {
        return unsupported("copy", e, ret_failure);
    }
    if (!s->is_begun) {
        return misused("copy part", ret_failure);
    }
    enum err err = sink_check_fence_for(s, e, ret_failure);
    return err == OK ? s->ops->copy_part(s, e, origin, offset, length, ret_failure) : err;
}

enum err sink_close_part(struct sink *s, bool sync, struct receipt *ret_receipt,
                         struct failure *ret_failure) {
    if (!s->is_begun) {
        return misused("close part", ret_failure);
    }
    s->is_begun = false;
    return s->ops->close_part(s, sync, ret_receipt, ret_failure);
}

enum err sink_sync_large(struct sink *s, const struct object_entry *e,
                         const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                         struct failure *ret_failure) {
    enum err err = check_temp(s, e, temp, "sync", ret_failure);
    if (err == OK) {
        err = check_receipt(open, e, ret_failure);
    }
    return err == OK ? s->ops->sync_large(s, e, temp, open, ret_failure) : err;
}

enum err sink_finish_large(struct sink *s, const struct object_entry *e,
                           const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                           const struct receipt_list *parts, const char *fresh_temp,
                           enum durability durability, struct failure *ret_failure) {
    const struct receipt_list none = {0};
    enum err err = check_temp(s, e, temp, "finish", ret_failure);
    if (err == OK && fresh_temp) {
        err = check_temp(s, e, fresh_temp, "finish", ret_failure);
    }
    if (err == OK) {
        err = check_receipt(open, e, ret_failure);
    }
    return err == OK ? s->ops->finish_large(s, e, temp, open, parts ? parts : &none, fresh_temp,
                                            durability, ret_failure)
                     : err;
}

enum err sink_abort_large(struct sink *s, const struct object_entry *e,
                          const char temp[TEMP_NAME_SIZE], const struct receipt *open,
                          struct failure *ret_failure) {
    if (!s->ops->abort_large) {
        return sink_remove_temp(s, e, temp, ret_failure);
    }
    enum err err = check_temp(s, e, temp, "abort", ret_failure);
    if (err == OK) {
        err = check_receipt(open, e, ret_failure);
    }
    return err == OK ? s->ops->abort_large(s, e, temp, open, ret_failure) : err;
}

enum err sink_remove_temp(struct sink *s, const struct object_entry *e,
                          const char temp[TEMP_NAME_SIZE], struct failure *ret_failure) {
    enum err err = check_temp(s, e, temp, "remove temporary", ret_failure);
    return err == OK ? s->ops->remove_temp(s, e, temp, ret_failure) : err;
}

enum err sink_make_directory(struct sink *s, const struct object_entry *e,
                             struct failure *ret_failure) {
    if (!s->ops->make_directory) {
        return OK; // a sink without directories has them all
    }
    enum err err = check_name(s, e, "make", ret_failure);
    if (err == OK) {
        err = sink_check_fence_for(s, e, ret_failure);
    }
    return err == OK ? s->ops->make_directory(s, e, ret_failure) : err;
}

enum err sink_make_special(struct sink *s, const struct object_entry *e,
                           const char temp[TEMP_NAME_SIZE], struct failure *ret_failure) {
    if (!s->ops->make_special || e->type == OBJECT_FILE || e->type == OBJECT_DIRECTORY) {
        return unsupported("make", e, ret_failure);
    }
    enum err err = check_temp(s, e, temp, "make", ret_failure);
    return err == OK ? s->ops->make_special(s, e, temp, ret_failure) : err;
}

enum err sink_set_directory_metadata(struct sink *s, const struct object_entry *e,
                                     struct failure *ret_failure) {
    if (!s->ops->set_directory_metadata) {
        return OK; // and they have no metadata
    }
    enum err err = sink_check_fence_for(s, e, ret_failure);
    return err == OK ? s->ops->set_directory_metadata(s, e, ret_failure) : err;
}

enum err sink_remove(struct sink *s, const struct object_entry *e, struct failure *ret_failure) {
    if (!s->ops->remove) {
        return unsupported("remove", e, ret_failure);
    }
    enum err err = check_name(s, e, "remove", ret_failure);
    if (err == OK) {
        err = sink_check_fence_for(s, e, ret_failure);
    }
    return err == OK ? s->ops->remove(s, e, ret_failure) : err;
}

enum err sink_make_link(struct sink *s, const struct object_entry *e, const uint8_t *existing,
                        size_t existing_len, const char temp[TEMP_NAME_SIZE],
                        struct failure *ret_failure) {
    if (!s->ops->make_link) {
        return unsupported("link", e, ret_failure);
    }
    if (!object_path_is_valid(existing, existing_len)) {
        return failure_set(ret_failure, ERR_INVALID, "link", existing, existing_len,
                           "not a path below the root");
    }
    enum err err = check_temp(s, e, temp, "link", ret_failure);
    return err == OK ? s->ops->make_link(s, e, existing, existing_len, temp, ret_failure) : err;
}

enum err sink_sync_directories(struct sink *s, struct failure *ret_failure) {
    return s->ops->sync_directories ? s->ops->sync_directories(s, ret_failure) : OK;
}

void sink_abort(struct sink *s) {
    s->ops->abort(s);
}

void sink_free(struct sink *s) {
    if (s) {
        s->ops->destroy(s);
    }
}
