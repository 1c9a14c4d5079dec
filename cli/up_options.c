// SPDX-License-Identifier: Apache-2.0
#include "cli/up_options.h"

#include "cli/quantity.h"
#include "common/location.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct command_option up_command_options[] = {
    {"dir", 'd', "DIR",
     "keep configuration, state and logs there (default: a fresh\n"
     "directory below $TMPDIR, removed at the end unless a volume in\n"
     "it holds files)"},
    {"site", 's', "NAME=AGENTS",
     "a site of so many agents; may be repeated (default: a=2 and\n"
     "b=2, and 2 for other sites that --volume names)"},
    {"volume", 'v', "SITE:[NAME=]/PATH",
     "a directory that the site's agents read and write; may be\n"
     "repeated (default name: the directory's own; default volume:\n"
     "DIR/SITE, named data)"},
    {"store", 0, "NAME=URL",
     "an object store (S3) that all agents read and write; may be\n"
     "repeated (credentials: the environment, or the AWS files)"},
    {"database", 0, "URL",
     "a PostgreSQL database for the master, postgresql://…\n"
     "(default: SQLite in DIR)"},
    {"standbys", 0, "N",
     "so many more masters on that database, which take over when\n"
     "the active one ends (default: none)"},
    {"set", 0, "master.KEY=VALUE",
     "a key of the master's, of every agent's (agent.KEY=VALUE) or\n"
     "of one agent's configuration (a-1.KEY=VALUE); may be repeated"},
    {NULL, 0, NULL, NULL},
};

static enum err refuse(struct failure *f, const char *text, const char *why) {
    failure_set(f, ERR_INVALID, "use", text, strlen(text), "%s", why);
    failure_remedy(f, "see `sluice up --help`");
    return ERR_INVALID;
}

static enum err no_memory(struct failure *f) {
    failure_set(f, ERR_NO_MEMORY, "read the options", NULL, 0, NULL);
    return ERR_NO_MEMORY;
}

static bool take_name(const char *text, size_t len, char ret_name[UP_NAME_MAX]) {
    // An agent's name is that of its site and a number.
    if (len >= UP_NAME_MAX - 8 || !location_name_is_valid(text, len)) {
        return false;
    }
    memcpy(ret_name, text, len);
    ret_name[len] = '\0';
    return true;
}

enum err up_site_parse(const char *text, struct up_site *ret_site, struct failure *ret_failure) {
    const char *equals = strchr(text, '=');
    int64_t n;
    if (!equals || !take_name(text, (size_t)(equals - text), ret_site->name) ||
        !quantity_integer(equals + 1, 1, UP_AGENTS_MAX, &n)) {
        return refuse(ret_failure, text, "--site takes NAME=AGENTS, as in a=2");
    }
    ret_site->n_agents = (int)n;
    return OK;
}

// An absolute path without doubled or trailing slashes. NULL: out of memory.
static char *tidy_path(const char *path) {
    char *tidy = malloc(strlen(path) + 2);
    size_t n = 0;
    if (!tidy) {
        return NULL;
    }
    while (*path) {
        path += strspn(path, "/");
        size_t part = strcspn(path, "/");
        if (part > 0 && !(part == 1 && *path == '.')) {
            tidy[n++] = '/';
            memcpy(tidy + n, path, part);
            n += part;
        }
        path += part;
    }
    if (n == 0) {
        tidy[n++] = '/';
    }
    tidy[n] = '\0';
    return tidy;
}

static bool has_dot_dot(const char *path) {
    for (const char *p = path; (p = strstr(p, "..")); p += 2) {
        if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0')) {
            return true;
        }
    }
    return false;
}

enum err up_volume_parse(const char *text, struct up_volume *ret_volume,
                         struct failure *ret_failure) {
    const char *colon = strchr(text, ':');
    if (!colon || !take_name(text, (size_t)(colon - text), ret_volume->site)) {
        return refuse(ret_failure, text, "--volume takes SITE:[NAME=]/PATH");
    }
    const char *path = colon + 1, *name = NULL;
    size_t name_len = 0;
    if (*path != '/') {
        const char *equals = strchr(path, '=');
        if (!equals || equals[1] != '/') {
            return refuse(ret_failure, text, "the path of a volume must be absolute");
        }
        name = path;
        name_len = (size_t)(equals - path);
        path = equals + 1;
    }
    if (has_dot_dot(path) || !utf8_is_valid(path, strlen(path))) {
        return refuse(ret_failure, text, "the path of a volume must be UTF-8 without '..'");
    }
    char *root = tidy_path(path);
    if (!root) {
        return no_memory(ret_failure);
    }
    if (!name) {
        name = strcmp(root, "/") == 0 ? "root" : strrchr(root, '/') + 1;
        name_len = strlen(name);
    }
    if (!take_name(name, name_len, ret_volume->name)) {
        free(root);
        return refuse(ret_failure, text,
                      "the volume needs a name of letters and digits: SITE:NAME=/PATH");
    }
    ret_volume->root = root;
    return OK;
}

enum err up_store_parse(const char *text, struct up_store *ret_store, struct failure *ret_failure) {
    const char *equals = strchr(text, '=');
    if (!equals || !take_name(text, (size_t)(equals - text), ret_store->name) ||
        (strncmp(equals + 1, "http://", 7) != 0 && strncmp(equals + 1, "https://", 8) != 0) ||
        !utf8_is_valid(equals, strlen(equals)) || strpbrk(equals, "\n\r")) {
        return refuse(ret_failure, text, "--store takes NAME=URL, as in s3=https://HOST:PORT");
    }
    ret_store->endpoint = equals + 1;
    return OK;
}

enum err up_setting_parse(const char *text, struct up_setting *ret_setting,
                          struct failure *ret_failure) {
    static const char form[] = "--set takes master.KEY=VALUE, agent.KEY=VALUE or, for one agent, "
                               "SITE-NUMBER.KEY=VALUE";
    const char *equals = strchr(text, '=');
    const char *dot = equals ? memrchr(text, '.', (size_t)(equals - text)) : NULL;
    if (!dot || dot == text || (size_t)(dot - text) >= UP_NAME_MAX || equals == dot + 1 ||
        (size_t)(equals - dot) > UP_NAME_MAX || equals[1] == '\0' || strpbrk(equals, "\n\r")) {
        return refuse(ret_failure, text, form);
    }
    *ret_setting = (struct up_setting){0};
    memcpy(ret_setting->daemon, text, (size_t)(dot - text));
    memcpy(ret_setting->key, dot + 1, (size_t)(equals - dot - 1));
    ret_setting->value = equals + 1;
    return OK;
}

static struct up_site *find_site(struct up_options *o, const char *name) {
    for (size_t i = 0; i < o->n_sites; i++) {
        if (strcmp(o->sites[i].name, name) == 0) {
            return &o->sites[i];
        }
    }
    return NULL;
}

static enum err add_site(struct up_options *o, const struct up_site *site, struct failure *f) {
    int agents = site->n_agents;
    for (size_t i = 0; i < o->n_sites; i++) {
        agents += o->sites[i].n_agents;
    }
    if (find_site(o, site->name)) {
        return refuse(f, site->name, "the site is there twice");
    }
    if (o->n_sites == UP_SITES_MAX || agents > UP_AGENTS_MAX) {
        return refuse(f, site->name, "these are too many sites or agents for one machine");
    }
    o->sites[o->n_sites++] = *site;
    return OK;
}

static enum err read_sites(const struct invocation *inv, struct up_options *o, struct failure *f) {
    struct up_site site = {0};
    enum err e = OK;
    for (size_t i = 0; !e && invocation_value(inv, "site", i); i++) {
        e = up_site_parse(invocation_value(inv, "site", i), &site, f);
        if (!e) {
            e = add_site(o, &site, f);
        }
    }
    if (!e && o->n_sites == 0) {
        o->sites[o->n_sites++] = (struct up_site){"a", 2};
        o->sites[o->n_sites++] = (struct up_site){"b", 2};
    }
    return e;
}

static enum err add_volume(struct up_options *o, struct up_volume *take_volume, struct failure *f) {
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (strcmp(o->volumes[i].site, take_volume->site) == 0 &&
            strcmp(o->volumes[i].name, take_volume->name) == 0) {
            enum err e = refuse(f, take_volume->name,
                                "a site has two volumes of this name: use SITE:NAME=/PATH");
            free(take_volume->root);
            return e;
        }
    }
    if (o->n_volumes == UP_VOLUMES_MAX) {
        free(take_volume->root);
        return refuse(f, take_volume->name, "these are too many volumes");
    }
    o->volumes[o->n_volumes++] = *take_volume;
    return OK;
}

static enum err check_root(const struct up_volume *v, struct failure *f) {
    struct stat st;
    if (stat(v->root, &st) != 0) {
        return failure_errno(f, errno, "export volume", v->root, strlen(v->root));
    }
    if (!S_ISDIR(st.st_mode)) {
        return failure_set(f, ERR_NOT_DIRECTORY, "export volume", v->root, strlen(v->root), NULL);
    }
    return OK;
}

static enum err read_volumes(const struct invocation *inv, struct up_options *o,
                             struct failure *f) {
    bool sites_named = invocation_has(inv, "site");
    for (size_t i = 0; invocation_value(inv, "volume", i); i++) {
        struct up_volume v = {0};
        const char *text = invocation_value(inv, "volume", i);
        enum err e = up_volume_parse(text, &v, f);
        if (!e && !find_site(o, v.site)) {
            struct up_site site = {.n_agents = 2};
            memcpy(site.name, v.site, UP_NAME_MAX);
            e = sites_named ? refuse(f, text, "no --site has this name") : add_site(o, &site, f);
        }
        if (!e) {
            e = check_root(&v, f);
        }
        if (e) {
            free(v.root);
            return e;
        }
        if ((e = add_volume(o, &v, f)) != OK) {
            return e;
        }
    }
    return OK;
}

static enum err read_stores(const struct invocation *inv, struct up_options *o, struct failure *f) {
    for (size_t i = 0; invocation_value(inv, "store", i); i++) {
        const char *text = invocation_value(inv, "store", i);
        if (o->n_stores == UP_STORES_MAX) {
            return refuse(f, text, "these are too many stores");
        }
        struct up_store *store = &o->stores[o->n_stores];
        enum err e = up_store_parse(text, store, f);
        if (e) {
            return e;
        }
        for (size_t k = 0; k < o->n_stores; k++) {
            if (strcmp(o->stores[k].name, store->name) == 0) {
                return refuse(f, text, "two stores have this name");
            }
        }
        for (size_t k = 0; k < o->n_volumes; k++) {
            if (strcmp(o->volumes[k].name, store->name) == 0) {
                return refuse(f, text, "a volume has this name");
            }
        }
        o->n_stores++;
    }
    return OK;
}

// Sites without a volume get one below the directory.
static enum err add_default_volumes(struct up_options *o, struct failure *f) {
    static const char *const taken[] = {"etc", "log", "state", "lock", "client.yaml"};
    for (size_t i = 0; i < o->n_sites; i++) {
        bool has = false;
        for (size_t k = 0; k < o->n_volumes; k++) {
            has = has || strcmp(o->volumes[k].site, o->sites[i].name) == 0;
        }
        if (has) {
            continue;
        }
        struct up_volume v = {.name = "data", .is_ours = true};
        memcpy(v.site, o->sites[i].name, UP_NAME_MAX);
        for (size_t k = 0; k < sizeof(taken) / sizeof(taken[0]); k++) {
            if (strcmp(v.site, taken[k]) == 0) {
                return refuse(f, v.site, "a site of this name needs a --volume");
            }
        }
        if (asprintf(&v.root, "%s/%s", o->dir, v.site) < 0) {
            return no_memory(f);
        }
        enum err e = add_volume(o, &v, f);
        if (e) {
            return e;
        }
    }
    return OK;
}

static enum err read_dir(const struct invocation *inv, struct up_options *o, struct failure *f) {
    const char *given = invocation_value(inv, "dir", 0);
    char *path = NULL;
    if (!given) {
        const char *tmp = getenv("TMPDIR");
        o->is_temp = true;
        if (asprintf(&path, "%s/sluice-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp") < 0) {
            return no_memory(f);
        }
        if (!mkdtemp(path)) {
            enum err e = failure_errno(f, errno, "make directory", path, strlen(path));
            free(path);
            return e;
        }
    } else if (*given == '\0' || !utf8_is_valid(given, strlen(given)) || strpbrk(given, "\n\r")) {
        return refuse(f, given, "--dir takes a path in UTF-8");
    } else if (*given != '/') {
        char *cwd = getcwd(NULL, 0);
        int n = cwd ? asprintf(&path, "%s/%s", cwd, given) : -1;
        free(cwd);
        if (n < 0) {
            return no_memory(f);
        }
    }
    o->dir = tidy_path(path ? path : given);
    free(path);
    return o->dir ? OK : no_memory(f);
}

// Does the cluster have the daemon that @s is for?
static bool setting_has_daemon(const struct up_options *o, const struct up_setting *s) {
    if (strcmp(s->daemon, "master") == 0 || strcmp(s->daemon, "agent") == 0) {
        return true;
    }
    const char *dash = strrchr(s->daemon, '-');
    for (size_t i = 0; dash && i < o->n_sites; i++) {
        const struct up_site *site = &o->sites[i];
        char *end;
        long number = strtol(dash + 1, &end, 10);
        if (strlen(site->name) == (size_t)(dash - s->daemon) &&
            memcmp(site->name, s->daemon, (size_t)(dash - s->daemon)) == 0 && *end == '\0' &&
            number >= 1 && number <= site->n_agents) {
            return true;
        }
    }
    return false;
}

static enum err read_settings(const struct invocation *inv, struct up_options *o,
                              struct failure *f) {
    for (size_t i = 0; invocation_value(inv, "set", i); i++) {
        const char *text = invocation_value(inv, "set", i);
        if (o->n_settings == UP_SETTINGS_MAX) {
            return refuse(f, text, "these are too many settings");
        }
        enum err e = up_setting_parse(text, &o->settings[o->n_settings], f);
        if (e) {
            return e;
        }
        if (!setting_has_daemon(o, &o->settings[o->n_settings++])) {
            return refuse(f, text, "the cluster has no agent of that name");
        }
    }
    return OK;
}

static enum err read_database(const struct invocation *inv, struct up_options *o,
                              struct failure *f) {
    const char *standbys = invocation_value(inv, "standbys", 0);
    o->database = invocation_value(inv, "database", 0);
    o->n_masters = 1;
    if (standbys) {
        if (strlen(standbys) != 1 || standbys[0] < '0' || standbys[0] >= '0' + UP_MASTERS_MAX) {
            return refuse(f, standbys, "--standbys takes a number from 0 to 3");
        }
        o->n_masters += standbys[0] - '0';
    }
    if (o->n_masters > 1 && !o->database) {
        return refuse(f, standbys, "standby masters need --database postgresql://…");
    }
    return OK;
}

enum err up_options_read(const struct invocation *inv, struct up_options *ret_options,
                         struct failure *ret_failure) {
    *ret_options = (struct up_options){0};
    enum err e;
    if ((e = read_sites(inv, ret_options, ret_failure)) != OK ||
        (e = read_volumes(inv, ret_options, ret_failure)) != OK) {
        return e;
    }
    if ((e = read_stores(inv, ret_options, ret_failure)) != OK ||
        (e = read_dir(inv, ret_options, ret_failure)) != OK ||
        (e = add_default_volumes(ret_options, ret_failure)) != OK) {
        return e;
    }
    e = read_database(inv, ret_options, ret_failure);
    return e ? e : read_settings(inv, ret_options, ret_failure);
}

void up_options_deinit(struct up_options *o) {
    for (size_t i = 0; i < o->n_volumes; i++) {
        free(o->volumes[i].root);
    }
    free(o->dir);
    *o = (struct up_options){0};
}
