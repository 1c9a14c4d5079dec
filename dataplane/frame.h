// SPDX-License-Identifier: Apache-2.0
// The frames of a data connection: a header of 32 bytes, then a payload. Little-endian.
//
//   header   u32 length (of the payload), u16 type, u16 flags, u64 request, u64 offset, u64 aux
//   text     u16 length, bytes
//   version  u64 size, i64 mtime_ns, i64 ctime_ns, u64 inode
//
// Encoders write into a buffer of the size named FRAME_…_MAX and return the length. Decoders
// take bytes from the network: every length is checked, and what is left over at the end is
// refused. Pure functions.
#ifndef DATAPLANE_FRAME_H
#define DATAPLANE_FRAME_H

#include "common/err.h"
#include "common/failure.h"
#include "common/hash.h"
#include "common/ident.h"
#include "common/object_table.h"
#include "common/ticket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_VERSION_MIN = 1, FRAME_VERSION_MAX = 1 };

enum frame_type {
    FRAME_HELLO = 1,       // executor → source, first
    FRAME_WELCOME = 2,     // the answer
    FRAME_OPEN_TASK = 3,   // → ; aux: task
    FRAME_TASK_OPEN = 4,   // ← ; aux: task
    FRAME_READ = 5,        // → ; request; offset and aux: the range (aux all ones: to the end);
                           // payload: task, object, flags
    FRAME_OBJECT = 6,      // ← ; request; offset and aux: the range; payload: metadata, version
    FRAME_DATA = 7,        // ← ; request; offset; payload: bytes
    FRAME_HOLE = 8,        // ← ; request; offset and aux: a run of zeros
    FRAME_DIGEST = 9,      // ← ; request; offset: of the first leaf; payload: digests
    FRAME_OBJECT_END = 10, // ← ; request; aux: processor time in us; offset: time spent reading
                           // (low 32 bits) and hashing (high), in us; the rest of the digests
                           // and the version at close, or the failure
    FRAME_ERROR = 11,      // ← ; the connection is of no use any more; payload: failure
    FRAME_CANCEL = 12,     // → ; request: its OBJECT_END may come early
    FRAME_CLOSE_TASK = 13, // → ; aux: task
    FRAME_PING = 14,       // ↔
    FRAME_PONG = 15,       // ↔ ; request as in the PING
    FRAME_GOAWAY = 16,     // ← ; ask for nothing more on this connection
};

// Flags. Those that say how a payload is packed exist only once both ends agreed on them.
enum { FRAME_FLAG_OPTIONAL = 0x8000 }; // who does not know the type skips it

enum {
    FRAME_HEADER_BYTES = 32,
    FRAME_PAYLOAD_MAX = 1024 * 1024, // longer ones close the connection
    FRAME_DATA_BYTES = 512 * 1024,   // what we put into one DATA at most
    FRAME_NONCE_BYTES = 32,
    FRAME_HELLO_MAX = 256,
    FRAME_READ_BYTES = 16,
    FRAME_OBJECT_BYTES = 64,
    FRAME_FAILURE_MAX = 1280,
    FRAME_END_FIXED_BYTES = 40, // of an OBJECT_END without failure, before its digests
    FRAME_OPEN_TASK_MAX = 4 + TICKET_MAX_BYTES + 4 + OBJECT_TABLE_MAX_BYTES + SIGNATURE_BYTES,
};

// A longer range is asked for in pieces.
#define FRAME_RANGE_MAX_BYTES ((uint64_t)16 << 30)

struct frame_header {
    uint32_t length;
    uint16_t type, flags;
    uint64_t request, offset, aux;
};
void frame_header_encode(const struct frame_header *h, uint8_t buf[FRAME_HEADER_BYTES]);
void frame_header_decode(const uint8_t buf[FRAME_HEADER_BYTES], struct frame_header *ret_header);
const char *frame_type_name(uint16_t type); // "READ"; "unknown"

enum frame_role { FRAME_ROLE_EXECUTOR = 1 };

struct frame_hello {
    uint16_t version_min, version_max;
    uint8_t role;          // enum frame_role
    uint64_t capabilities; // bits; none is defined so far
    uint8_t nonce[FRAME_NONCE_BYTES];
    char cluster[IDENT_SIZE];
    char agent[TICKET_NAME_MAX];
};
size_t frame_hello_encode(const struct frame_hello *f, uint8_t buf[FRAME_HELLO_MAX]);
MUST_CHECK enum err frame_hello_decode(const uint8_t *buf, size_t len,
                                       struct frame_hello *ret_hello); // ERR_PROTOCOL

struct frame_welcome {
    uint16_t version;
    uint64_t capabilities;
    uint8_t nonce[FRAME_NONCE_BYTES];
    char cluster[IDENT_SIZE];
    char agent[TICKET_NAME_MAX];
};
size_t frame_welcome_encode(const struct frame_welcome *f, uint8_t buf[FRAME_HELLO_MAX]);
MUST_CHECK enum err frame_welcome_decode(const uint8_t *buf, size_t len,
                                         struct frame_welcome *ret_welcome); // ERR_PROTOCOL

struct frame_open_task { // all borrowed
    const uint8_t *ticket;
    size_t ticket_len;
    const uint8_t *objects;
    size_t objects_len;
    const uint8_t *proof; // SIGNATURE_BYTES
};
size_t frame_open_task_bytes(const struct frame_open_task *f); // how large @buf must be
size_t frame_open_task_encode(const struct frame_open_task *f, uint8_t *buf);
MUST_CHECK enum err frame_open_task_decode(const uint8_t *buf, size_t len,
                                           struct frame_open_task *ret_open); // ERR_PROTOCOL

// What the executor signs with the key in its ticket: a prefix, the SHA-256 of the ticket, both
// nonces, the cluster and both names as texts.
enum { FRAME_PROOF_TEXT_MAX = 512 };
struct frame_proof {
    const uint8_t *ticket_sha256; // 32
    const uint8_t *source_nonce, *executor_nonce;
    const char *cluster, *executor, *source;
};
size_t frame_proof_text(const struct frame_proof *p, uint8_t buf[FRAME_PROOF_TEXT_MAX]);

struct frame_read {
    uint64_t task_id;
    uint32_t index;      // in the task's object table
    bool accept_changed; // as in struct source_range
};
size_t frame_read_encode(const struct frame_read *f, uint8_t buf[FRAME_READ_BYTES]);
MUST_CHECK enum err frame_read_decode(const uint8_t *buf, size_t len,
                                      struct frame_read *ret_read); // ERR_PROTOCOL

// Without the path, the target and the id.
size_t frame_object_encode(const struct object_entry *e, uint8_t buf[FRAME_OBJECT_BYTES]);
MUST_CHECK enum err frame_object_decode(const uint8_t *buf, size_t len,
                                        struct object_entry *ret_entry); // ERR_PROTOCOL

size_t frame_failure_encode(const struct failure *f, uint8_t buf[FRAME_FAILURE_MAX]);
// Never fails to give a failure that is one (never OK). ERR_PROTOCOL.
MUST_CHECK enum err frame_failure_decode(const uint8_t *buf, size_t len,
                                         struct failure *ret_failure);

struct frame_object_end {
    struct failure failure;        // err OK: none, and the rest counts
    struct object_version version; // at close
    const uint8_t *digests;        // of the leaves that no DIGEST gave; borrowed
    size_t n_digests;
};
// @buf: at least FRAME_FAILURE_MAX + 1, and FRAME_END_FIXED_BYTES + the digests.
size_t frame_object_end_encode(const struct frame_object_end *f, enum hash_algorithm a,
                               uint8_t *buf);
MUST_CHECK enum err frame_object_end_decode(const uint8_t *buf, size_t len, enum hash_algorithm a,
                                            struct frame_object_end *ret_end); // ERR_PROTOCOL

#endif
