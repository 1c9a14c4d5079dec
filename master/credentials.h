// SPDX-License-Identifier: Apache-2.0
// Keys to object stores that clients gave to the cluster, by name: sealed in the database, handed
// to agents, never shown or logged. The key that seals them is derived from the one that signs
// tickets, which lies in the state directory. Core thread.
#ifndef MASTER_CREDENTIALS_H
#define MASTER_CREDENTIALS_H

#include "common/failure.h"
#include "master/place.h"
#include "sluice/v1/agent_service.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;
struct credentials;

enum {
    CREDENTIALS_MAX = 256,
    CREDENTIAL_OWNER_MAX = 127, // bytes; longer names are cut
    CREDENTIAL_KEY_MAX = 159,   // bytes; as common/s3_credentials.h has them
    CREDENTIAL_SECRET_MAX = 239,
    CREDENTIAL_TOKEN_MAX = 4095,
};

MUST_CHECK enum err credentials_new(struct core *c, struct credentials **ret_credentials);
void credentials_free(struct credentials *cs); // wipes them; NULL is fine
// Takes them from the database; at start, once, before agents come. What cannot be opened (the
// state directory's key is another one) is logged and left out.
void credentials_load(struct credentials *cs, void (*done)(void *arg, const struct failure *f),
                      void *arg);

// A letter or digit, then those and "._-"; shorter than PLACE_NAME_MAX.
bool credentials_is_name(const char *name);
bool credentials_has(const struct credentials *cs, const char *name);
// Those of a flow: "NAME" or "STORE=NAME", each known, and @peer's (NULL: nobody was authenticated,
// who may name all). ERR_INVALID, ERR_NOT_FOUND, ERR_DENIED.
MUST_CHECK enum err credentials_check(const struct credentials *cs, char *const *items, size_t n,
                                      const char *peer, struct failure *ret_failure);

// Borrowed texts.
struct credential_keys {
    const char *access_key, *secret_key, *session_token;
};
// @keys NULL: nothing is stored, agents look again where they have theirs from. @done after the
// commit, when agents were told and flows that were suspended for it have been told to go on.
// Keys that are new are @peer's (NULL: nobody's). ERR_INVALID, ERR_FULL, ERR_DENIED: they are
// somebody else's; those of the database.
void credentials_update(
    struct credentials *cs, const char *name, const struct credential_keys *keys, const char *peer,
    void (*done)(void *arg, size_t n_agents, size_t n_flows, const struct failure *f), void *arg);
// ERR_NOT_FOUND, ERR_DENIED.
void credentials_remove(struct credentials *cs, const char *name, const char *peer,
                        void (*done)(void *arg, size_t n_agents, size_t n_flows,
                                     const struct failure *f),
                        void *arg);

// For each, in the order of names.
void credentials_each_name(const struct credentials *cs,
                           void (*each)(void *arg, const char *name, const char *owner,
                                        int64_t updated_ms),
                           void *arg);
size_t credentials_count(const struct credentials *cs);
// What an agent that comes is to be told. @send may keep nothing. @cs NULL: nothing.
void credentials_each_message(const struct credentials *cs,
                              void (*send)(void *arg, Sluice__V1__MasterMessage *m), void *arg);

#endif
