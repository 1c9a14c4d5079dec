// SPDX-License-Identifier: Apache-2.0
// What an agent says of its volumes, and where a location lies among them.
#include "common/cleanup.h"
#include "common/object_table.h"
#include "master/agents_impl.h"
#include "master/volume_proof.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static void volume_free(struct agent *a, struct agent_volume *v) {
    volume_proofs_leave(a->agents->proofs, v);
    DL_DELETE(a->volumes, v);
    free(v->root);
    free(v->error);
    free(v);
}

void agent_drop_volumes(struct agent *a) {
    struct agent_volume *v, *next;
    DL_FOREACH_SAFE(a->volumes, v, next) {
        volume_free(a, v);
    }
}

struct agent_volume *agent_volume_find(const struct agent *a, const char *name) {
    struct agent_volume *v;
    DL_FOREACH(a->volumes, v) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

static size_t root_len(const Sluice__V1__Volume *m) {
    size_t n = m->root.len;
    while (n > 0 && m->root.data[n - 1] == '/') {
        n--;
    }
    return n;
}

static bool is_store(const Sluice__V1__Volume *m) {
    return strcmp(m->kind, "s3") == 0;
}

static bool is_valid(const Sluice__V1__Volume *m) {
    return location_name_is_valid(m->name, strlen(m->name)) && m->root.len > 0 &&
           m->root.len < PLACE_ROOT_MAX && (m->root.data[0] == '/') != is_store(m) &&
           (m->kind[0] == '\0' || is_store(m)) && memchr(m->root.data, '\0', m->root.len) == NULL;
}

// Is it still what it was proven to be?
static bool is_same(const struct agent_volume *v, const Sluice__V1__Volume *m) {
    return v->generation == m->generation && v->readable == m->readable &&
           v->writable == m->writable && v->is_store == is_store(m) && v->root_len == root_len(m) &&
           (v->root_len == 0 || memcmp(v->root, m->root.data, v->root_len) == 0) &&
           v->error == NULL && m->error[0] == '\0';
}

static enum err volume_new(struct agent *a, const Sluice__V1__Volume *m) {
    struct agent_volume *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        return ERR_NO_MEMORY;
    }
    v->agent = a;
    v->root_len = root_len(m);
    v->root = malloc(v->root_len + 1);
    if (v->root == NULL || (m->error[0] != '\0' && (v->error = strdup(m->error)) == NULL)) {
        free(v->root);
        free(v);
        return ERR_NO_MEMORY;
    }
    memcpy(v->root, m->root.data, v->root_len);
    memcpy(v->name, m->name, strnlen(m->name, sizeof(v->name) - 1));
    v->readable = m->readable;
    v->writable = m->writable;
    v->is_store = is_store(m);
    v->generation = m->generation;
    v->bytes_free = m->bytes_free;
    v->bytes_total = m->bytes_total;
    DL_APPEND(a->volumes, v);
    return v->error == NULL && !v->is_store ? volume_proofs_join(a->agents->proofs, v) : OK;
}

static const Sluice__V1__Volume *named(Sluice__V1__Volume *const *volumes, size_t n,
                                       const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(volumes[i]->name, name) == 0) {
            return volumes[i];
        }
    }
    return NULL;
}

enum err agent_set_volumes(struct agent *a, Sluice__V1__Volume *const *volumes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (n > AGENT_MAX_VOLUMES || !is_valid(volumes[i]) ||
            named(volumes, i, volumes[i]->name) != NULL) {
            return ERR_INVALID;
        }
    }
    struct agent_volume *v, *next;
    DL_FOREACH_SAFE(a->volumes, v, next) {
        const Sluice__V1__Volume *m = named(volumes, n, v->name);
        if (m == NULL || !is_same(v, m)) {
            volume_free(a, v);
        } else {
            v->bytes_free = m->bytes_free;
            v->bytes_total = m->bytes_total;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (agent_volume_find(a, volumes[i]->name) == NULL) {
            enum err e = volume_new(a, volumes[i]);
            if (e != OK) {
                return e;
            }
        }
    }
    return OK;
}

// ---- resolving ----

struct lookup {
    const struct location *location;
    bool write;
    bool site_known, agent_known, site_connected;
    const struct agent_volume *best; // the longest root that contains the path
    const struct agent_volume *wrong_mode, *broken;
};

static bool contains(const struct agent_volume *v, const struct location *l) {
    return l->len >= v->root_len &&
           (v->root_len == 0 || memcmp(v->root, l->bytes, v->root_len) == 0) &&
           (l->len == v->root_len || l->bytes[v->root_len] == '/');
}

static void look_at_agent(const struct agent *a, struct lookup *k) {
    const struct location *l = k->location;
    if (strcmp(a->site, l->site) != 0) {
        return;
    }
    k->site_known = true;
    if (l->agent[0] != '\0' && strcmp(a->name, l->agent) != 0) {
        return;
    }
    k->agent_known = true;
    if (a->session == NULL) {
        return;
    }
    k->site_connected = true;
    const struct agent_volume *v;
    DL_FOREACH(a->volumes, v) {
        if (v->is_store || !contains(v, l)) {
            continue;
        }
        if (v->error != NULL) {
            k->broken = v;
        } else if (k->write ? !v->writable : !v->readable) {
            k->wrong_mode = v;
        } else if (k->best == NULL || v->root_len > k->best->root_len) {
            k->best = v;
        }
    }
}

// "a, b, c" of the sites, or of a site's roots, as far as there is room.
static void list_names(const struct agents *as, const char *site, char *buf, size_t cap) {
    size_t used = 0;
    buf[0] = '\0';
    const struct agent *a;
    DL_FOREACH(as->all, a) {
        char item[96];
        const struct agent_volume *v = a->volumes;
        if (a->site[0] == '\0' ||
            (site != NULL && (strcmp(a->site, site) != 0 || a->session == NULL))) {
            continue;
        }
        for (bool first = true; site == NULL ? first : v != NULL;
             v = v != NULL ? v->next : NULL, first = false) {
            if (site == NULL) {
                snprintf(item, sizeof(item), "%.90s", a->site);
            } else {
                snprintf(item, sizeof(item), "%.*s", v->root_len < 90 ? (int)v->root_len : 90,
                         v->root_len > 0 ? (const char *)v->root : "");
                item[0] = item[0] != '\0' ? item[0] : '/';
            }
            size_t len = strlen(item);
            const char *at = strstr(buf, item);
            bool listed =
                at != NULL && (at[len] == '\0' || at[len] == ',') && (at == buf || at[-1] == ' ');
            if (!listed && used + len + 3 < cap) {
                used +=
                    (size_t)snprintf(buf + used, cap - used, "%s%s", used > 0 ? ", " : "", item);
            }
        }
    }
}

static enum err complain(const struct agents *as, const struct lookup *k, struct failure *f) {
    const struct location *l = k->location;
    char names[180];
    enum err e;
    if (!k->site_known) {
        list_names(as, NULL, names, sizeof(names));
        e = failure_set(f, ERR_NOT_FOUND, "resolve", l->bytes, l->len, "there is no site '%s'",
                        l->site);
        failure_remedy(f, names[0] != '\0' ? "known sites: %s" : "no agent has registered yet%s",
                       names);
    } else if (!k->agent_known) {
        e = failure_set(f, ERR_NOT_FOUND, "resolve", l->bytes, l->len,
                        "site '%s' has no agent '%s'", l->site, l->agent);
        failure_remedy(f, "see `sluice agents` for those that are there");
    } else if (!k->site_connected) {
        e = failure_set(f, ERR_NO_AGENT, "resolve", l->bytes, l->len,
                        "no agent of site '%s' is connected", l->site);
        failure_remedy(f, "start an agent of that site");
    } else if (k->broken != NULL) {
        e = failure_set(f, ERR_NO_VOLUME, "resolve", l->bytes, l->len,
                        "volume '%s' cannot be used: %.150s", k->broken->name, k->broken->error);
    } else if (k->wrong_mode != NULL) {
        e = failure_set(f, ERR_NO_VOLUME, "resolve", l->bytes, l->len,
                        "volume '%s' of site '%s' may not be %s", k->wrong_mode->name, l->site,
                        k->write ? "written" : "read");
        failure_remedy(f, "change its mode in the agents' configuration");
    } else {
        list_names(as, l->site, names, sizeof(names));
        e = failure_set(f, ERR_NO_VOLUME, "resolve", l->bytes, l->len,
                        "no volume of site '%s' contains this path", l->site);
        failure_remedy(f, "its agents export: %s", names);
    }
    return e;
}

// May any agent of the site that has the volume be used?
static enum err check_shared(const struct agents *as, const struct lookup *k, struct failure *f) {
    const struct location *l = k->location;
    uint32_t n_shared = 0, n_pending = 0, n_local = 0, n_unproven = 0;
    const struct agent *a;
    DL_FOREACH(as->all, a) {
        const struct agent_volume *v = a->session != NULL && strcmp(a->site, l->site) == 0
                                           ? agent_volume_find(a, k->best->name)
                                           : NULL;
        if (v != NULL && v->error == NULL) {
            n_shared += v->proof == PROOF_SHARED ? 1 : 0;
            n_pending += v->proof == PROOF_PENDING ? 1 : 0;
            n_local += v->proof == PROOF_LOCAL ? 1 : 0;
            n_unproven += v->proof == PROOF_LOCAL && v->unproven ? 1 : 0;
        }
    }
    if (n_shared > n_pending + n_local) {
        return OK;
    }
    if (n_pending > 0) {
        return failure_set(
            f, ERR_AGAIN, "resolve", l->bytes, l->len,
            "whether volume '%s' is shared by the agents of site '%s' is being found "
            "out",
            k->best->name, l->site);
    }
    if (n_unproven > 0) {
        enum err e = failure_set(f, ERR_NOT_SHARED, "resolve", l->bytes, l->len,
                                 "none of the agents of site '%s' could write into volume '%s' to"
                                 " find out whether it is the same for all",
                                 l->site, k->best->name);
        failure_remedy(f,
                       "make room if it is full, and try again; or name the agent that you mean:"
                       " %s/AGENT:/path",
                       l->site);
        return e;
    }
    enum err e = failure_set(f, ERR_NOT_SHARED, "resolve", l->bytes, l->len,
                             "the agents of site '%s' do not see the same in volume '%s'", l->site,
                             k->best->name);
    failure_remedy(f, "name the agent that you mean: %s/AGENT:/path", l->site);
    return e;
}

// ---- object stores ----

// Which store is meant, and is it the same for all agents that have it? A location without a name
// means the one named "s3", or the only one.
static enum err find_store(const struct agents *as, const struct location *l, bool write,
                           const struct agent_volume **ret_store, struct failure *f) {
    const struct agent_volume *found = NULL, *named_s3 = NULL, *other = NULL, *wrong_mode = NULL;
    const struct agent *a;
    DL_FOREACH(as->all, a) {
        const struct agent_volume *v;
        DL_FOREACH(a->volumes, v) {
            bool is_meant = l->store[0] == '\0' || strcmp(v->name, l->store) == 0;
            if (a->session == NULL || !v->is_store || !is_meant || v->error != NULL) {
                continue;
            }
            if (write ? !v->writable : !v->readable) {
                wrong_mode = v;
                continue;
            }
            named_s3 = strcmp(v->name, "s3") == 0 ? v : named_s3;
            bool is_other = found != NULL &&
                            (strcmp(found->name, v->name) != 0 || found->root_len != v->root_len ||
                             memcmp(found->root, v->root, v->root_len) != 0);
            other = is_other ? v : other;
            found = found == NULL ? v : found;
        }
    }
    if (l->store[0] == '\0' && named_s3 != NULL) {
        *ret_store = named_s3;
        return OK;
    }
    if (other != NULL && l->store[0] == '\0') {
        enum err e = failure_set(f, ERR_INVALID, "resolve", l->bucket, strlen(l->bucket),
                                 "there are several object stores, '%s' and '%s' among them",
                                 found->name, other->name);
        failure_remedy(f, "name the one that you mean: s3+NAME://BUCKET/KEY");
        return e;
    }
    if (other != NULL) {
        enum err e = failure_set(f, ERR_NOT_SHARED, "resolve", l->bucket, strlen(l->bucket),
                                 "agents %s and %s have different endpoints for store '%s'",
                                 found->agent->name, other->agent->name, found->name);
        failure_remedy(f, "give the stores different names in the agents' configuration");
        return e;
    }
    if (found == NULL) {
        enum err e = failure_set(f, ERR_NO_VOLUME, "resolve", l->bucket, strlen(l->bucket),
                                 wrong_mode != NULL ? "store '%s' may not be used for this"
                                                    : "no agent that is connected has a store%s%s",
                                 wrong_mode != NULL    ? wrong_mode->name
                                 : l->store[0] != '\0' ? " named "
                                                       : "",
                                 l->store);
        failure_remedy(f, "add it to the agents' volumes: {name: NAME, kind: s3, endpoint: URL}");
        return e;
    }
    *ret_store = found;
    return OK;
}

static enum err resolve_store(const struct agents *as, const struct location *l, bool write,
                              struct place *ret_place, struct failure *f) {
    const struct agent_volume *v = NULL;
    enum err e = find_store(as, l, write, &v, f);
    if (e != OK) {
        return e;
    }
    assert(v != NULL);
    struct place p;
    memset(&p, 0, sizeof(p));
    size_t bucket_len = strlen(l->bucket), len = l->len;
    if (len > 0 && l->bytes[len - 1] == '/') {
        len--;
    }
    if (bucket_len + 1 + len > sizeof(p.root)) {
        return failure_set(f, ERR_NAME_TOO_LONG, "resolve", l->bytes, l->len, NULL);
    }
    memcpy(p.volume, v->name, sizeof(p.volume));
    memcpy(p.root, l->bucket, bucket_len);
    p.root_len = bucket_len;
    if (l->len > 0) {
        p.root[p.root_len++] = '/';
        memcpy(p.root + p.root_len, l->bytes, len);
        p.root_len += len;
    }
    *ret_place = p;
    return OK;
}

enum err agents_resolve(struct agents *as, const struct location *l, bool write,
                        struct place *ret_place, struct failure *ret_failure) {
    if (l->kind == LOCATION_S3) {
        return resolve_store(as, l, write, ret_place, ret_failure);
    }
    if (l->kind != LOCATION_POSIX) {
        return failure_set(ret_failure, ERR_UNIMPLEMENTED, "resolve", l->bytes, l->len,
                           "only paths of a site and S3 can be used by this version");
    }
    struct lookup k = {.location = l, .write = write};
    const struct agent *a;
    DL_FOREACH(as->all, a) {
        look_at_agent(a, &k);
    }
    if (k.best == NULL) {
        return complain(as, &k, ret_failure);
    }
    struct place p;
    memset(&p, 0, sizeof(p));
    memcpy(p.site, l->site, sizeof(p.site));
    memcpy(p.agent, l->agent, sizeof(p.agent));
    memcpy(p.volume, k.best->name, sizeof(p.volume));
    const uint8_t *rest = l->bytes + k.best->root_len;
    size_t len = l->len - k.best->root_len;
    for (; len > 0 && rest[0] == '/'; len--) {
        rest++;
    }
    while (len > 0 && rest[len - 1] == '/') {
        len--;
    }
    if (len > sizeof(p.root)) {
        return failure_set(ret_failure, ERR_NAME_TOO_LONG, "resolve", l->bytes, l->len, NULL);
    }
    if (!object_path_is_valid(rest, len)) {
        return failure_set(ret_failure, ERR_INVALID, "resolve", l->bytes, l->len,
                           "a path has no empty, '.' or '..' components");
    }
    memcpy(p.root, rest, len);
    p.root_len = len;
    enum err e = l->agent[0] != '\0' ? OK : check_shared(as, &k, ret_failure);
    if (e == OK) {
        *ret_place = p;
    }
    return e;
}
