// SPDX-License-Identifier: Apache-2.0
#include "dataplane/write_turn.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct write_turn {
    pthread_mutex_t writing;
    // under write_turns.mutex
    struct write_turn *next;
    dev_t device;
    ino_t inode;
    uint32_t n_users;
};

struct write_turns {
    pthread_mutex_t mutex;
    struct write_turn *first; // under mutex; as many as there are slots, at most
};

enum err write_turns_new(struct write_turns **ret_turns) {
    struct write_turns *t = calloc(1, sizeof(*t));
    if (!t) {
        return ERR_NO_MEMORY;
    }
    if (pthread_mutex_init(&t->mutex, NULL) != 0) {
        free(t);
        return ERR_NO_MEMORY;
    }
    *ret_turns = t;
    return OK;
}

void write_turns_free(struct write_turns *t) {
    if (t) {
        pthread_mutex_destroy(&t->mutex);
        free(t);
    }
}

static struct write_turn *make(dev_t device, ino_t inode) {
    struct write_turn *turn = calloc(1, sizeof(*turn));
    if (turn && pthread_mutex_init(&turn->writing, NULL) != 0) {
        free(turn);
        return NULL;
    }
    if (turn) {
        turn->device = device;
        turn->inode = inode;
    }
    return turn;
}

enum err write_turns_join(struct write_turns *t, dev_t device, ino_t inode,
                          struct write_turn **ret_turn) {
    pthread_mutex_lock(&t->mutex);
    struct write_turn *turn = t->first;
    while (turn && (turn->device != device || turn->inode != inode)) {
        turn = turn->next;
    }
    if (!turn) {
        turn = make(device, inode);
        if (turn) {
            turn->next = t->first;
            t->first = turn;
        }
    }
    if (turn) {
        turn->n_users++;
    }
    pthread_mutex_unlock(&t->mutex);
    *ret_turn = turn;
    return turn ? OK : ERR_NO_MEMORY;
}

void write_turns_leave(struct write_turns *t, struct write_turn *turn) {
    if (!turn) {
        return;
    }
    pthread_mutex_lock(&t->mutex);
    bool is_last = --turn->n_users == 0;
    if (is_last) {
        struct write_turn **at = &t->first;
        while (*at != turn) {
            at = &(*at)->next;
        }
        *at = turn->next;
    }
    pthread_mutex_unlock(&t->mutex);
    if (is_last) {
        pthread_mutex_destroy(&turn->writing);
        free(turn);
    }
}

void write_turn_begin(struct write_turn *turn) {
    if (turn) {
        pthread_mutex_lock(&turn->writing);
    }
}

void write_turn_end(struct write_turn *turn) {
    if (turn) {
        pthread_mutex_unlock(&turn->writing);
    }
}
