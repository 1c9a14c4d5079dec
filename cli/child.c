// SPDX-License-Identifier: Apache-2.0
#include "cli/child.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

// In the child: only what is safe after fork() in a process with threads.
static void become(char *const argv[], pid_t parent, int log_fd, int null_fd, int report_fd) {
    sigset_t none;
    sigemptyset(&none);
    // SIGKILL: the daemons are made to survive it, and nothing can keep them from going.
    if (setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        signal(SIGPIPE, SIG_DFL) != SIG_ERR && sigprocmask(SIG_SETMASK, &none, NULL) == 0 &&
        dup2(null_fd, STDIN_FILENO) >= 0 && dup2(log_fd, STDOUT_FILENO) >= 0 &&
        dup2(log_fd, STDERR_FILENO) >= 0) {
        execv(argv[0], argv);
    }
    int errnum = errno;
    ssize_t ignored = write(report_fd, &errnum, sizeof(errnum));
    (void)ignored;
    _exit(127);
}

// 0, or the errno with which the child could not become the program.
static int wait_for_exec(int fd) {
    int errnum = 0;
    ssize_t n;
    do {
        n = read(fd, &errnum, sizeof(errnum));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(errnum) ? errnum : 0;
}

enum err child_start(char *const argv[], const char *log_path, struct child *ret_child,
                     struct failure *ret_failure) {
    int report[2] = {-1, -1};
    struct stat st;
    AUTO(auto_close) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0 || fstat(log_fd, &st) != 0) {
        return failure_errno(ret_failure, errno, "open", log_path, strlen(log_path));
    }
    AUTO(auto_close) int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || pipe2(report, O_CLOEXEC) != 0) {
        return failure_errno(ret_failure, errno, "start", argv[0], strlen(argv[0]));
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        become(argv, parent, log_fd, null_fd, report[1]);
    }
    int errnum = pid < 0 ? errno : 0;
    close(report[1]);
    if (pid > 0) {
        errnum = wait_for_exec(report[0]);
    }
    close(report[0]);
    int pidfd = errnum == 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0) {
        errnum = errnum ? errnum : errno;
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        return failure_errno(ret_failure, errnum, "start", argv[0], strlen(argv[0]));
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    *ret_child = (struct child){.pid = pid, .pidfd = pidfd, .log_end = st.st_size};
    return OK;
}

void child_signal(const struct child *c, int sig) {
    if (c->pid > 0) {
        kill(-c->pid, sig);
    }
}

bool child_reap(struct child *c, char *ret_how, size_t cap) {
    int status;
    if (c->pid <= 0 || waitpid(c->pid, &status, WNOHANG) != c->pid) {
        return false;
    }
    kill(-c->pid, SIGKILL);
    close(c->pidfd);
    if (WIFSIGNALED(status)) {
        snprintf(ret_how, cap, "signal %d", WTERMSIG(status));
    } else {
        snprintf(ret_how, cap, "exit code %d", WEXITSTATUS(status));
    }
    c->pid = 0;
    c->pidfd = -1;
    return true;
}

// "@dir/@name" if it can be run. NULL: it cannot, or out of memory.
static char *program_in(const char *dir, size_t len, const char *name) {
    char *path = NULL;
    if (asprintf(&path, "%.*s/%s", (int)len, dir, name) < 0) {
        return NULL;
    }
    if (access(path, X_OK) == 0) {
        return path;
    }
    free(path);
    return NULL;
}

enum err child_find_program(const char *name, char **ret_path, struct failure *ret_failure) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n > 0) {
        self[n] = '\0';
        *ret_path = program_in(self, (size_t)(strrchr(self, '/') - self), name);
        if (*ret_path) {
            return OK;
        }
    }
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t len = strcspn(path, ":");
        *ret_path = len > 0 ? program_in(path, len, name) : NULL;
        if (*ret_path) {
            return OK;
        }
        path += len + (path[len] == ':');
    }
    enum err e = failure_set(ret_failure, ERR_NOT_FOUND, "find", name, strlen(name),
                             "it is neither beside this program nor in $PATH");
    failure_remedy(ret_failure, "install it, or add its directory to $PATH");
    return e;
}
