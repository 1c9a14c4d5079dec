// SPDX-License-Identifier: Apache-2.0
#include "master/callback_body.h"

#include "common/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void callback_id(const char *flow, uint64_t seq, char ret_id[CALLBACK_ID_SIZE]) {
    snprintf(ret_id, CALLBACK_ID_SIZE, "%s-%" PRIu64, flow, seq);
}

static const char *event_name(enum flow_state s) {
    switch (s) {
    case FLOW_STARTED: return "started";
    case FLOW_SUSPENDED: return "suspended";
    case FLOW_COMPLETED: return "completed";
    case FLOW_TERMINATED: return "terminated";
    case FLOW_INITIALIZED:
    case FLOW_PREPARING:
    case FLOW_PREPARED:
    case FLOW_STARTING:
    case FLOW_STATE_COUNT: break;
    }
    return NULL;
}

// Empty bytes are null.
static void put_text(FILE *out, const char *key, const void *bytes, size_t len) {
    const uint8_t *p = bytes;
    fprintf(out, ",\"%s\":", key);
    if (len == 0) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    for (size_t at = 0; at < len;) {
        char text[UTF8_JSON_MAX];
        size_t n;
        at += utf8_json_char(p + at, len - at, text, &n);
        fwrite(text, 1, n, out);
    }
    fputc('"', out);
}

static void put_word(FILE *out, const char *key, const char *word) {
    put_text(out, key, word, strlen(word));
}

static void put_time(FILE *out, int64_t at_ms) {
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm tm;
    char text[32] = "";
    if (gmtime_r(&seconds, &tm) != NULL) {
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    }
    fprintf(out, ",\"at\":\"%s.%03dZ\"", text, (int)(at_ms % 1000));
}

static void put_numbers(FILE *out, const struct flow_progress *p) {
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"bytes_done", p->bytes_done},           {"bytes_total", p->bytes_total},
        {"bytes_resent", p->bytes_resent},       {"objects_done", p->objects_done},
        {"objects_total", p->objects_total},     {"objects_failed", p->objects_failed},
        {"objects_skipped", p->objects_skipped},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        fprintf(out, ",\"%s\":%" PRIu64, numbers[i].key, numbers[i].value);
    }
    fprintf(out, ",\"listing\":%s", p->listing ? "true" : "false");
}

static void put_error(FILE *out, const struct flow *f) {
    const struct failure *e = &f->error;
    if (e->err == OK) {
        fputs(",\"error\":null", out);
        return;
    }
    fprintf(out, ",\"error\":{\"code\":\"%s\",\"errno\":%d", err_name(e->err), e->errnum);
    put_word(out, "operation", e->operation);
    put_text(out, "path", e->object, e->object_len);
    put_word(out, "message", e->message);
    put_word(out, "remedy", e->remedy);
    put_word(out, "agent", f->error_agent);
    fputc('}', out);
}

enum err callback_body(const struct flow *f, uint64_t seq, int64_t at_ms, bool progress,
                       char **ret_body) {
    const char *event = progress ? "progress" : event_name(f->state);
    char id[CALLBACK_ID_SIZE];
    char *body = NULL;
    size_t len;
    if (f->spec->callback_url[0] == '\0' || event == NULL) {
        *ret_body = NULL;
        return OK;
    }
    FILE *out = open_memstream(&body, &len);
    if (out == NULL) {
        return ERR_NO_MEMORY;
    }
    callback_id(f->id, seq, id);
    fprintf(out, "{\"id\":\"%s\",\"flow\":\"%s\",\"event\":\"%s\"", id, f->id, event);
    put_time(out, at_ms);
    put_word(out, "state", flow_state_name(f->state));
    put_word(out, "phase", flow_phase_name(f->phase));
    put_word(out, "outcome", flow_outcome_name(f->outcome));
    put_numbers(out, &f->progress);
    put_error(out, f);
    fputc('}', out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(body);
        return ERR_NO_MEMORY;
    }
    *ret_body = body;
    return OK;
}
