// SPDX-License-Identifier: Apache-2.0
// What a daemon said last: the message of the last line of its log.
#ifndef CLI_LOG_TAIL_H
#define CLI_LOG_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Of what was written from @from on, at most the last 16 KiB. A JSON line gives its failure's
// reason and remedy, or its event; another line itself. false: nothing was written.
bool log_tail_message(const char *path, off_t from, char *ret_text, size_t cap);

#endif
