// SPDX-License-Identifier: Apache-2.0
// Preloaded into daemons by the chaos harness: keeps what their disk would surely still hold
// after a power loss. tests/chaos/power.py puts the trees back to that.
//
// Environment: POWER_ROOTS, colon-separated directories that are on "the disk"; POWER_STORE, a
// directory on the same file system and below none of them; POWER_BOOT_ID, a file with what
// this boot of "the machine" is called.
//
// Only synchronising is watched, nothing else is sure:
// - fsync or fdatasync of a file: its bytes are copied to STORE/data/ID, and STORE/keep/ID is a
//   hard link, so that the inode stays the same whatever becomes of its names;
// - fsync of a directory: its names and what they stand for go to STORE/dirs/ID;
// - syncfs: both, for all below the roots.
// ID is INODE-BIRTH. Written beside and renamed: a kill in the middle leaves what was sure before.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int fsync(int fd);
int fdatasync(int fd);
int syncfs(int fd);
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);

static const char BOOT_ID[] = "/proc/sys/kernel/random/boot_id";
enum { ID_BYTES = 48, BUFFER_BYTES = 1 << 16, RACY_NS = 50 * 1000 * 1000 };

// Two threads, or processes, may sync the same inode at once: each writes beside.
static _Atomic unsigned serial;
static _Thread_local bool inside;

static int real_open(const char *path, int flags, mode_t mode) {
    static int (*real)(const char *, int, ...);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "open64");
    }
    return real(path, flags, mode);
}

// Opens of the boot id lead to the file that stands for it.
static const char *instead_of(const char *path) {
    const char *boot = getenv("POWER_BOOT_ID");
    return boot != NULL && strcmp(path, BOOT_ID) == 0 ? boot : path;
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return real_open(instead_of(path), flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return real_open(instead_of(path), flags, mode);
}

static void fail(const char *what, const char *on) {
    // A stand-in that is not able to keep its word must not go unnoticed.
    fprintf(stderr,
            "{\"event\":\"power_loss_broken\",\"operation\":\"%s\",\"path\":\"%s\",\"errno\":%d}\n",
            what, on, errno);
    abort();
}

static const char *store(void) {
    const char *path = getenv("POWER_STORE");
    if (path == NULL) {
        fail("getenv", "POWER_STORE");
    }
    return path;
}

static bool identify(int at, const char *name, char ret_id[ID_BYTES], unsigned *ret_mode) {
    struct statx st;
    int flags = AT_SYMLINK_NOFOLLOW | (*name == '\0' ? AT_EMPTY_PATH : 0);
    if (statx(at, name, flags, STATX_BASIC_STATS | STATX_BTIME, &st) != 0) {
        return false;
    }
    snprintf(ret_id, ID_BYTES, "%llu-%lld.%09u", (unsigned long long)st.stx_ino,
             (long long)st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
    *ret_mode = st.stx_mode;
    return true;
}

// Is it below one of the roots? Removed files are not: nothing leads to them.
static bool is_ours(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    const char *roots = getenv("POWER_ROOTS");
    if (n <= 0 || roots == NULL) {
        return false;
    }
    path[n] = '\0';
    while (*roots != '\0') {
        size_t len = strcspn(roots, ":");
        if (strncmp(path, roots, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
            return true;
        }
        roots += len + (roots[len] == ':');
    }
    return false;
}

static int begin_file(char ret_path[PATH_MAX]) {
    snprintf(ret_path, PATH_MAX, "%s/new/%d-%u", store(), (int)getpid(),
             atomic_fetch_add(&serial, 1));
    int fd = real_open(ret_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail("open", ret_path);
    }
    return fd;
}

static void end_file(int fd, const char *path, const char *kind, const char *id) {
    char final[PATH_MAX];
    snprintf(final, sizeof final, "%s/%s/%s", store(), kind, id);
    if (close(fd) != 0 || rename(path, final) != 0) {
        fail("rename", final);
    }
}

static void write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            fail("write", "store");
        }
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static long long time_ns(const struct timespec *t) {
    return t->tv_sec * 1000000000LL + t->tv_nsec;
}

// Copies bytes and holes. The end, or -1.
static off_t copy_bytes(int from, int to) {
    static _Thread_local char buffer[BUFFER_BYTES];
    off_t at = 0;
    for (;;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO ? lseek(from, 0, SEEK_END) : -1;
        }
        ssize_t n = pread(from, buffer, sizeof buffer, data);
        if (n < 0) {
            return -1;
        }
        if (n > 0 && lseek(to, data, SEEK_SET) != data) {
            return -1;
        }
        write_all(to, buffer, (size_t)n);
        at = data + n;
    }
}

// What was copied when its inode had not changed for a while, and has not since, is not copied
// again: the copy's time of access is the inode's time of change.
static bool is_kept(const struct stat *st, const char *id) {
    char path[PATH_MAX];
    struct stat kept;
    snprintf(path, sizeof path, "%s/data/%s", store(), id);
    return stat(path, &kept) == 0 && time_ns(&kept.st_atim) == time_ns(&st->st_ctim);
}

// Its bytes, mode and time of modification; where it is open for writing only, through /proc.
static void keep_file(int fd, const char *id) {
    char path[PATH_MAX], link_path[64], name[PATH_MAX];
    struct stat st;
    struct timespec now, times[2] = {{0}};
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
    snprintf(name, sizeof name, "%s/keep/%s", store(), id);
    if (linkat(AT_FDCWD, link_path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST &&
        errno != ENOENT) { // no name leads to it any more
        fail("link", name);
    }
    int from = real_open(link_path, O_RDONLY | O_CLOEXEC, 0);
    if (from < 0 || fstat(from, &st) != 0) {
        fail("open", link_path);
    }
    if (!is_kept(&st, id)) {
        int to = begin_file(path);
        clock_gettime(CLOCK_REALTIME, &now);
        off_t end = copy_bytes(from, to);
        times[0] = time_ns(&now) - time_ns(&st.st_ctim) > RACY_NS ? st.st_ctim : times[0];
        times[1] = st.st_mtim;
        if (end < 0 || ftruncate(to, end) != 0 || fchmod(to, st.st_mode & 07777) != 0 ||
            futimens(to, times) != 0) {
            fail("copy", path);
        }
        end_file(to, path, "data", id);
    }
    close(from);
}

static char type_letter(unsigned mode) {
    return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISREG(mode) ? 'f' : 'o';
}

static void write_hex(FILE *out, const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        fprintf(out, "%02x", (unsigned char)bytes[i]);
    }
}

// Its own mode and time; then a line for each name: ID TYPE MTIME-NS NAME TARGET, the last two in
// hexadecimal.
static void keep_directory(int fd, const char *id) {
    char path[PATH_MAX];
    int dir_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
    if (dir == NULL) {
        fail("opendir", id);
    }
    int to = begin_file(path);
    FILE *out = fdopen(to, "w");
    if (out == NULL) {
        fail("fdopen", path);
    }
    struct stat st;
    if (fstat(fd, &st) == 0) {
        fprintf(out, "%o %lld\n", st.st_mode & 07777u, time_ns(&st.st_mtim));
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char entry[ID_BYTES], target[PATH_MAX];
        unsigned mode;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            !identify(dirfd(dir), e->d_name, entry, &mode)) {
            continue;
        }
        ssize_t n = S_ISLNK(mode) ? readlinkat(dirfd(dir), e->d_name, target, sizeof target) : 0;
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        fprintf(out, "%s %c %lld ", entry, type_letter(mode), time_ns(&st.st_mtim));
        write_hex(out, e->d_name, strlen(e->d_name));
        fputc(' ', out);
        write_hex(out, target, n > 0 ? (size_t)n : 0);
        fputc('\n', out);
    }
    closedir(dir);
    if (fflush(out) != 0) {
        fail("write", path);
    }
    to = dup(to);
    fclose(out);
    end_file(to, path, "dirs", id);
}

static void keep(int fd) {
    char id[ID_BYTES];
    unsigned mode;
    if (!identify(fd, "", id, &mode)) {
        return;
    }
    if (S_ISREG(mode)) {
        keep_file(fd, id);
    } else if (S_ISDIR(mode)) {
        keep_directory(fd, id);
    }
}

static void keep_tree(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return; // removed meanwhile
    }
    keep(fd);
    DIR *dir = fdopendir(fd);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            keep_tree(dirfd(dir), e->d_name);
        } else if (e->d_type == DT_REG) {
            int file = openat(dirfd(dir), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
            if (file >= 0) {
                keep(file);
                close(file);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

typedef int sync_function(int fd);

static int sync_and(int fd, const char *name, bool all) {
    sync_function *real;
    *(void **)&real = dlsym(RTLD_NEXT, name);
    if (inside) {
        return real(fd);
    }
    inside = true;
    int saved = errno;
    if (all) {
        const char *roots = getenv("POWER_ROOTS");
        while (roots != NULL && *roots != '\0') {
            char root[PATH_MAX];
            size_t len = strcspn(roots, ":");
            snprintf(root, sizeof root, "%.*s", (int)len, roots);
            keep_tree(AT_FDCWD, root);
            roots += len + (roots[len] == ':');
        }
    } else if (is_ours(fd)) {
        keep(fd);
    }
    errno = saved;
    inside = false;
    return real(fd);
}

int fsync(int fd) {
    return sync_and(fd, "fsync", false);
}

int fdatasync(int fd) {
    return sync_and(fd, "fdatasync", false);
}

int syncfs(int fd) {
    return sync_and(fd, "syncfs", true);
}
