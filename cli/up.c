// SPDX-License-Identifier: Apache-2.0
// `sluice up`: a whole cluster on this machine, until a signal comes.
#include "cli/cluster.h"
#include "cli/cluster_files.h"
#include "cli/json_fields.h"
#include "cli/report.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *agent_json(const struct daemon *d) {
    struct fields f = fields_begin();
    fields_text(&f, "name", d->name);
    fields_text(&f, "site", d->site->name);
    fields_set(&f, "pid", json_integer(d->child.pid));
    json_t *command = json_array();
    fields_set(&f, "command", command);
    for (size_t i = 0; d->argv[i]; i++) {
        fields_append(&f, command, json_string(d->argv[i]));
    }
    return fields_end(&f);
}

static json_t *cluster_json(const struct cluster *c) {
    struct fields f = fields_begin();
    fields_text(&f, "master", c->master);
    fields_text(&f, "config", c->config_path);
    fields_text(&f, "dir", c->options->dir);
    fields_set(&f, "master_pid", json_integer(c->daemons[0].child.pid));
    json_t *command = json_array();
    fields_set(&f, "master_command", command);
    for (size_t i = 0; c->daemons[0].argv[i]; i++) {
        fields_append(&f, command, json_string(c->daemons[0].argv[i]));
    }
    json_t *masters = json_array();
    fields_set(&f, "masters", masters);
    for (size_t i = 0; i < c->n_masters; i++) {
        fields_append(&f, masters,
                      json_pack("{s:s, s:i}", "name", c->daemons[i].name, "pid",
                                (int)c->daemons[i].child.pid));
    }
    json_t *agents = json_array();
    fields_set(&f, "agents", agents);
    for (size_t i = c->n_masters; i < c->n_daemons; i++) {
        fields_append(&f, agents, agent_json(&c->daemons[i]));
    }
    json_t *volumes = json_array();
    fields_set(&f, "volumes", volumes);
    for (size_t i = 0; i < c->options->n_volumes; i++) {
        const struct up_volume *v = &c->options->volumes[i];
        fields_append(
            &f, volumes,
            json_pack("{s:s, s:s, s:s}", "site", v->site, "name", v->name, "root", v->root));
    }
    return fields_end(&f);
}

// The first volume of a site.
static const struct up_volume *volume_of(const struct up_options *o, const struct up_site *site) {
    for (size_t i = 0; i < o->n_volumes; i++) {
        if (strcmp(o->volumes[i].site, site->name) == 0) {
            return &o->volumes[i];
        }
    }
    return NULL;
}

static void print_welcome(const struct cluster *c) {
    const struct up_options *o = c->options;
    const struct up_site *from = &o->sites[0];
    const struct up_site *to = o->n_sites > 1 ? &o->sites[1] : from;
    printf("Sluice runs on this machine, until Ctrl-C.\n\n");
    printf("  master  %s\n", c->master);
    for (size_t i = 0; i < o->n_sites; i++) {
        printf("  site %s: %d agent%s\n", o->sites[i].name, o->sites[i].n_agents,
               o->sites[i].n_agents == 1 ? "" : "s");
        for (size_t k = 0; k < o->n_volumes; k++) {
            if (strcmp(o->volumes[k].site, o->sites[i].name) == 0) {
                printf("    volume %s = %s\n", o->volumes[k].name, o->volumes[k].root);
            }
        }
    }
    printf("  logs    %s/log\n\n", o->dir);
    printf("To try it, in another terminal:\n\n");
    printf("  export SLUICE_CONFIG=%s\n", c->config_path);
    printf("  cp -r /etc/ssl %s/\n", volume_of(o, from)->root);
    printf("  sluice cp %s:%s/ssl %s:%s/copy\n", from->name, volume_of(o, from)->root, to->name,
           volume_of(o, to)->root);
    printf("  sluice ls; sluice agents\n");
}

static void say_what_is_kept(const struct up_options *o) {
    if (cluster_remove_temporary(o)) {
        return;
    }
    if (!o->is_temp) {
        report_note("stopped; `sluice up --dir %s` goes on from here", o->dir);
        return;
    }
    report_note("stopped; kept %s because there are files in its volumes; "
                "`sluice up --dir %s` goes on from here",
                o->dir, o->dir);
}

// After a failure to start: if nothing was started there is nothing to see.
static void say_where_logs_are(const struct up_options *o) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/log/master.log", o->dir);
    if (access(path, F_OK) != 0) {
        cluster_remove_temporary(o);
    } else {
        report_note("the logs are in %s/log", o->dir);
    }
}

static void block_signals(void) {
    sigset_t signals;
    cluster_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    // A reader of our output that goes away must not keep us from stopping the daemons.
    signal(SIGPIPE, SIG_IGN);
}

static int run_cluster(const struct invocation *inv, const struct up_options *o) {
    struct cluster c;
    struct failure f;
    int code = EXIT_DELIVERED;
    if (cluster_init(o, &c, &f) != OK || cluster_start(&c, &f) != OK) {
        code = report_failure(inv, &f);
    } else {
        if (inv->json) {
            report_json(inv, cluster_json(&c));
        } else {
            print_welcome(&c);
        }
        report_end(inv, EXIT_DELIVERED);
        cluster_supervise(&c);
    }
    cluster_stop(&c);
    cluster_deinit(&c);
    return code;
}

int run_up(const struct invocation *inv) {
    struct up_options o;
    struct failure f;
    // Ours, if we are a service: not the daemons'.
    unsetenv("NOTIFY_SOCKET");
    block_signals();
    if (up_options_read(inv, &o, &f) != OK) {
        int code = report_failure(inv, &f);
        if (o.is_temp && o.dir) {
            rmdir(o.dir);
        }
        up_options_deinit(&o);
        return code;
    }
    int code = run_cluster(inv, &o);
    if (code == EXIT_DELIVERED || code == EXIT_CANCELLED) {
        say_what_is_kept(&o);
    } else if (o.is_temp) {
        say_where_logs_are(&o);
    }
    up_options_deinit(&o);
    return code;
}
