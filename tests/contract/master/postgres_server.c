// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/master/postgres_server.h"

#include "tests/lib/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static struct {
    pid_t pid;
    FILE *in, *out; // of the server's script
    int n_databases;
    char answer[4096];
} server;

static void read_answer(void) {
    if (fgets(server.answer, sizeof server.answer, server.out) == NULL) {
        snprintf(server.answer, sizeof server.answer, "failed: no answer");
    }
    server.answer[strcspn(server.answer, "\n")] = '\0';
}

void postgres_server_start(const char *password) {
    int in[2];
    int out[2];
    int status = 0;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        abort();
    }
    server.pid = fork();
    if (server.pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl(SLUICE_SOURCE_DIR "/tests/lib/postgres_server", "postgres_server",
              password != NULL ? "--password" : NULL, password, NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server.in = fdopen(in[1], "w");
    server.out = fdopen(out[0], "r");
    read_answer();
    if (server.answer[0] == '/') {
        return;
    }
    printf("%s\n", server.answer);
    (void)waitpid(server.pid, &status, 0);
    exit(WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED ? SKIPPED : 1);
}

void postgres_server_end(void) {
    fclose(server.in);
    (void)waitpid(server.pid, NULL, 0);
    fclose(server.out);
}

const char *postgres_server_ask(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vfprintf(server.in, fmt, args);
    va_end(args);
    fputc('\n', server.in);
    fflush(server.in);
    read_answer();
    if (strncmp(server.answer, "failed", 6) == 0) {
        fail_msg("the server's script: %s", server.answer);
    }
    return server.answer;
}

char *postgres_server_database(void) {
    return strdup(postgres_server_ask("database t%d", ++server.n_databases));
}
