// SPDX-License-Identifier: Apache-2.0
// One request and its response.
#include "common/cleanup.h"
#include "common/clock.h"
#include "dataplane/http_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CURL_BUFFER_BYTES = 64 * 1024, CURL_UPLOAD_BYTES = 128 * 1024 };

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "http", NULL, 0, NULL);
}

// ERR_TOO_LARGE, ERR_NO_MEMORY.
static enum err text_add(struct growing_text *t, const void *bytes, size_t n, size_t max) {
    if (n > max || t->len > max - n) {
        return ERR_TOO_LARGE;
    }
    if (t->len + n + 1 > t->cap) {
        size_t cap = t->cap == 0 ? 1024 : t->cap;
        while (cap < t->len + n + 1) {
            cap *= 2;
        }
        char *grown = realloc(t->bytes, cap);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        t->bytes = grown;
        t->cap = cap;
    }
    memcpy(t->bytes + t->len, bytes, n);
    t->len += n;
    t->bytes[t->len] = '\0';
    return OK;
}

static uint64_t now_ms(void) {
    return clock_mono_us() / 1000;
}

void http_touch(struct http_exchange *x) {
    x->moved_ms = now_ms();
}

// ---- what libcurl calls ----

static size_t on_send(char *buf, size_t size, size_t n, void *user) {
    struct http_exchange *x = user;
    uint64_t left = x->body_bytes - x->body_sent;
    size_t take = size * n < left ? size * n : (size_t)left;
    if (take > 0) {
        memcpy(buf, x->body + x->body_sent, take);
    }
    x->body_sent += take;
    http_touch(x);
    return take;
}

static int on_rewind(void *user, curl_off_t offset, int origin) {
    struct http_exchange *x = user;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->body_bytes) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    x->body_sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

// A line of the head: kept as "name: value" with the name in lower case and a NUL.
static size_t on_head(char *line, size_t size, size_t n, void *user) {
    struct http_exchange *x = user;
    size_t len = size * n;
    http_touch(x);
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) { // also after a "100 Continue"
        x->head.len = 0;
        return len;
    }
    size_t kept = len;
    while (kept > 0 &&
           (line[kept - 1] == '\r' || line[kept - 1] == '\n' || line[kept - 1] == ' ')) {
        kept--;
    }
    char *colon = memchr(line, ':', kept);
    if (colon == NULL || memchr(line, '\0', kept) != NULL) {
        return len;
    }
    for (char *c = line; c < colon; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    x->kept_err = text_add(&x->head, line, kept, HTTP_HEADERS_MAX_BYTES);
    if (x->kept_err == OK) {
        x->kept_err = text_add(&x->head, "", 1, HTTP_HEADERS_MAX_BYTES);
    }
    return x->kept_err == OK ? len : 0;
}

static void see_status(struct http_exchange *x) {
    long status = 0;
    if (curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK) {
        x->status = (int)status;
    }
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user) {
    struct http_exchange *x = user;
    size_t len = size * n, rest = len;
    http_touch(x);
    if (x->progress == HTTP_RUNNING) {
        see_status(x);
    }
    if (!x->is_stream) {
        x->kept_err = text_add(&x->kept, bytes, len, HTTP_BODY_MAX_BYTES);
        return x->kept_err == OK ? len : 0;
    }
    x->progress = HTTP_STREAMING;
    size_t unread = x->kept.len - x->kept_read;
    if (unread >= HTTP_STREAM_BUFFER_BYTES) {
        x->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (unread == 0 && x->wanted != NULL) {
        size_t room = x->wanted_cap - x->wanted_len;
        size_t take = rest < room ? rest : room;
        memcpy(x->wanted + x->wanted_len, bytes, take);
        x->wanted_len += take;
        bytes += take;
        rest -= take;
    }
    if (x->kept_read == x->kept.len) {
        x->kept_read = x->kept.len = 0;
    }
    x->kept_err = text_add(&x->kept, bytes, rest, HTTP_BODY_MAX_BYTES);
    return x->kept_err == OK ? len : 0;
}

// ---- how it ends ----

static enum err from_code(CURLcode code) {
    switch ((int)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT: return ERR_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT: return ERR_TIMEOUT;
    case CURLE_OUT_OF_MEMORY: return ERR_NO_MEMORY;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR: return ERR_UNAUTHENTICATED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return ERR_INVALID;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return ERR_PEER_LOST;
    default: return ERR_PROTOCOL;
    }
}

static void fail(struct http_exchange *x, enum err e, const char *text) {
    const char *url = NULL;
    long os_errno = 0;
    (void)curl_easy_getinfo(x->easy, CURLINFO_EFFECTIVE_URL, &url);
    (void)curl_easy_getinfo(x->easy, CURLINFO_OS_ERRNO, &os_errno);
    size_t len = url != NULL ? strcspn(url, "?") : 0;
    (void)failure_set(&x->failure, e, "http", url, len, "%s", text);
    x->failure.errnum = (int)os_errno;
    x->progress = HTTP_FAILED;
}

void http_exchange_ended(struct http_exchange *x, CURLcode code) {
    see_status(x);
    http_touch(x);
    if (code == CURLE_OK) {
        x->progress = HTTP_DONE;
    } else if (x->kept_err == ERR_NO_MEMORY) {
        fail(x, ERR_NO_MEMORY, "there is none for the response");
    } else if (x->kept_err != OK) {
        fail(x, ERR_PROTOCOL, "the response is larger than any that makes sense");
    } else {
        fail(x, from_code(code), x->error[0] != '\0' ? x->error : curl_easy_strerror(code));
    }
}

void http_lane_find_stalled(struct http_lane *l, uint64_t now) {
    for (struct http_exchange *x = l->running; x != NULL; x = x->next) {
        bool is_open = x->progress == HTTP_RUNNING || x->progress == HTTP_STREAMING;
        if (is_open && !x->is_paused && now > x->moved_ms && now - x->moved_ms > l->stall_ms) {
            fail(x, ERR_TIMEOUT, "nothing was sent or received for too long");
        }
    }
}

// ---- the request ----

static bool set_request(struct http_exchange *x, const struct http_request *r) {
    CURL *c = x->easy;
    const struct http_lane *l = x->lane;
    bool is_get = strcmp(r->method, "GET") == 0, is_head = strcmp(r->method, "HEAD") == 0;
    bool sends =
        r->body_bytes > 0 || strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0;
    CURLcode e = curl_easy_setopt(c, CURLOPT_URL, r->url);
    (void)curl_easy_setopt(c, CURLOPT_PRIVATE, (char *)x);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)l->connect_ms);
    (void)curl_easy_setopt(c, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)CURL_BUFFER_BYTES);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->error);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
    (void)curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (l->ca_file != NULL && e == CURLE_OK) {
        e = curl_easy_setopt(c, CURLOPT_CAINFO, l->ca_file);
    }
    if (l->proxy != NULL && e == CURLE_OK) {
        e = curl_easy_setopt(c, CURLOPT_PROXY, l->proxy);
    }
    if (is_head) {
        (void)curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (sends) {
        (void)curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)CURL_UPLOAD_BYTES);
        (void)curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
        (void)curl_easy_setopt(c, CURLOPT_READFUNCTION, on_send);
        (void)curl_easy_setopt(c, CURLOPT_READDATA, x);
        (void)curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_rewind);
        (void)curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    }
    if (!is_get && !is_head && e == CURLE_OK) {
        e = curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    }
    return e == CURLE_OK;
}

static bool set_headers(struct http_exchange *x, const struct http_request *r) {
    for (size_t i = 0; i < r->n_headers; i++) {
        struct curl_slist *longer = curl_slist_append(x->headers, r->headers[i]);
        if (longer == NULL) {
            return false;
        }
        x->headers = longer;
    }
    // Waiting for a "100 Continue" would cost a round trip for each request.
    struct curl_slist *longer = curl_slist_append(x->headers, "Expect:");
    if (longer != NULL) {
        x->headers = longer;
    }
    return longer != NULL;
}

static struct http_exchange *take_stock(struct http_lane *l) {
    struct http_exchange *x = l->stock;
    if (x != NULL) {
        l->stock = x->next;
        return x;
    }
    x = calloc(1, sizeof *x);
    if (x != NULL) {
        x->lane = l;
        x->easy = curl_easy_init();
        if (x->easy == NULL) {
            free(x);
            x = NULL;
        }
    }
    return x;
}

enum err http_begin(struct http_lane *l, const struct http_request *r,
                    struct http_exchange **ret_exchange, struct failure *ret_failure) {
    struct http_exchange *x = take_stock(l);
    if (x == NULL) {
        return no_memory(ret_failure);
    }
    x->next = NULL;
    x->body = r->body;
    x->body_bytes = r->body_bytes;
    x->body_sent = 0;
    x->is_stream = r->is_stream;
    x->progress = HTTP_RUNNING;
    x->status = 0;
    x->head.len = x->kept.len = x->kept_read = 0;
    x->is_paused = false;
    x->kept_err = OK;
    x->failure = (struct failure){0};
    x->error[0] = '\0';
    http_touch(x);
    if (!set_headers(x, r) || !set_request(x, r) ||
        curl_multi_add_handle(l->multi, x->easy) != CURLM_OK) {
        curl_slist_free_all(x->headers);
        x->headers = NULL;
        http_exchange_free(x);
        return no_memory(ret_failure);
    }
    x->next = l->running;
    l->running = x;
    *ret_exchange = x;
    return OK;
}

void http_exchange_free(struct http_exchange *x) {
    curl_easy_cleanup(x->easy);
    free(x->head.bytes);
    free(x->kept.bytes);
    free(x);
}

void http_end(struct http_exchange *x) {
    if (x == NULL) {
        return;
    }
    struct http_lane *l = x->lane;
    (void)curl_multi_remove_handle(l->multi, x->easy);
    curl_easy_reset(x->easy); // keeps connections, which are the multi handle's
    curl_slist_free_all(x->headers);
    x->headers = NULL;
    for (struct http_exchange **at = &l->running; *at != NULL; at = &(*at)->next) {
        if (*at == x) {
            *at = x->next;
            break;
        }
    }
    if (x->kept.cap > HTTP_STREAM_BUFFER_BYTES * 2) {
        free(x->kept.bytes);
        x->kept = (struct growing_text){0};
    }
    x->next = l->stock;
    l->stock = x;
}

// ---- the response ----

enum http_progress http_progress(const struct http_exchange *x) {
    return x->progress;
}

enum err http_failure(const struct http_exchange *x, struct failure *ret_failure) {
    if (ret_failure != NULL) {
        *ret_failure = x->failure;
    }
    return x->failure.err;
}

int http_status(const struct http_exchange *x) {
    return x->status;
}

// Splits the line at @at; its length with the NUL.
static size_t split(const char *line, size_t *ret_name_len, const char **ret_value) {
    *ret_name_len = strcspn(line, ":");
    const char *value = line + *ret_name_len;
    value += *value == ':' ? 1 : 0;
    *ret_value = value + strspn(value, " \t");
    return strlen(line) + 1;
}

const char *http_header(const struct http_exchange *x, const char *name) {
    size_t n = strlen(name), name_len;
    const char *value;
    for (size_t at = 0; at < x->head.len;) {
        const char *line = x->head.bytes + at;
        at += split(line, &name_len, &value);
        if (name_len == n && memcmp(line, name, n) == 0) {
            return value;
        }
    }
    return NULL;
}

void http_each_header(const struct http_exchange *x,
                      void (*each)(void *user, const char *name, const char *value), void *user) {
    size_t name_len;
    const char *value;
    char name[256];
    for (size_t at = 0; at < x->head.len;) {
        const char *line = x->head.bytes + at;
        at += split(line, &name_len, &value);
        if (name_len < sizeof name) {
            memcpy(name, line, name_len);
            name[name_len] = '\0';
            each(user, name, value);
        }
    }
}

const char *http_body(const struct http_exchange *x, size_t *ret_len) {
    *ret_len = x->kept.len;
    return x->kept.bytes != NULL ? x->kept.bytes : "";
}

static enum err unpause(struct http_exchange *x, struct failure *ret_failure) {
    if (!x->is_paused) {
        return OK;
    }
    x->is_paused = false;
    http_touch(x);
    CURLcode code = curl_easy_pause(x->easy, CURLPAUSE_CONT); // may call on_body()
    return code == CURLE_OK ? OK
                            : failure_set(ret_failure, from_code(code), "http", NULL, 0, "%s",
                                          curl_easy_strerror(code));
}

enum err http_read(struct http_exchange *x, void *buf, size_t cap, size_t *ret_len,
                   struct failure *ret_failure) {
    size_t unread = x->kept.len - x->kept_read;
    if (unread > 0) {
        size_t take = unread < cap ? unread : cap;
        memcpy(buf, x->kept.bytes + x->kept_read, take);
        x->kept_read += take;
        *ret_len = take;
        return OK;
    }
    x->wanted = buf;
    x->wanted_cap = cap;
    x->wanted_len = 0;
    http_touch(x);
    enum err e = unpause(x, ret_failure);
    while (e == OK && x->wanted_len == 0) {
        if (x->progress == HTTP_DONE) {
            break;
        }
        if (x->progress == HTTP_FAILED) {
            e = http_failure(x, ret_failure);
            break;
        }
        e = http_lane_pump(x->lane, ret_failure);
        if (e == OK && x->wanted_len == 0 && x->progress < HTTP_DONE) {
            e = http_lane_wait(x->lane, UINT32_MAX, ret_failure);
        }
    }
    x->wanted = NULL;
    if (e == OK || x->wanted_len > 0) {
        *ret_len = x->wanted_len;
        return OK;
    }
    return e;
}
