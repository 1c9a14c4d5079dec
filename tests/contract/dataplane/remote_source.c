// SPDX-License-Identifier: Apache-2.0
#include "remote_source.h"

#include "tests/lib/test.h"

#include "common/clock.h"
#include "dataplane/conn_pool.h"
#include "dataplane/data_server.h"
#include "dataplane/source_agent.h"
#include "dataplane/transport_tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTER "01HZZZZZZZZZZZZZZZZZZZZZZZ"

struct remote_source {
    int root_fd;
    struct transport *transport;
    struct data_server *server;
    struct conn_pool *pool;
    struct signing_key *master, *executor;
    const char *address;
    uint8_t ticket[TICKET_MAX_BYTES];
    struct source_agent_peer peer;
};

static enum err open_volume(void *user, const char *volume, int *ret_fd, struct failure *f) {
    const struct remote_source *r = user;

    (void)volume;
    *ret_fd = fcntl(r->root_fd, F_DUPFD_CLOEXEC, 0);
    return *ret_fd >= 0 ? OK : failure_errno(f, errno, "open volume", NULL, 0);
}

struct remote_source *remote_source_new(int root_fd, const uint8_t *table, size_t table_len,
                                        struct source **ret_source) {
    struct remote_source *r = calloc(1, sizeof(*r));
    struct ticket t = {.cluster = CLUSTER,
                       .task_id = 1,
                       .executor = "executor",
                       .source = "source",
                       .direction = TICKET_READ,
                       .digest = HASH_XXH3_128,
                       .expires_ms = clock_wall_ms(&clock_system) + 3600 * 1000,
                       .volume = "volume"};
    uint8_t master_public[SIGNING_KEY_BYTES];

    assert_non_null(r);
    r->root_fd = root_fd;
    assert_ok(transport_tcp_new(&r->transport));
    assert_ok(signing_key_generate(&r->master));
    assert_ok(signing_key_generate(&r->executor));
    assert_ok(data_server_new(&(struct data_server_options){.transport = r->transport,
                                                            .listen = "127.0.0.1:0",
                                                            .agent = t.source,
                                                            .open_volume = open_volume,
                                                            .user = r},
                              &r->server, NULL));
    signing_key_public(r->master, master_public);
    data_server_set_authority(r->server, CLUSTER, master_public);
    assert_ok(conn_pool_new(
        &(struct conn_pool_options){
            .transport = r->transport, .cluster = CLUSTER, .agent = t.executor, .key = r->executor},
        &r->pool));
    signing_key_public(r->executor, t.executor_key);
    sha256(table, table_len, t.objects_sha256);
    r->address = data_server_address(r->server);
    r->peer = (struct source_agent_peer){
        .name = "source", .addresses = &r->address, .n_addresses = 1, .ticket = r->ticket};
    assert_ok(ticket_sign(&t, r->master, r->ticket, sizeof(r->ticket), &r->peer.ticket_len));
    assert_ok(source_agent_new(&(struct source_agent_options){.pool = r->pool,
                                                              .peers = &r->peer,
                                                              .n_peers = 1,
                                                              .objects = table,
                                                              .objects_len = table_len,
                                                              .task_id = 1,
                                                              .digest = HASH_XXH3_128},
                               ret_source, NULL));
    return r;
}

void remote_source_free(struct remote_source *r) {
    if (!r) {
        return;
    }
    conn_pool_free(r->pool);
    data_server_free(r->server);
    transport_free(r->transport);
    signing_key_free(r->master);
    signing_key_free(r->executor);
    free(r);
}
