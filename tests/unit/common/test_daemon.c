// SPDX-License-Identifier: Apache-2.0
// The loop, and what daemons need of their machine.
#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/rpc/loop.h"
#include "common/usage.h"
#include "tests/lib/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- loop ----

enum { N_POSTERS = 4, N_POSTS = 5000 };

struct counter {
    struct loop *loop;
    int last[N_POSTERS];
    int total;
};

struct post {
    struct counter *counter;
    int poster, number;
};

static void count(void *arg) {
    struct post *p = arg;
    struct counter *c = p->counter;
    assert_true(loop_is_current(c->loop));
    assert_int_equal(p->number, c->last[p->poster] + 1);
    c->last[p->poster] = p->number;
    free(p);
    if (++c->total == N_POSTERS * N_POSTS) {
        loop_stop(c->loop);
    }
}

struct poster {
    struct counter *counter;
    int index;
};

static void *post_many(void *arg) {
    struct poster *me = arg;
    for (int i = 1; i <= N_POSTS; i++) {
        struct post *p = malloc(sizeof *p);
        *p = (struct post){.counter = me->counter, .poster = me->index, .number = i};
        loop_post(me->counter->loop, count, p);
    }
    return NULL;
}

static void closures_run_on_the_loop_in_order(void **state) {
    struct counter c = {.loop = loop_new()};
    struct poster posters[N_POSTERS];
    pthread_t threads[N_POSTERS];
    (void)state;
    assert_false(loop_is_current(c.loop));
    for (int i = 0; i < N_POSTERS; i++) {
        posters[i] = (struct poster){.counter = &c, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    loop_run(c.loop);
    for (int i = 0; i < N_POSTERS; i++) {
        pthread_join(threads[i], NULL);
    }
    loop_free(c.loop);
    assert_int_equal(c.total, N_POSTERS * N_POSTS);
}

static void post_another(void *arg) {
    struct counter *c = arg;
    if (++c->total < 3) {
        loop_post(c->loop, post_another, c);
    }
}

static void closures_left_over_run_when_the_loop_is_freed(void **state) {
    struct counter c = {.loop = loop_new()};
    (void)state;
    loop_post(c.loop, post_another, &c);
    loop_free(c.loop);
    assert_int_equal(c.total, 3);
}

struct ticks {
    struct loop *loop;
    struct loop_timer *timer, *replaced, *disarmed, *end;
    char order[8];
};

static void tick_a(void *arg) {
    struct ticks *t = arg;
    strcat(t->order, "a");
    if (strlen(t->order) < 3) {
        loop_timer_arm(t->disarmed, 1);
        loop_timer_disarm(t->disarmed);
        loop_timer_arm(t->timer, 5);
    } else {
        loop_timer_arm(t->end, 200); // those that must not fire would be due by then
    }
}

static void tick_b(void *arg) {
    strcat(((struct ticks *)arg)->order, "b");
}

static void tick_end(void *arg) {
    loop_stop(((struct ticks *)arg)->loop);
}

static void tick_wrong(void *arg) {
    strcat(((struct ticks *)arg)->order, "!");
}

static void timers_fire_in_order_and_can_be_disarmed(void **state) {
    struct ticks t = {.loop = loop_new()};
    (void)state;
    t.timer = loop_timer_new(t.loop, tick_a, &t);
    t.replaced = loop_timer_new(t.loop, tick_wrong, &t);
    t.disarmed = loop_timer_new(t.loop, tick_wrong, &t);
    struct loop_timer *b = loop_timer_new(t.loop, tick_b, &t);
    t.end = loop_timer_new(t.loop, tick_end, &t);
    loop_timer_arm(t.replaced, 1);
    loop_timer_arm(t.replaced, 3600 * 1000);
    loop_timer_arm(b, 0);
    loop_timer_arm(t.timer, 1);
    loop_run(t.loop);
    assert_string_equal(t.order, "baa");
    loop_timer_free(t.timer);
    loop_timer_free(t.replaced);
    loop_timer_free(t.disarmed);
    loop_timer_free(b);
    loop_timer_free(t.end);
    loop_free(t.loop);
}

// ---- signals ----

static void signals_wait_for_who_takes_them(void **state) {
    sigset_t set;
    int sig = 0, pipe_fds[2];
    (void)state;
    daemon_block_signals(&set);
    kill(getpid(), SIGHUP);
    assert_int_equal(sigwait(&set, &sig), 0);
    assert_int_equal(sig, SIGHUP);
    kill(getpid(), SIGTERM);
    assert_int_equal(sigwait(&set, &sig), 0);
    assert_int_equal(sig, SIGTERM);
    assert_int_equal(pipe(pipe_fds), 0);
    close(pipe_fds[0]);
    assert_int_equal(write(pipe_fds[1], "x", 1), -1); // and the process lives
    close(pipe_fds[1]);
}

// ---- files and names ----

static void a_directory_has_one_owner(void **state) {
    char parent[] = "/tmp/sluice-lock-XXXXXX", above[48], dir[64], lock[80];
    struct failure f;
    struct stat st;
    int first = -1, second = -1;
    (void)state;
    assert_non_null(mkdtemp(parent));
    snprintf(above, sizeof above, "%s/above", parent);
    snprintf(dir, sizeof dir, "%s/state", above);
    snprintf(lock, sizeof lock, "%s/lock", dir);
    assert_ok(daemon_lock_directory(dir, &first, &f));
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_err(daemon_lock_directory(dir, &second, &f), ERR_LOCKED);
    assert_memory_equal(f.object, dir, strlen(dir));
    close(first);
    assert_ok(daemon_lock_directory(dir, &second, &f));
    close(second);
    unlink(lock);
    rmdir(dir);
    rmdir(above);
    rmdir(parent);
    assert_err(daemon_lock_directory("/proc/none/state", &first, &f), ERR_NOT_FOUND);
}

static void the_port_file_says_where_to_dial(void **state) {
    char dir[] = "/tmp/sluice-port-XXXXXX", path[64], text[64] = "";
    struct failure f;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/port", dir);
    assert_ok(daemon_write_port_file(path, "127.0.0.1:0", 4711, &f));
    assert_ok(daemon_write_port_file(path, "[::1]:0", 4712, &f));
    FILE *file = fopen(path, "r");
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "[::1]:4712\n");
    unlink(path);
    assert_int_equal(rmdir(dir), 0); // nothing else is left
    assert_err(daemon_write_port_file(path, "127.0.0.1:0", 1, &f), ERR_NOT_FOUND);
}

static void the_machine_is_known(void **state) {
    char id[DAEMON_BOOT_ID_SIZE], host[DAEMON_HOST_SIZE];
    struct usage_meter meter;
    struct usage u;
    struct failure f;
    (void)state;
    assert_ok(daemon_boot_id(id, &f));
    assert_int_equal(strlen(id), 36);
    daemon_host_name(host);
    assert_true(strlen(host) > 0);
    usage_meter_init(&meter);
    usage_sample(&meter, &u);
    assert_true(u.memory_bytes > 100000);
    assert_true(u.cpu_percent >= 0 && u.load1 >= 0);
}

int main(void) {
    sigset_t set;
    daemon_block_signals(&set); // as the daemons do, before gRPC has threads: they inherit it
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closures_run_on_the_loop_in_order),
        cmocka_unit_test(closures_left_over_run_when_the_loop_is_freed),
        cmocka_unit_test(timers_fire_in_order_and_can_be_disarmed),
        cmocka_unit_test(signals_wait_for_who_takes_them),
        cmocka_unit_test(a_directory_has_one_owner),
        cmocka_unit_test(the_port_file_says_where_to_dial),
        cmocka_unit_test(the_machine_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
