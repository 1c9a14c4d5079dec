// SPDX-License-Identifier: Apache-2.0
// struct flow to and from its row in the database. The one place where the two meet.
#ifndef MASTER_FLOW_ROW_H
#define MASTER_FLOW_ROW_H

#include "master/database.h"
#include "master/flow.h"

// A row and the bytes that it points into. init, use, deinit.
struct flow_row_bytes {
    struct flow_row row;
    uint8_t *spec, *error, *places, *tally; // owned
};
// @with_spec: what is fixed at submission, too. ERR_NO_MEMORY.
MUST_CHECK enum err flow_row_init(const struct flow *f, bool with_spec, const char *request_id,
                                  struct flow_row_bytes *ret_bytes);
void flow_row_deinit(struct flow_row_bytes *b);

// Fills @f, which is zeroed. ERR_DATABASE: the row cannot be understood. ERR_NO_MEMORY. In both
// cases flow_deinit() cleans up.
MUST_CHECK enum err flow_from_row(const struct flow_row *row, struct flow *f);
void flow_deinit(struct flow *f);

#endif
