// SPDX-License-Identifier: Apache-2.0
// MKDIR, LINK, DIRMETA, DELETE, CLEANUP: tasks that change names and metadata, object by object,
// in the order of the table.
#include "agent/run.h"

// What is done to one object. *@ret_identical (false before): nothing had to be changed.
typedef enum err name_fn(struct run *r, const struct object_entry *e, bool *ret_identical,
                         struct failure *f);

// All objects that are as they should be fail if the directories cannot be synced: also those that
// an attempt before this one may have changed.
static enum err fail_done(struct run *r, const struct failure *f) {
    for (uint32_t i = 0; i < r->table.count; i++) {
        Sluice__V1__ObjectOutcome outcome = r->result->objects[i]->outcome;
        if (outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED ||
            outcome == SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL) {
            enum err e = run_object_failed(r, i, f);
            if (e != OK) {
                return e;
            }
        }
    }
    return OK;
}

static enum err for_each(struct run *r, name_fn *fn) {
    enum err e = run_open_sink(r);
    if (e == OK) {
        e = task_result_add_objects(r->result, r->table.count);
    }
    if (e != OK) {
        return e;
    }
    for (uint32_t i = 0; i < r->table.count && !atomic_load(&r->lease->control.yield); i++) {
        struct object_entry entry;
        struct failure f = {0};
        bool identical = false;
        if (atomic_load(&r->lease->control.cancelled)) {
            e = failure_set(&r->failure, ERR_CANCELLED, "task", NULL, 0, NULL);
            break;
        }
        object_table_get(&r->table, i, &entry);
        enum err result = fn(r, &entry, &identical, &f);
        if (run_error_ends_task(result)) {
            r->failure = f;
            e = result;
            break;
        }
        if (result == OK) {
            e = task_result_object_done(r->result, i,
                                        identical ? SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL
                                                  : SLUICE__V1__OBJECT_OUTCOME__OBJECT_DELIVERED,
                                        0, NULL, 0);
        } else {
            e = run_object_failed(r, i, &f);
        }
        if (e != OK) {
            break;
        }
        atomic_fetch_add(&r->lease->control.objects, 1);
    }
    if (r->durability != DURABILITY_NONE) {
        struct failure f = {0};
        enum err synced = sink_sync_directories(r->sink, &f);
        if (synced != OK) {
            enum err told = fail_done(r, &f);
            return e == OK ? told : e;
        }
    }
    return e;
}

static enum err make_directory(struct run *r, const struct object_entry *e, bool *ret_identical,
                               struct failure *f) {
    (void)ret_identical;
    return sink_make_directory(r->sink, e, f);
}

enum err run_mkdir(struct run *r) {
    return for_each(r, make_directory);
}

static enum err make_link(struct run *r, const struct object_entry *e, bool *ret_identical,
                          struct failure *f) {
    char temp[TEMP_NAME_SIZE];
    run_temp_name(r, e, temp);
    if (e->type == OBJECT_FILE) { // one more name of the object that the target names
        return sink_make_link(r->sink, e, e->target, e->target_len, temp, f);
    }
    if (r->spec->skip_identical || r->spec->if_none_match) {
        enum sink_identical same = SINK_DIFFERS;
        enum err err = sink_compare(r->sink, e, &same, f);
        if (err == OK) {
            err = sink_check_replaced(r->sink, e, same, f);
        }
        if (err != OK || same == SINK_SAME) {
            *ret_identical = err == OK;
            return err;
        }
    }
    return sink_make_special(r->sink, e, temp, f);
}

enum err run_link(struct run *r) {
    return for_each(r, make_link);
}

static enum err set_metadata(struct run *r, const struct object_entry *e, bool *ret_identical,
                             struct failure *f) {
    (void)ret_identical;
    return sink_set_directory_metadata(r->sink, e, f);
}

enum err run_dirmeta(struct run *r) {
    return for_each(r, set_metadata);
}

static enum err remove_object(struct run *r, const struct object_entry *e, bool *ret_identical,
                              struct failure *f) {
    if (r->spec->keep_extra) { // only reported
        *ret_identical = true;
        return OK;
    }
    return sink_remove(r->sink, e, f);
}

enum err run_delete(struct run *r) {
    return for_each(r, remove_object);
}

// Temporaries of leases that were closed, and of the large object's generation.
static enum err remove_temporaries(struct run *r, const struct object_entry *e, bool *ret_identical,
                                   struct failure *f) {
    char temp[TEMP_NAME_SIZE];
    enum err err = OK;
    (void)ret_identical;
    for (size_t i = 0; err == OK && i < r->spec->n_stale; i++) {
        const Sluice__V1__Epoch *stale = r->spec->stale[i];
        temp_name(r->spec->flow_id, e->id, stale->term, stale->counter, temp);
        err = sink_remove_temp(r->sink, e, temp, f);
    }
    if (err == OK && r->spec->generation > 0) {
        run_large_temp_name(r, e, temp);
        err = sink_remove_temp(r->sink, e, temp, f);
    }
    return err;
}

enum err run_cleanup(struct run *r) {
    return for_each(r, remove_temporaries);
}
