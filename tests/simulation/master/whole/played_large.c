// SPDX-License-Identifier: Apache-2.0
// How agents move a large object: opened, written in parts, synced, finished.
#include "tests/simulation/master/whole/world.h"

#include <stdlib.h>
#include <string.h>

static struct inode *inode_new(struct world *w, uint32_t node) {
    uint32_t n = (uint32_t)((node_size(w, node, w->nodes[node].version) + LEAF - 1) / LEAF);
    struct inode *in = must(calloc(1, sizeof *in + n * sizeof in->leaves[0]));
    in->node = node;
    in->refs = 1;
    in->n_leaves = n;
    in->serial = ++w->n_inodes;
    return in;
}

// The inode that the receipt of OPEN means, under the temporary's name; NULL: it is gone.
static struct inode *inode_meant(struct world *w, const struct held *h, uint64_t *ret_serial) {
    if (h->spec->n_receipts != 1 || h->spec->receipts[0]->opaque.len != sizeof *ret_serial) {
        violated("a task of a large object has no receipt");
    }
    memcpy(ret_serial, h->spec->receipts[0]->opaque.data, sizeof *ret_serial);
    struct temp *t = temp_find(w, held_entry(h, 0).id, 0, h->spec->generation);
    return t != NULL && t->inode->serial == *ret_serial ? t->inode : NULL;
}

void large_open_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct object_entry e = held_entry(h, 0);
    struct node *node = &w->nodes[n];
    if (node->version != e.version.mtime_ns) {
        work_fails(w, i, h, ERR_SOURCE_CHANGED, false);
        return;
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    if (h->attempt > 1 && node->final_version == node->version) {
        h->result = k;
        k->objects = must(calloc(1, sizeof *k->objects));
        k->pointers = must(calloc(1, sizeof *k->pointers));
        work_object_result(w, i, h, 0)->outcome = SLUICE__V1__OBJECT_OUTCOME__OBJECT_IDENTICAL;
        h->result = NULL;
    } else {
        struct temp *t = temp_add(w, e.id, 0, h->spec->generation);
        inode_unref(t->inode);
        t->inode = inode_new(w, n);
        k->digests = must(malloc(sizeof t->inode->serial));
        memcpy(k->digests, &t->inode->serial, sizeof t->inode->serial);
        k->receipt.opaque.data = k->digests;
        k->receipt.opaque.len = sizeof t->inode->serial;
        k->m.receipt = &k->receipt;
    }
    work_ends(w, i, h, k);
}

void large_part_write(struct world *w, uint32_t i, struct held *h) {
    const struct agent *a = &w->agents[i];
    uint64_t at = h->spec->offset / LEAF + h->next;
    if (h->inode->finished) {
        violated("%s writes into node %u, which is finished", a->name, h->inode->node);
    }
    if (at >= h->inode->n_leaves) {
        violated("a part ends behind its object");
    }
    leaf_write(&h->inode->leaves[at], h->opened, i, a->boot);
}

void large_part_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    uint64_t leaves = (h->spec->length + LEAF - 1) / LEAF;
    uint64_t serial;
    if (h->inode == NULL) { // it opens both ends
        h->inode = inode_meant(w, h, &serial);
        if (h->inode == NULL) {
            work_fails(w, i, h, ERR_DEST_CHANGED, false);
            return;
        }
        h->inode->refs++;
        h->opened = w->nodes[n].version;
    } else {
        large_part_write(w, i, h);
        h->next++;
    }
    if (w->nodes[n].version != held_entry(h, 0).version.mtime_ns) {
        h->next = 0; // what was read is of two versions
        work_fails(w, i, h, ERR_SOURCE_CHANGED, false);
    } else if (h->next == leaves || (h->yields && h->next > 0)) {
        work_ends(w, i, h, work_result(w, i, h));
    } else if (one_in(w, w->odds_failure) && node_fails_once_more(&w->nodes[n])) {
        work_fails(w, i, h, ERR_PEER_LOST, true);
    } else {
        work_step_in(w, i, h, work_duration_ms(w, i, h, LEAF));
    }
}

void large_sync_step(struct world *w, uint32_t i, struct held *h) {
    uint64_t serial;
    struct inode *in = inode_meant(w, h, &serial);
    if (in == NULL) {
        work_fails(w, i, h, ERR_DEST_CHANGED, false);
        return;
    }
    for (uint32_t k = 0; k < in->n_leaves; k++) {
        leaf_sync(&in->leaves[k], i, w->agents[i].boot);
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    work_ends(w, i, h, k);
}

// Nobody may write into it any more, and all that it should hold is in it, synced.
static void check_finish(struct world *w, const struct held *h, const struct inode *in) {
    uint32_t version = (uint32_t)held_entry(h, 0).version.mtime_ns;
    if (!h->spec->has_digest) {
        violated("FINISH without a digest");
    }
    for (uint32_t k = 0; k < in->n_leaves; k++) {
        if (in->leaves[k].version != version || !in->leaves[k].synced) {
            violated("node %u is finished with leaf %u %s", in->node, k,
                     in->leaves[k].version == 0         ? "missing"
                     : in->leaves[k].version != version ? "of another version"
                                                        : "not synced");
        }
    }
    for (uint32_t i = 0; i < w->o.n_agents && !h->spec->copy_to_fresh; i++) {
        const struct agent *a = &w->agents[i];
        for (uint32_t k = 0; k < a->n_held; k++) {
            if (a->held[k]->inode == in) { // even if it may not act: it may be about to
                violated("node %u is finished in place while %s has it open", in->node, a->name);
            }
        }
    }
}

void large_finish_step(struct world *w, uint32_t i, struct held *h, uint32_t n) {
    struct object_entry e = held_entry(h, 0);
    uint64_t serial;
    struct inode *in = inode_meant(w, h, &serial);
    if (in == NULL && w->finals[n] != serial) {
        work_fails(w, i, h, ERR_DEST_CHANGED, false);
        return;
    }
    if (in != NULL) {
        check_finish(w, h, in);
        in->finished = !h->spec->copy_to_fresh;
        w->n_fresh += h->spec->copy_to_fresh ? 1 : 0;
        node_renamed(w, n, (uint32_t)e.version.mtime_ns, "finish");
        w->finals[n] = serial;
        (void)temp_remove(w, e.id, 0, h->spec->generation);
    }
    struct kept *k = result_new(w, i, h);
    k->m.done = true;
    work_ends(w, i, h, k);
}
