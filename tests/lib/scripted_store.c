// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/scripted_store.h"

#include "common/cleanup.h"
#include "common/hash.h"
#include "dataplane/http.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_BYTES = 64 << 20 };

static int read_port(const char *path) {
    FILE *in = fopen(path, "r");
    int port = 0;
    if (in != NULL) {
        if (fscanf(in, "%d", &port) != 1) {
            port = 0;
        }
        fclose(in);
    }
    return port;
}

// One request without the client that is tested. The body; free() it.
static char *ask(struct scripted_store *s, const char *method, const char *path, const void *body,
                 size_t len, int *ret_status, size_t *ret_len) {
    struct http_pool *pool;
    struct http_lane *lane;
    struct http_exchange *x;
    char url[1200], hash_line[128];
    uint8_t digest[32];
    char hex[65];
    sha256(body, len, digest);
    hash_hex(digest, sizeof digest, hex);
    snprintf(hash_line, sizeof hash_line, "x-amz-content-sha256: %s", hex);
    snprintf(url, sizeof url, "%s%s", s->endpoint, path);
    const char *headers[] = {hash_line};
    struct http_request r = {.method = method,
                             .url = url,
                             .headers = headers,
                             .n_headers = 1,
                             .body = body,
                             .body_bytes = len,
                             .is_stream = true};
    assert_ok(http_pool_new(&(struct http_pool_options){0}, &pool, NULL));
    assert_ok(http_pool_take(pool, &lane, NULL));
    assert_ok(http_begin(lane, &r, &x, NULL));
    size_t cap = MOST_BYTES, n = 1;
    char *copy = malloc(cap);
    assert_non_null(copy);
    for (*ret_len = 0; n > 0; *ret_len += n) {
        assert_true(*ret_len < cap - 1);
        assert_ok(http_read(x, copy + *ret_len, cap - 1 - *ret_len, &n, NULL));
    }
    *ret_status = http_status(x);
    copy[*ret_len] = '\0';
    http_end(x);
    http_pool_give_back(pool, lane);
    http_pool_free(pool);
    return copy;
}

static void ask_for_nothing(struct scripted_store *s, const char *method, const char *path,
                            const void *body, size_t len) {
    int status = 0;
    size_t n;
    free(ask(s, method, path, body, len, &status, &n));
    assert_int_equal(status, 200);
}

void scripted_store_start(struct scripted_store *s) {
    char path[] = "/tmp/sluice-scripted-XXXXXX";
    int fds[2], dir = mkstemp(path), port = 0;
    assert_true(dir >= 0);
    close(dir);
    unlink(path);
    if (system("command -v python3 >/dev/null") != 0) {
        fprintf(stderr, "python3 is missing: no scripted object store\n");
        exit(77);
    }
    assert_int_equal(pipe(fds), 0);
    (void)fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        dup2(fds[0], 0);
        execl(SLUICE_SOURCE_DIR "/tests/lib/scripted_s3", "scripted_s3", path, (char *)NULL);
        _exit(127);
    }
    close(fds[0]);
    s->pipe_fd = fds[1];
    for (int i = 0; i < 3000 && port == 0; i++) { // until it listens
        poll(NULL, 0, 10);
        port = read_port(path);
    }
    assert_true(port > 0);
    unlink(path);
    snprintf(s->endpoint, sizeof s->endpoint, "http://127.0.0.1:%d", port);
    struct s3_store_options o = {
        .name = "scripted",
        .endpoint = s->endpoint,
        .region = "us-east-1",
        .credentials = {.access_key = "key", .secret_key = "secret"},
    };
    assert_ok(s3_store_new(&o, &s->store, NULL));
    ask_for_nothing(s, "PUT", "/b", "", 0);
}

void scripted_store_stop(struct scripted_store *s) {
    s3_store_free(s->store);
    close(s->pipe_fd);
    waitpid(s->pid, NULL, 0);
}

void scripted_store_rules(struct scripted_store *s, const char *json) {
    ask_for_nothing(s, "POST", "/-rules", json, strlen(json));
}

unsigned scripted_store_count(struct scripted_store *s, const char *text) {
    int status;
    size_t len;
    unsigned n = 0;
    AUTO(auto_free) char *list = ask(s, "GET", "/-requests", "", 0, &status, &len);
    for (const char *at = strstr(list, text); at != NULL; at = strstr(at + 1, text)) {
        n++;
    }
    return n;
}

void scripted_store_settings(struct scripted_store *s, const char *json) {
    ask_for_nothing(s, "POST", "/-settings", json, strlen(json));
}

char *scripted_store_sent(struct scripted_store *s, const char *text, const char *name) {
    int status;
    size_t len;
    char wanted[80], *value = NULL;
    AUTO(auto_free) char *list = ask(s, "GET", "/-requests", "", 0, &status, &len);
    snprintf(wanted, sizeof wanted, " %s=", name);
    for (char *at = strstr(list, text); at != NULL; at = strstr(at, text)) {
        size_t n = strcspn(at, "\"]"); // the request's end, as JSON has it
        const char *found = memmem(at, n, wanted, strlen(wanted));
        free(value);
        value = NULL;
        if (found != NULL) {
            found += strlen(wanted);
            value = strndup(found, strcspn(found, " \"]"));
        }
        at += n;
    }
    return value;
}

static void path_of(const char *key, char *ret_path, size_t cap) {
    assert_true(3 * strlen(key) + 8 < cap);
    memcpy(ret_path, "/b/", 3);
    (void)s3_encode(key, strlen(key), 1, ret_path + 3);
}

void scripted_store_put(struct scripted_store *s, const char *key, const void *bytes, size_t len) {
    char path[1000];
    path_of(key, path, sizeof path);
    ask_for_nothing(s, "PUT", path, bytes, len);
}

uint8_t *scripted_store_get(struct scripted_store *s, const char *key, size_t *ret_len) {
    char path[1000];
    int status;
    path_of(key, path, sizeof path);
    char *body = ask(s, "GET", path, "", 0, &status, ret_len);
    if (status == 200) {
        return (uint8_t *)body;
    }
    free(body);
    return NULL;
}
