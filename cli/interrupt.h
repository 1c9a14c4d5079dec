// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM as calls on a thread of their own.
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

struct interrupt;

// Blocks both signals in the calling thread, and so in those it starts later: call it before
// anything that makes threads.
void interrupt_block(void);

// After interrupt_block(). @fn(@count, @arg) runs on the signal thread; @count is 1 at
// the first signal. NULL: no thread or no descriptor could be had.
struct interrupt *interrupt_start(void (*fn)(int count, void *arg), void *arg);
void interrupt_stop(struct interrupt *i); // @fn does not run any more afterwards. NULL is fine.

#endif
