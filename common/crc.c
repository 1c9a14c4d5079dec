// SPDX-License-Identifier: Apache-2.0
// Both polynomials are bit-reflected: the lowest bit of a word is the coefficient of the highest
// power. A CRC of 32 bits is computed with the functions of 64 bits below: as a polynomial of
// degree 32 it is multiplied by x^32, that is, its reflected bits stay where they are.
#include "common/crc.h"

#include "common/bytes.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86 1
#else
#define HAS_X86 0
#endif

#define POLY_64 0x9a6c9329ac4bc9b5u
#define POLY_32 0x82f63b78u

#define ONE_64 (UINT64_C(1) << 63) // x^0
#define ONE_32 (UINT64_C(1) << 31)

enum { SLICES = 8 };

// What brings 16 bytes to the place of those that come so many bytes later: x^(n + 64 - 1) for
// the earlier eight of them and x^(n - 1) for the later ones, n being bits.
struct folding {
    uint64_t by_128[2], by_64[2], by_16[2];
};

static uint64_t table_64[SLICES][256];
static uint32_t table_32[SLICES][256];
static struct folding folding_64, folding_32;
static enum crc_way best = CRC_BY_TABLES; // of this processor's
static pthread_once_t made = PTHREAD_ONCE_INIT;

// ---- powers of x ----

// a * b modulo the polynomial; @one is x^0.
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t one, uint64_t poly) {
    uint64_t product = 0;
    for (uint64_t bit = one; bit != 0; bit >>= 1) {
        if ((a & bit) != 0) {
            product ^= b;
        }
        b = (b >> 1) ^ ((b & 1) != 0 ? poly : 0);
    }
    return product;
}

// @crc moved on by @n_bytes: times x^(8 n).
static uint64_t move_on(uint64_t crc, uint64_t n_bytes, uint64_t one, uint64_t poly) {
    uint64_t power = one >> 8; // x^8, for a byte; squared for 2, 4, …
    for (; n_bytes > 0; n_bytes >>= 1) {
        if ((n_bytes & 1) != 0) {
            crc = multiply(crc, power, one, poly);
        }
        power = multiply(power, power, one, poly);
    }
    return crc;
}

static void make_tables(void) {
    for (unsigned i = 0; i < 256; i++) {
        uint64_t a = i;
        uint32_t b = i;
        for (int bit = 0; bit < 8; bit++) {
            a = (a >> 1) ^ ((a & 1) != 0 ? POLY_64 : 0);
            b = (b >> 1) ^ ((b & 1) != 0 ? POLY_32 : 0);
        }
        table_64[0][i] = a;
        table_32[0][i] = b;
    }
    for (unsigned s = 1; s < SLICES; s++) {
        for (unsigned i = 0; i < 256; i++) {
            uint64_t a = table_64[s - 1][i];
            uint32_t b = table_32[s - 1][i];
            table_64[s][i] = (a >> 8) ^ table_64[0][a & 255];
            table_32[s][i] = (b >> 8) ^ table_32[0][b & 255];
        }
    }
}

static void make_fold(uint64_t by[2], unsigned n_bytes, uint64_t one, uint64_t poly) {
    unsigned up = one == ONE_32 ? 32 : 0; // see above
    uint64_t before = one >> 7;           // x^7: a byte less a bit
    by[0] = move_on(before, n_bytes + 7, one, poly) << up;
    by[1] = move_on(before, n_bytes - 1, one, poly) << up;
}

static void make_folding(struct folding *f, uint64_t one, uint64_t poly) {
    make_fold(f->by_128, 128, one, poly);
    make_fold(f->by_64, 64, one, poly);
    make_fold(f->by_16, 16, one, poly);
}

static void make(void) {
    make_tables();
    make_folding(&folding_64, ONE_64, POLY_64);
    make_folding(&folding_32, ONE_32, POLY_32);
#if HAS_X86
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        bool is_wide = __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2");
        best = is_wide ? CRC_BY_PAIRS : CRC_BY_BLOCKS;
    }
#endif
}

// ---- eight bytes at a time, by tables ----

static uint64_t run_64(uint64_t crc, const uint8_t *p, size_t len) {
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w = crc ^ get_u64(p);
        crc = 0;
        for (unsigned i = 0; i < 8; i++) {
            crc ^= table_64[7 - i][(w >> (8 * i)) & 255];
        }
    }
    for (; len > 0; p++, len--) {
        crc = (crc >> 8) ^ table_64[0][(crc ^ *p) & 255];
    }
    return crc;
}

static uint64_t run_32(uint64_t crc, const uint8_t *p, size_t len) {
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w = crc ^ get_u64(p);
        crc = 0;
        for (unsigned i = 0; i < 8; i++) {
            crc ^= table_32[7 - i][(w >> (8 * i)) & 255];
        }
    }
    for (; len > 0; p++, len--) {
        crc = (crc >> 8) ^ table_32[0][(crc ^ *p) & 255];
    }
    return crc;
}

// ---- with the processor's help ----

enum { FOLD_LEAST_BYTES = 64 };

#if HAS_X86
// Blocks of 16 bytes are multiplied by what brings them to the place of a later one, and added to
// that (V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ",
// Intel, 2009). A product of two reflected words is one bit short, hence x^(n - 1).
#define CLMUL      __attribute__((target("pclmul,sse4.1")))
#define WIDE_CLMUL __attribute__((target("pclmul,sse4.1,avx2,vpclmulqdq")))

CLMUL static __m128i load(const uint8_t *p, size_t block) {
    return _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * block));
}

CLMUL static __m128i factors(const uint64_t by[2]) {
    return _mm_set_epi64x((int64_t)by[1], (int64_t)by[0]);
}

CLMUL static __m128i fold(__m128i x, __m128i by, __m128i onto) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

// @n blocks that follow each other, and the whole ones of the bytes after them, as one of the same
// remainder. Returns the bytes that are left.
CLMUL static size_t fold_together(const struct folding *f, const __m128i *x, size_t n,
                                  const uint8_t *p, size_t len, uint8_t ret_block[16]) {
    const __m128i by_16 = factors(f->by_16);
    __m128i one = x[0];
    for (size_t i = 1; i < n; i++) {
        one = fold(one, by_16, x[i]);
    }
    for (; len >= 16; p += 16, len -= 16) {
        one = fold(one, by_16, load(p, 0));
    }
    _mm_storeu_si128((__m128i *)(void *)ret_block, one);
    return len;
}

// At least FOLD_LEAST_BYTES, onto @crc, as one block. Returns how many bytes at their end are left.
CLMUL static size_t fold_all(const struct folding *f, uint64_t crc, const uint8_t *p, size_t len,
                             uint8_t ret_block[16]) {
    const __m128i by_64 = factors(f->by_64);
    __m128i x[4];
    for (size_t i = 0; i < 4; i++) {
        x[i] = load(p, i);
    }
    x[0] = _mm_xor_si128(x[0], _mm_set_epi64x(0, (int64_t)crc));
    for (p += 64, len -= 64; len >= 64; p += 64, len -= 64) {
        for (size_t i = 0; i < 4; i++) {
            x[i] = fold(x[i], by_64, load(p, i));
        }
    }
    return fold_together(f, x, 4, p, len, ret_block);
}

WIDE_CLMUL static __m256i load_pair(const uint8_t *p, size_t pair) {
    return _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * pair));
}

// The same with two blocks at a time: at least 128 bytes.
WIDE_CLMUL static size_t fold_pairs(const struct folding *f, uint64_t crc, const uint8_t *p,
                                    size_t len, uint8_t ret_block[16]) {
    const __m256i by_128 = _mm256_broadcastsi128_si256(factors(f->by_128));
    __m256i x[4];
    for (size_t i = 0; i < 4; i++) {
        x[i] = load_pair(p, i);
    }
    x[0] = _mm256_xor_si256(x[0], _mm256_set_epi64x(0, 0, 0, (int64_t)crc));
    for (p += 128, len -= 128; len >= 128; p += 128, len -= 128) {
        for (size_t i = 0; i < 4; i++) {
            __m256i low = _mm256_clmulepi64_epi128(x[i], by_128, 0x00);
            __m256i high = _mm256_clmulepi64_epi128(x[i], by_128, 0x11);
            x[i] = _mm256_xor_si256(_mm256_xor_si256(low, high), load_pair(p, i));
        }
    }
    __m128i blocks[8];
    memcpy(blocks, x, sizeof blocks);
    return fold_together(f, blocks, 8, p, len, ret_block);
}

static size_t fold_down(enum crc_way way, const struct folding *f, uint64_t crc, const uint8_t *p,
                        size_t len, uint8_t ret_block[16]) {
    return way == CRC_BY_PAIRS && len >= 128 ? fold_pairs(f, crc, p, len, ret_block)
                                             : fold_all(f, crc, p, len, ret_block);
}
#else
static size_t fold_down(enum crc_way way, const struct folding *f, uint64_t crc, const uint8_t *p,
                        size_t len, uint8_t ret_block[16]) {
    (void)way, (void)f, (void)crc, (void)p, (void)ret_block;
    return len; // never called
}
#endif

typedef uint64_t (*by_tables)(uint64_t crc, const uint8_t *p, size_t len);

static uint64_t run(enum crc_way way, const struct folding *f, by_tables tables, uint64_t crc,
                    const uint8_t *p, size_t len) {
    uint8_t block[16];
    way = way < best ? way : best;
    if (way == CRC_BY_TABLES || len < FOLD_LEAST_BYTES) {
        return tables(crc, p, len);
    }
    size_t left = fold_down(way, f, crc, p, len, block);
    return tables(tables(0, block, sizeof block), p + (len - left), left);
}

uint64_t crc64nvme_by(enum crc_way way, uint64_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
    return ~run(way, &folding_64, run_64, ~crc, bytes, len);
}

uint32_t crc32c_by(enum crc_way way, uint32_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
    return ~(uint32_t)run(way, &folding_32, run_32, ~crc, bytes, len);
}

uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t len) {
    return crc64nvme_by(CRC_BY_PAIRS, crc, bytes, len);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len) {
    return crc32c_by(CRC_BY_PAIRS, crc, bytes, len);
}

// ---- joining ----

uint64_t crc64nvme_join(uint64_t first, uint64_t second, uint64_t second_bytes) {
    return move_on(first, second_bytes, ONE_64, POLY_64) ^ second;
}

uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes) {
    return (uint32_t)move_on(first, second_bytes, ONE_32, POLY_32) ^ second;
}
