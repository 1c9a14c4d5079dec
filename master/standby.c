// SPDX-License-Identifier: Apache-2.0
#include "master/standby.h"

#include "common/log.h"
#include "common/notify_socket.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

bool standby_wait(void *arg, bool begins) {
    (void)arg;
    if (begins) {
        log_event(LOG_INFO, "master_standby", LOG_U64("pid", (uint64_t)getpid()));
        notify_socket_send("READY=1\nSTATUS=standby: another master is active on the database");
    }
    sigset_t pending;
    sigset_t hangup;
    const struct timespec now = {0};
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    if (sigtimedwait(&hangup, NULL, &now) == SIGHUP) {
        log_reopen();
    }
    return sigpending(&pending) != 0 ||
           (sigismember(&pending, SIGTERM) != 1 && sigismember(&pending, SIGINT) != 1);
}

void standby_stop_acting(void *arg, const struct failure *f) {
    (void)arg;
    log_event(LOG_ERROR, "master_stops_acting", LOG_FAILURE(f));
    _exit((int)err_exit_code(f->err));
}
