// SPDX-License-Identifier: Apache-2.0
#include "common/notify_socket.h"

#include "common/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_socket_send(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof addr.sun_path) {
        return;
    }
    size_t len = strlen(path);
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@') {
        addr.sun_path[0] = '\0'; // the abstract namespace
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    struct failure f = {0};
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                         (const struct sockaddr *)&addr, addr_len) < 0) {
        (void)failure_errno(&f, errno, "notify", path, len);
        log_event(LOG_WARN, "supervisor_not_notified", LOG_STR("state", state), LOG_FAILURE(&f));
    }
    if (fd >= 0) {
        close(fd);
    }
}
