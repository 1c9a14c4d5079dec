// SPDX-License-Identifier: Apache-2.0
#include "agent/incarnation.h"

#include <unistd.h>

enum err incarnation_begin(const char *state_dir, const struct clock *clock,
                           struct incarnation *ret_incarnation, struct failure *ret_failure) {
    struct incarnation i = {.lock_fd = -1};
    enum err e = daemon_boot_id(i.boot_id, ret_failure);
    if (e == OK) {
        e = daemon_lock_directory(state_dir, &i.lock_fd, ret_failure);
    }
    if (e == OK) {
        ident_new(clock_wall_ms(clock), i.id);
        *ret_incarnation = i;
    }
    return e;
}

void incarnation_end(struct incarnation *i) {
    if (i->lock_fd >= 0) {
        close(i->lock_fd);
        i->lock_fd = -1;
    }
}
