// SPDX-License-Identifier: Apache-2.0
// sluice-master: reads the configuration, runs one master until SIGTERM or SIGINT.
#include "common/cleanup.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/daemon_arguments.h"
#include "common/log.h"
#include "common/notify_socket.h"
#include "master/master.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { MMAP_FROM_BYTES = 32 << 10 };

static const char usage[] =
    "usage: sluice-master --config FILE [--check|--check-database]\n"
    "Accepts flows, cuts them into tasks and shares those out over agents.\n\n"
    "  --config FILE     the configuration (docs/configuration.md)\n"
    "  --check           only validate the configuration\n"
    "  --check-database  only look whether the database is whole and can be used\n"
    "  --help            this text\n"
    "  --version         the version\n\n"
    "SIGTERM: ends in good order; agents go on with what they have. SIGHUP: reopens the log.\n";

static int complain(const struct failure *f, const char *log_file) {
    char text[2048];
    failure_format(f, text, sizeof text);
    if (log_file != NULL) { // if not, both would go to stderr
        log_event(LOG_ERROR, "master_failed", LOG_FAILURE(f));
    }
    fprintf(stderr, "sluice-master: %s\n", text);
    return (int)err_exit_code(f->err);
}

static int run(const struct master_options *o) {
    struct failure f = {0};
    struct master *m = NULL;
    sigset_t set;
    int sig = 0;
    daemon_block_signals(&set); // before any thread starts
    daemon_raise_descriptor_limit();
    // Blobs of tasks and pages go from thread to thread: larger ones come from the system and go
    // back to it, instead of leaving holes in the heaps of all of them.
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_FROM_BYTES);
    enum log_level level;
    if (log_open(o->log_file, "sluice-master", o->name, &f) != OK) {
        return complain(&f, NULL);
    }
    if (log_level_from_name(o->log_level, &level) == OK) {
        log_set_level(level);
    }
    enum err e = master_start(o, &clock_system, &m, &f);
    if (e != OK) { // ERR_CANCELLED: stopped while it was a standby
        return e == ERR_CANCELLED ? 0 : complain(&f, o->log_file);
    }
    notify_socket_send("READY=1");
    while (sigwait(&set, &sig) == 0 && sig == SIGHUP) {
        log_reopen();
    }
    notify_socket_send("STOPPING=1");
    master_stop(m);
    return 0;
}

int main(int argc, char **argv) {
    struct daemon_arguments arguments;
    int code;
    if (!daemon_arguments_read(argc, argv, "sluice-master " SLUICE_VERSION "\n", usage, true,
                               &arguments, &code)) {
        return code;
    }
    struct failure f = {0};
    struct config *config = NULL;
    struct master_options o = {0};
    if (config_load(arguments.config, &config, &f) != OK ||
        master_options_read(config, &o, &f) != OK) {
        config_free(config);
        return complain(&f, NULL);
    }
    code = 0;
    if (arguments.action == DAEMON_CHECK_DATABASE) {
        code = master_check_database(&o, &f) == OK ? 0 : complain(&f, NULL);
    } else if (arguments.action == DAEMON_RUN) {
        code = run(&o);
    }
    config_free(config);
    return code;
}
