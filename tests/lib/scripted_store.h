// SPDX-License-Identifier: Apache-2.0
// A scripted object store (tests/lib/scripted_s3) for a test program, and an S3 store for it.
#ifndef TESTS_LIB_SCRIPTED_STORE_H
#define TESTS_LIB_SCRIPTED_STORE_H

#include "dataplane/s3_client.h"

#include <sys/types.h>

struct scripted_store {
    pid_t pid;
    int pipe_fd; // it ends when this is closed
    char endpoint[64];
    struct s3_store *store;
};

// Starts the server and makes the bucket "b". Exits with 77 if there is no Python.
void scripted_store_start(struct scripted_store *s);
void scripted_store_stop(struct scripted_store *s);
// JSON, see tests/lib/scripted_s3.
void scripted_store_rules(struct scripted_store *s, const char *json);
// How many requests that contain @text there were so far.
unsigned scripted_store_count(struct scripted_store *s, const char *text);
void scripted_store_settings(struct scripted_store *s, const char *json);
// The value of header @name in the last request that contains @text; free() it. NULL: it had none.
char *scripted_store_sent(struct scripted_store *s, const char *text, const char *name);
// By itself, without what is tested.
void scripted_store_put(struct scripted_store *s, const char *key, const void *bytes, size_t len);
// The body; free() it. NULL: there is no such object.
uint8_t *scripted_store_get(struct scripted_store *s, const char *key, size_t *ret_len);

#endif
