// SPDX-License-Identifier: Apache-2.0
// What an answer of an object store means: success, something learnt, a pause, or an error.
#include "common/cleanup.h"
#include "dataplane/s3_client_impl.h"
#include "dataplane/s3_xml.h"

#include <stdio.h>
#include <string.h>

// By S3's code; where it gives none, by the status.
static const struct {
    const char *code; // NULL: any
    int status;       // 0: any
    enum err err;
    bool is_retried;
} meanings[] = {
    {"SlowDown", 0, ERR_AGAIN, true},
    {"NoSuchKey", 0, ERR_NOT_FOUND, false},
    {"NoSuchBucket", 0, ERR_NOT_FOUND, false},
    {"NoSuchUpload", 0, ERR_NOT_FOUND, false},
    {"AccessDenied", 0, ERR_DENIED, false},
    {"InvalidAccessKeyId", 0, ERR_UNAUTHENTICATED, false},
    {"SignatureDoesNotMatch", 0, ERR_UNAUTHENTICATED, false},
    {"ExpiredToken", 0, ERR_UNAUTHENTICATED, false},
    {"InvalidToken", 0, ERR_UNAUTHENTICATED, false},
    {"TokenRefreshRequired", 0, ERR_UNAUTHENTICATED, false},
    {"UserSuspended", 0, ERR_UNAUTHENTICATED, false},
    {"RequestTimeTooSkewed", 0, ERR_UNAUTHENTICATED, false},
    {"PreconditionFailed", 0, ERR_SOURCE_CHANGED, false},
    {"InvalidRange", 0, ERR_SOURCE_CHANGED, false},
    {"BadDigest", 0, ERR_CORRUPT, true},
    {"XAmzContentSHA256Mismatch", 0, ERR_CORRUPT, true},
    {"RequestTimeout", 0, ERR_TIMEOUT, true},
    {"IncompleteBody", 0, ERR_PEER_LOST, true},
    {"OperationAborted", 0, ERR_AGAIN, true},
    {"EntityTooLarge", 0, ERR_TOO_LARGE, false},
    {"KeyTooLongError", 0, ERR_NAME_TOO_LONG, false},
    {"KeyTooLong", 0, ERR_NAME_TOO_LONG, false},
    {"QuotaExceeded", 0, ERR_QUOTA, false},
    {"InvalidPart", 0, ERR_DEST_CHANGED, false},
    {"InvalidPartOrder", 0, ERR_DEST_CHANGED, false},
    {"NotImplemented", 0, ERR_UNIMPLEMENTED, false},
    {NULL, 301, ERR_INVALID, false},
    {NULL, 307, ERR_INVALID, false},
    {NULL, 401, ERR_UNAUTHENTICATED, false},
    {NULL, 403, ERR_DENIED, false},
    {NULL, 404, ERR_NOT_FOUND, false},
    {NULL, 405, ERR_UNIMPLEMENTED, false},
    {NULL, 408, ERR_TIMEOUT, true},
    {NULL, 409, ERR_AGAIN, true},
    {NULL, 412, ERR_SOURCE_CHANGED, false},
    {NULL, 416, ERR_SOURCE_CHANGED, false},
    {NULL, 429, ERR_AGAIN, true},
    {NULL, 500, ERR_AGAIN, true},
    {NULL, 501, ERR_UNIMPLEMENTED, false},
    {NULL, 502, ERR_AGAIN, true},
    {NULL, 503, ERR_AGAIN, true},
    {NULL, 504, ERR_TIMEOUT, true},
    {NULL, 507, ERR_NO_SPACE, false},
    {NULL, 509, ERR_AGAIN, true},
};

static enum err meaning_of(const char *code, int status, bool *ret_is_retried) {
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        bool same_code = meanings[i].code == NULL || strcmp(meanings[i].code, code) == 0;
        bool same_status = meanings[i].status == 0 || meanings[i].status == status;
        if (same_code && same_status) {
            *ret_is_retried = meanings[i].is_retried;
            return meanings[i].err;
        }
    }
    *ret_is_retried = status >= 500 || status == 200; // an error in the body of a 200
    return status >= 500 || status == 200 ? ERR_AGAIN : ERR_INVALID;
}

// The key that the object is encrypted with is not there or of no use. Ceph says it with the code
// that stands for unknown credentials, and only the message tells.
static bool is_of_kms(const struct s3_error_text *t) {
    return strncmp(t->code, "KMS.", 4) == 0 || strstr(t->message, "kms-keyid") != NULL;
}

// What may be wrong in a request that the store takes for none.
static void say_what_was_asked_for(struct s3_call *call, const struct s3_error_text *t) {
    const char *class = s3_call_get_header(call, "x-amz-storage-class");
    const char *encryption = s3_call_get_header(call, "x-amz-server-side-encryption");
    const char *key = s3_call_get_header(call, "x-amz-server-side-encryption-aws-kms-key-id");
    if (is_of_kms(t)) {
        failure_remedy(&call->failure, "%s",
                       strcmp(call->method, "GET") == 0
                           ? "the object cannot be read without its key: make it known to the store"
                           : "name a key that the store knows, as --sse aws:kms:KEY");
    } else if (class != NULL || encryption != NULL) {
        failure_remedy(&call->failure, "see whether the store has %s%.40s%s%s%.20s%s%.60s",
                       class != NULL ? "storage class " : "", class != NULL ? class : "",
                       class != NULL && encryption != NULL ? " and " : "",
                       encryption != NULL ? "encryption " : "",
                       encryption != NULL ? encryption : "", key != NULL ? ":" : "",
                       key != NULL ? key : "");
    }
}

static void say(struct s3_call *call, enum err e, const struct s3_error_text *t) {
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(call, object, sizeof object);
    call->err = e;
    (void)failure_set(&call->failure, e, call->operation, object, n,
                      "the store answered %s%s%.100s (HTTP %d, request %.70s)",
                      t->code[0] != '\0' ? t->code : "without a code",
                      t->message[0] != '\0' ? ": " : "", t->message, call->status,
                      t->request_id[0] != '\0' ? t->request_id : "unknown");
    if (e == ERR_UNAUTHENTICATED) {
        failure_remedy(&call->failure, "renew the credentials of volume '%.60s'",
                       s3_store_name(call->client->store));
    } else if (call->status == 301 || call->status == 307) {
        const char *region = http_header(call->exchange, "x-amz-bucket-region");
        failure_remedy(&call->failure, "set endpoint and region (%.60s?) of volume '%.60s'",
                       region != NULL ? region : "another", s3_store_name(call->client->store));
    } else if (e == ERR_INVALID) {
        say_what_was_asked_for(call, t);
    } else if (e == ERR_EXISTS) {
        failure_remedy(&call->failure,
                       "remove it, or let the flow replace it (without if_none_match)");
    } else if (e == ERR_DENIED) {
        failure_remedy(&call->failure, "allow %s there for the key of volume '%.60s'",
                       call->operation, s3_store_name(call->client->store));
    }
}

static enum s3_verdict judge_no_answer(struct s3_call *call) {
    struct failure f = {0};
    char object[FAILURE_OBJECT_MAX];
    size_t n = s3_call_object(call, object, sizeof object);
    enum err e = http_failure(call->exchange, &f);
    call->err = e;
    (void)failure_set(&call->failure, e, call->operation, object, n, "%.200s: %s",
                      s3_store_endpoint(call->client->store), f.message);
    call->failure.errnum = f.errnum;
    return err_retry_class(e) == RETRY_SOON ? S3_VERDICT_LATER : S3_VERDICT_DONE;
}

// The bucket lives elsewhere: believed once.
static bool is_redirected(struct s3_client *c, struct s3_call *call,
                          const struct s3_error_text *t) {
    bool is_region =
        call->status == 301 || call->status == 307 || call->status == 400 || call->status == 403;
    const char *region = http_header(call->exchange, "x-amz-bucket-region");
    if (region == NULL && t->region[0] != '\0') {
        region = t->region;
    }
    if (!is_region || call->was_redirected || region == NULL || call->bucket == NULL ||
        strcmp(region, call->target.region) == 0) {
        return false;
    }
    call->was_redirected = true;
    s3_store_learn_region(c->store, call->bucket, region);
    return true;
}

static bool is_renewed(struct s3_client *c, struct s3_call *call, enum err e) {
    if (e != ERR_UNAUTHENTICATED || call->was_renewed || c->has_keys ||
        call->target.credentials.is_anonymous) {
        return false;
    }
    call->was_renewed = true;
    return s3_store_renew_credentials(c->store, &call->target.credentials);
}

static bool is_timed(struct s3_client *c, struct s3_call *call, const struct s3_error_text *t) {
    bool is_skewed = strcmp(t->code, "RequestTimeTooSkewed") == 0 ||
                     (call->status == 403 && t->code[0] == '\0'); // HEAD tells no code
    if (!is_skewed || call->was_timed) {
        return false;
    }
    call->was_timed = true;
    return s3_store_learn_time(c->store, http_header(call->exchange, "date"));
}

// A refused HEAD has no body that says why: asked as a GET of the first byte, which tells the same
// of the object, the store says it.
static bool is_asked_again(struct s3_call *call, const struct s3_error_text *t) {
    if (strcmp(call->method, "HEAD") != 0 || call->status != 403 || t->code[0] != '\0' ||
        call->n_headers >= S3_CALL_HEADERS_MAX) {
        return false;
    }
    call->method = "GET";
    s3_call_header(call, "range", "bytes=0-0");
    return true;
}

// A store that does not know a checksum may say so: the next is tried. What the store was told of
// it is learnt only once it takes another, for the refusal may have other reasons.
static bool is_proven_otherwise(struct s3_client *c, struct s3_call *call,
                                const struct s3_error_text *t) {
    static const char *const codes[] = {"", "InvalidRequest", "InvalidArgument", "NotImplemented"};
    struct s3_proof now;
    bool is_refusal = false;
    s3_store_proof(c->store, &now);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        is_refusal = is_refusal || strcmp(t->code, codes[i]) == 0;
    }
    if (call->body_kind != S3_BODY_OBJECT || (call->status != 400 && call->status != 501) ||
        !is_refusal || !s3_store_is_trying(c->store) || !s3_checksum_is_amz(call->proof.checksum)) {
        return false;
    }
    enum s3_checksum tried = call->proof.checksum;
    call->proof.checksum =
        s3_checksum_comes_after(now.checksum, tried) ? now.checksum : s3_checksum_next(tried);
    s3_prove(call);
    return true;
}

// Has the store got what was sent, as far as it tells?
static bool is_proven(struct s3_call *call) {
    enum s3_checksum c = call->proof.checksum;
    const char *told =
        s3_checksum_is_amz(c) ? http_header(call->exchange, s3_checksum_header(c)) : NULL;
    if (call->body_kind == S3_BODY_OBJECT && s3_checksum_is_amz(c)) {
        s3_store_learn_checksum(call->client->store, c, told != NULL);
    } else if (call->body_kind == S3_BODY_OBJECT && c == S3_CHECKSUM_NONE) {
        s3_store_learn_checksum(call->client->store, S3_CHECKSUM_SHA256, false); // all were refused
    }
    return told == NULL || strcmp(told, call->checksum_text) == 0;
}

// 501: the condition is sent no more; that nothing is there was looked at before.
static bool is_unconditional(struct s3_client *c, const struct s3_call *call) {
    if (!call->if_none_match || call->status != 501) {
        return false;
    }
    return s3_store_refuse_conditions(c->store) || call->attempts < 2;
}

// An answer that is no success, or a success that hides an error.
static enum s3_verdict judge_error(struct s3_client *c, struct s3_call *call,
                                   struct s3_error_text *t) {
    bool is_retried = false;
    const char *request = http_header(call->exchange, "x-amz-request-id");
    if (request != NULL) {
        snprintf(t->request_id, sizeof t->request_id, "%s", request);
    }
    snprintf(call->code, sizeof call->code, "%s", t->code);
    enum err e = meaning_of(t->code, call->status, &is_retried);
    if (call->if_none_match && call->status == 412) {
        e = ERR_EXISTS;
    } else if (is_of_kms(t) && call->status < 500) {
        e = ERR_INVALID;
        is_retried = false;
    }
    say(call, e, t);
    if (is_redirected(c, call, t) || is_timed(c, call, t) || is_renewed(c, call, e) ||
        is_asked_again(call, t) || is_unconditional(c, call) || is_proven_otherwise(c, call, t)) {
        return S3_VERDICT_AGAIN;
    }
    if (call->status == 503 || call->status == 429 || strcmp(t->code, "SlowDown") == 0) {
        s3_store_slow_down(c->store, t->code);
    }
    return is_retried ? S3_VERDICT_LATER : S3_VERDICT_DONE;
}

enum s3_verdict s3_judge(struct s3_client *c, struct s3_call *call) {
    struct s3_error_text t = {0};
    size_t len = 0;
    call->status = http_status(call->exchange);
    if (http_progress(call->exchange) == HTTP_FAILED) {
        return judge_no_answer(call);
    }
    const char *body = http_body(call->exchange, &len);
    bool is_success = call->status >= 200 && call->status < 300;
    if (is_success && call->may_hide_errors && s3_xml_error(body, len, &t)) {
        is_success = false;
    }
    if (is_success && !is_proven(call)) {
        snprintf(t.code, sizeof t.code, "another checksum than was sent");
        say(call, ERR_CORRUPT, &t);
        return S3_VERDICT_LATER;
    }
    if (is_success) {
        call->err = OK;
        call->failure = (struct failure){0};
        s3_store_served(c->store);
        return S3_VERDICT_DONE;
    }
    if (t.code[0] == '\0') {
        (void)s3_xml_error(body, len, &t);
    }
    return judge_error(c, call, &t);
}
