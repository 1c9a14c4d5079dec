// SPDX-License-Identifier: Apache-2.0
#include "agent/credential_table.h"

#include "agent/agent_options.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct named_keys {
    struct named_keys *next;
    char name[AGENT_NAME_MAX + 1];
    struct s3_credentials keys;
};

struct credential_table {
    pthread_mutex_t lock;
    struct named_keys *all;
    size_t n;
};

static void named_keys_free(struct named_keys *k) {
    s3_credentials_wipe(&k->keys);
    free(k);
}

enum err credential_table_new(struct credential_table **ret_table) {
    struct credential_table *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_mutex_init(&t->lock, NULL);
    *ret_table = t;
    return OK;
}

void credential_table_free(struct credential_table *t) {
    if (t == NULL) {
        return;
    }
    while (t->all != NULL) {
        struct named_keys *k = t->all;
        t->all = k->next;
        named_keys_free(k);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

// Under the lock.
static struct named_keys *find(struct credential_table *t, const char *name) {
    struct named_keys *k = t->all;
    while (k != NULL && strcmp(k->name, name) != 0) {
        k = k->next;
    }
    return k;
}

enum err credential_table_put(struct credential_table *t, const char *name,
                              const struct s3_credentials *keys) {
    enum err e = OK;
    pthread_mutex_lock(&t->lock);
    struct named_keys *k = find(t, name);
    if (k == NULL && (t->n >= CREDENTIAL_TABLE_MAX || strlen(name) > AGENT_NAME_MAX)) {
        e = ERR_FULL;
    } else if (k == NULL) {
        k = calloc(1, sizeof *k);
        e = k != NULL ? OK : ERR_NO_MEMORY;
        if (k != NULL) {
            memcpy(k->name, name, strlen(name));
            k->next = t->all;
            t->all = k;
            t->n++;
        }
    }
    if (e == OK) {
        k->keys = *keys;
    }
    pthread_mutex_unlock(&t->lock);
    return e;
}

void credential_table_remove(struct credential_table *t, const char *name) {
    pthread_mutex_lock(&t->lock);
    struct named_keys **at = &t->all;
    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        struct named_keys *k = *at;
        *at = k->next;
        t->n--;
        named_keys_free(k);
    }
    pthread_mutex_unlock(&t->lock);
}

// What the lease says for this store; NULL: nothing. One that names the store wins.
static const char *name_for(const char *store, char *const *names, size_t n) {
    const char *for_all = NULL;
    size_t store_len = strlen(store);
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(names[i], '=');
        if (equals == NULL) {
            for_all = names[i];
        } else if ((size_t)(equals - names[i]) == store_len &&
                   memcmp(names[i], store, store_len) == 0) {
            return equals + 1;
        }
    }
    return for_all;
}

enum err credential_table_choose(struct credential_table *t, const char *store, char *const *names,
                                 size_t n, struct s3_credentials *ret_keys,
                                 struct failure *ret_failure) {
    const char *name = name_for(store, names, n);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    pthread_mutex_lock(&t->lock);
    const struct named_keys *k = find(t, name);
    bool is_here = k != NULL;
    if (is_here) {
        *ret_keys = k->keys;
    }
    pthread_mutex_unlock(&t->lock);
    if (is_here) {
        return OK;
    }
    enum err e = failure_set(ret_failure, ERR_UNAUTHENTICATED, "find credentials", name,
                             strlen(name), "there are no credentials of this name");
    failure_remedy(ret_failure, "store them with `sluice credentials update %.60s`", name);
    return e;
}
