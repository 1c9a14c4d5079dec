// SPDX-License-Identifier: Apache-2.0
// What `sluice up` is to start: sites, agents, volumes, and settings for the daemons.
#ifndef CLI_UP_OPTIONS_H
#define CLI_UP_OPTIONS_H

#include "cli/command.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    UP_NAME_MAX = 64,
    UP_SITES_MAX = 32,
    UP_AGENTS_MAX = 256,
    UP_VOLUMES_MAX = 128,
    UP_SETTINGS_MAX = 128,
    UP_STORES_MAX = 16,
    UP_MASTERS_MAX = 4,
};

extern const struct command_option up_command_options[];

struct up_site {
    char name[UP_NAME_MAX];
    int n_agents;
};

struct up_volume {
    char site[UP_NAME_MAX];
    char name[UP_NAME_MAX];
    char *root;   // absolute; owned
    bool is_ours; // the default one: made by us below the directory
};

// An object store that all agents have.
struct up_store {
    char name[UP_NAME_MAX];
    const char *endpoint; // borrowed from argv
};

struct up_setting {
    char daemon[UP_NAME_MAX]; // "master"; "agent": every agent; or the name of one
    char key[UP_NAME_MAX];
    const char *value; // borrowed from argv
};

struct up_options {
    char *dir;    // absolute; owned
    bool is_temp; // nobody named it: a fresh one, to be made
    struct up_site sites[UP_SITES_MAX];
    size_t n_sites;
    struct up_volume volumes[UP_VOLUMES_MAX]; // at least one for each site
    size_t n_volumes;
    struct up_store stores[UP_STORES_MAX];
    size_t n_stores;
    const char *database; // URL, borrowed from argv; NULL: SQLite
    int n_masters;        // 1, or with a database of their own more: standbys
    struct up_setting settings[UP_SETTINGS_MAX];
    size_t n_settings;
};

// Makes the temporary directory if none is named, and nothing else. @ret_options is to be
// released with up_options_deinit() in any case.
MUST_CHECK enum err up_options_read(const struct invocation *inv, struct up_options *ret_options,
                                    struct failure *ret_failure);
void up_options_deinit(struct up_options *o);

// @text of --site, "NAME=AGENTS".
MUST_CHECK enum err up_site_parse(const char *text, struct up_site *ret_site,
                                  struct failure *ret_failure);
// @text of --volume, "SITE:/PATH" or "SITE:NAME=/PATH"; root is to be freed.
MUST_CHECK enum err up_volume_parse(const char *text, struct up_volume *ret_volume,
                                    struct failure *ret_failure);
// @text of --store, "NAME=URL".
MUST_CHECK enum err up_store_parse(const char *text, struct up_store *ret_store,
                                   struct failure *ret_failure);
// @text of --set, "master.KEY=VALUE", "agent.KEY=VALUE" or "SITE-NUMBER.KEY=VALUE".
MUST_CHECK enum err up_setting_parse(const char *text, struct up_setting *ret_setting,
                                     struct failure *ret_failure);

#endif
