// SPDX-License-Identifier: Apache-2.0
// For contract tests: a directory as another agent's, read over the data connection.
#ifndef TESTS_CONTRACT_DATAPLANE_REMOTE_SOURCE_H
#define TESTS_CONTRACT_DATAPLANE_REMOTE_SOURCE_H

#include "dataplane/source.h"

struct remote_source;

// A data server for the directory @root_fd (borrowed), and a source that asks it for the objects
// of @table (borrowed).
struct remote_source *remote_source_new(int root_fd, const uint8_t *table, size_t table_len,
                                        struct source **ret_source);
// After the source was freed. NULL is fine.
void remote_source_free(struct remote_source *r);

#endif
