// SPDX-License-Identifier: Apache-2.0
// grpc.health.v1.Health, as https://github.com/grpc/grpc/blob/master/doc/health-checking.md has it.
#include "common/rpc/rpc.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/rpc_impl.h"
#include "grpc/health/v1/health.pb-c.h"

#include <stdlib.h>

typedef Grpc__Health__V1__HealthCheckRequest Request;
typedef Grpc__Health__V1__HealthCheckResponse Response;

enum {
    SERVING = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING,
    NOT_SERVING = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING,
    SERVICE_UNKNOWN = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN,
};

struct watcher {
    struct watcher *next;
    struct rpc *rpc;
    bool known;    // the service that it asks for
    int last_told; // -1: nothing yet
};

// One for each loop, and of its thread.
struct watch_list {
    struct rpc_health *health;
    struct loop *loop;
    struct watcher *first;
};

struct rpc_health {
    struct rpc_server *server;
    atomic_bool serving;
    size_t n_lists;
    struct watch_list lists[];
};

static int status_now(const struct rpc_health *h) {
    return atomic_load(&h->serving) ? SERVING : NOT_SERVING;
}

static void tell(struct rpc *r, int status) {
    Response m = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    m.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    rpc_send(r, &m.base);
}

static bool is_known(const struct rpc_health *h, const char *service) {
    return service[0] == '\0' || rpc_server_has_service(h->server, service);
}

static void check(struct rpc *r, const ProtobufCMessage *m) {
    struct rpc_health *h = rpc_server_user(r);
    if (!is_known(h, ((const Request *)m)->service)) {
        rpc_finish(r, GRPC_STATUS_NOT_FOUND, "no such service");
        return;
    }
    tell(r, status_now(h));
    rpc_finish(r, GRPC_STATUS_OK, NULL);
}

static void tell_watcher(const struct rpc_health *h, struct watcher *w) {
    int status = w->known ? status_now(h) : SERVICE_UNKNOWN;
    if (status != w->last_told) {
        w->last_told = status;
        tell(w->rpc, status);
    }
}

static struct watch_list *list_of(struct rpc_health *h, const struct loop *l) {
    for (size_t i = 0; i < h->n_lists; i++) {
        if (h->lists[i].loop == l) {
            return &h->lists[i];
        }
    }
    return NULL;
}

static void watch(struct rpc *r, const ProtobufCMessage *m) {
    struct rpc_health *h = rpc_server_user(r);
    struct watch_list *list = list_of(h, rpc_loop(r));
    struct watcher *w = calloc(1, sizeof *w);
    if (w == NULL) {
        rpc_finish(r, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *w = (struct watcher){.next = list->first,
                          .rpc = r,
                          .known = is_known(h, ((const Request *)m)->service),
                          .last_told = -1};
    list->first = w;
    rpc_set_user(r, w);
    tell_watcher(h, w);
}

static void watch_closed(struct rpc *r, const struct rpc_status *status) {
    struct rpc_health *h = rpc_server_user(r);
    struct watcher *w = rpc_user(r);
    (void)status;
    if (w == NULL) {
        return;
    }
    struct watcher **at = &list_of(h, rpc_loop(r))->first;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    free(w);
}

static void tell_list(void *arg) {
    struct watch_list *list = arg;
    for (struct watcher *w = list->first; w != NULL; w = w->next) {
        tell_watcher(list->health, w);
    }
    rpc_server_unref(list->health->server);
}

void rpc_health_set_serving(struct rpc_server *s, bool serving) {
    struct rpc_health *h = rpc_server_health(s);
    if (h == NULL || atomic_exchange(&h->serving, serving) == serving) {
        return;
    }
    for (size_t i = 0; i < h->n_lists; i++) {
        rpc_server_ref(s);
        loop_post(h->lists[i].loop, tell_list, &h->lists[i]);
    }
}

void rpc_health_add(struct rpc_server *s) {
    static const struct rpc_method methods[] = {
        {.path = "/grpc.health.v1.Health/Check",
         .input = &grpc__health__v1__health_check_request__descriptor,
         .message = check},
        {.path = "/grpc.health.v1.Health/Watch",
         .input = &grpc__health__v1__health_check_request__descriptor,
         .message = watch,
         .closed = watch_closed},
    };
    size_t n = 0;
    struct loop *const *loops = rpc_server_loops(s, &n);
    struct rpc_health *h = calloc(1, sizeof *h + n * sizeof h->lists[0]);
    if (h == NULL || !rpc_server_at_free(s, free, h)) {
        free(h); // survived: the service is absent
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "add the health service"));
        return;
    }
    h->server = s;
    h->n_lists = n;
    atomic_init(&h->serving, true);
    for (size_t i = 0; i < n; i++) {
        h->lists[i] = (struct watch_list){.health = h, .loop = loops[i]};
    }
    rpc_server_set_health(s, h);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        rpc_server_add(s, &methods[i], h);
    }
}
