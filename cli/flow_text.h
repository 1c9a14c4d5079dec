// SPDX-License-Identifier: Apache-2.0
// Flows for people: a line of a list, a page of details, the sentence at the end of a copy.
#ifndef CLI_FLOW_TEXT_H
#define CLI_FLOW_TEXT_H

#include "sluice/v1/flow_service.pb-c.h"

#include <stdio.h>

void flow_print_head(FILE *out); // of the list
void flow_print_line(const Sluice__V1__Flow *flow, FILE *out);
void flow_print_details(const Sluice__V1__Flow *flow, FILE *out);
// "12 objects, 3.4 GiB in 2.0 s (1.7 GiB/s), every byte checked (xxh3)" and what is to be
// known beside it.
void flow_print_summary(const Sluice__V1__Flow *flow, FILE *out);
// Why it did not end well, as failures are told; nothing if it did.
void flow_print_reason(const Sluice__V1__Flow *flow, FILE *out);
void flow_print_why(const Sluice__V1__Flow *flow, FILE *out);
void failed_object_print(const Sluice__V1__FailedObject *object, FILE *out);

#endif
