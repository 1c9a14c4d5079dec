// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/rpc.h"

#include "common/address.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/rpc/rpc_impl.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_CONCURRENT_STREAMS = 1000, // on one connection
    MAX_METADATA_BYTES = 16 << 10,
    KEEPALIVE_MS = 10000, // a silent client is noticed after this and the time-out
    KEEPALIVE_TIMEOUT_MS = 5000,
    MIN_PING_INTERVAL_MS = 200, // agents may ping this often
    HANDSHAKE_TIMEOUT_MS = 10000,
    IDLE_MS = 600000, // a connection without a call is closed; whoever has one connects again
    LISTENERS_MAX = 4,
};

struct served_method {
    struct served_method *next;
    const struct rpc_method *method;
    void *user;
};

struct at_free {
    struct at_free *next;
    void (*fn)(void *);
    void *arg;
};

struct rpc_server {
    grpc_server *server;
    struct loop **loops;
    size_t n_loops;
    // Constant once started.
    struct served_method *methods;
    struct rpc_health *health;
    struct at_free *at_free;
    void *tls_states[LISTENERS_MAX];
    size_t n_tls_states;
    bool started;
    const char *max_calls_setting;
    uint32_t max_calls; // 0: no limit
    // Any thread. Calls, and the drain until it has begun and its event has come.
    _Atomic size_t n_refs;
    _Atomic uint32_t n_calls;
    _Atomic uint64_t n_refused;
    _Atomic uint64_t largest_bytes; // of the messages that came
    _Atomic uint64_t n_messages_refused;
    // Loop 0.
    struct event on_drained;
    struct loop_timer *grace;
    int64_t grace_ms;
    void (*done)(void *);
    void *done_arg;
};

// ---- life ----

static grpc_arg int_arg(const char *key, int value) {
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_server *create_server(uint32_t max_bytes) {
    grpc_arg args[] = {
        // Without it a second server on the same port succeeds, and takes half of the calls.
        int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)max_bytes),
        int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RPC_MAX_MESSAGE_BYTES),
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, MAX_CONCURRENT_STREAMS),
        int_arg(GRPC_ARG_MAX_METADATA_SIZE, MAX_METADATA_BYTES),
        int_arg(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS),
        int_arg(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS),
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, MIN_PING_INTERVAL_MS),
    };
    const grpc_channel_args all = {.num_args = ARRAY_LEN(args), .args = args};
    return grpc_server_create(&all, NULL);
}

struct rpc_server *rpc_server_new(struct loop *const *loops, size_t n_loops) {
    return rpc_server_new_bounded(loops, n_loops, RPC_MAX_MESSAGE_BYTES);
}

struct rpc_server *rpc_server_new_bounded(struct loop *const *loops, size_t n_loops,
                                          uint32_t max_bytes) {
    struct rpc_server *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->loops = malloc(n_loops * sizeof(struct loop *));
    s->n_loops = n_loops;
    atomic_init(&s->n_refs, 1);
    if (s->loops == NULL) {
        free(s);
        return NULL;
    }
    memcpy(s->loops, loops, n_loops * sizeof(struct loop *));
    grpc_hold();
    s->server = create_server(max_bytes);
    for (size_t i = 0; i < n_loops; i++) {
        grpc_server_register_completion_queue(s->server, loop_queue(loops[i]), NULL);
    }
    return s;
}

static void release(struct rpc_server *s) {
    grpc_server_destroy(s->server);
    while (s->at_free != NULL) {
        struct at_free *a = s->at_free;
        s->at_free = a->next;
        a->fn(a->arg);
        free(a);
    }
    while (s->methods != NULL) {
        struct served_method *m = s->methods;
        s->methods = m->next;
        free(m);
    }
    for (size_t i = 0; i < s->n_tls_states; i++) {
        rpc_tls_server_state_free(s->tls_states[i]);
    }
    free(s->loops);
    free(s);
    grpc_release();
}

static void never_started_closed(struct event *e, bool ok) {
    (void)ok;
    release(CONTAINER_OF(e, struct rpc_server, on_drained));
}

void rpc_server_free(struct rpc_server *s) {
    if (s == NULL) {
        return;
    }
    if (s->started) { // and drained, so that nothing is left of it
        release(s);
        return;
    }
    // It may have ports, which only a shutdown closes: the rest follows in the loop.
    s->on_drained.fire = never_started_closed;
    grpc_server_shutdown_and_notify(s->server, loop_queue(s->loops[0]), &s->on_drained);
}

void rpc_server_add(struct rpc_server *s, const struct rpc_method *m, void *user) {
    struct served_method *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "add a method"),
                  LOG_STR("method", m->path));
        abort(); // at the start of a server; one that lacks a method must not run
    }
    *entry = (struct served_method){.next = s->methods, .method = m, .user = user};
    s->methods = entry;
}

static struct served_method *find_method(const struct rpc_server *s, grpc_slice path) {
    for (struct served_method *m = s->methods; m != NULL; m = m->next) {
        if (grpc_slice_str_cmp(path, m->method->path) == 0) {
            return m;
        }
    }
    return NULL;
}

// ---- the limits of calls and of messages ----

void rpc_server_limit_calls(struct rpc_server *s, uint32_t max, const char *setting) {
    s->max_calls = max;
    s->max_calls_setting = setting;
}

void rpc_server_count_calls(const struct rpc_server *s, uint32_t *ret_open, uint64_t *ret_refused) {
    *ret_open = atomic_load(&s->n_calls);
    *ret_refused = atomic_load(&s->n_refused);
}

void rpc_server_call_over(struct rpc_server *s) {
    atomic_fetch_sub(&s->n_calls, 1);
}

void rpc_server_message_came(struct rpc_server *s, size_t bytes) {
    uint64_t largest = atomic_load(&s->largest_bytes);
    while (bytes > largest && !atomic_compare_exchange_weak(&s->largest_bytes, &largest, bytes)) {
    }
}

void rpc_server_message_refused(struct rpc_server *s) {
    atomic_fetch_add(&s->n_messages_refused, 1);
}

void rpc_server_count_messages(const struct rpc_server *s, uint64_t *ret_largest_bytes,
                               uint64_t *ret_refused) {
    *ret_largest_bytes = atomic_load(&s->largest_bytes);
    *ret_refused = atomic_load(&s->n_messages_refused);
}

// False: it is one too many.
static bool count_call(struct rpc_server *s, struct rpc *r) {
    if (atomic_fetch_add(&s->n_calls, 1) >= s->max_calls && s->max_calls > 0) {
        atomic_fetch_sub(&s->n_calls, 1);
        atomic_fetch_add(&s->n_refused, 1);
        return false;
    }
    r->counted = true;
    return true;
}

static void refuse_call(struct rpc *r) {
    struct failure f = {0};
    (void)failure_set(&f, ERR_FULL, "call", NULL, 0, "%u calls are open, and no more are allowed",
                      r->server->max_calls);
    failure_remedy(&f, "call again later, or raise %s", r->server->max_calls_setting);
    rpc_finish_failure(r, &f);
}

// ---- for the built-in services ----

void rpc_server_ref(struct rpc_server *s) {
    atomic_fetch_add(&s->n_refs, 1);
}

static void drained(void *arg) {
    struct rpc_server *s = arg;
    loop_timer_free(take_ptr(s->grace));
    s->done(s->done_arg); // may free @s
}

void rpc_server_unref(struct rpc_server *s) {
    if (atomic_fetch_sub(&s->n_refs, 1) == 1) {
        loop_post(s->loops[0], drained, s);
    }
}

struct loop *const *rpc_server_loops(const struct rpc_server *s, size_t *ret_n) {
    *ret_n = s->n_loops;
    return s->loops;
}

bool rpc_server_has_service(const struct rpc_server *s, const char *name) {
    size_t len = strlen(name);
    for (const struct served_method *m = s->methods; m != NULL; m = m->next) {
        const char *path = m->method->path + 1;
        if (strncmp(path, name, len) == 0 && path[len] == '/') {
            return true;
        }
    }
    return false;
}

bool rpc_server_at_free(struct rpc_server *s, void (*fn)(void *), void *arg) {
    struct at_free *a = malloc(sizeof *a);
    if (a == NULL) {
        return false;
    }
    *a = (struct at_free){.next = s->at_free, .fn = fn, .arg = arg};
    s->at_free = a;
    return true;
}

void rpc_server_set_health(struct rpc_server *s, struct rpc_health *h) {
    s->health = h;
}

struct rpc_health *rpc_server_health(const struct rpc_server *s) {
    return s->health;
}

// ---- listening ----

// gRPC does not say why it could not listen: try the same by hand.
static int find_out_why(const struct address *a) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char port[16];
    int errnum = 0;
    snprintf(port, sizeof port, "%d", a->port);
    if (getaddrinfo(a->host, port, &hints, &found) != 0) {
        return EADDRNOTAVAIL;
    }
    for (const struct addrinfo *i = found; i != NULL && errnum == 0; i = i->ai_next) {
        AUTO(auto_close) int fd = socket(i->ai_family, i->ai_socktype | SOCK_CLOEXEC, 0);
        int on = 1;
        if (fd < 0) {
            errnum = errno;
            break;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, i->ai_addr, i->ai_addrlen) != 0 || listen(fd, 1) != 0) {
            errnum = errno;
        }
    }
    freeaddrinfo(found);
    return errnum;
}

static enum err credentials_for(struct rpc_server *s, const char *addr, const struct rpc_tls *tls,
                                grpc_server_credentials **ret_credentials,
                                struct failure *ret_failure) {
    if (tls == NULL) {
        *ret_credentials = grpc_insecure_server_credentials_create();
        return address_check_plaintext(addr, ret_failure);
    }
    if (tls->certificate == NULL || tls->key == NULL) {
        return failure_set(ret_failure, ERR_CONFIG, "listen on", addr, strlen(addr),
                           "TLS needs a certificate and a key");
    }
    enum err err = rpc_tls_check(tls, ret_failure);
    if (err != OK) {
        return err;
    }
    void *state = NULL;
    if (s->n_tls_states == LISTENERS_MAX ||
        (*ret_credentials = rpc_tls_server_credentials(tls, &state)) == NULL) {
        return failure_set(ret_failure, ERR_FULL, "listen on", addr, strlen(addr), NULL);
    }
    s->tls_states[s->n_tls_states++] = state;
    return OK;
}

enum err rpc_server_listen(struct rpc_server *s, const char *addr, const struct rpc_tls *tls,
                           int *ret_port, struct failure *ret_failure) {
    struct address a;
    grpc_server_credentials *credentials = NULL;
    enum err err = address_parse(addr, &a, ret_failure);
    if (err != OK) {
        return err;
    }
    err = credentials_for(s, addr, tls, &credentials, ret_failure);
    int port = 0;
    if (err == OK) {
        port = grpc_server_add_http2_port(s->server, addr, credentials);
    }
    grpc_server_credentials_release(credentials);
    if (err != OK) {
        return err;
    }
    if (port <= 0 || (a.port != 0 && port != a.port)) {
        int why = find_out_why(&a);
        return why != 0 ? failure_errno(ret_failure, why, "listen on", addr, strlen(addr))
                        : failure_set(ret_failure, ERR_IO, "listen on", addr, strlen(addr),
                                      "the address cannot be used");
    }
    *ret_port = port;
    return OK;
}

// ---- accepting ----

static void accept_next(struct rpc_server *s, struct loop *l);

static const struct rpc_method unknown_method = {.path = ""};

// A call has come in, or the server closes.
static void call_started(struct event *e, bool ok) {
    struct rpc *r = CONTAINER_OF(e, struct rpc, on_start);
    if (!ok) {
        r->call = NULL;
        rpc_free(r);
        return;
    }
    struct rpc_server *s = r->server;
    accept_next(s, r->loop);
    r->pending = 1; // this event
    r->deadline = r->details.deadline;
    bool has_room = count_call(s, r);
    const struct served_method *m = has_room ? find_method(s, r->details.method) : NULL;
    r->method = m != NULL ? m->method : &unknown_method;
    r->method_user = m != NULL ? m->user : NULL;

    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &r->cancelled;
    rpc_batch(r, &op, 1, &r->on_end);
    if (!has_room) {
        refuse_call(r);
    } else if (m == NULL) {
        rpc_finish(r, GRPC_STATUS_UNIMPLEMENTED, "no such method");
    } else {
        if (r->method->opened != NULL) {
            r->method->opened(r);
        }
        rpc_read_next(r);
    }
    rpc_settle(r);
}

// A method that nobody asks for would hang its caller: one request is always open.
static void accept_next(struct rpc_server *s, struct loop *l) {
    struct rpc *r = rpc_alloc(l);
    if (r == NULL) {
        log_event(LOG_ERROR, "out_of_memory", LOG_STR("operation", "accept calls"));
        abort(); // a server that runs and accepts nothing would be worse
    }
    r->server = s;
    rpc_server_ref(s);
    r->on_start.fire = call_started;
    if (grpc_server_request_call(s->server, &r->call, &r->details, &r->initial, loop_queue(l),
                                 loop_queue(l), &r->on_start) != GRPC_CALL_OK) {
        rpc_free(r);
    }
}

void rpc_server_start(struct rpc_server *s) {
    s->started = true;
    grpc_server_start(s->server);
    for (size_t i = 0; i < s->n_loops; i++) {
        accept_next(s, s->loops[i]);
    }
}

// ---- draining ----

static void cancel_all(void *arg) {
    struct rpc_server *s = arg;
    grpc_server_cancel_all_calls(s->server);
}

static void shutdown_done(struct event *e, bool ok) {
    (void)ok;
    rpc_server_unref(CONTAINER_OF(e, struct rpc_server, on_drained));
}

static void begin_drain(void *arg) {
    struct rpc_server *s = arg;
    s->on_drained.fire = shutdown_done;
    grpc_server_shutdown_and_notify(s->server, loop_queue(s->loops[0]), &s->on_drained);
    s->grace = s->grace_ms > 0 ? loop_timer_new(s->loops[0], cancel_all, s) : NULL;
    if (s->grace != NULL) {
        loop_timer_arm(s->grace, s->grace_ms);
    } else {
        cancel_all(s);
    }
}

void rpc_server_drain(struct rpc_server *s, int64_t grace_ms, void (*done)(void *), void *arg) {
    s->grace_ms = grace_ms;
    s->done = done;
    s->done_arg = arg;
    loop_post(s->loops[0], begin_drain, s);
}
