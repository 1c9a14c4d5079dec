// SPDX-License-Identifier: Apache-2.0
// sluice-agent: reads the configuration, runs one agent until SIGTERM or SIGINT.
#include "agent/agent.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/daemon_arguments.h"
#include "common/log.h"
#include "common/notify_socket.h"

#include <stdio.h>
#include <sys/signalfd.h>

static const char usage[] =
    "usage: sluice-agent --config FILE [--check]\n"
    "Moves data between the volumes of this node and those of other agents.\n\n"
    "  --config FILE  the configuration (docs/configuration-agent.md)\n"
    "  --check        only validate the configuration and the volumes\n"
    "  --help         this text\n"
    "  --version      the version\n\n"
    "SIGTERM: ends when its tasks are done, after 30 s at the latest; a second one: at once.\n"
    "SIGHUP: reopens the log.\n";

static int complain(const struct failure *f) {
    char text[2048];
    failure_format(f, text, sizeof text);
    log_event(LOG_ERROR, "agent_failed", LOG_FAILURE(f));
    fprintf(stderr, "sluice-agent: %s\n", text);
    return (int)err_exit_code(f->err);
}

static int run(const struct agent_options *o, int signal_fd) {
    struct failure f = {0};
    struct agent *a = NULL;
    enum log_level level;
    if (log_open(o->log_file, "sluice-agent", o->name, &f) != OK) {
        return complain(&f);
    }
    if (log_level_from_name(o->log_level, &level) == OK) {
        log_set_level(level);
    }
    if (agent_start(o, &clock_system, &a, &f) != OK) {
        return complain(&f);
    }
    notify_socket_send("READY=1");
    int code = agent_serve(a, signal_fd);
    agent_free(a);
    log_event(LOG_INFO, "agent_stopped", LOG_STR("site", o->site));
    return code;
}

int main(int argc, char **argv) {
    struct daemon_arguments arguments;
    int code;
    if (!daemon_arguments_read(argc, argv, "sluice-agent " SLUICE_VERSION "\n", usage, false,
                               &arguments, &code)) {
        return code;
    }
    sigset_t set;
    daemon_block_signals(&set); // before any thread starts
    daemon_raise_descriptor_limit();
    struct failure f = {0};
    struct config *config = NULL;
    struct agent_options o = {0};
    enum err e = config_load(arguments.config, &config, &f);
    if (e == OK) {
        e = agent_options_read(config, &o, &f);
    }
    if (e == OK && arguments.action == DAEMON_CHECK) {
        e = agent_check(&o, &f);
    }
    if (e != OK) {
        code = complain(&f);
    } else {
        code = arguments.action == DAEMON_CHECK ? 0 : run(&o, signalfd(-1, &set, SFD_CLOEXEC));
    }
    config_free(config);
    return code;
}
