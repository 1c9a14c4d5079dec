// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_rdma.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dataplane/conn_pool.h"
#include "dataplane/transport_rdma.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_not_available(const char *address, const struct failure *reason) {
    log_event(LOG_WARN, "rdma_not_available", LOG_STR("address", address),
              LOG_STR("transport", "tcp"), LOG_FAILURE(reason));
}

// A rail that cannot be used is left out. ERR_NO_MEMORY.
static enum err start_rail(struct agent_rdma *r, const char *listen,
                           const struct data_server_options *server, struct failure *ret_failure) {
    struct agent_rail *rail = &r->rails[r->n];
    struct data_server_options so = *server;
    struct failure f = {0};
    so.transport = r->transport;
    so.listen = listen;
    if (data_server_new(&so, &rail->server, &f) != OK) {
        log_not_available(listen, &f);
        return OK;
    }
    r->n++;
    const char *listening = data_server_address(rail->server);
    if (asprintf(&rail->address, CONN_RDMA_PREFIX "%s", listening) < 0) {
        rail->address = NULL;
        return failure_set(ret_failure, ERR_NO_MEMORY, "start", "rdma", strlen("rdma"), NULL);
    }
    log_event(LOG_INFO, "rdma_available", LOG_STR("address", listening));
    return OK;
}

enum err agent_rdma_start(struct agent_rdma *r, const struct agent_options *o,
                          const struct data_server_options *server, struct failure *ret_failure) {
    *r = (struct agent_rdma){0};
    if (o->n_rails == 0) {
        return OK;
    }
    struct failure f = {0};
    struct transport_rdma_options to = {.pool_bytes = o->rdma_pool_bytes};
    if (transport_rdma_new(&to, &r->transport, &f) != OK) {
        log_not_available(o->rails[0], &f);
        return OK;
    }
    enum err e = OK;
    for (size_t i = 0; i < o->n_rails && e == OK; i++) {
        e = start_rail(r, o->rails[i], server, ret_failure);
    }
    if (r->n == 0) {
        agent_rdma_stop(r);
    }
    return e;
}

void agent_rdma_set_authority(struct agent_rdma *r, const char *cluster,
                              const uint8_t ticket_key[SIGNING_KEY_BYTES]) {
    for (size_t i = 0; i < r->n; i++) {
        data_server_set_authority(r->rails[i].server, cluster, ticket_key);
    }
}

uint64_t agent_rdma_bytes_served(const struct agent_rdma *r) {
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += data_server_bytes_served(r->rails[i].server);
    }
    return sum;
}

void agent_rdma_stop(struct agent_rdma *r) {
    for (size_t i = 0; i < r->n; i++) {
        data_server_free(r->rails[i].server);
        free(r->rails[i].address);
    }
    transport_free(r->transport);
    *r = (struct agent_rdma){0};
}

static void print_device(const struct rdma_device_report *d) {
    printf("RDMA device %s", d->name);
    if (d->interface[0] != '\0') {
        printf(" on %s", d->interface);
    }
    if (d->rate_bit_s > 0) {
        printf(", %.4g Gbit/s", (double)d->rate_bit_s / 1e9);
    }
    if (d->numa_node >= 0) {
        printf(", NUMA node %d", d->numa_node);
    }
    if (d->why[0] != '\0') {
        printf(": cannot be used: %s\n", d->why);
    } else {
        printf(": can be used%s%s\n", d->advice[0] != '\0' ? ", but " : "", d->advice);
    }
}

enum err agent_rdma_check(const struct agent_options *o, struct failure *ret_failure) {
    AUTO(auto_free)
    struct rdma_device_report *reports = calloc(RDMA_REPORTS_MAX, sizeof *reports);
    struct failure f = {0};
    size_t n = 0, usable = 0;
    if (reports == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "check", "rdma", strlen("rdma"), NULL);
    }
    enum err e = transport_rdma_check(o->rdma_pool_bytes, reports, &n, &f);
    for (size_t i = 0; i < n; i++) {
        print_device(&reports[i]);
        usable += reports[i].why[0] == '\0';
    }
    if (o->n_rails == 0) {
        return OK; // nothing was asked for
    }
    if (e != OK) {
        *ret_failure = f;
        return e;
    }
    if (usable == 0) {
        e = failure_set(ret_failure, ERR_NOT_FOUND, "use rdma", o->rails[0], strlen(o->rails[0]),
                        "no RDMA device can be used: %s: %.180s", reports[0].name, reports[0].why);
        failure_remedy(ret_failure, "see the lines above; without rdma: in the configuration the "
                                    "agent uses TCP");
    }
    return e;
}
