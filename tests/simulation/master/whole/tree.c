// SPDX-License-Identifier: Apache-2.0
// The source tree, and what becomes of it at the sink. Names say which node they are of, so that
// ten million need no table of names.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

// Nodes: directories first (0: the root), then what is in them, directory by directory.
void tree_new(struct world *w) {
    uint32_t n_dirs = w->o.n_directories;
    w->n_nodes = n_dirs + w->o.n_files;
    w->nodes = must(calloc(w->n_nodes, sizeof *w->nodes));
    w->first_file = must(calloc(n_dirs + 1, sizeof *w->first_file));
    w->finals = must(calloc(w->n_nodes, sizeof *w->finals));
    w->fan = w->o.uniform ? 100 : 2 + (uint32_t)chance(w, 12);
    w->page_entries = w->o.uniform ? 500 : 3 + (uint32_t)chance(w, 200);
    for (uint32_t i = 0; i <= n_dirs; i++) {
        w->first_file[i] = (uint32_t)((uint64_t)w->o.n_files * i / n_dirs);
        if (!w->o.uniform && i > 0 && i < n_dirs) { // not all of a size
            uint32_t room = w->o.n_files / n_dirs;
            w->first_file[i] -= room > 0 ? (uint32_t)chance(w, room) : 0;
        }
    }
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct node *n = &w->nodes[i];
        n->version = 1;
        n->type = i < n_dirs ? OBJECT_DIRECTORY : OBJECT_FILE;
        if (!w->o.uniform && i >= n_dirs && chance(w, 30) == 0) {
            n->type = OBJECT_SYMLINK;
        }
        if (w->o.faults && i >= n_dirs && chance(w, 1000) == 0) {
            n->fails_always = true;
        }
        if (w->o.faults && i > 0 && i < n_dirs && chance(w, 200) == 0) {
            n->list_fails = true;
        }
    }
}

void tree_free(struct world *w) {
    struct hash_node *h, *next;
    for (h = hash_index_each(&w->temps, NULL); h != NULL; h = next) {
        struct temp *t = CONTAINER_OF(h, struct temp, by_name);
        next = hash_index_each(&w->temps, h);
        hash_index_remove(&w->temps, h);
        inode_unref(t->inode);
        free(t);
    }
    hash_index_deinit(&w->temps);
    free(w->nodes);
    free(w->first_file);
    free(w->finals);
}

uint64_t node_size(const struct world *w, uint32_t i, uint32_t version) {
    uint64_t h = mix(w->seed * 977 + i);
    if (w->nodes[i].type != OBJECT_FILE) {
        return 0;
    }
    if (w->o.uniform) {
        return (uint64_t)40 << 20;
    }
    uint64_t size;
    if (h % 40 == 0) { // in parts
        size = 25 * LEAF + (h >> 8) % (20 * LEAF);
        return size; // a new version has the same size
    }
    size = h % 10 < 3 ? (h >> 8) % 100000 : ((uint64_t)33 << 20) + (h >> 8) % (60 << 20);
    return size + (version - 1) * 1000 % 7000;
}

uint32_t node_of_path(const uint8_t *path, size_t len) {
    uint32_t i = 0;
    size_t at = len;
    while (at > 0 && path[at - 1] != '/') {
        at--;
    }
    for (at = at + 1; at < len; at++) {
        i = i * 10 + (uint32_t)(path[at] - '0');
    }
    return i;
}

static uint32_t n_subdirectories(const struct world *w, uint32_t d) {
    uint64_t first = (uint64_t)d * w->fan + 1;
    uint64_t end = first + w->fan;
    uint64_t n = w->o.n_directories;
    return first >= n ? 0 : (uint32_t)((end < n ? end : n) - first);
}
uint32_t node_children(const struct world *w, uint32_t d) {
    return w->nodes[d].list_fails
               ? 0
               : n_subdirectories(w, d) + w->first_file[d + 1] - w->first_file[d];
}
uint32_t node_child(const struct world *w, uint32_t d, uint32_t nth) {
    uint32_t n = n_subdirectories(w, d);
    return nth < n ? d * w->fan + 1 + nth : w->o.n_directories + w->first_file[d] + nth - n;
}
uint32_t node_parent(const struct world *w, uint32_t i) {
    if (i < w->o.n_directories) {
        return (i - 1) / w->fan;
    }
    uint32_t low = 0, high = w->o.n_directories;
    while (high - low > 1) { // the last directory that begins at or before it
        uint32_t middle = (low + high) / 2;
        if (w->first_file[middle] <= i - w->o.n_directories) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t path_of(const struct world *w, uint32_t i, char *path) {
    size_t n = 0;
    if (i == 0) {
        return 0;
    }
    uint32_t parent = node_parent(w, i);
    if (parent != 0) {
        n = path_of(w, parent, path);
        path[n++] = '/';
    }
    return n + (size_t)sprintf(path + n, "%c%u", i < w->o.n_directories ? 'd' : 'f', i);
}

void node_entry(const struct world *w, uint32_t i, char path[256], struct object_entry *e) {
    const struct node *n = &w->nodes[i];
    *e = (struct object_entry){
        .type = n->type,
        .mode = 0644,
        .version = {.size = node_size(w, i, n->version), .mtime_ns = n->version},
        .path_len = path_of(w, i, path),
        .target = (const uint8_t *)"t",
        .target_len = n->type == OBJECT_SYMLINK};
    e->path = (const uint8_t *)path;
}

// ---- temporaries ----
static uint64_t hash_temp(uint64_t object, uint64_t major, uint64_t minor) {
    return mix(object * 31 + mix(major * 7 + mix(minor)));
}
struct temp *temp_find(struct world *w, uint64_t object, uint64_t major, uint64_t minor) {
    struct hash_node *h = hash_index_first(&w->temps, hash_temp(object, major, minor));
    for (; h != NULL; h = hash_index_again(h)) {
        struct temp *t = CONTAINER_OF(h, struct temp, by_name);
        if (t->object == object && t->major == major && t->minor == minor) {
            return t;
        }
    }
    return NULL;
}
struct temp *temp_add(struct world *w, uint64_t object, uint64_t major, uint64_t minor) {
    struct temp *t = temp_find(w, object, major, minor);
    trace("temporary", 0, object, major << 32 | minor);
    if (w->over) {
        violated("a temporary of object %llu (%llu.%llu) is made after the flow's end",
                 (unsigned long long)object, (unsigned long long)major, (unsigned long long)minor);
    }
    if (t == NULL) {
        t = must(calloc(1, sizeof *t));
        t->object = object;
        t->major = major;
        t->minor = minor;
        hash_index_add(&w->temps, &t->by_name, hash_temp(object, major, minor));
    }
    return t;
}
bool temp_remove(struct world *w, uint64_t object, uint64_t major, uint64_t minor) {
    struct temp *t = temp_find(w, object, major, minor);
    if (t == NULL) {
        return false;
    }
    trace("unlinked", 0, object, major << 32 | minor);
    hash_index_remove(&w->temps, &t->by_name);
    inode_unref(t->inode);
    free(t);
    return true;
}
void inode_unref(struct inode *n) {
    if (n != NULL && --n->refs == 0) {
        free(n);
    }
}

void leaf_write(struct leaf *l, uint32_t version, uint32_t agent, uint32_t boot) {
    const struct owner o = {(uint16_t)agent, (uint16_t)boot};
    if (l->version != version) {
        *l = (struct leaf){.version = version};
    }
    if (l->synced) {
        return; // the same once more
    }
    for (uint32_t i = 0; i < l->n_owners; i++) {
        if (l->owners[i].agent == o.agent && l->owners[i].boot == o.boot) {
            return;
        }
    }
    if (l->n_owners == OWNERS) {
        memmove(&l->owners[0], &l->owners[1], sizeof l->owners - sizeof l->owners[0]);
        l->n_owners--;
    }
    l->owners[l->n_owners++] = o;
}

static bool leaf_take_owner(struct leaf *l, uint32_t agent, uint32_t boot) {
    for (uint32_t i = 0; i < l->n_owners; i++) {
        if (l->owners[i].agent == agent && l->owners[i].boot == boot) {
            l->owners[i] = l->owners[--l->n_owners];
            return true;
        }
    }
    return false;
}
void leaf_sync(struct leaf *l, uint32_t agent, uint32_t boot) {
    l->synced = leaf_take_owner(l, agent, boot) || l->synced;
}

// What was not synced is lost.
void tree_reboot(struct world *w, uint32_t agent, uint32_t boot) {
    struct hash_node *h;
    for (h = hash_index_each(&w->temps, NULL); h != NULL; h = hash_index_each(&w->temps, h)) {
        struct inode *n = CONTAINER_OF(h, struct temp, by_name)->inode;
        for (uint32_t i = 0; n != NULL && i < n->n_leaves; i++) {
            struct leaf *l = &n->leaves[i];
            if (leaf_take_owner(l, agent, boot) && l->n_owners == 0 && !l->synced) {
                l->version = 0;
            }
        }
    }
}

void node_renamed(struct world *w, uint32_t i, uint32_t version, const char *how) {
    struct node *n = &w->nodes[i];
    if (w->over) {
        violated("node %u is written (%s) after the flow's end", i, how);
    }
    if (w->nodes[node_parent(w, i)].meta) {
        violated("node %u is written (%s) after its directory's metadata were set", i, how);
    }
    n->final_version = version;
}

// ---- the end ----
static bool is_below_unlisted(const struct world *w, uint32_t i) {
    while (i != 0) {
        i = node_parent(w, i);
        if (w->nodes[i].list_fails) {
            return true;
        }
    }
    return false;
}

void tree_check_end(struct world *w) {
    const struct flow_progress *p = &w->flow.progress;
    uint64_t n = 0, n_failed = 0;
    if (w->temps.count > 0 && !w->flow.cleanup_pending) {
        const struct temp *t = CONTAINER_OF(hash_index_each(&w->temps, NULL), struct temp, by_name);
        violated("%zu temporaries are left, one of object %llu (%llu.%llu)", w->temps.count,
                 (unsigned long long)t->object, (unsigned long long)t->major,
                 (unsigned long long)t->minor);
    }
    for (uint32_t i = 0; i < w->o.n_agents; i++) {
        if (w->agents[i].n_held > 0 || w->agents[i].n_kept > 0) {
            violated("%s still holds %u leases and %zu results", w->agents[i].name,
                     w->agents[i].n_held, w->agents[i].n_kept);
        }
    }
    if (w->cancel) {
        return; // cleanup may be pending: nobody was there to do it
    }
    if (w->why.err != OK) {
        violated("the flow failed: %s", w->why.message);
    }
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const struct node *node = &w->nodes[i];
        if (is_below_unlisted(w, i)) {
            continue;
        }
        n++;
        bool there =
            node->type == OBJECT_DIRECTORY ? node->made && node->meta : node->final_version > 0;
        bool failed = node->fails_always || node->list_fails || node->n_failed >= 5;
        n_failed += failed && (!there || node->fails_always || node->list_fails);
        if (!there && !failed) {
            violated("node %u did not arrive", i);
        }
    }
    if (p->objects_total != n || p->objects_done + p->objects_failed != n) {
        violated("%llu objects done, %llu failed, of %llu; there are %llu",
                 (unsigned long long)p->objects_done, (unsigned long long)p->objects_failed,
                 (unsigned long long)p->objects_total, (unsigned long long)n);
    }
    if (p->objects_failed == 0 && p->bytes_done != p->bytes_total) {
        violated("%llu bytes done of %llu", (unsigned long long)p->bytes_done,
                 (unsigned long long)p->bytes_total);
    }
    if (w->n_failed < p->objects_failed) {
        violated("%llu objects failed, %llu were told", (unsigned long long)p->objects_failed,
                 (unsigned long long)w->n_failed);
    }
}
