// SPDX-License-Identifier: Apache-2.0
#include "cli/agent_json.h"

#include "cli/byte_text.h"
#include "cli/json_fields.h"
#include "cli/quantity.h"

#include <stdlib.h>

static json_t *volume_to_json(const Sluice__V1__VolumeInfo *v) {
    struct fields f = fields_begin();
    fields_text(&f, "name", v->name);
    fields_bytes(&f, "root", "root_b64", v->root.data, v->root.len);
    fields_set(&f, "readable", json_boolean(v->readable));
    fields_set(&f, "writable", json_boolean(v->writable));
    fields_set(&f, "shared", json_boolean(v->shared));
    fields_u64(&f, "bytes_free", v->bytes_free);
    fields_u64(&f, "bytes_total", v->bytes_total);
    fields_text_or_null(&f, "error", v->error);
    return fields_end(&f);
}

json_t *agent_to_json(const Sluice__V1__AgentInfo *a) {
    struct fields f = fields_begin();
    fields_text(&f, "name", a->name);
    fields_text(&f, "site", a->site);
    fields_set(&f, "connected", json_boolean(a->connected));
    fields_set(&f, "draining", json_boolean(a->draining));
    fields_text(&f, "version", a->version);
    fields_text(&f, "host", a->host);
    fields_u64(&f, "pid", a->pid);
    fields_text(&f, "incarnation", a->incarnation);
    fields_u64(&f, "tasks_running", a->tasks_running);
    fields_u64(&f, "slots", a->slots);
    fields_set(&f, "cpu_percent", json_real(a->cpu_percent));
    fields_u64(&f, "memory_bytes", a->memory_bytes);
    fields_set(&f, "load1", json_real(a->load1));
    fields_time(&f, "last_heard", a->last_heard_ms);
    json_t *addresses = json_array();
    fields_set(&f, "data_addresses", addresses);
    for (size_t i = 0; i < a->n_data_addresses; i++) {
        fields_append(&f, addresses, json_string(a->data_addresses[i]));
    }
    json_t *volumes = json_array();
    fields_set(&f, "volumes", volumes);
    for (size_t i = 0; i < a->n_volumes; i++) {
        fields_append(&f, volumes, volume_to_json(a->volumes[i]));
    }
    return fields_end(&f);
}

json_t *limit_to_json(const Sluice__V1__Limit *limit) {
    struct fields f = fields_begin();
    fields_text(&f, "name", limit->name);
    fields_u64(&f, "now", limit->now);
    fields_u64(&f, "limit", limit->limit);
    fields_u64(&f, "refused", limit->refused);
    return fields_end(&f);
}

static void volume_print(const Sluice__V1__VolumeInfo *v, FILE *out) {
    char free_text[QUANTITY_MAX];
    quantity_format_bytes((double)v->bytes_free, free_text);
    char *root = byte_text_printable(v->root.data, v->root.len);
    const char *mode = v->readable && v->writable ? "read, write" : v->readable ? "read" : "write";
    fprintf(out, "    %s = %s  %s, %s, %s free", v->name, root ? root : "?", mode,
            v->shared ? "shared" : "not proven shared", free_text);
    fprintf(out, *v->error ? "; cannot be used: %s\n" : "%s\n", v->error);
    free(root);
}

void agent_print(const Sluice__V1__AgentInfo *a, int64_t now_ms, FILE *out) {
    char heard[QUANTITY_MAX], memory[QUANTITY_MAX];
    quantity_format_duration(now_ms - a->last_heard_ms, heard);
    quantity_format_bytes((double)a->memory_bytes, memory);
    const char *condition = a->draining ? "draining" : "connected";
    if (a->connected) {
        fprintf(out, "%s (site %s, pid %u on %s): %s, %u of %u slots busy, %.0f%% CPU, %s\n",
                a->name, a->site, a->pid, a->host, condition, a->tasks_running, a->slots,
                a->cpu_percent, memory);
    } else {
        fprintf(out, "%s (site %s): away, last heard of %s ago\n", a->name, a->site, heard);
    }
    for (size_t i = 0; i < a->n_volumes; i++) {
        volume_print(a->volumes[i], out);
    }
}
