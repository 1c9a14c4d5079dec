// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/failure_message.h"

#include <stdio.h>
#include <string.h>

void failure_to_message(const struct failure *f, const char *agent, struct failure_message *ret_m) {
    Sluice__V1__Failure *m = &ret_m->message;
    sluice__v1__failure__init(m);
    ret_m->copy = *f;
    snprintf(ret_m->agent, sizeof ret_m->agent, "%s", agent != NULL ? agent : "");
    snprintf(ret_m->code, sizeof ret_m->code, "%s", err_name(f->err));
    m->code = ret_m->code;
    m->errnum = f->errnum;
    m->operation = ret_m->copy.operation;
    m->object.data = ret_m->copy.object;
    m->object.len = ret_m->copy.object_len;
    m->message = ret_m->copy.message;
    m->remedy = ret_m->copy.remedy;
    m->agent = ret_m->agent;
}

void failure_from_message(const Sluice__V1__Failure *m, struct failure *ret_failure) {
    struct failure f;
    // For the object, cut at its beginning if it is too long.
    failure_set(&f, err_from_name(m->code), m->operation, m->object.data, m->object.len, "%s",
                m->message);
    f.errnum = m->errnum;
    snprintf(f.remedy, sizeof f.remedy, "%s", m->remedy);
    *ret_failure = f;
}
