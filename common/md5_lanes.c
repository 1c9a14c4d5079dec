// SPDX-License-Identifier: Apache-2.0
#include "common/md5_lanes.h"

#include "common/bytes.h"

#include <assert.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { BLOCK_BYTES = 64, LENGTH_BYTES = 8 };

#define RUN           run_avx2
#define TARGET        "avx2"
#define ROTATE(x, by) _mm256_or_si256(_mm256_slli_epi32(x, by), _mm256_srli_epi32(x, 32 - (by)))
#define F(x, y, z)    _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
#define G(x, y, z)    F(z, x, y)
#define H(x, y, z)    _mm256_xor_si256(x, _mm256_xor_si256(y, z))
#define I(x, y, z)                                                                                 \
    _mm256_xor_si256(y, _mm256_or_si256(x, _mm256_xor_si256(z, _mm256_set1_epi32(-1))))
#include "common/md5_lanes_run.inc"
#undef RUN
#undef TARGET
#undef ROTATE
#undef F
#undef G
#undef H
#undef I

// A step's chain is four instructions long then, not eight.
#define RUN           run_avx512
#define TARGET        "avx512f,avx512vl"
#define ROTATE(x, by) _mm256_rol_epi32(x, by)
#define F(x, y, z)    _mm256_ternarylogic_epi32(x, y, z, 0xca)
#define G(x, y, z)    _mm256_ternarylogic_epi32(z, x, y, 0xca)
#define H(x, y, z)    _mm256_ternarylogic_epi32(x, y, z, 0x96)
#define I(x, y, z)    _mm256_ternarylogic_epi32(y, x, z, 0x2d)
#include "common/md5_lanes_run.inc"

typedef void run_fn(uint32_t words[4][MD5_LANES], const uint8_t *const at[MD5_LANES],
                    size_t n_blocks);

struct lane {
    const uint8_t *at;
    size_t n_blocks; // from there
    size_t tail_blocks;
    uint8_t tail[2 * BLOCK_BYTES]; // the end of the message, padded, with its length
};

static void lane_begin(struct lane *l, const struct md5_lane *message) {
    size_t rest = message->len % BLOCK_BYTES;
    l->at = message->bytes;
    l->n_blocks = message->len / BLOCK_BYTES;
    l->tail_blocks = rest + 1 + LENGTH_BYTES <= BLOCK_BYTES ? 1 : 2;
    memset(l->tail, 0, sizeof l->tail);
    if (rest > 0) {
        memcpy(l->tail, l->at + message->len - rest, rest);
    }
    l->tail[rest] = 0x80;
    put_u64(l->tail + l->tail_blocks * BLOCK_BYTES - LENGTH_BYTES, (uint64_t)message->len * 8);
}

// What every lane that is not done has left at least, in blocks; 0: all are done.
static size_t blocks_at_once(struct lane *lanes, unsigned n) {
    size_t least = 0;
    for (unsigned i = 0; i < n; i++) {
        struct lane *l = &lanes[i];
        if (l->n_blocks == 0 && l->tail_blocks > 0) {
            l->at = l->tail;
            l->n_blocks = l->tail_blocks;
            l->tail_blocks = 0;
        }
        if (l->n_blocks > 0 && (least == 0 || l->n_blocks < least)) {
            least = l->n_blocks;
        }
    }
    return least;
}

static void hash_lanes(struct md5_lane *messages, unsigned n, run_fn *run) {
    static const uint32_t start[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    struct lane lanes[MD5_LANES];
    uint32_t words[4][MD5_LANES];
    assert(n <= MD5_LANES);
    for (unsigned i = 0; i < n; i++) {
        lane_begin(&lanes[i], &messages[i]);
    }
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < MD5_LANES; i++) {
            words[k][i] = start[k];
        }
    }
    size_t n_blocks;
    while ((n_blocks = blocks_at_once(lanes, n)) > 0) {
        const uint8_t *at[MD5_LANES], *any = NULL;
        uint32_t was[4][MD5_LANES];
        memcpy(was, words, sizeof was);
        for (unsigned i = 0; i < n; i++) {
            any = lanes[i].n_blocks > 0 ? lanes[i].at : any;
        }
        for (unsigned i = 0; i < MD5_LANES; i++) { // an idle lane goes along with another
            at[i] = i < n && lanes[i].n_blocks > 0 ? lanes[i].at : any;
        }
        run(words, at, n_blocks);
        for (unsigned i = 0; i < n; i++) {
            bool is_idle = lanes[i].n_blocks == 0;
            for (unsigned k = 0; k < 4 && is_idle; k++) {
                words[k][i] = was[k][i];
            }
            lanes[i].at += is_idle ? 0 : n_blocks * BLOCK_BYTES;
            lanes[i].n_blocks -= is_idle ? 0 : n_blocks;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < 4; k++) {
            put_u32(messages[i].digest + 4 * (size_t)k, words[k][i]);
        }
    }
}

bool md5_lanes_are_here(void) {
    return __builtin_cpu_supports("avx2");
}

void md5_lanes(struct md5_lane *lanes, unsigned n) {
    bool is_best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
    hash_lanes(lanes, n, is_best ? run_avx512 : run_avx2);
}

void md5_lanes_avx2(struct md5_lane *lanes, unsigned n) {
    hash_lanes(lanes, n, run_avx2);
}

#else

bool md5_lanes_are_here(void) {
    return false;
}

void md5_lanes(struct md5_lane *lanes, unsigned n) {
    (void)lanes;
    (void)n;
    assert(false);
}

void md5_lanes_avx2(struct md5_lane *lanes, unsigned n) {
    md5_lanes(lanes, n);
}

#endif
