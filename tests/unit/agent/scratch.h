// SPDX-License-Identifier: Apache-2.0
// A directory of its own for each test, removed with what is in it.
#ifndef TESTS_UNIT_AGENT_SCRATCH_H
#define TESTS_UNIT_AGENT_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

struct scratch {
    char path[64];
};

void scratch_begin(struct scratch *s);
void scratch_end(struct scratch *s);
// "<path>/<name>"; valid until the fourth call after.
const char *scratch_path(const struct scratch *s, const char *name);
void scratch_write(const struct scratch *s, const char *name, const void *bytes, size_t len);
// What the file holds, NUL-ended; free() it. NULL: it is not there.
char *scratch_read(const struct scratch *s, const char *name, size_t *ret_len);
// A counter that threads raise and a test waits for; fails the test after 30 s.
struct tally;
struct tally *tally_new(void);
void tally_free(struct tally *t);
void tally_add(struct tally *t, uint64_t n);
void tally_wait(struct tally *t, uint64_t at_least);

#endif
