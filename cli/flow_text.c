// SPDX-License-Identifier: Apache-2.0
#include "cli/flow_text.h"

#include "cli/byte_text.h"
#include "cli/location_message.h"
#include "cli/quantity.h"
#include "common/flow_state.h"
#include "common/rpc/failure_message.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static char *location_printable(const Sluice__V1__Location *location) {
    size_t len;
    char *text = location_message_text(location, &len);
    char *printable = text ? byte_text_printable(text, len) : NULL;
    free(text);
    return printable;
}

static const char *outcome_or_phase(const Sluice__V1__Flow *flow) {
    if (flow->outcome) {
        return flow_outcome_name((enum flow_outcome)flow->outcome);
    }
    return flow_phase_name((enum flow_phase)flow->phase);
}

static void failure_print(const char *before, const Sluice__V1__Failure *m, FILE *out) {
    if (!m || !*m->code) {
        return;
    }
    struct failure f;
    char text[2048];
    failure_from_message(m, &f);
    failure_format(&f, text, sizeof(text));
    fprintf(out, "%s%s", before, text);
    fprintf(out, *m->agent ? " (seen by %s)\n" : "\n", m->agent);
}

void flow_print_head(FILE *out) {
    fprintf(out, "%-26s  %-10s  %-12s  %5s  %10s  %s\n", "ID", "STATE", "", "DONE", "BYTES",
            "FROM, TO");
}

void flow_print_line(const Sluice__V1__Flow *flow, FILE *out) {
    char done[8] = "", bytes[QUANTITY_MAX];
    if (flow->bytes_total > 0 && !flow->listing) {
        double share = 100.0 * (double)flow->bytes_done / (double)flow->bytes_total;
        snprintf(done, sizeof(done), "%d%%", share > 100 ? 100 : (int)share);
    }
    quantity_format_bytes((double)flow->bytes_done, bytes);
    char *from = location_printable(flow->spec ? flow->spec->source : NULL);
    char *to = location_printable(flow->spec ? flow->spec->destination : NULL);
    fprintf(out, "%-26s  %-10s  %-12s  %5s  %10s  %s, %s\n", flow->id,
            flow_state_name((enum flow_state)flow->state), outcome_or_phase(flow), done, bytes,
            from ? from : "?", to ? to : "?");
    free(from);
    free(to);
}

static void print_time(const char *title, int64_t ms, FILE *out) {
    char text[QUANTITY_MAX];
    if (ms > 0) {
        quantity_format_time(ms, text);
        fprintf(out, "%-12s %s\n", title, text);
    }
}

static void print_holders(const Sluice__V1__Flow *flow, FILE *out) {
    static const char *const names[] = {"unknown", "the user", "the control plane",
                                        "missing credentials", "lack of space"};
    for (size_t i = 0; i < flow->n_suspended_by; i++) {
        unsigned holder = (unsigned)flow->suspended_by[i];
        fprintf(out, "%s %s", i == 0 ? ", suspended by" : ",",
                names[holder < sizeof(names) / sizeof(names[0]) ? holder : 0]);
    }
}

static void print_numbers(const Sluice__V1__Flow *flow, FILE *out) {
    char a[QUANTITY_MAX], b[QUANTITY_MAX];
    const char *more = flow->listing ? " so far" : "";
    quantity_format_count(flow->objects_done, a);
    quantity_format_count(flow->objects_total, b);
    fprintf(out, "%-12s %s of %s%s", "objects", a, b, more);
    if (flow->objects_skipped > 0) {
        quantity_format_count(flow->objects_skipped, a);
        fprintf(out, ", %s were identical already", a);
    }
    if (flow->objects_failed > 0) {
        quantity_format_count(flow->objects_failed, a);
        fprintf(out, ", %s failed (sluice show --failed %s)", a, flow->id);
    }
    quantity_format_bytes((double)flow->bytes_done, a);
    quantity_format_bytes((double)flow->bytes_total, b);
    fprintf(out, "\n%-12s %s of %s%s", "bytes", a, b, more);
    if (flow->store_retries > 0) {
        fprintf(out, ", %" PRIu64 " requests to object stores sent again", flow->store_retries);
    }
    if (flow->bytes_resent > 0) {
        quantity_format_bytes((double)flow->bytes_resent, a);
        fprintf(out, ", %s sent again", a);
    }
    fputc('\n', out);
    if (!flow_state_is_final((enum flow_state)flow->state) && flow->bytes_per_s > 0) {
        quantity_format_rate(flow->bytes_per_s, a);
        fprintf(out, "%-12s %s", "rate", a);
        if (flow->eta_ms >= 0) {
            quantity_format_duration(flow->eta_ms, a);
            fprintf(out, ", %s left", a);
        }
        fputc('\n', out);
    }
}

static void print_spec(const Sluice__V1__FlowSpec *spec, FILE *out) {
    char *from = location_printable(spec->source), *to = location_printable(spec->destination);
    fprintf(out, "%-12s %s\n%-12s %s\n", "from", from ? from : "?", "to", to ? to : "?");
    free(from);
    free(to);
    if (*spec->owner) {
        fprintf(out, "%-12s %s\n", "owner", spec->owner);
    }
    for (size_t i = 0; i < spec->n_labels; i++) {
        fprintf(out, "%-12s %s=%s\n", "label", spec->labels[i]->key, spec->labels[i]->value);
    }
    if (spec->priority != 0) {
        fprintf(out, "%-12s %d\n", "priority", spec->priority);
    }
    if (*spec->retry_of) {
        fprintf(out, "%-12s %s\n", "retry of", spec->retry_of);
    }
}

void flow_print_details(const Sluice__V1__Flow *flow, FILE *out) {
    fprintf(out, "%-12s %s\n%-12s %s", "flow", flow->id, "state",
            flow_state_name((enum flow_state)flow->state));
    if (*outcome_or_phase(flow)) {
        fprintf(out, ", %s", outcome_or_phase(flow));
    }
    print_holders(flow, out);
    fputc('\n', out);
    if (flow->spec) {
        print_spec(flow->spec, out);
    }
    print_numbers(flow, out);
    if (*flow->transport) {
        fprintf(out, "%-12s %s\n", "transport", flow->transport);
    }
    print_time("created", flow->created_ms, out);
    print_time("started", flow->started_ms, out);
    print_time("ended", flow->ended_ms, out);
    for (size_t i = 0; i < flow->n_agents; i++) {
        const Sluice__V1__AgentShare *share = flow->agents[i];
        char wrote[QUANTITY_MAX], read[QUANTITY_MAX];
        quantity_format_bytes((double)share->bytes_written, wrote);
        quantity_format_bytes((double)share->bytes_read, read);
        fprintf(out, "%-12s %s: wrote %s, read %s\n", "agent", share->agent, wrote, read);
    }
    if (flow->cleanup_pending) {
        fprintf(out, "%-12s an agent that is away still has temporary files of it\n", "cleanup");
    }
    failure_print("error        ", flow->error, out);
}

// "12 objects, 3.4 GiB in 2.0 s (1.7 GiB/s)"
static void print_delivered(const Sluice__V1__Flow *flow, FILE *out) {
    char objects[QUANTITY_MAX], bytes[QUANTITY_MAX], time[QUANTITY_MAX], rate[QUANTITY_MAX];
    int64_t since = flow->started_ms > 0 ? flow->started_ms : flow->created_ms;
    int64_t ms = flow->ended_ms > since ? flow->ended_ms - since : 1;
    quantity_format_count(flow->objects_done, objects);
    quantity_format_bytes((double)flow->bytes_done, bytes);
    quantity_format_duration(ms, time);
    quantity_format_rate((double)flow->bytes_done * 1000 / (double)ms, rate);
    fprintf(out, "%s object%s, %s in %s (%s)", objects, flow->objects_done == 1 ? "" : "s", bytes,
            time, rate);
}

// What was not read could not be checked, and is said to be so.
static void print_checked(const Sluice__V1__Flow *flow, FILE *out) {
    bool sha = flow->spec && flow->spec->digest == SLUICE__V1__DIGEST_ALGORITHM__SHA_256;
    const char *algorithm = sha ? "sha256" : "xxh3";
    if (strstr(flow->transport, "copy-within-store")) {
        fputs(", copied by the store itself", out);
    } else if (strstr(flow->transport, "reflink")) {
        fprintf(out, ", blocks shared where they can be, all else checked (%s)", algorithm);
    } else {
        fprintf(out, ", every byte checked (%s)", algorithm);
    }
}

void flow_print_summary(const Sluice__V1__Flow *flow, FILE *out) {
    enum flow_outcome outcome = (enum flow_outcome)flow->outcome;
    char count[QUANTITY_MAX];
    fprintf(out, "%s: ", *flow_outcome_name(outcome) ? flow_outcome_name(outcome) : "ended");
    print_delivered(flow, out);
    if (flow->objects_done > flow->objects_skipped) {
        print_checked(flow, out);
    }
    if (flow->objects_skipped > 0) {
        quantity_format_count(flow->objects_skipped, count);
        fprintf(out, ", %s identical already", count);
    }
    if (flow->objects_failed > 0) {
        quantity_format_count(flow->objects_failed, count);
        fprintf(out, "; %s failed, see `sluice show --failed %s`", count, flow->id);
    }
    fputc('\n', out);
    if (flow->cleanup_pending) {
        fprintf(out, "cleanup pending: an agent that is away still has temporary files of it\n");
    }
}

void flow_print_reason(const Sluice__V1__Flow *flow, FILE *out) {
    failure_print("sluice: ", flow->error, out);
}

void flow_print_why(const Sluice__V1__Flow *flow, FILE *out) {
    static const Sluice__V1__Why none = SLUICE__V1__WHY__INIT;
    const Sluice__V1__Why *why = flow->why ? flow->why : &none;
    const struct {
        const char *what;
        uint64_t us;
    } parts[] = {
        {"listing directories", why->walk_us},
        {"reading", why->read_us},
        {"hashing", why->hash_us},
        {"sending", why->send_us},
        {"receiving", why->receive_us},
        {"writing", why->write_us},
        {"syncing to storage", why->sync_us},
        {"waiting", why->wait_us},
    };
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        sum += parts[i].us;
    }
    fprintf(out, "flow %s: %s", flow->id, flow_state_name((enum flow_state)flow->state));
    fprintf(out, *outcome_or_phase(flow) ? ", %s\n" : "%s\n", outcome_or_phase(flow));
    if (*why->bottleneck) {
        fprintf(out, "limited by %s\n", why->bottleneck);
    }
    failure_print("tried again after: ", why->held_up, out);
    failure_print("held up or ended by: ", flow->error, out);
    if (sum == 0) {
        fprintf(out, "no executor has reported any work on it yet\n");
        return;
    }
    fprintf(out, "where the executors' time went:\n");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char time[QUANTITY_MAX];
        quantity_format_duration((int64_t)(parts[i].us / 1000), time);
        fprintf(out, "  %5.1f%%  %10s  %s\n", 100.0 * (double)parts[i].us / (double)sum, time,
                parts[i].what);
    }
}

void failed_object_print(const Sluice__V1__FailedObject *object, FILE *out) {
    char *path = byte_text_printable(object->path.data, object->path.len);
    fprintf(out, "%s", path && *path ? path : ".");
    free(path);
    failure_print(": ", object->failure, out);
    if (!object->failure) {
        fputc('\n', out);
    }
}
