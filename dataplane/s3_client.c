// SPDX-License-Identifier: Apache-2.0
#include "dataplane/s3_client.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "dataplane/s3_client_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 20000,
    HEADER_TEXT_MAX = 8192, // one header as a line
    OWN_HEADERS = 7,        // host, condition, payload, checksum, date, token, authorization
};

enum err s3_client_new(struct s3_store *s, const struct s3_credentials *keys,
                       struct s3_client **ret_client, struct failure *ret_failure) {
    struct s3_client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "s3", NULL, 0, NULL);
    }
    c->store = s;
    c->has_keys = keys != NULL;
    if (keys != NULL) {
        c->keys = *keys;
    }
    c->jitter = (unsigned)clock_mono_us() ^ (unsigned)(uintptr_t)c;
    enum err e = http_pool_take(s3_store_pool(s), &c->lane, ret_failure);
    if (e != OK) {
        free(c);
        return e;
    }
    *ret_client = c;
    return OK;
}

void s3_client_abort(struct s3_client *c) {
    http_lane_abort(c->lane);
}

bool s3_client_is_aborted(const struct s3_client *c) {
    return http_lane_is_aborted(c->lane);
}

void s3_client_free(struct s3_client *c) {
    if (c != NULL) {
        http_pool_give_back(s3_store_pool(c->store), c->lane);
        s3_credentials_wipe(&c->keys);
        free(c);
    }
}

void s3_client_count_retries(struct s3_client *c, uint64_t *counter) {
    c->retries = counter;
}

void s3_client_retried(struct s3_client *c) {
    s3_store_count_retry(c->store);
    if (c->retries != NULL) {
        ++*c->retries;
    }
}

struct s3_store *s3_client_store(const struct s3_client *c) {
    return c->store;
}

void s3_call_header(struct s3_call *c, const char *name, const char *value) {
    if (c->n_headers < S3_CALL_HEADERS_MAX && value != NULL) {
        c->headers[c->n_headers++] = (struct s3_header){name, value};
    }
}

const char *s3_call_get_header(const struct s3_call *c, const char *name) {
    for (size_t i = 0; i < c->n_headers; i++) {
        if (strcmp(c->headers[i].name, name) == 0) {
            return c->headers[i].value;
        }
    }
    return NULL;
}

size_t s3_call_object(const struct s3_call *call, char *ret_text, size_t cap) {
    int n = snprintf(ret_text, cap, "%s%s", call->bucket != NULL ? call->bucket : "",
                     call->key != NULL ? "/" : "");
    size_t len = n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
    size_t take = call->key_len < cap - len ? call->key_len : cap - len;
    if (call->key != NULL && take > 0) {
        memcpy(ret_text + len, call->key, take);
        len += take;
    }
    return len;
}

// ---- one attempt ----

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

// All headers that are signed, sorted.
static size_t all_headers(const struct s3_call *call, struct s3_header *ret) {
    const struct s3_target *t = &call->target;
    size_t n = call->n_headers;
    memcpy(ret, call->headers, n * sizeof *ret);
    ret[n++] = (struct s3_header){"host", t->host};
    if (call->if_none_match && s3_store_takes_conditions(call->client->store)) {
        ret[n++] = (struct s3_header){"if-none-match", "*"};
    }
    ret[n++] = (struct s3_header){"x-amz-content-sha256", call->payload};
    ret[n++] = (struct s3_header){"x-amz-date", t->time};
    if (call->checksum_text[0] != '\0') {
        ret[n++] =
            (struct s3_header){s3_checksum_header(call->proof.checksum), call->checksum_text};
    }
    if (t->credentials.session_token[0] != '\0') {
        ret[n++] = (struct s3_header){"x-amz-security-token", t->credentials.session_token};
    }
    qsort(ret, n, sizeof *ret, by_name);
    return n;
}

static enum err sign(const struct s3_call *call, const struct s3_header *headers, size_t n,
                     char ret_authorization[S3_AUTHORIZATION_SIZE]) {
    const struct s3_target *t = &call->target;
    AUTO(auto_free) char *path = strndup(t->path, t->path_len);
    if (path == NULL) {
        return ERR_NO_MEMORY;
    }
    struct s3_signing s = {
        .method = call->method,
        .path = path,
        .query = call->query != NULL ? call->query : "",
        .headers = headers,
        .n_headers = n,
        .payload = call->payload,
        .time = t->time,
        .access_key = t->credentials.access_key,
        .secret_key = t->credentials.secret_key,
        .region = t->region,
        .service = "s3",
    };
    return s3_sign(&s, ret_authorization);
}

static void free_lines(char ***lines) {
    for (size_t i = 0; *lines != NULL && (*lines)[i] != NULL; i++) {
        free((*lines)[i]);
    }
    free(*lines);
}

static enum err send_call(struct s3_client *c, struct s3_call *call, struct failure *f) {
    struct s3_header headers[S3_CALL_HEADERS_MAX + OWN_HEADERS];
    char authorization[S3_AUTHORIZATION_SIZE];
    s3_target_deinit(&call->target);
    enum err e = s3_store_target(c->store, call->bucket, call->key, call->key_len,
                                 call->query != NULL ? call->query : "", &call->target, f);
    if (e != OK) {
        return e;
    }
    if (c->has_keys) {
        call->target.credentials = c->keys;
    }
    size_t n = all_headers(call, headers);
    if (!call->target.credentials.is_anonymous) {
        e = sign(call, headers, n, authorization);
        if (e != OK) {
            return failure_set(f, e, "sign", call->key, call->key_len, NULL);
        }
        headers[n++] = (struct s3_header){"authorization", authorization};
    }
    AUTO(free_lines) char **lines = calloc(n + 1, sizeof *lines);
    for (size_t i = 0; lines != NULL && i < n; i++) {
        // A header without value is sent with ';' in libcurl's notation.
        bool is_empty = headers[i].value[0] == '\0';
        if (asprintf(&lines[i], is_empty ? "%s;" : "%s: %s", headers[i].name, headers[i].value) <
            0) {
            lines[i] = NULL;
            return failure_set(f, ERR_NO_MEMORY, "s3", NULL, 0, NULL);
        }
    }
    struct http_request r = {
        .method = call->method,
        .url = call->target.url,
        .headers = (const char *const *)lines,
        .n_headers = n,
        .body = call->body,
        .body_bytes = call->body_bytes,
        .is_stream = call->is_stream,
    };
    if (lines == NULL) {
        return failure_set(f, ERR_NO_MEMORY, "s3", NULL, 0, NULL);
    }
    call->attempts++;
    return http_begin(c->lane, &r, &call->exchange, f);
}

// ---- the calls of a client ----

static void unlink_call(struct s3_client *c, struct s3_call *call) {
    for (struct s3_call **at = &c->calls; *at != NULL; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            return;
        }
    }
}

static void finish(struct s3_client *c, struct s3_call *call) {
    unlink_call(c, call);
    call->state = S3_CALL_DONE;
}

static void back_off(struct s3_client *c, struct s3_call *call) {
    uint64_t ms = BACKOFF_FIRST_MS;
    for (uint32_t i = 1; i < call->attempts && ms < BACKOFF_MAX_MS; i++) {
        ms *= 2;
    }
    ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
    ms = ms / 2 + (uint64_t)rand_r(&c->jitter) % (ms / 2 + 1);
    call->due_us = clock_mono_us() + ms * 1000;
    call->state = S3_CALL_WAITING;
}

static void log_retry(const struct s3_call *call) {
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(call, object, sizeof object);
    log_event(LOG_DEBUG, "s3_retried", LOG_STR("operation", call->operation),
              LOG_PATH("object", object, n), LOG_U64("attempt", call->attempts),
              LOG_FAILURE(&call->failure));
}

static void conclude(struct s3_client *c, struct s3_call *call) {
    enum s3_verdict v = s3_judge(c, call);
    if (v == S3_VERDICT_DONE) {
        finish(c, call);
        return;
    }
    if (call->attempts >= S3_CALL_ATTEMPTS_MAX) {
        finish(c, call);
        return;
    }
    s3_client_retried(c);
    log_retry(call);
    http_end(take_ptr(call->exchange));
    if (v == S3_VERDICT_AGAIN) {
        call->due_us = 0;
        call->state = S3_CALL_WAITING;
    } else {
        back_off(c, call);
    }
}

// Is the exchange as far as the call needs it?
static bool is_answered(const struct s3_call *call) {
    enum http_progress p = http_progress(call->exchange);
    int status = http_status(call->exchange);
    return p == HTTP_DONE || p == HTTP_FAILED ||
           (p == HTTP_STREAMING && status >= 200 && status < 300);
}

// Sends what is due, concludes what has ended. *@ret_wait_ms: until something is due.
static enum err step(struct s3_client *c, uint32_t *ret_wait_ms, struct failure *ret_failure) {
    uint64_t wait_us = UINT32_MAX;
    struct s3_call *next;
    for (struct s3_call *call = c->calls; call != NULL; call = next) {
        next = call->next;
        if (call->state == S3_CALL_RUNNING && is_answered(call)) {
            conclude(c, call);
        }
        if (call->state != S3_CALL_WAITING) {
            continue;
        }
        uint64_t now = clock_mono_us();
        uint64_t left = call->due_us > now ? call->due_us - now : s3_store_take_us(c->store);
        if (left == 0) {
            enum err e = send_call(c, call, &call->failure);
            call->state = S3_CALL_RUNNING;
            if (e != OK) {
                call->err = e;
                finish(c, call);
            }
        }
        wait_us = left < wait_us ? (left == 0 ? wait_us : left) : wait_us;
    }
    *ret_wait_ms = (uint32_t)(wait_us / 1000 + 1);
    return http_lane_pump(c->lane, ret_failure);
}

void s3_prove(struct s3_call *call) {
    struct s3_proof *p = &call->proof;
    uint8_t digest[32];
    const char *known = call->checksum_known;
    if (known != NULL && known[0] != '\0' && p->checksum == call->checksum) {
        snprintf(call->checksum_text, sizeof call->checksum_text, "%s", known);
    } else {
        s3_checksum_of(p->checksum, call->body, (size_t)call->body_bytes, call->checksum_text);
    }
    if (!p->is_signed && call->checksum_text[0] != '\0') {
        memcpy(call->payload, S3_UNSIGNED_PAYLOAD, sizeof S3_UNSIGNED_PAYLOAD);
    } else if (call->body_bytes == 0) {
        memcpy(call->payload, S3_EMPTY_PAYLOAD, sizeof S3_EMPTY_PAYLOAD);
    } else {
        sha256(call->body, (size_t)call->body_bytes, digest);
        hash_hex(digest, sizeof digest, call->payload);
    }
}

enum err s3_begin(struct s3_client *c, struct s3_call *call, struct failure *ret_failure) {
    (void)ret_failure;
    call->client = c;
    call->err = OK;
    call->failure = (struct failure){0};
    call->attempts = 0;
    call->status = 0;
    call->code[0] = '\0';
    call->due_us = 0;
    call->was_redirected = call->was_renewed = call->was_timed = false;
    call->proof = (struct s3_proof){S3_CHECKSUM_NONE, true};
    if (call->body_kind == S3_BODY_OBJECT) {
        s3_store_proof(c->store, &call->proof);
    } else if (call->body_kind == S3_BODY_PART) {
        s3_store_part_proof(c->store, call->checksum, &call->proof);
    }
    s3_prove(call);
    call->state = S3_CALL_WAITING;
    call->next = NULL;
    struct s3_call **at = &c->calls;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = call;
    return OK;
}

enum err s3_pump(struct s3_client *c, struct failure *ret_failure) {
    uint32_t wait_ms;
    return step(c, &wait_ms, ret_failure);
}

enum err s3_await(struct s3_call *call, struct failure *ret_failure) {
    struct s3_client *c = call->client;
    for (const struct s3_call *other = c->calls; other != NULL; other = other->next) {
        if (other->exchange != NULL) {
            http_touch(other->exchange); // nobody drove it meanwhile
        }
    }
    for (;;) {
        uint32_t wait_ms = 0;
        enum err e = step(c, &wait_ms, ret_failure);
        if (e != OK) {
            return e;
        }
        if (call->state == S3_CALL_DONE) {
            break;
        }
        if (call->state == S3_CALL_RUNNING && is_answered(call)) {
            continue;
        }
        e = http_lane_wait(c->lane, wait_ms, ret_failure);
        if (e != OK) {
            return e;
        }
    }
    if (call->err != OK && ret_failure != NULL) {
        *ret_failure = call->failure;
    }
    return call->err;
}

enum err s3_run(struct s3_client *c, struct s3_call *call, struct failure *ret_failure) {
    enum err e = s3_begin(c, call, ret_failure);
    return e == OK ? s3_await(call, ret_failure) : e;
}

enum err s3_read(struct s3_call *call, void *buf, size_t cap, size_t *ret_len,
                 struct failure *ret_failure) {
    struct failure f = {0};
    enum err e = http_read(call->exchange, buf, cap, ret_len, &f);
    if (e != OK) {
        char object[FAILURE_OBJECT_MAX];
        size_t n = s3_call_object(call, object, sizeof object);
        (void)failure_set(ret_failure, e, call->operation, object, n, "%s", f.message);
    }
    return e;
}

void s3_end(struct s3_call *call) {
    if (call->client == NULL) {
        return;
    }
    if (call->state == S3_CALL_WAITING || call->state == S3_CALL_RUNNING) {
        unlink_call(call->client, call);
    }
    http_end(take_ptr(call->exchange));
    s3_target_deinit(&call->target);
    call->state = S3_CALL_NEW;
    call->client = NULL;
}

const char *s3_answer_header(const struct s3_call *call, const char *name) {
    return call->exchange != NULL ? http_header(call->exchange, name) : NULL;
}

enum s3_checksum s3_answer_crc(const struct s3_call *call, const char **ret_text) {
    static const enum s3_checksum kinds[] = {S3_CHECKSUM_CRC64NVME, S3_CHECKSUM_CRC32C};
    const char *type = s3_answer_header(call, "x-amz-checksum-type");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const char *text = s3_answer_header(call, s3_checksum_header(kinds[i]));
        // One that is made of the parts' has their number after a dash.
        if (text != NULL && strchr(text, '-') == NULL &&
            (type == NULL || strcmp(type, "FULL_OBJECT") == 0)) {
            *ret_text = text;
            return kinds[i];
        }
    }
    return S3_CHECKSUM_NONE;
}

const char *s3_answer_body(const struct s3_call *call, size_t *ret_len) {
    *ret_len = 0;
    return call->exchange != NULL ? http_body(call->exchange, ret_len) : NULL;
}
