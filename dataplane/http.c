// SPDX-License-Identifier: Apache-2.0
// Lanes and their pool. A lane is a multi handle of libcurl with the easy handles that it has
// used so far; an exchange (http_exchange.c) borrows one of those.
#include "dataplane/http.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "dataplane/http_impl.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_MS = 10000,
    STALL_MS = 60000,
    LANES_KEPT = 32,
    WAIT_STEP_MS = 1000, // so often stalls are looked for
};

struct http_pool {
    struct http_pool_options options;
    char *ca_file, *proxy;
    pthread_mutex_t lock;
    struct http_lane *idle; // under the lock; the one used last comes first
    uint32_t n_idle;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

static void start_curl(void) {
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "http", NULL, 0, NULL);
}

enum err http_pool_new(const struct http_pool_options *o, struct http_pool **ret_pool,
                       struct failure *ret_failure) {
    pthread_once(&curl_once, start_curl);
    struct http_pool *p = curl_started == CURLE_OK ? calloc(1, sizeof *p) : NULL;
    if (p == NULL) {
        return no_memory(ret_failure);
    }
    p->options = *o;
    p->options.connect_ms = o->connect_ms != 0 ? o->connect_ms : CONNECT_MS;
    p->options.stall_ms = o->stall_ms != 0 ? o->stall_ms : STALL_MS;
    p->options.lanes_kept = o->lanes_kept != 0 ? o->lanes_kept : LANES_KEPT;
    pthread_mutex_init(&p->lock, NULL);
    p->ca_file = o->ca_file != NULL ? strdup(o->ca_file) : NULL;
    p->proxy = o->proxy != NULL ? strdup(o->proxy) : NULL;
    if ((o->ca_file != NULL && p->ca_file == NULL) || (o->proxy != NULL && p->proxy == NULL)) {
        http_pool_free(p);
        return no_memory(ret_failure);
    }
    *ret_pool = p;
    return OK;
}

static void lane_free(struct http_lane *l) {
    while (l->stock != NULL) {
        struct http_exchange *x = l->stock;
        l->stock = x->next;
        http_exchange_free(x);
    }
    if (l->multi != NULL) {
        curl_multi_cleanup(l->multi);
    }
    free(l);
}

void http_pool_free(struct http_pool *p) {
    if (p == NULL) {
        return;
    }
    while (p->idle != NULL) {
        struct http_lane *l = p->idle;
        p->idle = l->next;
        lane_free(l);
    }
    pthread_mutex_destroy(&p->lock);
    free(p->ca_file);
    free(p->proxy);
    free(p);
}

enum err http_pool_take(struct http_pool *p, struct http_lane **ret_lane,
                        struct failure *ret_failure) {
    pthread_mutex_lock(&p->lock);
    struct http_lane *l = p->idle;
    if (l != NULL) {
        p->idle = l->next;
        p->n_idle--;
    }
    pthread_mutex_unlock(&p->lock);
    if (l == NULL) {
        l = calloc(1, sizeof *l);
        if (l == NULL) {
            return no_memory(ret_failure);
        }
        l->multi = curl_multi_init();
        if (l->multi == NULL) {
            lane_free(l);
            return no_memory(ret_failure);
        }
        l->ca_file = p->ca_file;
        l->proxy = p->proxy;
        l->connect_ms = p->options.connect_ms;
        l->stall_ms = p->options.stall_ms;
    }
    l->next = NULL;
    atomic_store(&l->aborted, false);
    *ret_lane = l;
    return OK;
}

void http_pool_give_back(struct http_pool *p, struct http_lane *l) {
    if (l == NULL) {
        return;
    }
    bool is_kept = false;
    pthread_mutex_lock(&p->lock);
    if (p->n_idle < p->options.lanes_kept) {
        l->next = p->idle;
        p->idle = l;
        p->n_idle++;
        is_kept = true;
    }
    pthread_mutex_unlock(&p->lock);
    if (!is_kept) {
        lane_free(l);
    }
}

void http_lane_abort(struct http_lane *l) {
    atomic_store(&l->aborted, true);
    (void)curl_multi_wakeup(l->multi);
}

bool http_lane_is_aborted(const struct http_lane *l) {
    return atomic_load(&l->aborted);
}

static enum err check_aborted(const struct http_lane *l, struct failure *ret_failure) {
    return http_lane_is_aborted(l) ? failure_set(ret_failure, ERR_CANCELLED, "http", NULL, 0, NULL)
                                   : OK;
}

enum err http_lane_pump(struct http_lane *l, struct failure *ret_failure) {
    int n_running = 0, n_messages = 0;
    enum err e = check_aborted(l, ret_failure);
    if (e != OK) {
        return e;
    }
    CURLMcode code = curl_multi_perform(l->multi, &n_running);
    if (code != CURLM_OK) {
        return code == CURLM_OUT_OF_MEMORY ? no_memory(ret_failure)
                                           : failure_set(ret_failure, ERR_INTERNAL, "http", NULL, 0,
                                                         "%s", curl_multi_strerror(code));
    }
    for (;;) {
        const CURLMsg *m = curl_multi_info_read(l->multi, &n_messages);
        if (m == NULL) {
            break;
        }
        char *owner = NULL;
        if (m->msg == CURLMSG_DONE &&
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner) == CURLE_OK) {
            http_exchange_ended((struct http_exchange *)(void *)owner, m->data.result);
        }
    }
    http_lane_find_stalled(l, clock_mono_us() / 1000);
    return OK;
}

enum err http_lane_wait(struct http_lane *l, uint32_t ms, struct failure *ret_failure) {
    int timeout_ms = ms < WAIT_STEP_MS ? (int)ms : WAIT_STEP_MS;
    CURLMcode code = curl_multi_poll(l->multi, NULL, 0, timeout_ms, NULL);
    if (code != CURLM_OK) {
        return failure_set(ret_failure, ERR_INTERNAL, "http", NULL, 0, "%s",
                           curl_multi_strerror(code));
    }
    return http_lane_pump(l, ret_failure);
}
