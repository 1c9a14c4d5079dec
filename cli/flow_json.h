// SPDX-License-Identifier: Apache-2.0
// What the master says about flows, as JSON for `--json`. Stable: fields are only added.
// All return NULL when out of memory.
#ifndef CLI_FLOW_JSON_H
#define CLI_FLOW_JSON_H

#include "sluice/v1/flow_service.pb-c.h"

#include <jansson.h>

// `show`, `ls`, and the end of `cp` and `watch`.
json_t *flow_to_json(const Sluice__V1__Flow *flow);
// `log` and `watch`: when, what, and the flow's numbers at that time.
json_t *flow_event_to_json(const Sluice__V1__FlowEvent *event);
// `show --failed`: the path relative to the source, and why.
json_t *failed_object_to_json(const Sluice__V1__FailedObject *object);
// `why`
json_t *flow_why_to_json(const Sluice__V1__Flow *flow);

#endif
