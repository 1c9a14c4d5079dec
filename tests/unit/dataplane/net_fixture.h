// SPDX-License-Identifier: Apache-2.0
// What tests of the data connection share: a directory with files, keys, tickets, and data
// servers that serve the directory over a transport within the process; or over RDMA, where
// SLUICE_TEST_RDMA is the address of a device.
#ifndef TESTS_UNIT_DATAPLANE_NET_FIXTURE_H
#define TESTS_UNIT_DATAPLANE_NET_FIXTURE_H

#include "tests/lib/test.h"

#include "common/hash.h"
#include "common/object_table.h"
#include "common/ticket.h"
#include "dataplane/conn_pool.h"
#include "dataplane/data_server.h"
#include "dataplane/source.h"

#include <stdbool.h>

#define NET_CLUSTER  "01HZZZZZZZZZZZZZZZZZZZZZZZ"
#define NET_FLOW     "01HZZZZZZZZZZZZZZZZZZZZZZY"
#define NET_EXECUTOR "executor-1"
#define NET_SOURCE   "source-1"

enum { NET_TASK = 7 };

struct net {
    char dir[64]; // the volume's root
    struct transport *transport;
    char listen[64];            // where its servers listen
    struct data_server *server; // NET_SOURCE's
    struct signing_key *master, *executor;
    uint8_t master_public[SIGNING_KEY_BYTES];
    struct conn_pool *pool;
    struct object_table_builder objects;
    const uint8_t *table;
    size_t table_len;
    struct ticket ticket; // as net_ticket() signs it
};

// A server that has its authority; no files yet.
void net_init(struct net *n);
void net_deinit(struct net *n);
struct data_server *net_server(struct net *n, const char *agent);
// The server again, with other options (0: the default).
void net_restart(struct net *n, uint32_t max_connections, int64_t idle_ms);

// Makes a file with a pattern and adds it to the table.
void net_add_file(struct net *n, const char *name, size_t size);
uint8_t net_byte(size_t at); // of the pattern
// Ends adding: sets the table and the ticket.
void net_seal(struct net *n);
size_t net_sign(struct net *n, uint8_t buf[TICKET_MAX_BYTES]);

// A connection to the server after the greeting; and one that opened the task.
struct conn *net_connect(struct net *n);
struct wire *net_dial(struct net *n); // without a greeting
// As net_connect(), again and again, while the server has no room, or takes us for idle before it
// has greeted us.
struct conn *net_connect_in_time(struct net *n);
struct conn *net_open_task(struct net *n);
// Sends OPEN_TASK with what is given (NULL, 0: what is right).
void net_send_open(struct net *n, struct conn *c, const uint8_t *ticket, size_t ticket_len,
                   const uint8_t *table, size_t table_len, const struct signing_key *key);
void net_send_read(struct conn *c, uint64_t request, uint32_t index, uint64_t offset,
                   uint64_t length);
// Expects an ERROR with that code, and then the end of the connection.
void net_expect_refusal(struct conn *c, enum err code);

// Reads @range of @s, which must be of a file of net_add_file(), and checks every byte and
// digest. Reads in pieces of @cap.
void net_check_range(struct source *s, const struct source_range *range, size_t cap);

#endif
