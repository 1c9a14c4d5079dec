// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_rdma.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "dataplane/conn_pool.h"
#include "dataplane/transport_rdma.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err agent_rdma_start(struct agent_rdma *r, const struct agent_options *o,
                          const struct data_server_options *server, struct failure *ret_failure) {
    *r = (struct agent_rdma){0};
    if (o->rdma_listen == NULL) {
        return OK;
    }
    struct failure f = {0};
    struct transport_rdma_options to = {.pool_bytes = o->rdma_pool_bytes};
    enum err e = transport_rdma_new(&to, &r->transport, &f);
    if (e == OK) {
        struct data_server_options so = *server;
        so.transport = r->transport;
        so.listen = o->rdma_listen;
        e = data_server_new(&so, &r->server, &f);
    }
    if (e != OK) {
        log_event(LOG_WARN, "rdma_not_available", LOG_STR("address", o->rdma_listen),
                  LOG_STR("transport", "tcp"), LOG_FAILURE(&f));
        agent_rdma_stop(r);
        return OK;
    }
    const char *listening = data_server_address(r->server);
    if (asprintf(&r->address, CONN_RDMA_PREFIX "%s", listening) < 0) {
        r->address = NULL;
        return failure_set(ret_failure, ERR_NO_MEMORY, "start", "rdma", strlen("rdma"), NULL);
    }
    log_event(LOG_INFO, "rdma_available", LOG_STR("address", listening),
              LOG_U64("pool_bytes", o->rdma_pool_bytes));
    return OK;
}

void agent_rdma_stop(struct agent_rdma *r) {
    data_server_free(r->server);
    transport_free(r->transport);
    free(r->address);
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
    if (o->rdma_listen == NULL) {
        return OK; // nothing was asked for
    }
    if (e != OK) {
        *ret_failure = f;
        return e;
    }
    if (usable == 0) {
        e = failure_set(ret_failure, ERR_NOT_FOUND, "use rdma", o->rdma_listen,
                        strlen(o->rdma_listen), "no RDMA device can be used: %s: %.180s",
                        reports[0].name, reports[0].why);
        failure_remedy(ret_failure, "see the lines above; without rdma: in the configuration the "
                                    "agent uses TCP");
    }
    return e;
}
