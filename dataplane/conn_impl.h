// SPDX-License-Identifier: Apache-2.0
// The inside of a data connection. Included only by dataplane/conn*.c.
#ifndef DATAPLANE_CONN_IMPL_H
#define DATAPLANE_CONN_IMPL_H

#include "dataplane/conn.h"

struct conn {
    struct wire *wire;
    char agent[TICKET_NAME_MAX];
    uint8_t local_nonce[FRAME_NONCE_BYTES], peer_nonce[FRAME_NONCE_BYTES];
    uint8_t *in, *out; // CONN_BUFFER_BYTES each
    size_t in_at, in_len;
    size_t out_len;
    uint64_t out_since_us;  // when the first byte in @out was put there
    uint32_t payload_left;  // of the frame received last
    bool is_bulk;           // that is a large DATA: take the next header alone
    bool ended;             // the peer closed between two frames
    int64_t frame_ms;       // a frame is complete within that
    int64_t frame_until_ms; // and the present one by then
};

// ERR_PROTOCOL; @what: "a frame that …".
enum err conn_broke_protocol(const struct conn *c, struct failure *ret_failure, const char *what);

#endif
