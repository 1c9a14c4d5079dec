// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/task_message.h"

#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void task_begin(struct task_message *t, Sluice__V1__TaskKind kind, uint64_t task_id) {
    memset(t, 0, sizeof *t);
    sluice__v1__lease__init(&t->lease);
    sluice__v1__epoch__init(&t->epoch);
    sluice__v1__task_spec__init(&t->spec);
    sluice__v1__place__init(&t->source);
    sluice__v1__place__init(&t->sink);
    sluice__v1__receipt__init(&t->receipt);
    object_table_init(&t->table);
    t->spec.kind = kind;
    t->spec.task_id = task_id;
    t->spec.flow_id = (char *)TEST_FLOW;
    t->epoch.term = 1;
    t->epoch.counter = task_id;
    t->lease.attempt = 1;
}

void task_end(struct task_message *t) {
    object_table_deinit(&t->table);
}

static int64_t ns(const struct timespec *t) {
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static void add(struct task_message *t, struct object_entry *e, const char *path) {
    e->id = t->table.count + 1;
    e->path = (const uint8_t *)path;
    e->path_len = strlen(path);
    assert_ok(object_table_add(&t->table, e));
}

void task_add(struct task_message *t, const char *path, const char *real) {
    struct stat st;
    char target[256];
    assert_int_equal(lstat(real, &st), 0);
    struct object_entry e = {
        .type = S_ISDIR(st.st_mode)   ? OBJECT_DIRECTORY
                : S_ISLNK(st.st_mode) ? OBJECT_SYMLINK
                                      : OBJECT_FILE,
        .mode = st.st_mode & 07777,
        .uid = st.st_uid,
        .gid = st.st_gid,
        .device = st.st_dev,
        .links = (uint32_t)st.st_nlink,
        .version = {(uint64_t)st.st_size, ns(&st.st_mtim), ns(&st.st_ctim), st.st_ino},
    };
    if (e.type == OBJECT_SYMLINK) {
        ssize_t n = readlink(real, target, sizeof target);
        assert_true(n > 0);
        e.target = (const uint8_t *)target;
        e.target_len = (size_t)n;
    }
    add(t, &e, path);
}

void task_add_entry(struct task_message *t, const char *path, enum object_type type,
                    const char *target) {
    struct object_entry e = {
        .type = type,
        .mode = 0755,
        .uid = getuid(),
        .gid = getgid(),
        .version = {.mtime_ns = 1500000000123456789},
        .target = (const uint8_t *)target,
        .target_len = target == NULL ? 0 : strlen(target),
    };
    add(t, &e, path);
}

static Sluice__V1__Place *place(Sluice__V1__Place *p, const char *root) {
    if (root == NULL) {
        return NULL;
    }
    p->volume = (char *)"data";
    p->root = (ProtobufCBinaryData){strlen(root), (uint8_t *)root};
    return p;
}

Sluice__V1__Lease *task_lease(struct task_message *t, const char *from, const char *to) {
    const uint8_t *bytes = NULL;
    size_t len = 0;
    assert_ok(object_table_bytes(&t->table, &bytes, &len));
    t->spec.objects = (ProtobufCBinaryData){len, (uint8_t *)bytes};
    t->spec.source = place(&t->source, from);
    t->spec.sink = place(&t->sink, to);
    t->receipts[0] = &t->receipt;
    t->lease.epoch = &t->epoch;
    t->lease.spec = &t->spec;
    return &t->lease;
}
