// SPDX-License-Identifier: Apache-2.0
// Calls to an object store: signed, retried with jittered backoff, slowed down when the store
// says so, sent to the bucket's region, with the clock corrected.
//
// A client belongs to one task and one thread; several calls may be under way in it at a time,
// and bytes move only while one is waited for. s3_client_abort() may come from any thread.
#ifndef DATAPLANE_S3_CLIENT_H
#define DATAPLANE_S3_CLIENT_H

#include "common/failure.h"
#include "dataplane/s3_sign.h"
#include "dataplane/s3_store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_exchange;
struct s3_client;

// @keys: what to sign with instead of the store's own; copied; NULL: those.
MUST_CHECK enum err s3_client_new(struct s3_store *s, const struct s3_credentials *keys,
                                  struct s3_client **ret_client, struct failure *ret_failure);
void s3_client_abort(struct s3_client *c); // any thread
bool s3_client_is_aborted(const struct s3_client *c);
void s3_client_free(struct s3_client *c); // after all its calls; NULL is fine
// Counts requests that are sent again into *@counter as well, which outlives the client.
void s3_client_count_retries(struct s3_client *c, uint64_t *counter);
void s3_client_retried(struct s3_client *c); // by the caller itself: a body that broke off
struct s3_store *s3_client_store(const struct s3_client *c);

enum { S3_CALL_HEADERS_MAX = 40, S3_CALL_ATTEMPTS_MAX = 10 };

// What a call's body is.
enum s3_body {
    S3_BODY_REQUEST, // none, or what is asked for
    S3_BODY_OBJECT,  // an object's bytes: they are sent with a checksum
    S3_BODY_PART,    // bytes of an upload that was begun with s3_call.checksum
};

enum s3_call_state { S3_CALL_NEW, S3_CALL_WAITING, S3_CALL_RUNNING, S3_CALL_DONE };

// Zeroed at first. What the caller sets is borrowed until s3_end().
struct s3_call {
    const char *operation; // "PutObject", for failures
    const char *method;
    const char *bucket; // NULL: the list of buckets
    const void *key;    // NULL: the bucket itself
    size_t key_len;
    const char *query; // encoded, sorted, each parameter with its '='; NULL: none
    // Beside those that every request has. Lower case, sorted or not.
    struct s3_header headers[S3_CALL_HEADERS_MAX];
    size_t n_headers;
    const void *body;
    uint64_t body_bytes;
    enum s3_body body_kind;
    enum s3_checksum checksum;  // of S3_BODY_PART
    const char *checksum_known; // the body's, of that kind; NULL, "": it is computed
    bool is_stream;       // the body is taken with s3_read(): done means its first byte is here
    bool if_none_match;   // ERR_EXISTS if there is an object of this key; see
                          // s3_store_refuse_conditions()
    bool may_hide_errors; // a 200 may turn out to be an error in its body

    // The outcome, once s3_await() returned.
    enum err err;
    struct failure failure;
    int status;    // of HTTP; 0: there was no answer
    char code[64]; // what S3 calls the error; "": it gave none
    uint32_t attempts;

    // the client's
    enum s3_call_state state;
    struct s3_client *client;
    struct s3_call *next;
    struct http_exchange *exchange;
    struct s3_target target; // of the last attempt
    struct s3_proof proof;
    char checksum_text[S3_CHECKSUM_SIZE];
    char payload[S3_PAYLOAD_SIZE];
    uint64_t due_us;
    bool was_redirected, was_renewed, was_timed;
};

void s3_call_header(struct s3_call *c, const char *name, const char *value);
const char *s3_call_get_header(const struct s3_call *c, const char *name); // NULL: it has none

// Takes the call up; it is sent during s3_await() of this call or another, or s3_pump().
MUST_CHECK enum err s3_begin(struct s3_client *c, struct s3_call *call,
                             struct failure *ret_failure);
// Moves what can be moved without waiting.
MUST_CHECK enum err s3_pump(struct s3_client *c, struct failure *ret_failure);
// Until the call is done; its error. ERR_CANCELLED: aborted.
//
// ERR_NOT_FOUND, ERR_DENIED, ERR_UNAUTHENTICATED, ERR_SOURCE_CHANGED (a condition was not met, or
// the range is none of the object's), and so on: see the table in s3_client_judge.c.
MUST_CHECK enum err s3_await(struct s3_call *call, struct failure *ret_failure);
// Begin and await.
MUST_CHECK enum err s3_run(struct s3_client *c, struct s3_call *call, struct failure *ret_failure);
// Of a stream: as http_read(), the failure naming bucket and key.
MUST_CHECK enum err s3_read(struct s3_call *call, void *buf, size_t cap, size_t *ret_len,
                            struct failure *ret_failure);
// Releases what the call holds, whatever its state. Fine for one that never began.
void s3_end(struct s3_call *call);

// Of the answer, until s3_end(); NULL: there is none.
const char *s3_answer_header(const struct s3_call *call, const char *name);
// The checksum of the whole object that an answer tells, a CRC: its kind and text. NONE: none.
enum s3_checksum s3_answer_crc(const struct s3_call *call, const char **ret_text);
const char *s3_answer_body(const struct s3_call *call, size_t *ret_len);

// "bucket/key" of a call, for failures. @cap at least FAILURE_OBJECT_MAX. Returns the length.
size_t s3_call_object(const struct s3_call *call, char *ret_text, size_t cap);

#endif
