// SPDX-License-Identifier: Apache-2.0
#include "agent/proof_file.h"

#include "common/log.h"
#include "tests/lib/test.h"
#include "tests/unit/agent/scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct scratch scratch;
static struct agent_options options;
static struct volumes *volumes;
static char state_dir[128], root[128];

static void open_volumes(void) {
    struct failure f = {0};
    options = (struct agent_options){.n_volumes = 1};
    options.volumes[0] = (struct volume_options){.name = "data", .root = root, .readable = true};
    assert_ok(volumes_open(&options, &volumes, &f));
}

static int setup(void **state) {
    (void)state;
    scratch_begin(&scratch);
    snprintf(state_dir, sizeof state_dir, "%s/state", scratch.path);
    snprintf(root, sizeof root, "%s/root", scratch.path);
    assert_return_code(mkdir(state_dir, 0700), 0);
    assert_return_code(mkdir(root, 0700), 0);
    open_volumes();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    volumes_free(volumes);
    scratch_end(&scratch);
    return 0;
}

static struct proof_files *open_files(void) {
    struct proof_files *p = NULL;
    struct failure f = {0};
    assert_ok(proof_files_new(state_dir, volumes, &p, &f));
    return p;
}

static struct volume_proof make_proof(uint8_t first, bool write, bool remove) {
    struct volume_proof p = {.volume = "data", .nonce_len = 16, .write = write, .remove = remove};
    for (size_t i = 0; i < p.nonce_len; i++) {
        p.nonce[i] = (uint8_t)(first + i);
    }
    return p;
}

static int count_entries(const char *path) {
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(dir);
    return n;
}

static void write_one(struct proof_files *p, uint8_t first) {
    struct volume_proof proof = make_proof(first, true, false);
    proof_files_prove(p, &proof);
    assert_string_equal(proof.error, "");
    assert_true(proof.wrote);
}

static void what_one_wrote_another_reads_until_it_is_removed(void **state) {
    (void)state;
    struct proof_files *p = open_files();
    write_one(p, 1);
    struct volume_proof reading = make_proof(1, false, false);
    proof_files_prove(p, &reading);
    assert_int_equal(reading.seen_len, 16);
    assert_memory_equal(reading.seen, reading.nonce, 16);

    struct volume_proof removing = make_proof(1, false, true);
    proof_files_prove(p, &removing);
    assert_string_equal(removing.error, "");
    assert_int_equal(count_entries(root), 0);
    assert_int_equal(count_entries(state_dir), 0);

    reading = make_proof(1, false, false);
    proof_files_prove(p, &reading);
    assert_int_equal(reading.seen_len, 0);
    assert_string_equal(reading.error, "");
    proof_files_free(p);
}

static void what_a_killed_run_left_goes_at_the_next_start(void **state) {
    (void)state;
    struct proof_files *p = open_files();
    write_one(p, 1);
    write_one(p, 7);
    proof_files_free(p); // as a kill does it: nothing is removed
    assert_int_equal(count_entries(root), 2);

    p = open_files();
    assert_int_equal(count_entries(root), 0);
    assert_int_equal(count_entries(state_dir), 0);
    proof_files_free(p);
}

static void what_the_master_forgot_is_swept(void **state) {
    (void)state;
    struct proof_files *p = open_files();
    write_one(p, 1);
    proof_files_sweep(p, 1000 * 1000);
    assert_int_equal(count_entries(root), 1);
    proof_files_sweep(p, 0);
    assert_int_equal(count_entries(root), 0);
    proof_files_free(p);
}

static void a_volume_that_is_away_is_asked_again(void **state) {
    (void)state;
    struct proof_files *p = open_files();
    write_one(p, 1);
    proof_files_free(p);
    volumes_free(volumes);
    struct agent_options none = {0};
    struct failure f = {0};
    assert_ok(volumes_open(&none, &volumes, &f));

    p = open_files();
    assert_int_equal(count_entries(state_dir), 1);
    proof_files_free(p);
    volumes_free(volumes);
    open_volumes();

    p = open_files();
    assert_int_equal(count_entries(root), 0);
    proof_files_free(p);
}

static void a_proof_that_cannot_be_noted_is_not_written(void **state) {
    (void)state;
    struct proof_files *p = open_files();
    assert_return_code(rmdir(state_dir), 0);
    struct volume_proof proof = make_proof(1, true, false);
    proof_files_prove(p, &proof);
    assert_string_not_equal(proof.error, "");
    assert_false(proof.wrote);
    assert_int_equal(count_entries(root), 0);
    proof_files_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_one_wrote_another_reads_until_it_is_removed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_killed_run_left_goes_at_the_next_start, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_master_forgot_is_swept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_volume_that_is_away_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_proof_that_cannot_be_noted_is_not_written, setup,
                                        teardown),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
