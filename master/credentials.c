// SPDX-License-Identifier: Apache-2.0
#include "master/credentials.h"

#include "common/cleanup.h"
#include "common/hmac.h"
#include "common/log.h"
#include "common/seal.h"
#include "master/agents.h"
#include "master/core.h"
#include "master/database.h"
#include "master/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct credential {
    struct credential *next; // by name
    char name[PLACE_NAME_MAX];
    char owner[CREDENTIAL_OWNER_MAX + 1]; // "": nobody's
    int64_t updated_ms;
    char access_key[CREDENTIAL_KEY_MAX + 1];
    char secret_key[CREDENTIAL_SECRET_MAX + 1];
    char session_token[CREDENTIAL_TOKEN_MAX + 1];
};

struct credentials {
    struct core *core;
    struct credential *all;
    size_t n;
    uint8_t key[SEAL_KEY_BYTES];
};

// An update on its way to the database.
struct update {
    struct credentials *credentials;
    struct credential *new; // NULL: they are removed
    char name[PLACE_NAME_MAX];
    void (*done)(void *arg, size_t n_agents, size_t n_flows, const struct failure *f);
    void *arg;
};

static void credential_free(struct credential *k) {
    if (k != NULL) {
        explicit_bzero(k, sizeof *k);
        free(k);
    }
}

enum err credentials_new(struct core *c, struct credentials **ret_credentials) {
    static const char purpose[] = "sluice-credentials-1";
    uint8_t private_key[SIGNING_KEY_BYTES];
    struct credentials *cs = calloc(1, sizeof *cs);
    if (cs == NULL) {
        return ERR_NO_MEMORY;
    }
    cs->core = c;
    signing_key_private(c->key, private_key);
    enum err e = hmac_sha256(private_key, sizeof private_key, purpose, sizeof purpose - 1, cs->key);
    explicit_bzero(private_key, sizeof private_key);
    if (e != OK) {
        credentials_free(cs);
        return e;
    }
    *ret_credentials = cs;
    return OK;
}

void credentials_free(struct credentials *cs) {
    if (cs == NULL) {
        return;
    }
    while (cs->all != NULL) {
        struct credential *k = cs->all;
        cs->all = k->next;
        credential_free(k);
    }
    explicit_bzero(cs->key, sizeof cs->key);
    free(cs);
}

// ---- the table ----

static struct credential **place_of(struct credentials *cs, const char *name) {
    struct credential **at = &cs->all;
    while (*at != NULL && strcmp((*at)->name, name) < 0) {
        at = &(*at)->next;
    }
    return at;
}

static void take_out(struct credentials *cs, const char *name) {
    struct credential **at = place_of(cs, name);
    if (*at != NULL && strcmp((*at)->name, name) == 0) {
        struct credential *old = *at;
        *at = old->next;
        cs->n--;
        credential_free(old);
    }
}

static void put_in(struct credentials *cs, struct credential *take_k) {
    take_out(cs, take_k->name);
    struct credential **at = place_of(cs, take_k->name);
    take_k->next = *at;
    *at = take_k;
    cs->n++;
}

bool credentials_is_name(const char *name) {
    size_t n = strlen(name);
    return n > 0 && n < PLACE_NAME_MAX && strchr("._-", name[0]) == NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static const struct credential *find(const struct credentials *cs, const char *name) {
    const struct credential *k = cs->all;
    while (k != NULL && strcmp(k->name, name) != 0) {
        k = k->next;
    }
    return k;
}

bool credentials_has(const struct credentials *cs, const char *name) {
    return find(cs, name) != NULL;
}

// May @peer use and change what has this name?
static enum err check_owner(const struct credentials *cs, const char *name, const char *peer,
                            const char *operation, struct failure *f) {
    const struct credential *k = find(cs, name);
    if (k == NULL || peer == NULL || k->owner[0] == '\0' ||
        strncmp(k->owner, peer, CREDENTIAL_OWNER_MAX) == 0) {
        return OK;
    }
    enum err e = failure_set(f, ERR_DENIED, operation, name, strlen(name),
                             "credentials: these belong to %.100s, not to %.100s", k->owner, peer);
    failure_remedy(f, "store your own under another name, or ask %.100s", k->owner);
    return e;
}

size_t credentials_count(const struct credentials *cs) {
    return cs->n;
}

void credentials_each_name(const struct credentials *cs,
                           void (*each)(void *arg, const char *name, const char *owner,
                                        int64_t updated_ms),
                           void *arg) {
    for (const struct credential *k = cs->all; k != NULL; k = k->next) {
        each(arg, k->name, k->owner, k->updated_ms);
    }
}

enum err credentials_check(const struct credentials *cs, char *const *items, size_t n,
                           const char *peer, struct failure *ret_failure) {
    if (n > CREDENTIALS_MAX) {
        return failure_set(ret_failure, ERR_INVALID, "submit", NULL, 0,
                           "credentials: more than %d names", CREDENTIALS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(items[i], '=');
        const char *name = equals != NULL ? equals + 1 : items[i];
        if (!credentials_is_name(name) || equals == items[i]) {
            return failure_set(ret_failure, ERR_INVALID, "submit", items[i],
                               strnlen(items[i], PLACE_NAME_MAX),
                               "credentials: this is neither NAME nor STORE=NAME");
        }
        if (!credentials_has(cs, name)) {
            enum err e = failure_set(ret_failure, ERR_NOT_FOUND, "submit", name, strlen(name),
                                     "credentials: there are none of this name");
            failure_remedy(ret_failure, "store them with `sluice credentials update %.60s`", name);
            return e;
        }
        enum err e = check_owner(cs, name, peer, "submit", ret_failure);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

// ---- messages ----

// protobuf-c has no const; nothing is written through this.
static char *borrowed(const char *text) {
    return (char *)(uintptr_t)text;
}

struct keys_message {
    Sluice__V1__MasterMessage message;
    Sluice__V1__Credentials credentials;
    Sluice__V1__S3Keys keys;
};

// @k NULL: without keys.
static void make_message(const char *name, const struct credential *k, struct keys_message *m) {
    sluice__v1__master_message__init(&m->message);
    sluice__v1__credentials__init(&m->credentials);
    sluice__v1__s3_keys__init(&m->keys);
    m->message.kind_case = SLUICE__V1__MASTER_MESSAGE__KIND_CREDENTIALS;
    m->message.credentials = &m->credentials;
    m->credentials.name = borrowed(name);
    if (k != NULL) {
        m->keys.access_key = borrowed(k->access_key);
        m->keys.secret_key = borrowed(k->secret_key);
        m->keys.session_token = borrowed(k->session_token);
        m->credentials.keys = &m->keys;
    }
}

void credentials_each_message(const struct credentials *cs,
                              void (*send)(void *arg, Sluice__V1__MasterMessage *m), void *arg) {
    for (const struct credential *k = cs != NULL ? cs->all : NULL; k != NULL; k = k->next) {
        struct keys_message m;
        make_message(k->name, k, &m);
        send(arg, &m.message);
    }
}

// ---- the database ----

static enum err keep(const char *text, char *to, size_t cap) {
    size_t n = strlen(text);
    if (n >= cap) {
        return ERR_INVALID;
    }
    memcpy(to, text, n + 1);
    return OK;
}

static enum err fill(struct credential *k, const char *name, const struct credential_keys *keys) {
    enum err e = keep(name, k->name, sizeof k->name);
    if (e == OK) {
        e = keep(keys->access_key, k->access_key, sizeof k->access_key);
    }
    if (e == OK) {
        e = keep(keys->secret_key, k->secret_key, sizeof k->secret_key);
    }
    if (e == OK) {
        e = keep(keys->session_token, k->session_token, sizeof k->session_token);
    }
    return e == OK && (k->access_key[0] == '\0' || k->secret_key[0] == '\0') ? ERR_INVALID : e;
}

static enum err open_row(const struct credentials *cs, const struct credential_row *row,
                         struct credential *k) {
    size_t len = 0;
    AUTO(auto_free) uint8_t *secret = malloc(row->sealed.len + 1);
    if (secret == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err e = seal_open(cs->key, row->name, row->sealed.bytes, row->sealed.len, secret, &len);
    Sluice__V1__S3Keys *m = e == OK ? sluice__v1__s3_keys__unpack(NULL, len, secret) : NULL;
    if (m == NULL) {
        return e == OK ? ERR_CORRUPT : e;
    }
    const struct credential_keys keys = {m->access_key, m->secret_key, m->session_token};
    e = fill(k, row->name, &keys);
    snprintf(k->owner, sizeof k->owner, "%s", m->owner);
    k->updated_ms = row->updated_ms;
    explicit_bzero(secret, len);
    explicit_bzero(m->secret_key, strlen(m->secret_key));
    explicit_bzero(m->session_token, strlen(m->session_token));
    sluice__v1__s3_keys__free_unpacked(m, NULL);
    return e;
}

struct load {
    struct credentials *credentials;
    void (*done)(void *arg, const struct failure *f);
    void *arg;
};

static void on_rows(void *arg, enum err result, const struct credential_row *rows, size_t n_rows,
                    bool more) {
    struct load *l = arg;
    struct failure f = {0};
    (void)more;
    for (size_t i = 0; result == OK && i < n_rows; i++) {
        struct credential *k = calloc(1, sizeof *k);
        enum err e = k != NULL ? open_row(l->credentials, &rows[i], k) : ERR_NO_MEMORY;
        if (e == OK) {
            put_in(l->credentials, k);
            continue;
        }
        credential_free(k);
        result = e == ERR_NO_MEMORY ? e : OK;
        log_event(LOG_ERROR, "credentials_unreadable", LOG_STR("name", rows[i].name),
                  LOG_STR("code", err_name(e)),
                  LOG_STR("remedy", "store them again with `sluice credentials update`"));
    }
    if (result != OK) {
        (void)failure_set(&f, result, "read credentials", NULL, 0, NULL);
    }
    l->done(l->arg, result != OK ? &f : NULL);
    free(l);
}

void credentials_load(struct credentials *cs, void (*done)(void *arg, const struct failure *f),
                      void *arg) {
    struct load *l = calloc(1, sizeof *l);
    if (l == NULL) {
        struct failure f = {0};
        (void)failure_set(&f, ERR_NO_MEMORY, "read credentials", NULL, 0, NULL);
        done(arg, &f);
        return;
    }
    *l = (struct load){cs, done, arg};
    database_credentials(cs->core->database, CREDENTIALS_MAX, on_rows, l);
}

// ---- updates ----

static void tell(struct credentials *cs, const char *name, const struct credential *k,
                 bool is_removed, size_t *ret_agents, size_t *ret_flows) {
    struct keys_message m;
    make_message(name, k, &m);
    m.credentials.removed = is_removed;
    *ret_agents = agents_tell(cs->core->agents, &m.message);
    *ret_flows = flows_go_on_with_credentials(cs->core->flows, name);
    log_event(LOG_INFO, "credentials_updated", LOG_STR("name", name),
              LOG_STR("kind", is_removed  ? "removed"
                              : k != NULL ? "stored"
                                          : "looked_for_again"),
              LOG_U64("agents", *ret_agents), LOG_U64("flows", *ret_flows));
}

static void on_committed(void *arg, enum err result) {
    struct update *u = arg;
    struct failure f = {0};
    size_t n_agents = 0, n_flows = 0;
    if (result != OK) {
        (void)failure_set(&f, result, "store credentials", u->name, strlen(u->name), NULL);
        credential_free(u->new);
    } else if (u->new == NULL) {
        take_out(u->credentials, u->name);
        tell(u->credentials, u->name, NULL, true, &n_agents, &n_flows);
    } else {
        put_in(u->credentials, u->new);
        tell(u->credentials, u->name, u->new, false, &n_agents, &n_flows);
    }
    u->done(u->arg, n_agents, n_flows, result != OK ? &f : NULL);
    free(u);
}

static enum err put_row(const struct credentials *cs, const struct credential *k,
                        struct change *c) {
    Sluice__V1__S3Keys m = SLUICE__V1__S3_KEYS__INIT;
    m.access_key = borrowed(k->access_key);
    m.secret_key = borrowed(k->secret_key);
    m.session_token = borrowed(k->session_token);
    m.owner = borrowed(k->owner);
    size_t len = sluice__v1__s3_keys__get_packed_size(&m);
    AUTO(auto_free) uint8_t *secret = malloc(len + 1);
    AUTO(auto_free) uint8_t *sealed = malloc(len + SEAL_OVERHEAD_BYTES);
    if (secret == NULL || sealed == NULL) {
        return ERR_NO_MEMORY;
    }
    sluice__v1__s3_keys__pack(&m, secret);
    enum err e = seal(cs->key, k->name, secret, len, sealed);
    explicit_bzero(secret, len);
    if (e == OK) {
        const struct credential_row row = {
            .name = k->name,
            .updated_ms = k->updated_ms,
            .sealed = {sealed, len + SEAL_OVERHEAD_BYTES},
        };
        change_credential_put(c, &row);
    }
    return e;
}

static enum err begin(struct credentials *cs, const char *name, const struct credential_keys *keys,
                      const char *peer, struct update *u, struct change *c, struct failure *f) {
    const struct credential *old = find(cs, name);
    memcpy(u->name, name, strlen(name) + 1);
    u->credentials = cs;
    if (keys == NULL) {
        change_credential_remove(c, name);
        return OK;
    }
    u->new = calloc(1, sizeof *u->new);
    enum err e = u->new != NULL ? fill(u->new, name, keys) : ERR_NO_MEMORY;
    if (e == OK) {
        u->new->updated_ms = clock_wall_ms(cs->core->clock);
        const char *owner = old != NULL && old->owner[0] != '\0' ? old->owner : peer;
        snprintf(u->new->owner, sizeof u->new->owner, "%s", owner != NULL ? owner : "");
        e = put_row(cs, u->new, c);
    }
    return e == OK ? OK
                   : failure_set(f, e, "store credentials", name, strlen(name), "%s",
                                 e == ERR_INVALID ? "an access key and a secret key are needed, "
                                                    "none longer than any that makes sense"
                                                  : err_text(e));
}

// @keys NULL: they are removed.
static void store(struct credentials *cs, const char *name, const struct credential_keys *keys,
                  const char *peer,
                  void (*done)(void *arg, size_t n_agents, size_t n_flows, const struct failure *f),
                  void *arg) {
    struct failure f = {0};
    struct update *u = calloc(1, sizeof *u);
    struct change *c = change_new();
    enum err e = u == NULL ? failure_set(&f, ERR_NO_MEMORY, "store credentials", NULL, 0, NULL)
                           : begin(cs, name, keys, peer, u, c, &f);
    if (u == NULL || e != OK) {
        change_free(c);
        if (u != NULL) {
            credential_free(u->new);
            free(u);
        }
        done(arg, 0, 0, &f);
        return;
    }
    u->done = done;
    u->arg = arg;
    database_commit(cs->core->database, c, on_committed, u);
}

void credentials_update(
    struct credentials *cs, const char *name, const struct credential_keys *keys, const char *peer,
    void (*done)(void *arg, size_t n_agents, size_t n_flows, const struct failure *f), void *arg) {
    struct failure f = {0};
    size_t n_agents = 0, n_flows = 0;
    if (!credentials_is_name(name)) {
        (void)failure_set(&f, ERR_INVALID, "store credentials", name, strnlen(name, PLACE_NAME_MAX),
                          "a name has letters, digits and ._-, at most %d", PLACE_NAME_MAX - 1);
        done(arg, 0, 0, &f);
    } else if (keys == NULL) {
        tell(cs, name, NULL, false, &n_agents, &n_flows);
        done(arg, n_agents, n_flows, NULL);
    } else if (cs->n >= CREDENTIALS_MAX && !credentials_has(cs, name)) {
        (void)failure_set(&f, ERR_FULL, "store credentials", name, strlen(name),
                          "there are %d already", CREDENTIALS_MAX);
        done(arg, 0, 0, &f);
    } else if (check_owner(cs, name, peer, "store credentials", &f) != OK) {
        done(arg, 0, 0, &f);
    } else {
        store(cs, name, keys, peer, done, arg);
    }
}

void credentials_remove(struct credentials *cs, const char *name, const char *peer,
                        void (*done)(void *arg, size_t n_agents, size_t n_flows,
                                     const struct failure *f),
                        void *arg) {
    struct failure f = {0};
    if (!credentials_has(cs, name)) {
        (void)failure_set(&f, ERR_NOT_FOUND, "remove credentials", name,
                          strnlen(name, PLACE_NAME_MAX), "there are none of this name");
        done(arg, 0, 0, &f);
        return;
    }
    if (check_owner(cs, name, peer, "remove credentials", &f) != OK) {
        done(arg, 0, 0, &f);
        return;
    }
    store(cs, name, NULL, peer, done, arg);
}
