// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: on each file of the corpus, then on mutations of them
// that depend on nothing but their number. Usage: fuzz_NAME [CORPUS [FIRST [COUNT]]]
//
// An input that ends the process is left in the file crash-NAME, so that it can be given to the
// corpus once the defect is gone.
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    FILES_MAX = 64,
    INPUT_MAX = 300 * 1024,
    COUNT = 20000,
    SECONDS_MAX = 4, // whatever the machine and the sanitizers make of the count
};

struct input {
    uint8_t *bytes;
    size_t len;
};

static struct input files[FILES_MAX];
static size_t n_files;
static struct input current; // what the target works on

// ---- what killed it ----

static void leave_input(void) {
    int fd = open("crash-" FUZZ_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) {
        (void)!write(fd, current.bytes, current.len);
        close(fd);
    }
}

static void on_signal(int sig) {
    leave_input();
    signal(sig, SIG_DFL);
    raise(sig);
}

// Of the sanitizers, where they are.
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void watch_for_the_end(void) {
    static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(leave_input);
        signal(SIGABRT, on_signal);
        return;
    }
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        signal(fatal[i], on_signal);
    }
}

// ---- the corpus ----

static void add_file(int dir_fd, const char *name) {
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = malloc(INPUT_MAX);
    ssize_t n = fd >= 0 && bytes != NULL ? read(fd, bytes, INPUT_MAX) : -1;
    MUST(n >= 0 && n_files < FILES_MAX);
    close(fd);
    files[n_files++] = (struct input){bytes, (size_t)n};
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_file(const struct dirent *d) {
    return d->d_name[0] != '.';
}

static void read_corpus(const char *path) {
    struct dirent **list = NULL;
    int n = scandir(path, &list, is_file, by_name);
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(n > 0 && dir_fd >= 0);
    for (int i = 0; i < n; i++) {
        add_file(dir_fd, list[i]->d_name);
        free(list[i]);
    }
    free(list);
    close(dir_fd);
}

// ---- mutations ----

static uint64_t state;

static size_t below(size_t n) { // xorshift64*
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return n == 0 ? 0 : (size_t)((state * 2685821657736338717U) >> 16) % n;
}

static void insert(struct input *in, size_t at, const uint8_t *bytes, size_t n) {
    n = n < INPUT_MAX - in->len ? n : INPUT_MAX - in->len;
    memmove(in->bytes + at + n, in->bytes + at, in->len - at);
    memmove(in->bytes + at, bytes, n);
    in->len += n;
}

static void erase(struct input *in, size_t at, size_t n) {
    n = n < in->len - at ? n : in->len - at;
    memmove(in->bytes + at, in->bytes + at + n, in->len - at - n);
    in->len -= n;
}

// A number of 1, 2 or 4 bytes that is likely to be a limit of something.
static void set_number(struct input *in, size_t at) {
    static const uint32_t numbers[] = {
        0,   1,   2,    16,   31,   32,     63,      64,      127,        128,        255,
        256, 511, 1000, 1001, 4096, 0xffff, 0x10000, 0x40000, 0x7fffffff, 0x80000000, 0xffffffff};
    uint32_t v = numbers[below(sizeof numbers / sizeof numbers[0])];
    size_t width = (size_t)1 << below(3);
    for (size_t i = 0; i < width && at + i < in->len; i++) {
        in->bytes[at + i] = (uint8_t)(v >> (8 * i));
    }
}

static void mutate_once(struct input *in) {
    static const char marks[] = "{}[]:,-&*!|>#%@`'\"\n \t/.~?0";
    size_t at = below(in->len + 1), n = 1 + below(below(4) == 0 ? 256 : 8);
    uint8_t mark = (uint8_t)marks[below(sizeof marks - 1)];
    const struct input *other = &files[below(n_files)];
    size_t from = below(other->len);
    switch (below(8)) {
    case 0:
    case 1:
        if (at < in->len) {
            in->bytes[at] ^= (uint8_t)(1U << below(8));
        }
        return;
    case 2:
        if (at < in->len) {
            in->bytes[at] = (uint8_t)below(256);
        }
        return;
    case 3: set_number(in, at); return;
    case 4: erase(in, at, n); return;
    case 5: insert(in, at, &mark, 1); return;
    case 6: // a piece of another, or of itself, once more
        n = n < other->len - from ? n : other->len - from;
        insert(in, at, other->bytes + from, n);
        return;
    default:
        in->len = below(4) == 0 ? at : in->len; // cut off
        return;
    }
}

static void run(const struct input *in) {
    // In memory of exactly its size, so that a sanitizer sees a read past its end.
    current.bytes = malloc(in->len > 0 ? in->len : 1);
    MUST(current.bytes != NULL);
    if (in->len > 0) {
        memcpy(current.bytes, in->bytes, in->len);
    }
    current.len = in->len;
    MUST(LLVMFuzzerTestOneInput(current.bytes, current.len) == 0);
    free(current.bytes);
    current = (struct input){0};
}

static void run_mutation(uint64_t number, struct input *scratch) {
    state = (number + 1) * 0x9e3779b97f4a7c15U;
    const struct input *start = &files[below(n_files)];
    if (start->len > 0) {
        memcpy(scratch->bytes, start->bytes, start->len);
    }
    scratch->len = start->len;
    for (size_t n = 1 + below(6); n > 0; n--) {
        mutate_once(scratch);
    }
    run(scratch);
}

int main(int argc, char **argv) {
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : COUNT, done = 0;
    bool is_bounded = argc <= 3;
    time_t until = time(NULL) + SECONDS_MAX;
    struct input scratch = {.bytes = malloc(INPUT_MAX)};
    MUST(scratch.bytes != NULL);
    watch_for_the_end();
    read_corpus(argc > 1 ? argv[1] : FUZZ_CORPUS);
    for (size_t i = 0; i < n_files; i++) {
        run(&files[i]);
    }
    while (done < count && (!is_bounded || time(NULL) < until)) {
        run_mutation(first + done++, &scratch);
    }
    printf("%s: %zu files, %llu mutations\n", FUZZ_NAME, n_files, (unsigned long long)done);
    for (size_t i = 0; i < n_files; i++) {
        free(files[i].bytes);
    }
    free(scratch.bytes);
    return 0;
}
