// SPDX-License-Identifier: Apache-2.0
#include "agent/journal_file.h"

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MEMO_BYTES = JOURNAL_EMPTY_BYTES, FRAME_BYTES = 24 };
static const char magic[4] = {'S', 'A', 'J', '1'};
static const char file_name[] = "journal";
static const char new_name[] = "journal.new";

struct journal_file {
    int dir_fd, fd;
    uint64_t len; // up to here all is whole
    struct hash *hash;
};

static uint64_t checksum(struct hash *h, const void *a, size_t a_len, const void *b, size_t b_len) {
    struct digest d;
    hash_update(h, a, a_len);
    hash_update(h, b, b_len);
    hash_final(h, &d);
    return get_u64(d.bytes);
}

static enum err fail(struct failure *f, const char *operation) {
    return failure_errno(f, errno, operation, file_name, sizeof file_name - 1);
}

static enum err write_all(int fd, uint64_t offset, const void *bytes, size_t len,
                          struct failure *f) {
    const uint8_t *p = bytes;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(f, "pwrite");
        }
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return OK;
}

// true: exactly @len bytes; false: the file ends before.
static enum err read_all(int fd, uint64_t offset, void *bytes, size_t len, bool *ret_whole,
                         struct failure *f) {
    uint8_t *p = bytes;
    *ret_whole = false;
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(f, "pread");
        }
        if (n == 0) {
            return OK;
        }
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    *ret_whole = true;
    return OK;
}

static void encode_memo(struct journal_file *f, const struct journal_memo *m,
                        uint8_t ret_bytes[MEMO_BYTES]) {
    memset(ret_bytes, 0, MEMO_BYTES);
    memcpy(ret_bytes, magic, sizeof magic);
    memcpy(ret_bytes + 8, m->cluster, strnlen(m->cluster, IDENT_LEN));
    put_u64(ret_bytes + 40, m->term);
    put_u64(ret_bytes + 48, m->next_number);
    put_u64(ret_bytes + 56, checksum(f->hash, ret_bytes, 56, "", 0));
}

static bool decode_memo(struct journal_file *f, const uint8_t bytes[MEMO_BYTES],
                        struct journal_memo *ret_memo) {
    if (memcmp(bytes, magic, sizeof magic) != 0 ||
        get_u64(bytes + 56) != checksum(f->hash, bytes, 56, "", 0)) {
        return false;
    }
    memcpy(ret_memo->cluster, bytes + 8, IDENT_SIZE);
    ret_memo->cluster[IDENT_LEN] = '\0';
    ret_memo->term = get_u64(bytes + 40);
    ret_memo->next_number = get_u64(bytes + 48);
    return true;
}

// One record at f->len. *@ret_found is false where no whole one is.
static enum err read_record(struct journal_file *f, struct journal_found *found, uint8_t *buf,
                            bool *ret_found, struct failure *failure) {
    uint8_t frame[FRAME_BYTES];
    *ret_found = false;
    bool whole = false;
    enum err e = read_all(f->fd, f->len, frame, FRAME_BYTES, &whole, failure);
    if (e != OK || !whole) {
        return e;
    }
    struct journal_record r = {get_u64(frame + 8), buf, get_u32(frame)};
    if (r.len > JOURNAL_RECORD_MAX_BYTES) {
        return OK;
    }
    e = read_all(f->fd, f->len + FRAME_BYTES, buf, r.len, &whole, failure);
    if (e != OK || !(whole || r.len == 0) ||
        get_u64(frame + 16) != checksum(f->hash, frame, 16, buf, r.len)) {
        return e;
    }
    e = found->each(found->user, &r);
    if (e != OK) {
        return failure_set(failure, e, "read", file_name, sizeof file_name - 1, NULL);
    }
    f->len += FRAME_BYTES + r.len;
    found->n_records++;
    *ret_found = true;
    return OK;
}

static enum err recover(struct journal_file *f, struct journal_found *found,
                        struct failure *failure) {
    uint8_t head[MEMO_BYTES];
    struct stat st;
    bool whole = false;
    if (fstat(f->fd, &st) < 0) {
        return fail(failure, "fstat");
    }
    enum err e = read_all(f->fd, 0, head, MEMO_BYTES, &whole, failure);
    if (e != OK) {
        return e;
    }
    if (!whole || !decode_memo(f, head, &found->memo)) {
        found->torn_bytes = (uint64_t)st.st_size;
        found->memo = (struct journal_memo){.next_number = 1};
        return journal_file_rewrite(f, &found->memo, NULL, 0, failure);
    }
    AUTO(auto_free) uint8_t *buf = malloc(JOURNAL_RECORD_MAX_BYTES);
    if (buf == NULL) {
        return failure_set(failure, ERR_NO_MEMORY, "read", file_name, sizeof file_name - 1, NULL);
    }
    f->len = MEMO_BYTES;
    for (bool more = true; e == OK && more;) {
        e = read_record(f, found, buf, &more, failure);
    }
    if (e == OK && (uint64_t)st.st_size > f->len) {
        found->torn_bytes = (uint64_t)st.st_size - f->len;
        if (ftruncate(f->fd, (off_t)f->len) < 0) {
            e = fail(failure, "ftruncate");
        }
    }
    return e;
}

enum err journal_file_open(const char *state_dir, struct journal_found *found,
                           struct journal_file **ret_file, struct failure *ret_failure) {
    struct journal_file *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return failure_set(ret_failure, ERR_NO_MEMORY, "open", file_name, sizeof file_name - 1,
                           NULL);
    }
    f->fd = -1;
    f->hash = hash_new(HASH_XXH3_128);
    f->dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err e = OK;
    if (f->hash == NULL) {
        e = failure_set(ret_failure, ERR_NO_MEMORY, "open", file_name, sizeof file_name - 1, NULL);
    } else if (f->dir_fd < 0) {
        e = failure_errno(ret_failure, errno, "open", state_dir, strlen(state_dir));
    } else {
        f->fd = openat(f->dir_fd, file_name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        e = f->fd < 0 ? fail(ret_failure, "openat") : recover(f, found, ret_failure);
    }
    if (e != OK) {
        journal_file_close(f);
        return e;
    }
    *ret_file = f;
    return OK;
}

void journal_file_close(struct journal_file *f) {
    if (f == NULL) {
        return;
    }
    if (f->fd >= 0) {
        close(f->fd);
    }
    if (f->dir_fd >= 0) {
        close(f->dir_fd);
    }
    hash_free(f->hash);
    free(f);
}

uint64_t journal_file_bytes(const struct journal_file *f) {
    return f->len;
}

static enum err write_records(struct journal_file *f, int fd, uint64_t *offset,
                              const struct journal_record *r, size_t n, struct failure *failure) {
    for (size_t i = 0; i < n; i++) {
        uint8_t frame[FRAME_BYTES] = {0};
        put_u32(frame, (uint32_t)r[i].len);
        put_u64(frame + 8, r[i].number);
        put_u64(frame + 16, checksum(f->hash, frame, 16, r[i].bytes, r[i].len));
        enum err e = write_all(fd, *offset, frame, FRAME_BYTES, failure);
        if (e == OK) {
            e = write_all(fd, *offset + FRAME_BYTES, r[i].bytes, r[i].len, failure);
        }
        if (e != OK) {
            return e;
        }
        *offset += FRAME_BYTES + r[i].len;
    }
    return OK;
}

enum err journal_file_append(struct journal_file *f, const struct journal_record *r, size_t n,
                             struct failure *ret_failure) {
    uint64_t end = f->len;
    enum err e = write_records(f, f->fd, &end, r, n, ret_failure);
    if (e != OK) {
        // Should this fail too, the torn tail is overwritten, or cut off when it is opened again.
        (void)!ftruncate(f->fd, (off_t)f->len);
        return e;
    }
    f->len = end;
    return OK;
}

enum err journal_file_sync(struct journal_file *f, struct failure *ret_failure) {
    return fdatasync(f->fd) < 0 ? fail(ret_failure, "fdatasync") : OK;
}

enum err journal_file_rewrite(struct journal_file *f, const struct journal_memo *m,
                              const struct journal_record *r, size_t n,
                              struct failure *ret_failure) {
    uint8_t head[MEMO_BYTES];
    uint64_t end = MEMO_BYTES;
    AUTO(auto_close)
    int fd = openat(f->dir_fd, new_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail(ret_failure, "openat");
    }
    encode_memo(f, m, head);
    enum err e = write_all(fd, 0, head, MEMO_BYTES, ret_failure);
    if (e == OK) {
        e = write_records(f, fd, &end, r, n, ret_failure);
    }
    if (e == OK && fdatasync(fd) < 0) {
        e = fail(ret_failure, "fdatasync");
    }
    if (e == OK && renameat(f->dir_fd, new_name, f->dir_fd, file_name) < 0) {
        e = fail(ret_failure, "renameat");
    }
    if (e != OK) {
        (void)unlinkat(f->dir_fd, new_name, 0);
        return e;
    }
    close(f->fd);
    f->fd = take_fd(&fd);
    f->len = end;
    return fsync(f->dir_fd) < 0 ? fail(ret_failure, "fsync") : OK;
}
