// SPDX-License-Identifier: Apache-2.0
#include "agent/lease.h"

#include "common/cleanup.h"

// Messages are copied through their encoding: that is what protobuf-c offers.
static Sluice__V1__Lease *copy_message(const Sluice__V1__Lease *m) {
    size_t len = sluice__v1__lease__get_packed_size(m);
    AUTO(auto_free) uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        return NULL;
    }
    (void)sluice__v1__lease__pack(m, bytes);
    return sluice__v1__lease__unpack(NULL, len, bytes);
}

enum err lease_new(const Sluice__V1__Lease *m, const struct hold *hold, struct lease **ret_lease) {
    if (m->epoch == NULL || m->spec == NULL) {
        return ERR_INVALID;
    }
    struct lease *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NO_MEMORY;
    }
    l->message = copy_message(m);
    if (l->message == NULL) {
        free(l);
        return ERR_NO_MEMORY;
    }
    l->hold = hold;
    l->hold_generation = hold_generation(hold);
    atomic_init(&l->control.cancelled, false);
    atomic_init(&l->control.yield, false);
    atomic_init(&l->control.bytes, 0);
    atomic_init(&l->control.objects, 0);
    atomic_init(&l->stop, LEASE_GOES_ON);
    pthread_mutex_init(&l->lock, NULL);
    *ret_lease = l;
    return OK;
}

void lease_free(struct lease *l) {
    if (l == NULL) {
        return;
    }
    sluice__v1__lease__free_unpacked(l->message, NULL);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

bool lease_is(const struct lease *l, uint64_t task_id, uint64_t term, uint64_t counter) {
    const Sluice__V1__Lease *m = l->message;
    return m->spec->task_id == task_id && m->epoch->term == term && m->epoch->counter == counter;
}

bool lease_may_act(void *lease) {
    const struct lease *l = lease;
    return atomic_load(&l->stop) == LEASE_GOES_ON && hold_may_act(l->hold, l->hold_generation);
}

void lease_stop(struct lease *l, enum lease_stop why) {
    int none = LEASE_GOES_ON;
    (void)atomic_compare_exchange_strong(&l->stop, &none, (int)why);
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->control.cancelled, true);
    for (size_t i = 0; i < LEASE_MAX_INTERRUPTS; i++) {
        if (l->interrupts[i].fn != NULL) {
            l->interrupts[i].fn(l->interrupts[i].arg);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

enum lease_stop lease_stopped(const struct lease *l) {
    enum lease_stop why = (enum lease_stop)atomic_load(&l->stop);
    if (why == LEASE_GOES_ON && !hold_may_act(l->hold, l->hold_generation)) {
        return LEASE_FENCED;
    }
    return why;
}

void lease_yield(struct lease *l) {
    atomic_store(&l->control.yield, true);
}

void lease_add_interrupt(struct lease *l, void (*fn)(void *arg), void *arg) {
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < LEASE_MAX_INTERRUPTS; i++) {
        if (l->interrupts[i].fn == NULL) {
            l->interrupts[i] = (struct interrupt){fn, arg};
            break;
        }
    }
    if (atomic_load(&l->control.cancelled)) {
        fn(arg);
    }
    pthread_mutex_unlock(&l->lock);
}

void lease_remove_interrupt(struct lease *l, const void *arg) {
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < LEASE_MAX_INTERRUPTS; i++) {
        if (l->interrupts[i].arg == arg) {
            l->interrupts[i] = (struct interrupt){NULL, NULL};
        }
    }
    pthread_mutex_unlock(&l->lock);
}
