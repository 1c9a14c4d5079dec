// SPDX-License-Identifier: Apache-2.0
#include "cli/flow_json.h"

#include "cli/json_fields.h"
#include "cli/location_message.h"
#include "cli/report.h"
#include "common/flow_state.h"
#include "common/rpc/failure_message.h"

#include <stdlib.h>
#include <string.h>

static json_t *failure_message_to_json(const Sluice__V1__Failure *m) {
    struct failure f;
    if (!m || !*m->code) {
        return json_null();
    }
    failure_from_message(m, &f);
    return failure_to_json(&f, m->agent);
}

static void set_location(struct fields *f, const char *key, const char *key_b64,
                         const Sluice__V1__Location *location) {
    size_t len;
    char *text = location_message_text(location, &len);
    if (text) {
        fields_bytes(f, key, key_b64, text, len);
    } else {
        f->failed = true;
    }
    free(text);
}

static const char *holder_name(Sluice__V1__SuspensionHolder holder) {
    static const char *const names[] = {"unknown", "user", "control_plane", "credentials", "space"};
    return (unsigned)holder < sizeof(names) / sizeof(names[0]) ? names[holder] : names[0];
}

static void set_numbers(struct fields *f, const Sluice__V1__Flow *flow) {
    fields_set(f, "state", json_string(flow_state_name((enum flow_state)flow->state)));
    fields_text_or_null(f, "phase", flow_phase_name((enum flow_phase)flow->phase));
    fields_text_or_null(f, "outcome", flow_outcome_name((enum flow_outcome)flow->outcome));
    json_t *holders = json_array();
    fields_set(f, "suspended_by", holders);
    for (size_t i = 0; i < flow->n_suspended_by; i++) {
        fields_append(f, holders, json_string(holder_name(flow->suspended_by[i])));
    }
    fields_u64(f, "bytes_done", flow->bytes_done);
    fields_u64(f, "bytes_total", flow->bytes_total);
    fields_u64(f, "bytes_resent", flow->bytes_resent);
    fields_u64(f, "store_retries", flow->store_retries);
    fields_u64(f, "objects_done", flow->objects_done);
    fields_u64(f, "objects_total", flow->objects_total);
    fields_u64(f, "objects_failed", flow->objects_failed);
    fields_u64(f, "objects_skipped", flow->objects_skipped);
    fields_set(f, "listing", json_boolean(flow->listing));
    fields_set(f, "bytes_per_s", json_real(flow->bytes_per_s));
    fields_set(f, "eta_ms", flow->eta_ms >= 0 ? json_integer(flow->eta_ms) : json_null());
    fields_text_or_null(f, "transport", flow->transport);
    fields_set(f, "error", failure_message_to_json(flow->error));
}

static const char *durability_name(Sluice__V1__Durability d) {
    return d == SLUICE__V1__DURABILITY__NONE   ? "none"
           : d == SLUICE__V1__DURABILITY__TASK ? "task"
                                               : "object";
}

static void set_limits(struct fields *f, const Sluice__V1__FlowLimits *limits) {
    static const Sluice__V1__FlowLimits none = SLUICE__V1__FLOW_LIMITS__INIT;
    struct fields inner = fields_begin();
    limits = limits ? limits : &none;
    fields_u64(&inner, "bytes_per_s", limits->bytes_per_s);
    fields_u64(&inner, "executors", limits->executors);
    fields_u64(&inner, "streams", limits->streams);
    fields_u64(&inner, "retries", limits->retries);
    fields_set(f, "limits", fields_end(&inner));
}

static void set_spec(struct fields *f, const Sluice__V1__FlowSpec *spec) {
    set_location(f, "source", "source_b64", spec->source);
    set_location(f, "destination", "destination_b64", spec->destination);
    fields_text(f, "owner", spec->owner);
    fields_text(f, "namespace", spec->namespace_);
    struct fields labels = fields_begin();
    for (size_t i = 0; i < spec->n_labels; i++) {
        fields_text(&labels, spec->labels[i]->key, spec->labels[i]->value);
    }
    fields_set(f, "labels", fields_end(&labels));
    fields_set(f, "priority", json_integer(spec->priority));
    fields_set(f, "weight", json_integer(spec->weight > 0 ? spec->weight : 1));
    set_limits(f, spec->limits);
    fields_set(f, "durability", json_string(durability_name(spec->durability)));
    bool sha = spec->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256;
    fields_set(f, "digest", json_string(sha ? "sha256" : "xxh3"));
    fields_time(f, "not_before", spec->not_before_ms);
    fields_time(f, "deadline", spec->deadline_ms);
    json_t *after = json_array();
    fields_set(f, "after", after);
    for (size_t i = 0; i < spec->n_after; i++) {
        fields_append(f, after, json_string(spec->after[i]));
    }
    fields_set(f, "if_none_match", json_boolean(spec->if_none_match));
    fields_text_or_null(f, "retry_of", spec->retry_of);
    fields_text_or_null(f, "callback", spec->callback_url);
}

static void set_agents(struct fields *f, const Sluice__V1__Flow *flow) {
    json_t *list = json_array();
    fields_set(f, "agents", list);
    for (size_t i = 0; i < flow->n_agents; i++) {
        const Sluice__V1__AgentShare *share = flow->agents[i];
        struct fields inner = fields_begin();
        fields_text(&inner, "agent", share->agent);
        fields_u64(&inner, "bytes_written", share->bytes_written);
        fields_u64(&inner, "bytes_read", share->bytes_read);
        fields_u64(&inner, "objects", share->objects);
        fields_set(&inner, "bytes_per_s", json_real(share->bytes_per_s));
        fields_append(f, list, fields_end(&inner));
    }
}

json_t *flow_to_json(const Sluice__V1__Flow *flow) {
    struct fields f = fields_begin();
    fields_text(&f, "id", flow->id);
    set_numbers(&f, flow);
    if (flow->spec) {
        set_spec(&f, flow->spec);
    }
    fields_time(&f, "created", flow->created_ms);
    fields_time(&f, "started", flow->started_ms);
    fields_time(&f, "ended", flow->ended_ms);
    set_agents(&f, flow);
    fields_u64(&f, "last_seq", flow->last_seq);
    fields_set(&f, "cleanup_pending", json_boolean(flow->cleanup_pending));
    fields_u64(&f, "cpu_us_source", flow->cpu_us_source);
    fields_u64(&f, "cpu_us_sink", flow->cpu_us_sink);
    return fields_end(&f);
}

json_t *flow_event_to_json(const Sluice__V1__FlowEvent *event) {
    struct fields f = fields_begin();
    fields_u64(&f, "seq", event->seq);
    fields_time(&f, "ts", event->at_ms);
    fields_text(&f, "event", event->event);
    fields_set(&f, "live", json_boolean(event->live));
    if (event->flow) {
        fields_text(&f, "flow", event->flow->id);
        set_numbers(&f, event->flow);
    }
    return fields_end(&f);
}

json_t *failed_object_to_json(const Sluice__V1__FailedObject *object) {
    struct fields f = fields_begin();
    fields_bytes(&f, "path", "path_b64", object->path.data, object->path.len);
    fields_set(&f, "error", failure_message_to_json(object->failure));
    return fields_end(&f);
}

json_t *flow_why_to_json(const Sluice__V1__Flow *flow) {
    static const Sluice__V1__Why none = SLUICE__V1__WHY__INIT;
    const Sluice__V1__Why *why = flow->why ? flow->why : &none;
    struct fields f = fields_begin();
    fields_text(&f, "id", flow->id);
    fields_set(&f, "state", json_string(flow_state_name((enum flow_state)flow->state)));
    fields_text_or_null(&f, "phase", flow_phase_name((enum flow_phase)flow->phase));
    fields_text_or_null(&f, "outcome", flow_outcome_name((enum flow_outcome)flow->outcome));
    fields_text_or_null(&f, "bottleneck", why->bottleneck);
    fields_u64(&f, "walk_us", why->walk_us);
    fields_u64(&f, "read_us", why->read_us);
    fields_u64(&f, "hash_us", why->hash_us);
    fields_u64(&f, "send_us", why->send_us);
    fields_u64(&f, "receive_us", why->receive_us);
    fields_u64(&f, "write_us", why->write_us);
    fields_u64(&f, "sync_us", why->sync_us);
    fields_u64(&f, "wait_us", why->wait_us);
    fields_u64(&f, "cpu_us_source", flow->cpu_us_source);
    fields_u64(&f, "cpu_us_sink", flow->cpu_us_sink);
    fields_set(&f, "held_up", failure_message_to_json(why->held_up));
    fields_set(&f, "error", failure_message_to_json(flow->error));
    return fields_end(&f);
}
