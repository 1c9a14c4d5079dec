// SPDX-License-Identifier: Apache-2.0
#include "master/webhook.h"

#include "common/clock.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// On its way: first in the sender's queue, then in curl's hands, then on the loop.
struct post {
    struct post *next, **before;
    struct loop *loop;
    CURL *easy;
    struct curl_slist *headers;
    uint8_t *body;
    size_t answered_bytes;
    int64_t began_ms;
    struct webhook_result result;
    void (*done)(void *arg, const struct webhook_result *result);
    void *arg;
};

struct webhook_sender {
    struct loop *loop;
    struct webhook_options options;
    char *ca_file; // owned
    pthread_t thread;
    CURLM *multi;
    struct post *active; // the thread's
    pthread_mutex_t lock;
    struct post *queued, **last; // locked
    bool stopping;               // locked
};

static void post_free(struct post *p) {
    if (p != NULL) {
        curl_easy_cleanup(p->easy);
        curl_slist_free_all(p->headers);
        free(p->body);
        free(p);
    }
}

static void deliver(void *arg) {
    struct post *p = arg;
    p->done(p->arg, &p->result);
    post_free(p);
}

// The answer is of no interest, but a server may not go on for ever.
static size_t on_answer(char *bytes, size_t size, size_t n, void *arg) {
    struct post *p = arg;
    (void)bytes;
    p->answered_bytes += size * n;
    return p->answered_bytes <= WEBHOOK_ANSWER_MAX_BYTES ? size * n : CURL_WRITEFUNC_ERROR;
}

static void finish(struct post *p) {
    p->result.took_ms = clock_mono_ms(&clock_system) - p->began_ms;
    loop_post(p->loop, deliver, p);
}

static void judge(struct post *p, CURLcode code) {
    struct webhook_result *r = &p->result;
    curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &r->status);
    bool was_taken = r->status >= 200 && r->status < 300;
    if (was_taken && (code == CURLE_OK || p->answered_bytes > WEBHOOK_ANSWER_MAX_BYTES)) {
        return;
    }
    if (code != CURLE_OK) {
        snprintf(r->error, sizeof r->error, "%s", curl_easy_strerror(code));
    } else if (r->status >= 300 && r->status < 400) {
        snprintf(r->error, sizeof r->error, "answered %ld; redirects are not followed", r->status);
    } else {
        snprintf(r->error, sizeof r->error, "answered %ld", r->status);
    }
}

// ---- the sender's thread ----
static void take_queued(struct webhook_sender *s, bool *ret_stopping) {
    pthread_mutex_lock(&s->lock);
    struct post *p = s->queued, *next;
    s->queued = NULL;
    s->last = &s->queued;
    *ret_stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    for (; p != NULL; p = next) {
        next = p->next;
        p->next = s->active;
        p->before = &s->active;
        if (s->active != NULL) {
            s->active->before = &p->next;
        }
        s->active = p;
        p->began_ms = clock_mono_ms(&clock_system);
        (void)curl_multi_add_handle(s->multi, p->easy); // a fresh handle: it cannot be there
    }
}

static void leave(struct webhook_sender *s, struct post *p) {
    (void)curl_multi_remove_handle(s->multi, p->easy);
    *p->before = p->next;
    if (p->next != NULL) {
        p->next->before = p->before;
    }
}

static void take_finished(struct webhook_sender *s) {
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(s->multi, &left)) != NULL) {
        if (m->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = m->data.result;
        char *private = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        struct post *p = (struct post *)(void *)private;
        judge(p, code);
        leave(s, p);
        finish(p);
    }
}

static void *run(void *arg) {
    enum { POLL_MS = 60000 }; // curl wakes earlier for what it waits for
    struct webhook_sender *s = arg;
    bool stopping = false;
    int running;
    for (;;) {
        take_queued(s, &stopping);
        if (stopping) {
            break;
        }
        (void)curl_multi_perform(s->multi, &running);
        take_finished(s);
        (void)curl_multi_poll(s->multi, NULL, 0, POLL_MS, NULL);
    }
    while (s->active != NULL) {
        struct post *p = s->active;
        leave(s, p);
        p->result.stopped = true;
        finish(p);
    }
    return NULL;
}

// ---- the callers' side ----
enum err webhook_sender_new(const struct webhook_options *o, struct loop *loop,
                            struct webhook_sender **ret_sender, struct failure *ret_failure) {
    struct webhook_sender *s = calloc(1, sizeof *s);
    if (s == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(s);
        return failure_set(ret_failure, ERR_NO_MEMORY, "start callbacks", NULL, 0, NULL);
    }
    s->loop = loop;
    s->options = *o;
    s->last = &s->queued;
    pthread_mutex_init(&s->lock, NULL);
    s->multi = curl_multi_init();
    s->ca_file = o->ca_file == NULL ? NULL : strdup(o->ca_file);
    bool has_memory = s->multi != NULL && (o->ca_file == NULL || s->ca_file != NULL);
    int rc = has_memory ? pthread_create(&s->thread, NULL, run, s) : 0;
    if (has_memory && rc == 0) {
        *ret_sender = s;
        return OK;
    }
    curl_multi_cleanup(s->multi);
    curl_global_cleanup();
    pthread_mutex_destroy(&s->lock);
    free(s->ca_file);
    free(s);
    return rc != 0 ? failure_errno(ret_failure, rc, "pthread_create", NULL, 0)
                   : failure_set(ret_failure, ERR_NO_MEMORY, "start callbacks", NULL, 0, NULL);
}

static bool set_up(const struct webhook_sender *s, struct post *p, const char *url, size_t len) {
    CURL *e = p->easy;
    CURLcode code = curl_easy_setopt(e, CURLOPT_URL, url); // copied
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_POST, 1},
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_QUICK_EXIT, 1}, // a name server that does not answer delays no stop
        {CURLOPT_CONNECTTIMEOUT_MS, (long)s->options.connect_timeout_ms},
        {CURLOPT_TIMEOUT_MS, (long)s->options.timeout_ms},
        {CURLOPT_POSTFIELDSIZE, (long)len},
        {CURLOPT_SSL_VERIFYPEER, 1},
        {CURLOPT_SSL_VERIFYHOST, 2},
    };
    for (size_t i = 0; code == CURLE_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        code = curl_easy_setopt(e, numbers[i].option, numbers[i].value);
    }
    const struct {
        CURLoption option;
        void *value;
    } pointers[] = {
        {CURLOPT_PROTOCOLS_STR, (void *)(uintptr_t) "http,https"},
        {CURLOPT_PROXY, (void *)(uintptr_t) ""}, // not that of the environment either
        {CURLOPT_USERAGENT, (void *)(uintptr_t) "sluice/" SLUICE_VERSION},
        {CURLOPT_HTTPHEADER, p->headers},
        {CURLOPT_POSTFIELDS, p->body},
        {CURLOPT_WRITEDATA, p},
        {CURLOPT_PRIVATE, p},
    };
    for (size_t i = 0; code == CURLE_OK && i < sizeof pointers / sizeof pointers[0]; i++) {
        code = curl_easy_setopt(e, pointers[i].option, pointers[i].value);
    }
    if (code == CURLE_OK && s->ca_file != NULL) {
        code = curl_easy_setopt(e, CURLOPT_CAINFO, s->ca_file);
    }
    return code == CURLE_OK && curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer) == CURLE_OK;
}

static bool add_header(struct post *p, const char *header) {
    struct curl_slist *more = curl_slist_append(p->headers, header);
    if (more == NULL) {
        return false;
    }
    p->headers = more;
    return true;
}

enum err webhook_post(struct webhook_sender *s, const char *url, const char *const *headers,
                      size_t n_headers, const void *body, size_t len,
                      void (*done)(void *arg, const struct webhook_result *result), void *arg) {
    struct post *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return ERR_NO_MEMORY;
    }
    p->loop = s->loop;
    p->done = done;
    p->arg = arg;
    p->easy = curl_easy_init();
    p->body = malloc(len + 1);
    bool is_ready = p->easy != NULL && p->body != NULL && add_header(p, "Expect:") &&
                    add_header(p, "Content-Type: application/json");
    for (size_t i = 0; is_ready && i < n_headers; i++) {
        is_ready = add_header(p, headers[i]);
    }
    if (is_ready) {
        memcpy(p->body, body, len);
        is_ready = set_up(s, p, url, len);
    }
    if (!is_ready) {
        post_free(p);
        return ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&s->lock);
    *s->last = p;
    s->last = &p->next;
    pthread_mutex_unlock(&s->lock);
    (void)curl_multi_wakeup(s->multi);
    return OK;
}

void webhook_sender_free(struct webhook_sender *s) {
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    (void)curl_multi_wakeup(s->multi);
    pthread_join(s->thread, NULL);
    curl_multi_cleanup(s->multi);
    pthread_mutex_destroy(&s->lock);
    free(s->ca_file);
    free(s);
    // curl_global_cleanup() stays undone: results that are on the loop still hold handles.
}
