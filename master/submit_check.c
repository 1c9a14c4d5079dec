// SPDX-License-Identifier: Apache-2.0
#include "common/cleanup.h"
#include "common/ident.h"
#include "common/location.h"
#include "common/rpc/location_message.h"
#include "common/utf8.h"
#include "master/submit.h"

#include <string.h>

static enum err invalid(struct failure *f, const char *field, const char *why) {
    enum err e = failure_set(f, ERR_INVALID, "submit", field, strlen(field), "%s: %s", field, why);
    failure_remedy(f, "correct %s in the flow's spec", field);
    return e;
}

static enum err unimplemented(struct failure *f, const char *field) {
    enum err e = failure_set(f, ERR_UNIMPLEMENTED, "submit", field, strlen(field),
                             "%s is not supported by this version", field);
    failure_remedy(f, "leave %s out", field);
    return e;
}

static enum err check_location(const Sluice__V1__Location *l, const char *field,
                               struct failure *f) {
    if (l == NULL || l->kind_case == SLUICE__V1__LOCATION__KIND__NOT_SET) {
        return invalid(f, field, "is missing");
    }
    if (l->kind_case == SLUICE__V1__LOCATION__KIND_HTTPS) {
        enum err e = failure_set(f, ERR_UNIMPLEMENTED, "submit", field, strlen(field),
                                 "%s: HTTPS locations are not supported by this version", field);
        failure_remedy(f, "use SITE:/path or s3://BUCKET/KEY");
        return e;
    }
    struct location parsed;
    if (location_message_path(l)->len > SUBMIT_PATH_MAX) {
        return invalid(f, field, "has a path that is too long");
    }
    enum err e = location_from_message(l, &parsed, f);
    if (e == OK) {
        location_deinit(&parsed);
    }
    return e;
}

static enum err check_text(const char *text, const char *field, struct failure *f) {
    if (strlen(text) > SUBMIT_TEXT_MAX) {
        return invalid(f, field, "is too long");
    }
    return utf8_is_valid(text, strlen(text)) ? OK : invalid(f, field, "is not UTF-8");
}

static enum err check_texts(const Sluice__V1__FlowSpec *s, struct failure *f) {
    enum err e = check_text(s->owner, "owner", f);
    if (e == OK) {
        e = check_text(s->namespace_, "namespace", f);
    }
    if (e == OK && s->n_labels > SUBMIT_LABELS_MAX) {
        e = invalid(f, "labels", "are too many");
    }
    for (size_t i = 0; e == OK && i < s->n_labels; i++) {
        e = check_text(s->labels[i]->key, "labels", f);
        if (e == OK) {
            e = check_text(s->labels[i]->value, "labels", f);
        }
    }
    return e;
}

static enum err check_built(const Sluice__V1__FlowSpec *s, struct failure *f) {
    const struct {
        bool wanted;
        const char *field;
    } missing[] = {
        {s->run_as[0] != '\0', "run_as"},
        {s->delete_extra != 0, "delete_extra"},
        {s->dry_run != 0, "dry_run"},
        {s->limits != NULL && s->limits->bytes_per_s != 0, "limits.bytes_per_s"},
    };
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        if (missing[i].wanted) {
            return unimplemented(f, missing[i].field);
        }
    }
    return OK;
}

static enum err check_numbers(const Sluice__V1__FlowSpec *s, int64_t now_ms, struct failure *f) {
    if (s->durability < SLUICE__V1__DURABILITY__DURABILITY_UNSPECIFIED ||
        s->durability > SLUICE__V1__DURABILITY__TASK) {
        return invalid(f, "durability", "is none that is known");
    }
    if (s->digest < SLUICE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_UNSPECIFIED ||
        s->digest > SLUICE__V1__DIGEST_ALGORITHM__SHA_256) {
        return invalid(f, "digest", "is none that is known");
    }
    if (s->transport < SLUICE__V1__TRANSPORT_CHOICE__TRANSPORT_CHOICE_UNSPECIFIED ||
        s->transport > SLUICE__V1__TRANSPORT_CHOICE__TRANSPORT_RDMA) {
        return invalid(f, "transport", "is none that is known");
    }
    if (s->weight > 1000) {
        return invalid(f, "weight", "is above 1000");
    }
    if (s->limits != NULL && s->limits->streams > 256) {
        return invalid(f, "limits.streams", "is above 256");
    }
    if (s->limits != NULL && s->limits->retries > 100) {
        return invalid(f, "limits.retries", "is above 100");
    }
    for (size_t i = 0; i < s->n_after; i++) {
        if (s->n_after > SUBMIT_AFTER_MAX || !ident_is_valid(s->after[i])) {
            return invalid(f, "after", "has what is no flow's id, or more than 63 of them");
        }
    }
    if (s->not_before_ms < 0) {
        return invalid(f, "not_before_ms", "is negative");
    }
    if (s->deadline_ms != 0 && (s->deadline_ms <= now_ms || s->deadline_ms <= s->not_before_ms)) {
        return invalid(f, "deadline_ms", "has passed, or comes before not_before_ms");
    }
    return OK;
}

// Goes into a header as it is.
static bool is_word(const char *text) {
    return strlen(text) <= SUBMIT_TEXT_MAX && text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                "abcdefghijklmnopqrstuvwxyz"
                                                                "0123456789_-:/.")] == '\0';
}

static enum err check_tags(const Sluice__V1__StoreOptions *o, struct failure *f) {
    if (o->n_tags > SUBMIT_TAGS_MAX) {
        return invalid(f, "store.tags", "has more than 10, which is what object stores take");
    }
    for (size_t i = 0; i < o->n_tags; i++) {
        const Sluice__V1__Label *tag = o->tags[i];
        enum err e = check_text(tag->key, "store.tags", f);
        e = e == OK ? check_text(tag->value, "store.tags", f) : e;
        if (e != OK || tag->key[0] == '\0' || strlen(tag->key) > 128) {
            return e != OK ? e : invalid(f, "store.tags", "has a key of 0 or above 128 bytes");
        }
    }
    return OK;
}

static enum err check_store(const Sluice__V1__FlowSpec *s, struct failure *f) {
    const Sluice__V1__StoreOptions *o = s->store;
    if (o == NULL) {
        return OK;
    }
    if (s->destination->kind_case != SLUICE__V1__LOCATION__KIND_S3) {
        return invalid(f, "store", "is for destinations in object stores");
    }
    bool is_kms = strcmp(o->encryption, "aws:kms") == 0;
    if (o->encryption[0] != '\0' && !is_kms && strcmp(o->encryption, "AES256") != 0) {
        return invalid(f, "store.encryption", "is neither AES256 nor aws:kms");
    }
    if (o->kms_key[0] != '\0' && !is_kms) {
        return invalid(f, "store.kms_key", "goes with store.encryption aws:kms only");
    }
    if (!is_word(o->storage_class) || !is_word(o->kms_key)) {
        return invalid(f, "store", "has a storage class or key that is none");
    }
    return check_tags(o, f);
}

enum err submit_check(const Sluice__V1__FlowSpec *spec, int64_t now_ms,
                      struct failure *ret_failure) {
    if (spec == NULL) {
        return invalid(ret_failure, "spec", "is missing");
    }
    enum err e = check_location(spec->source, "source", ret_failure);
    if (e == OK) {
        e = check_location(spec->destination, "destination", ret_failure);
    }
    if (e == OK) {
        e = check_texts(spec, ret_failure);
    }
    if (e == OK) {
        e = check_built(spec, ret_failure);
    }
    if (e == OK) {
        e = check_store(spec, ret_failure);
    }
    if (e == OK) {
        e = check_numbers(spec, now_ms, ret_failure);
    }
    return e;
}
