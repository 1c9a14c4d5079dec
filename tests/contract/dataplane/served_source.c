// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/dataplane/served_source.h"

#include "common/clock.h"
#include "common/ticket.h"
#include "dataplane/conn_pool.h"
#include "dataplane/data_server.h"
#include "dataplane/source_agent.h"
#include "dataplane/transport.h"
#include "dataplane/transport_memory.h"

static const char cluster[] = "01HZZZZZZZZZZZZZZZZZZZZZZZ";

static struct {
    int root_fd;
    struct transport *transport;
    struct data_server *server;
    struct conn_pool *pool;
    struct signing_key *master, *executor;
    uint8_t ticket[TICKET_MAX_BYTES];
    size_t ticket_len;
} served;

static enum err open_volume(void *user, const char *volume, int *ret_fd, struct failure *f) {
    (void)user;
    *ret_fd = openat(served.root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd >= 0 ? OK : failure_errno(f, errno, "open volume", volume, strlen(volume));
}

static void serve(const struct tree *t) {
    uint8_t master_public[SIGNING_KEY_BYTES];
    served.root_fd = t->fd;
    assert_ok(signing_key_generate(&served.master));
    assert_ok(signing_key_generate(&served.executor));
    assert_ok(transport_memory_new(&served.transport));
    assert_ok(data_server_new(&(struct data_server_options){.transport = served.transport,
                                                            .listen = "mem:0",
                                                            .agent = "source-1",
                                                            .open_volume = open_volume},
                              &served.server, NULL));
    signing_key_public(served.master, master_public);
    data_server_set_authority(served.server, cluster, master_public);
    assert_ok(conn_pool_new(&(struct conn_pool_options){.transport = served.transport,
                                                        .cluster = cluster,
                                                        .agent = "executor-1",
                                                        .key = served.executor},
                            &served.pool));
}

static void sign(const uint8_t *objects, size_t len) {
    struct ticket ticket = {
        .cluster = "01HZZZZZZZZZZZZZZZZZZZZZZZ",
        .flow = "01HZZZZZZZZZZZZZZZZZZZZZZY",
        .revision = 1,
        .task_id = 7,
        .term = 1,
        .counter = 1,
        .executor = "executor-1",
        .source = "source-1",
        .direction = TICKET_READ,
        .digest = HASH_XXH3_128,
        .expires_ms = clock_wall_ms(&clock_system) + 3600 * 1000,
        .volume = "data",
    };
    signing_key_public(served.executor, ticket.executor_key);
    sha256(objects, len, ticket.objects_sha256);
    assert_ok(ticket_sign(&ticket, served.master, served.ticket, sizeof(served.ticket),
                          &served.ticket_len));
}

struct source *served_source_new(const struct tree *t, struct tree_table *l) {
    const uint8_t *objects;
    size_t len;
    struct source *s;
    serve(t);
    assert_ok(object_table_bytes(&l->builder, &objects, &len));
    sign(objects, len);
    const char *address = data_server_address(served.server);
    static struct source_agent_peer peer;
    static const char *addresses[1];
    addresses[0] = address;
    peer = (struct source_agent_peer){.name = "source-1",
                                      .addresses = addresses,
                                      .n_addresses = 1,
                                      .ticket = served.ticket,
                                      .ticket_len = served.ticket_len};
    assert_ok(source_agent_new(&(struct source_agent_options){.pool = served.pool,
                                                              .peers = &peer,
                                                              .n_peers = 1,
                                                              .objects = objects,
                                                              .objects_len = len,
                                                              .task_id = 7,
                                                              .digest = HASH_XXH3_128},
                               &s, NULL));
    return s;
}

void served_source_end(void) {
    conn_pool_free(served.pool);
    data_server_free(served.server);
    transport_free(served.transport);
    signing_key_free(served.master);
    signing_key_free(served.executor);
    memset(&served, 0, sizeof(served));
}
