// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster_files.h"

#include "cli/yaml_text.h"
#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "prepare the cluster", NULL, 0, NULL);
}

// With its parents.
static enum err make_directory(const char *path, struct failure *f) {
    AUTO(auto_free) char *copy = strdup(path);
    if (!copy) {
        return no_memory(f);
    }
    for (char *slash = copy + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) {
            return failure_errno(f, errno, "make directory", copy, strlen(copy));
        }
        *slash = '/';
    }
    if (mkdir(copy, 0700) != 0 && errno != EEXIST) {
        return failure_errno(f, errno, "make directory", path, strlen(path));
    }
    return OK;
}

static enum err make_below(const char *dir, const char *name, struct failure *f) {
    AUTO(auto_free) char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        path = NULL;
        return no_memory(f);
    }
    return make_directory(path, f);
}

enum err cluster_make_directories(const struct cluster *c, struct failure *ret_failure) {
    static const char *const names[] = {"etc", "log", "state"};
    enum err e = OK;
    for (size_t i = 0; !e && i < ARRAY_LEN(names); i++) {
        e = make_below(c->options->dir, names[i], ret_failure);
    }
    for (size_t i = 0; !e && i < c->n_daemons; i++) {
        char name[UP_NAME_MAX + 8];
        snprintf(name, sizeof(name), "state/%s", c->daemons[i].name);
        e = make_below(c->options->dir, name, ret_failure);
    }
    for (size_t i = 0; !e && i < c->options->n_volumes; i++) {
        if (c->options->volumes[i].is_ours) {
            e = make_directory(c->options->volumes[i].root, ret_failure);
        }
    }
    return e;
}

enum err cluster_lock(const char *dir, int *ret_fd, struct failure *ret_failure) {
    enum err e = make_directory(dir, ret_failure);
    if (e) {
        return e;
    }
    AUTO(auto_free) char *path = NULL;
    if (asprintf(&path, "%s/lock", dir) < 0) {
        path = NULL;
        return no_memory(ret_failure);
    }
    AUTO(auto_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failure_errno(ret_failure, errno, "open", path, strlen(path));
    }
    char pid[24] = "";
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        e = failure_set(ret_failure, ERR_LOCKED, "start a cluster in", dir, strlen(dir),
                        "a cluster runs there already%s%s", *pid ? ", of process " : "", pid);
        failure_remedy(ret_failure, "stop it, or give another --dir");
        return e;
    }
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        return failure_errno(ret_failure, errno, "write", path, strlen(path));
    }
    *ret_fd = take_fd(&fd);
    return OK;
}

// Written beside and renamed, so that a daemon that starts reads the old or the new one.
static enum err write_file(const char *path, const char *text, struct failure *f) {
    AUTO(auto_free) char *temporary = NULL;
    if (!text || asprintf(&temporary, "%s.new", path) < 0) {
        temporary = NULL; // asprintf() leaves it undefined
        return no_memory(f);
    }
    AUTO(auto_close) int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len || rename(temporary, path) != 0) {
        return failure_errno(f, errno, "write", path, strlen(path));
    }
    return OK;
}

static void set_path(struct yaml_text *y, const char *key, const char *dir, const char *below,
                     const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s/%s", dir, below, name) < 0) {
        y->failed = true;
        return;
    }
    yaml_text_set(y, key, path);
    free(path);
}

static enum err write_config(const struct cluster *c, struct yaml_text *y, const struct daemon *d,
                             struct failure *f) {
    for (size_t i = 0; i < c->options->n_settings; i++) {
        const struct up_setting *s = &c->options->settings[i];
        if (strcmp(s->daemon, d->name) == 0 ||
            strcmp(s->daemon, d->site ? "agent" : "master") == 0) {
            yaml_text_set_raw(y, s->key, s->value);
        }
    }
    AUTO(auto_free) char *text = yaml_text_end(y);
    return write_file(d->argv[2], text, f);
}

enum err cluster_write_master_config(const struct cluster *c, const struct daemon *d,
                                     const char *listen, struct failure *ret_failure) {
    struct yaml_text y = {0};
    yaml_text_set(&y, "name", d->name);
    yaml_text_set(&y, "listen", listen);
    set_path(&y, "state_dir", c->options->dir, "state", d->name);
    yaml_text_set(&y, "port_file", d->port_path);
    yaml_text_set(&y, "log_file", d->log_path);
    if (c->options->database) {
        yaml_text_set(&y, "database", c->options->database);
        set_path(&y, "ticket_key", c->options->dir, "state", "ticket.key");
    }
    enum err e = write_config(c, &y, d, ret_failure);
    yaml_text_deinit(&y);
    return e;
}

// "volumes" of a site's agents. NULL: out of memory.
static char *volume_list(const struct up_options *o, const char *site) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return NULL;
    }
    bool failed = false;
    const char *before = "";
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (strcmp(o->volumes[i].site, site) != 0) {
            continue;
        }
        char *root = yaml_quote(o->volumes[i].root);
        failed = failed || !root;
        fprintf(out, "%s  - name: \"%s\"\n    root: %s\n    mode: rw", before, o->volumes[i].name,
                root ? root : "");
        before = "\n";
        free(root);
    }
    for (size_t i = 0; i < o->n_stores; i++) {
        char *endpoint = yaml_quote(o->stores[i].endpoint);
        failed = failed || !endpoint;
        fprintf(out, "%s  - name: \"%s\"\n    kind: s3\n    endpoint: %s\n    mode: rw", before,
                o->stores[i].name, endpoint ? endpoint : "");
        before = "\n";
        free(endpoint);
    }
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

static enum err write_agent_config(const struct cluster *c, const struct daemon *d,
                                   struct failure *f) {
    struct yaml_text y = {0};
    AUTO(auto_free) char *volumes = volume_list(c->options, d->site->name);
    if (!volumes) {
        return no_memory(f);
    }
    yaml_text_set(&y, "name", d->name);
    yaml_text_set(&y, "site", d->site->name);
    yaml_text_set(&y, "master", c->master);
    set_path(&y, "state_dir", c->options->dir, "state", d->name);
    yaml_text_set(&y, "log_file", d->log_path);
    yaml_text_set_block(&y, "volumes", volumes);
    enum err e = write_config(c, &y, d, f);
    yaml_text_deinit(&y);
    return e;
}

enum err cluster_write_other_configs(const struct cluster *c, struct failure *ret_failure) {
    struct yaml_text y = {0};
    yaml_text_set(&y, "master", c->master);
    AUTO(auto_free) char *text = yaml_text_end(&y);
    yaml_text_deinit(&y);
    enum err e = write_file(c->config_path, text, ret_failure);
    for (size_t i = c->n_masters; !e && i < c->n_daemons; i++) {
        e = write_agent_config(c, &c->daemons[i], ret_failure);
    }
    return e;
}

bool cluster_read_address(const char *path, char ret_address[64]) {
    AUTO(auto_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[64];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (n <= 1 || text[n - 1] != '\n') {
        return false;
    }
    text[n - 1] = '\0';
    memcpy(ret_address, text, (size_t)n);
    return true;
}

enum err cluster_keep_address(const struct daemon *d, const char *address,
                              struct failure *ret_failure) {
    char text[80];
    snprintf(text, sizeof(text), "%s\n", address);
    return write_file(d->address_path, text, ret_failure);
}

static bool holds_files(const char *dir) {
    DIR *d = opendir(dir);
    if (!d) {
        return errno != ENOENT;
    }
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(d));) {
        const char *name = entry->d_name;
        found =
            strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, ".sluice-", 8) != 0;
    }
    closedir(d);
    return found;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

bool cluster_remove_temporary(const struct up_options *o) {
    if (!o->is_temp) {
        return false;
    }
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (o->volumes[i].is_ours && holds_files(o->volumes[i].root)) {
            return false;
        }
    }
    return nftw(o->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}
