// SPDX-License-Identifier: Apache-2.0
// A remote source within the process: a data server for a directory, and a source that asks it.
#ifndef TESTS_CONTRACT_DATAPLANE_SERVED_SOURCE_H
#define TESTS_CONTRACT_DATAPLANE_SERVED_SOURCE_H

#include "tests/lib/tree.h"

struct source;

// One at a time. served_source_end() comes after source_free().
struct source *served_source_new(const struct tree *t, struct tree_table *l);
void served_source_end(void);

#endif
