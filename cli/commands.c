// SPDX-License-Identifier: Apache-2.0
// The table of commands: what they take and what --help says of them.
#include "cli/command.h"

#include "cli/flow_request.h"
#include "cli/up_options.h"

#include <string.h>

static const char usual_exit_codes[] = "0  done\n"
                                       "1  the master could not do it, or there is no such flow\n"
                                       "2  wrong use, or wrong configuration\n"
                                       "4  the master cannot be reached\n"
                                       "5  refused: authentication or permission\n";

static const char outcome_exit_codes[] = "0  everything was delivered, and checked\n"
                                         "1  the flow failed\n"
                                         "2  wrong use, or wrong configuration\n"
                                         "3  delivered in part: some objects failed\n"
                                         "4  the master cannot be reached\n"
                                         "5  refused: authentication or permission\n"
                                         "6  cancelled\n";

static const struct command_option ls_options[] = {
    {"state", 's', "STATE", "only flows in this state, like STARTED; may be repeated"},
    {"label", 'l', "KEY=VALUE", "only flows with this label; may be repeated, all must match"},
    {"limit", 'n', "N", "at most this many (default: 100)"},
    {"all", 'a', NULL, "all of them"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option show_options[] = {
    {"failed", 0, NULL, "list the objects that failed, each with the reason, instead"},
    {"limit", 'n', "N", "with --failed: at most this many"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option log_options[] = {
    {"follow", 'f', NULL, "go on until the flow has ended"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option reason_options[] = {
    {"reason", 0, "TEXT", "why, for the log"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option retry_options[] = {
    {"request-id", 0, "ID", "the same ID again names the same new flow, not another"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option callbacks_options[] = {
    {"retry", 0, "ID", "send the callback with this id again; may be repeated"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option credentials_options[] = {
    {"profile", 0, "NAME", "take the keys of this profile of the AWS files"},
    {"file", 0, "FILE", "take them from this file instead of ~/.aws/credentials"},
    {"look-again", 0, NULL,
     "store none: agents look once more where they have theirs from (the\n"
     "configuration, the environment, the AWS files)"},
    {NULL, 0, NULL, NULL},
};
static const struct command_option agents_options[] = {
    {"site", 0, "NAME", "only the agents of this site"},
    {NULL, 0, NULL, NULL},
};
#define LOCATIONS                                                                                  \
    "A location is SITE:/absolute/path as the agents of that site see it, or\n"                    \
    "SITE/AGENT:/absolute/path for one agent. A directory named without a slash at the\n"          \
    "end goes below DST under its own name; with one (SITE:/path/) its contents go there.\n"       \
    "A file goes to DST, or below it if that is a directory.\n"

const struct command commands[] = {
    {
        .name = "up",
        .arguments = "",
        .summary = "start a whole cluster on this machine, to try things out",
        .about = "Starts a master and agents on this machine, on free ports of the loopback\n"
                 "interface, and keeps them running until Ctrl-C or SIGTERM. Without options\n"
                 "there are two sites, a and b, of two agents each, with one volume each named\n"
                 "data. What is needed to reach the cluster is printed when it is ready.\n"
                 "With --dir the cluster can be stopped and started again: it goes on where it\n"
                 "was. A daemon that dies is started again.\n",
        .options = up_command_options,
        .local = true,
        .example = "sluice up --dir ~/sluice --site home=2 --site away=1 \\\n"
                   "          --volume home:/data --volume away:scratch=/tmp/scratch",
        .exit_codes = "0  stopped by Ctrl-C or SIGTERM once it ran\n"
                      "1  the cluster could not be started\n"
                      "2  wrong use\n"
                      "6  stopped before it was ready\n",
        .run = run_up,
    },
    {
        .name = "cp",
        .arguments = "SRC DST",
        .min_args = 2,
        .max_args = 2,
        .summary = "copy a file or a tree, and wait for the end",
        .about = LOCATIONS
        "\nSubmits a flow and waits until it has ended. The flow belongs to the master: when the\n"
        "connection breaks, or the master starts anew, it goes on, and so does the waiting.\n"
        "Ctrl-C asks the master to cancel the flow; a second one leaves at once. Progress is\n"
        "shown on a terminal only. With --json the flow is printed at its end.\n",
        .options = flow_request_options,
        .example = "sluice cp a:/data/run7/ b:/archive/run7",
        .exit_codes = outcome_exit_codes,
        .run = run_cp,
    },
    {
        .name = "submit",
        .arguments = "SRC DST | -f FILE",
        .max_args = 2,
        .summary = "hand a flow to the master, and print its id",
        .about =
            "Returns as soon as the master has stored the flow, and prints its id alone.\n"
            "The file holds one JSON object with the fields of FlowSpec (docs/cli.md), and\n"
            "`request_id` if wanted; what the command line gives beside it wins.\n\n" LOCATIONS,
        .options = flow_request_options_and_file,
        .example = "id=$(sluice submit --label run=7 a:/data/run7/ b:/archive/run7)\n"
                   "sluice watch $id",
        .exit_codes = usual_exit_codes,
        .run = run_submit,
    },
    {
        .name = "ls",
        .arguments = "",
        .summary = "list flows, newest first",
        .about = "With --json, one object a line, each as `sluice show --json` prints it. Where "
                 "older flows are\n"
                 "left out, a line on stderr says so.\n",
        .options = ls_options,
        .example = "sluice ls --state STARTED --state SUSPENDED",
        .exit_codes = usual_exit_codes,
        .run = run_ls,
    },
    {
        .name = "show",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "show a flow's state, numbers and failed objects",
        .about =
            "Succeeds whatever became of the flow; `sluice watch` has an exit code for that.\n",
        .options = show_options,
        .example = "sluice show --failed 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_show,
    },
    {
        .name = "watch",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "follow a flow to its end",
        .about = "Shows the flow's progress, and how it ended. With --json, every event as one\n"
                 "object a line. When the connection breaks it is taken up again. Ctrl-C ends\n"
                 "the watching, not the flow.\n",
        .example = "sluice watch 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = outcome_exit_codes,
        .run = run_watch,
    },
    {
        .name = "log",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "print a flow's events as JSON, one a line",
        .about = "Every change of state, and progress now and then, from the beginning.\n",
        .options = log_options,
        .example = "sluice log 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_log,
    },
    {
        .name = "why",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "say what a flow spends its time on, and what holds it up",
        .about = "Where the time of the agents that write went, summed over their streams, and\n"
                 "what that means.\n",
        .example = "sluice why 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_why,
    },
    {
        .name = "suspend",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "stop a flow for now",
        .about = "Returns when no byte of it moves any more. What is delivered stays delivered;\n"
                 "`sluice resume` goes on from there.\n",
        .options = reason_options,
        .example = "sluice suspend 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_suspend,
    },
    {
        .name = "resume",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "let a suspended flow go on",
        .about = "Ends the user's suspension; others that suspended it keep it suspended.\n",
        .example = "sluice resume 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_resume,
    },
    {
        .name = "cancel",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "end a flow",
        .about = "What was delivered stays; what was half there is removed. A flow that was\n"
                 "cancelled cannot be resumed, but `sluice retry` makes a new one of it.\n",
        .options = reason_options,
        .example = "sluice cancel 01JB4Q2M8N6W4T0R5C9VYXKZHD",
        .exit_codes = usual_exit_codes,
        .run = run_cancel,
    },
    {
        .name = "retry",
        .arguments = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "submit a flow that has ended once more, and print the new id",
        .about = "The new flow has the same source, destination and options; its `retry_of` names\n"
                 "the old one.\n",
        .options = retry_options,
        .example = "sluice watch $(sluice retry 01JB4Q2M8N6W4T0R5C9VYXKZHD)",
        .exit_codes = usual_exit_codes,
        .run = run_retry,
    },
    {
        .name = "callbacks",
        .arguments = "",
        .summary = "list callbacks that were given up, or have them sent again",
        .about =
            "A callback that its receiver does not take is tried again, and given up in the\n"
            "end. With --json, one object a line, with the body that could not be delivered.\n",
        .options = callbacks_options,
        .example = "sluice callbacks\n"
                   "sluice callbacks --retry 01JB4Q2M8N6W4T0R5C9VYXKZHD-7",
        .exit_codes = usual_exit_codes,
        .run = run_callbacks,
    },
    {
        .name = "credentials",
        .arguments = "[update NAME | remove NAME]",
        .min_args = 0,
        .max_args = 2,
        .summary = "give the cluster keys to an object store, or take them back",
        .about =
            "Without arguments, lists the names of those that are stored; keys are never shown.\n"
            "`update` reads the keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and\n"
            "AWS_SESSION_TOKEN, or from the AWS files, and stores them under NAME: the name of a\n"
            "store, for all flows that name no others, or one that flows choose with\n"
            "--credentials. Flows that were suspended because a store refused the old ones go "
            "on.\n",
        .options = credentials_options,
        .example = "sluice credentials update s3\n"
                   "sluice credentials update s3 --profile renewed\n"
                   "sluice credentials update s3 --look-again",
        .exit_codes = usual_exit_codes,
        .run = run_credentials,
    },
    {
        .name = "agents",
        .arguments = "",
        .summary = "list the agents and their volumes",
        .about = "With --json, one object a line.\n",
        .options = agents_options,
        .example = "sluice agents --site a",
        .exit_codes = usual_exit_codes,
        .run = run_agents,
    },
    {
        .name = "limits",
        .arguments = "",
        .summary = "what clients and agents can make grow, how far it has, and what was refused",
        .about = "Each is a setting below `limits:` in the master's configuration. With --json, "
                 "one object a\n"
                 "line.\n",
        .options = NULL,
        .example = "sluice limits",
        .exit_codes = usual_exit_codes,
        .run = run_limits,
    },
    {
        .name = "drain",
        .arguments = "AGENT",
        .min_args = 1,
        .max_args = 1,
        .summary = "give an agent no more work, before its machine goes away",
        .about =
            "Tasks that it has are finished, or given back. `sluice agents` shows when none is\n"
            "running any more.\n",
        .example = "sluice drain a-1",
        .exit_codes = usual_exit_codes,
        .run = run_drain,
    },
    {
        .name = "undrain",
        .arguments = "AGENT",
        .min_args = 1,
        .max_args = 1,
        .summary = "give a drained agent work again",
        .about = "",
        .example = "sluice undrain a-1",
        .exit_codes = usual_exit_codes,
        .run = run_undrain,
    },
    {.name = NULL},
};

const struct command *command_find(const char *name) {
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}
