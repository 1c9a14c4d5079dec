// SPDX-License-Identifier: Apache-2.0
// What the gRPC code knows of a loop beyond common/rpc/loop.h.
#ifndef COMMON_RPC_LOOP_IMPL_H
#define COMMON_RPC_LOOP_IMPL_H

#include "common/rpc/loop.h"

#include <grpc/grpc.h>

// Every tag that is given to gRPC is one of these.
struct event {
    void (*fire)(struct event *e, bool ok);
};

grpc_completion_queue *loop_queue(struct loop *l);

// gRPC's reference count, with its messages turned into lines of our log.
void grpc_hold(void);
void grpc_release(void);

#endif
