// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/log.h"
#include "master/callback_body.h"
#include "master/callbacks.h"
#include "master/database.h"
#include "master/flow_message.h"
#include "master/flow_row.h"
#include "master/flow_table.h"
#include "master/watch.h"

#include <stdlib.h>
#include <string.h>

// An event (or a change without one: no bytes) on its way to the database.
struct storing {
    struct core *core;
    struct flow_entry *entry;
    uint8_t *bytes; // owned; packed FlowEvent
    size_t len;
};

static bool is_brief(const char *name) {
    return strcmp(name, "progress") == 0;
}

enum err flow_event_pack(struct core *c, struct flow_entry *e, const char *name,
                         uint8_t **ret_bytes, struct flow_event_row *ret_row) {
    struct flow_message m;
    Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
    e->flow.last_seq++;
    enum err err =
        flow_message_init(&e->flow, is_brief(name) ? FLOW_MESSAGE_BRIEF : FLOW_MESSAGE_EVENT, &m);
    if (err != OK) {
        e->flow.last_seq--;
        return err;
    }
    event.seq = e->flow.last_seq;
    event.at_ms = clock_wall_ms(c->clock);
    event.event = (char *)(uintptr_t)name;
    event.flow = &m.message;
    size_t len = protobuf_c_message_get_packed_size(&event.base);
    uint8_t *bytes = malloc(len);
    if (bytes == NULL) {
        e->flow.last_seq--;
        flow_message_deinit(&m);
        return ERR_NO_MEMORY;
    }
    protobuf_c_message_pack(&event.base, bytes);
    *ret_row = (struct flow_event_row){
        .seq = event.seq,
        .at_ms = event.at_ms,
        .kind = name,
        .thin = is_brief(name),
        .message = {bytes, len},
    };
    *ret_bytes = bytes;
    flow_message_deinit(&m);
    return OK;
}

static void on_stored(void *arg, enum err result) {
    struct storing *s = arg;
    struct flow_entry *e = s->entry;
    e->uncommitted--;
    if (result != OK && !s->core->stopping) {
        log_event(LOG_ERROR, "flow_not_stored", LOG_STR("flow", e->flow.id),
                  LOG_STR("code", err_name(result)));
        e->unstored = "state_changed";
    } else if (result == OK && s->bytes != NULL) {
        Sluice__V1__FlowEvent *m = sluice__v1__flow_event__unpack(NULL, s->len, s->bytes);
        if (m != NULL) {
            watch_tell(e, m, !is_brief(m->event));
            sluice__v1__flow_event__free_unpacked(m, NULL);
        } else {
            watch_fell_behind(e); // no memory: watchers read it from the database
        }
    }
    if (result == OK) {
        if (e->flow.spec->callback_url[0] != '\0') {
            callbacks_wake(s->core->callbacks);
        }
        flow_committed(s->core, e);
    }
    free(s->bytes);
    free(s);
}

static enum err give(struct core *c, struct flow_entry *e, const char *name_or_null,
                     bool with_callback) {
    struct storing *s = calloc(1, sizeof *s);
    AUTO(auto_free) char *callback = NULL;
    struct flow_event_row event;
    struct flow_row_bytes row;
    enum err err = s == NULL ? ERR_NO_MEMORY : OK;
    if (err == OK && name_or_null != NULL) {
        err = flow_event_pack(c, e, name_or_null, &s->bytes, &event);
    }
    if (err == OK && with_callback) {
        err = callback_body(&e->flow, event.seq, event.at_ms, is_brief(name_or_null), &callback);
    }
    if (err == OK) {
        err = flow_row_init(&e->flow, false, "", &row); // after the event took its number
    }
    if (err != OK) {
        if (s != NULL) {
            e->flow.last_seq -= s->bytes != NULL; // nobody has seen its number
            free(s->bytes);
        }
        free(s);
        return err;
    }
    s->core = c;
    s->entry = e;
    struct change *change = change_new();
    change_flow(change, &row.row);
    if (name_or_null != NULL) {
        s->len = event.message.len;
        change_event(change, e->flow.id, &event, c->options->events_per_flow);
        if (callback != NULL) {
            change_outbox_add(change, e->flow.id, event.seq, event.thin, e->flow.spec->callback_url,
                              (struct blob){(const uint8_t *)callback, strlen(callback)});
        }
    }
    e->uncommitted++;
    database_commit(c->database, change, on_stored, s);
    flow_row_deinit(&row);
    return OK;
}

static void store_event(struct core *c, struct flow_entry *e, const char *name,
                        bool with_callback) {
    bool is_state = !is_brief(name);
    if (give(c, e, name, with_callback) == OK) {
        e->unstored = is_state ? NULL : e->unstored;
        e->dirty = false;
        e->stored_ms = clock_mono_ms(c->clock);
    } else if (is_state) {
        e->unstored = name; // out of memory: by the next tick
    }
}

void flow_event_stored(struct core *c, struct flow_entry *e, const char *name) {
    store_event(c, e, name, !is_brief(name));
}

void flow_callback_progress(struct core *c, struct flow_entry *e) {
    store_event(c, e, "progress", true);
}

void flow_store(struct core *c, struct flow_entry *e) {
    if (give(c, e, NULL, false) != OK && e->unstored == NULL) {
        e->unstored = "state_changed";
    }
}

bool flow_event_live(struct flow_entry *e, const char *name, const struct failure *error) {
    struct flow_message m;
    struct failure_message fm;
    Sluice__V1__FlowEvent event = SLUICE__V1__FLOW_EVENT__INIT;
    if (e->watches == NULL) {
        return true;
    }
    if (e->uncommitted > 0 || !e->stored ||
        flow_message_init(&e->flow, is_brief(name) ? FLOW_MESSAGE_BRIEF : FLOW_MESSAGE_EVENT, &m) !=
            OK) {
        return false;
    }
    event.seq = e->flow.last_seq;
    event.live = true;
    event.at_ms = e->now_wall_ms;
    event.event = (char *)(uintptr_t)name;
    event.flow = &m.message;
    if (error != NULL) {
        failure_to_message(error, NULL, &fm);
        m.message.error = &fm.message;
    }
    watch_tell(e, &event, false);
    flow_message_deinit(&m);
    return true;
}
