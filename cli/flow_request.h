// SPDX-License-Identifier: Apache-2.0
// What to submit, from the command line: options and locations, or a file in JSON, or both
// (the command line wins).
#ifndef CLI_FLOW_REQUEST_H
#define CLI_FLOW_REQUEST_H

#include "cli/command.h"
#include "common/cleanup.h"
#include "sluice/v1/flow_service.pb-c.h"

// The options of `cp` and `submit`; the table of the latter has --file besides.
extern const struct command_option flow_request_options[];
extern const struct command_option flow_request_options_and_file[];

// @inv's arguments are SRC and DST, or none with --file. The request always has a
// request_id: a fresh one unless it was given. @now_ms is for it and for times "from now".
MUST_CHECK enum err flow_request_new(const struct invocation *inv, int64_t now_ms,
                                     Sluice__V1__SubmitFlowRequest **ret_request,
                                     struct failure *ret_failure);
void flow_request_free(Sluice__V1__SubmitFlowRequest *r);
DEFINE_AUTO(Sluice__V1__SubmitFlowRequest, flow_request_free)

#endif
