// SPDX-License-Identifier: Apache-2.0
// The files of a local cluster; see the map in cluster.h.
#ifndef CLI_CLUSTER_FILES_H
#define CLI_CLUSTER_FILES_H

#include "cli/cluster.h"

// The directories, also those of default volumes.
MUST_CHECK enum err cluster_make_directories(const struct cluster *c, struct failure *ret_failure);
// ERR_LOCKED: another `sluice up` has this directory.
MUST_CHECK enum err cluster_lock(const char *dir, int *ret_fd, struct failure *ret_failure);

// @listen: where the master @d is to listen.
MUST_CHECK enum err cluster_write_master_config(const struct cluster *c, const struct daemon *d,
                                                const char *listen, struct failure *ret_failure);
// Of the agents and of clients, once c->master is known.
MUST_CHECK enum err cluster_write_other_configs(const struct cluster *c,
                                                struct failure *ret_failure);
// The address in the master's port file, or in our own. false: not yet.
bool cluster_read_address(const char *path, char ret_address[64]);
// Remembers where the master @d is for the next `sluice up` in this directory.
MUST_CHECK enum err cluster_keep_address(const struct daemon *d, const char *address,
                                         struct failure *ret_failure);

// Removes a temporary directory if no default volume in it holds anything but temporaries of
// Sluice. false: it is kept.
bool cluster_remove_temporary(const struct up_options *o);

#endif
