// SPDX-License-Identifier: Apache-2.0
// The parts of `sluice up` that start no daemon.
#include "tests/lib/test.h"

#include "cli/child.h"
#include "cli/cluster_files.h"
#include "cli/log_tail.h"
#include "cli/up_options.h"
#include "cli/yaml_text.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err read_options(const char *const *line, struct up_options *o, struct failure *f) {
    static char *argv[32];
    int argc = 0;
    argv[argc++] = (char *)"up";
    for (; line[argc - 1]; argc++) {
        argv[argc] = (char *)(uintptr_t)line[argc - 1];
    }
    argv[argc] = NULL;
    static struct invocation inv;
    enum err e = invocation_parse(command_find("up"), argc, argv, &inv, f);
    return e ? e : up_options_read(&inv, o, f);
}
#define OPTIONS(o, f, ...) read_options((const char *const[]){__VA_ARGS__, NULL}, o, f)

static void without_options_there_are_two_sites_of_two_agents(void **state) {
    (void)state;
    struct up_options o;
    struct failure f;
    assert_ok(OPTIONS(&o, &f, "--dir", "/tmp//sluice-x/"));
    assert_string_equal(o.dir, "/tmp/sluice-x");
    assert_false(o.is_temp);
    assert_int_equal(o.n_sites, 2);
    assert_string_equal(o.sites[1].name, "b");
    assert_int_equal(o.sites[1].n_agents, 2);
    assert_int_equal(o.n_volumes, 2);
    assert_string_equal(o.volumes[0].name, "data");
    assert_string_equal(o.volumes[0].root, "/tmp/sluice-x/a");
    assert_true(o.volumes[0].is_ours);
    up_options_deinit(&o);
}

static void sites_and_volumes_are_as_named(void **state) {
    (void)state;
    struct up_options o;
    struct failure f;
    assert_ok(OPTIONS(&o, &f, "--dir", "/tmp/x", "--site", "home=1", "--site", "away=3", "--volume",
                      "home:/tmp/", "--volume", "home:v-2=/usr/./bin", "--set", "master.hold=2s",
                      "--set", "agent.slots=3", "--set", "home-1.slots=5"));
    assert_int_equal(o.n_sites, 2);
    assert_int_equal(o.n_volumes, 3);
    assert_string_equal(o.volumes[0].name, "tmp");
    assert_string_equal(o.volumes[0].root, "/tmp");
    assert_false(o.volumes[0].is_ours);
    assert_string_equal(o.volumes[1].name, "v-2");
    assert_string_equal(o.volumes[1].root, "/usr/bin");
    assert_string_equal(o.volumes[2].root, "/tmp/x/away");
    assert_string_equal(o.settings[0].daemon, "master");
    assert_string_equal(o.settings[0].key, "hold");
    assert_string_equal(o.settings[1].value, "3");
    assert_string_equal(o.settings[2].daemon, "home-1");
    assert_string_equal(o.settings[2].key, "slots");
    up_options_deinit(&o);
}

static void a_volume_brings_its_site_when_no_site_is_named(void **state) {
    (void)state;
    struct up_options o;
    struct failure f;
    assert_ok(OPTIONS(&o, &f, "--dir", "/tmp/x", "--volume", "c:/tmp"));
    assert_int_equal(o.n_sites, 3);
    assert_string_equal(o.sites[2].name, "c");
    up_options_deinit(&o);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    static const char *const lines[][2] = {
        {"--site", "a"},
        {"--site", "a=0"},
        {"--site", "a=9999"},
        {"--site", "a b=1"},
        {"--site", "-a=1"},
        {"--volume", "a"},
        {"--volume", "a:tmp"},
        {"--volume", "a:x=tmp"},
        {"--volume", "a:/tmp/../etc"},
        {"--volume", "a:b c=/tmp"},
        {"--volume", "a:/nonexistent/dir"},
        {"--set", "hold=2"},
        {"--set", "master.hold"},
        {"--set", "master.=2"},
        {"--set", "nobody-1.slots=2"},
        {"--set", "master.hold=2\nname: x"},
        {"--dir", ""},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct up_options o = {0};
        struct failure f;
        enum err e = OPTIONS(&o, &f, "--dir", "/tmp/x", lines[i][0], lines[i][1]);
        if (strcmp(lines[i][0], "--dir") != 0) { // the first one counts
            assert_true(e == ERR_INVALID || e == ERR_NOT_FOUND);
        }
        up_options_deinit(&o);
    }
    struct up_options o;
    struct failure f;
    assert_err(OPTIONS(&o, &f, "--site", "a=1", "--volume", "b:/tmp"), ERR_INVALID);
    up_options_deinit(&o);
    assert_err(OPTIONS(&o, &f, "--site", "a=1", "--site", "a=1"), ERR_INVALID);
    up_options_deinit(&o);
    assert_err(OPTIONS(&o, &f, "--volume", "a:/tmp", "--volume", "a:tmp=/usr"), ERR_INVALID);
    up_options_deinit(&o);
    assert_err(OPTIONS(&o, &f, "--dir", "/tmp/x", "--site", "log=1"), ERR_INVALID);
    up_options_deinit(&o);
}

static void configurations_nest_and_later_values_win(void **state) {
    (void)state;
    struct yaml_text y = {0};
    yaml_text_set(&y, "name", "m \"1\"\\\n");
    yaml_text_set_raw(&y, "limits.flows_active", "3");
    yaml_text_set_raw(&y, "hold", "30s");
    yaml_text_set_raw(&y, "limits.watchers", "2");
    yaml_text_set_raw(&y, "hold", "2s");
    yaml_text_set_block(&y, "volumes", "  - name: x");
    char *text = yaml_text_end(&y);
    assert_string_equal(text, "name: \"m \\\"1\\\"\\\\\\x0a\"\n"
                              "limits:\n  flows_active: 3\n  watchers: 2\n"
                              "hold: 2s\n"
                              "volumes: \n  - name: x\n");
    free(text);
    yaml_text_deinit(&y);
}

static void the_last_failure_in_a_log_is_found(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-test-XXXXXX", text[256];
    int fd = mkstemp(path);
    dprintf(fd, "old\n");
    off_t from = lseek(fd, 0, SEEK_CUR);
    assert_false(log_tail_message(path, from, text, sizeof(text)));
    dprintf(fd, "{\"level\":\"error\",\"event\":\"e\",\"error\":{\"operation\":\"open\","
                "\"path\":\"/x\",\"reason\":\"no such file\",\"remedy\":\"make it\"}}\n"
                "{\"level\":\"info\",\"event\":\"stopped\"}\n");
    assert_true(log_tail_message(path, from, text, sizeof(text)));
    assert_string_equal(text, "cannot open '/x': no such file; make it");
    dprintf(fd, "sluice-agent: plain words");
    assert_true(log_tail_message(path, from, text, sizeof(text)));
    assert_string_equal(text, "sluice-agent: plain words");
    close(fd);
    unlink(path);
}

static void a_child_is_reaped_and_its_words_are_kept(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-test-XXXXXX", how[32], text[64];
    close(mkstemp(path));
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"echo said; exit 3", NULL};
    struct child c = {.pidfd = -1};
    struct failure f;
    assert_ok(child_start(argv, path, &c, &f));
    struct pollfd ended = {.fd = c.pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 200000), 1);
    assert_true(child_reap(&c, how, sizeof(how)));
    assert_string_equal(how, "exit code 3");
    assert_int_equal(c.pid, 0);
    assert_true(log_tail_message(path, c.log_end, text, sizeof(text)));
    assert_string_equal(text, "said");
    argv[0] = (char *)"/nonexistent/program";
    assert_err(child_start(argv, path, &c, &f), ERR_NOT_FOUND);
    unlink(path);
}

static void a_directory_is_locked_once(void **state) {
    (void)state;
    char dir[] = "/tmp/sluice-test-XXXXXX", lock[64];
    struct failure f;
    int first = -1, second = -1;
    assert_non_null(mkdtemp(dir));
    assert_ok(cluster_lock(dir, &first, &f));
    assert_err(cluster_lock(dir, &second, &f), ERR_LOCKED);
    assert_non_null(strstr(f.message, "runs there already"));
    close(first);
    assert_ok(cluster_lock(dir, &second, &f));
    close(second);
    snprintf(lock, sizeof(lock), "%s/lock", dir);
    unlink(lock);
    rmdir(dir);
}

static void a_temporary_directory_with_files_is_kept(void **state) {
    (void)state;
    struct up_options o = {0};
    struct failure f;
    const char *none[] = {NULL};
    char file[256];
    assert_ok(read_options(none, &o, &f));
    assert_true(o.is_temp);
    if (!o.volumes[0].root) {
        fail_msg("no volume");
        return;
    }
    assert_int_equal(mkdir(o.volumes[0].root, 0700), 0);
    snprintf(file, sizeof(file), "%s/file", o.volumes[0].root);
    fclose(fopen(file, "w"));
    assert_false(cluster_remove_temporary(&o));
    assert_int_equal(access(file, F_OK), 0);
    unlink(file);
    assert_true(cluster_remove_temporary(&o));
    assert_int_equal(access(o.dir, F_OK), -1);
    up_options_deinit(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_there_are_two_sites_of_two_agents),
        cmocka_unit_test(sites_and_volumes_are_as_named),
        cmocka_unit_test(a_volume_brings_its_site_when_no_site_is_named),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(configurations_nest_and_later_values_win),
        cmocka_unit_test(the_last_failure_in_a_log_is_found),
        cmocka_unit_test(a_child_is_reaped_and_its_words_are_kept),
        cmocka_unit_test(a_directory_is_locked_once),
        cmocka_unit_test(a_temporary_directory_with_files_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
