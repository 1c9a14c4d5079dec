// SPDX-License-Identifier: Apache-2.0
#include "agent/proof_file.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char FILE_PREFIX[] = ".sluice-proof-"; // below a volume's root
static const char NOTE_PREFIX[] = "proof-";         // in the state directory; holds the volume

enum { HEX_SIZE = 2 * PROOF_NONCE_MAX + 1, NAME_SIZE = sizeof FILE_PREFIX + HEX_SIZE };

// A proof that was written and not yet removed.
struct note {
    struct note *next;
    char hex[HEX_SIZE];
    char volume[AGENT_NAME_MAX + 1];
    int64_t written_ms; // INT64_MIN: by the run before
};

struct proof_files {
    struct volumes *volumes;
    int state_fd;
    struct note *notes;
};

static void name_of(const char *prefix, const char *hex, char ret_name[NAME_SIZE]) {
    snprintf(ret_name, NAME_SIZE, "%s%s", prefix, hex);
}

// ---- notes ----

static enum err no_memory(struct failure *f) {
    return failure_set(f, ERR_NO_MEMORY, "prove volume", NULL, 0, NULL);
}

static struct note *remember(struct proof_files *p, const char *hex, const char *volume,
                             int64_t written_ms) {
    struct note *n = calloc(1, sizeof *n);
    if (n != NULL) {
        snprintf(n->hex, sizeof n->hex, "%s", hex);
        snprintf(n->volume, sizeof n->volume, "%s", volume);
        n->written_ms = written_ms;
        n->next = p->notes;
        p->notes = n;
    }
    return n;
}

static void forget(struct proof_files *p, const char *hex) {
    char name[NAME_SIZE];
    name_of(NOTE_PREFIX, hex, name);
    (void)unlinkat(p->state_fd, name, 0); // else the next run looks for the file in vain
    for (struct note **at = &p->notes; *at != NULL; at = &(*at)->next) {
        struct note *n = *at;
        if (strcmp(n->hex, hex) == 0) {
            *at = n->next;
            free(n);
            return;
        }
    }
}

// Synced before the file below the root is.
static enum err write_note(struct proof_files *p, const char *hex, const char *volume,
                           struct failure *f) {
    char name[NAME_SIZE];
    name_of(NOTE_PREFIX, hex, name);
    if (remember(p, hex, volume, clock_mono_ms(&clock_system)) == NULL) {
        return no_memory(f);
    }
    AUTO(auto_close)
    int fd = openat(p->state_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(volume);
    if (fd < 0 || write(fd, volume, len) != (ssize_t)len || fsync(fd) < 0 ||
        fsync(p->state_fd) < 0) {
        return failure_errno(f, errno, "write", name, strlen(name));
    }
    return OK;
}

static enum err read_note(struct proof_files *p, const char *name, struct failure *f) {
    AUTO(auto_close) int fd = openat(p->state_fd, name, O_RDONLY | O_CLOEXEC);
    char volume[AGENT_NAME_MAX + 1];
    ssize_t n = fd < 0 ? -1 : read(fd, volume, sizeof volume - 1);
    if (n < 0) {
        return failure_errno(f, errno, "read", name, strlen(name));
    }
    volume[n] = '\0';
    const char *hex = name + strlen(NOTE_PREFIX);
    return remember(p, hex, volume, INT64_MIN) == NULL ? no_memory(f) : OK;
}

static enum err read_notes(struct proof_files *p, const char *state_dir, struct failure *f) {
    DIR *dir = opendir(state_dir);
    if (dir == NULL) {
        return failure_errno(f, errno, "opendir", state_dir, strlen(state_dir));
    }
    enum err e = OK;
    for (struct dirent *entry; e == OK && (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name), prefix = sizeof NOTE_PREFIX - 1;
        if (len > prefix && len < prefix + HEX_SIZE &&
            strncmp(entry->d_name, NOTE_PREFIX, prefix) == 0) {
            e = read_note(p, entry->d_name, f);
        }
    }
    closedir(dir);
    return e;
}

// ---- files ----

static enum err remove_file(struct proof_files *p, const char *volume, const char *hex,
                            struct failure *f) {
    char name[NAME_SIZE];
    AUTO(auto_close) int root = -1;
    name_of(FILE_PREFIX, hex, name);
    enum err e = volumes_any_root(p->volumes, volume, &root, f);
    if (e == OK && unlinkat(root, name, 0) < 0 && errno != ENOENT) {
        e = failure_errno(f, errno, "unlinkat", name, strlen(name));
    }
    if (e == OK) {
        forget(p, hex);
    }
    return e;
}

static enum err write_file(struct proof_files *p, const char *hex, struct volume_proof *proof,
                           struct failure *f) {
    char name[NAME_SIZE];
    AUTO(auto_close) int root = -1;
    name_of(FILE_PREFIX, hex, name);
    enum err e = volumes_any_root(p->volumes, proof->volume, &root, f);
    if (e == OK) {
        e = write_note(p, hex, proof->volume, f);
    }
    if (e != OK) {
        return e;
    }
    AUTO(auto_close)
    int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return failure_errno(f, errno, "openat", name, strlen(name));
    }
    ssize_t n = write(fd, proof->nonce, proof->nonce_len);
    if (n < 0 || fsync(fd) < 0) {
        return failure_errno(f, errno, "write", name, strlen(name));
    }
    proof->wrote = (size_t)n == proof->nonce_len;
    return OK;
}

static enum err read_file(struct proof_files *p, const char *hex, struct volume_proof *proof,
                          struct failure *f) {
    char name[NAME_SIZE];
    AUTO(auto_close) int root = -1;
    name_of(FILE_PREFIX, hex, name);
    enum err e = volumes_any_root(p->volumes, proof->volume, &root, f);
    if (e != OK) {
        return e;
    }
    AUTO(auto_close) int fd = openat(root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? OK : failure_errno(f, errno, "openat", name, strlen(name));
    }
    ssize_t n = read(fd, proof->seen, sizeof proof->seen);
    if (n < 0) {
        return failure_errno(f, errno, "read", name, strlen(name));
    }
    proof->seen_len = (size_t)n;
    return OK;
}

void proof_files_prove(struct proof_files *p, struct volume_proof *proof) {
    char hex[HEX_SIZE];
    struct failure f = {0}, ignored;
    enum err e;
    hash_hex(proof->nonce, proof->nonce_len, hex);
    if (proof->remove) {
        e = remove_file(p, proof->volume, hex, &f);
    } else if (proof->write) {
        e = write_file(p, hex, proof, &f);
        if (e != OK) {
            (void)remove_file(p, proof->volume, hex, &ignored); // else the sweep does
        }
    } else {
        e = read_file(p, hex, proof, &f);
    }
    if (e != OK) {
        failure_format(&f, proof->error, sizeof proof->error);
        log_event(LOG_WARN, "volume_proof_failed", LOG_STR("volume", proof->volume),
                  LOG_FAILURE(&f));
    }
}

void proof_files_sweep(struct proof_files *p, int64_t older_ms) {
    int64_t until_ms = clock_mono_ms(&clock_system) - older_ms;
    for (struct note *n = p->notes, *next; n != NULL; n = next) {
        struct failure ignored;
        next = n->next;
        if (n->written_ms <= until_ms) {
            // A volume that is not there now is asked again at the next sweep.
            (void)remove_file(p, n->volume, n->hex, &ignored);
        }
    }
}

enum err proof_files_new(const char *state_dir, struct volumes *volumes,
                         struct proof_files **ret_files, struct failure *ret_failure) {
    struct proof_files *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return no_memory(ret_failure);
    }
    p->volumes = volumes;
    p->state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err e = p->state_fd < 0
                     ? failure_errno(ret_failure, errno, "open", state_dir, strlen(state_dir))
                     : read_notes(p, state_dir, ret_failure);
    if (e != OK) {
        proof_files_free(p);
        return e;
    }
    proof_files_sweep(p, 0);
    *ret_files = p;
    return OK;
}

void proof_files_free(struct proof_files *p) {
    if (p == NULL) {
        return;
    }
    while (p->notes != NULL) {
        struct note *n = p->notes;
        p->notes = n->next;
        free(n);
    }
    if (p->state_fd >= 0) {
        close(p->state_fd);
    }
    free(p);
}
