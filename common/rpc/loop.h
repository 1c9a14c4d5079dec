// SPDX-License-Identifier: Apache-2.0
// A thread's event loop: closures posted from anywhere, timers, and the gRPC calls that are
// bound to it. What belongs to a loop is touched only on its thread, so nothing is locked.
#ifndef COMMON_RPC_LOOP_H
#define COMMON_RPC_LOOP_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_timer;

// gRPC is initialised with the first loop and shut down with the last. Block signals before.
struct loop *loop_new(void); // NULL: out of memory
// Runs until loop_stop(); on the thread that then owns the loop.
void loop_run(struct loop *l);
void loop_stop(struct loop *l); // any thread
// Runs @fn(@arg) on the loop's thread, in the order of posting. Any thread. What was posted
// before loop_free() runs in it at the latest; nothing may be posted after.
void loop_post(struct loop *l, void (*fn)(void *), void *arg);
bool loop_is_current(const struct loop *l); // is this the loop's thread?
void loop_free(struct loop *l);             // after loop_run() returned

// Timers, on the loop's thread. One shot; arm again in @fn for more. NULL: out of memory.
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *), void *arg);
void loop_timer_arm(struct loop_timer *t, int64_t delay_ms); // replaces an earlier arming
void loop_timer_disarm(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);
int64_t loop_now_ms(const struct loop *l); // monotonic, as timers see it

#endif
