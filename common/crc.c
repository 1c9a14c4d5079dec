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

enum { SLICES = 8 };

static uint64_t table_64[SLICES][256];
static uint32_t table_32[SLICES][256];
static bool has_clmul, has_crc32;
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make(void) {
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
#if HAS_X86
    has_clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    has_crc32 = __builtin_cpu_supports("sse4.2");
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

static uint32_t run_32(uint32_t crc, const uint8_t *p, size_t len) {
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

uint64_t crc64nvme_plain(uint64_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
    return ~run_64(~crc, bytes, len);
}

uint32_t crc32c_plain(uint32_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
    return ~run_32(~crc, bytes, len);
}

// ---- with the processor's help ----

#if HAS_X86
// Blocks of 16 bytes are multiplied by what brings them to the place of a later one, and added to
// that (V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ",
// Intel, 2009). A product of two reflected words is one bit short, hence x^(n - 1).
__attribute__((target("pclmul,sse4.1"))) static __m128i fold(__m128i x, __m128i by, __m128i onto) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

__attribute__((target("pclmul,sse4.1"))) static uint64_t fold_64(uint64_t crc, const uint8_t *p,
                                                                 size_t len) {
    // x^(n + 64 - 1) in the lower half, x^(n - 1) in the upper one, for n of 512 and 128 bits.
    const __m128i by_64 = _mm_set_epi64x((int64_t)0x62242240ace5045a, (int64_t)0x0c32cdb31e18a84a);
    const __m128i by_16 = _mm_set_epi64x((int64_t)0x21e9761e252621ac, (int64_t)0xeadc41fd2ba3d420);
    __m128i x[4];
    for (unsigned i = 0; i < 4; i++) {
        x[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * (size_t)i));
    }
    x[0] = _mm_xor_si128(x[0], _mm_set_epi64x(0, (int64_t)crc));
    for (p += 64, len -= 64; len >= 64; p += 64, len -= 64) {
        for (unsigned i = 0; i < 4; i++) {
            x[i] = fold(x[i], by_64,
                        _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * (size_t)i)));
        }
    }
    for (unsigned i = 1; i < 4; i++) {
        x[i] = fold(x[i - 1], by_16, x[i]);
    }
    for (; len >= 16; p += 16, len -= 16) {
        x[3] = fold(x[3], by_16, _mm_loadu_si128((const __m128i *)(const void *)p));
    }
    uint8_t rest[16];
    _mm_storeu_si128((__m128i *)(void *)rest, x[3]);
    return run_64(run_64(0, rest, sizeof rest), p, len);
}

__attribute__((target("sse4.2"))) static uint32_t step_32(uint32_t crc, const uint8_t *p,
                                                          size_t len) {
    uint64_t wide = crc;
    for (; len >= 8; p += 8, len -= 8) {
        wide = _mm_crc32_u64(wide, get_u64(p));
    }
    crc = (uint32_t)wide;
    for (; len > 0; p++, len--) {
        crc = _mm_crc32_u8(crc, *p);
    }
    return crc;
}
#endif

uint64_t crc64nvme(uint64_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
#if HAS_X86
    if (has_clmul && len >= 64) {
        return ~fold_64(~crc, bytes, len);
    }
#endif
    return ~run_64(~crc, bytes, len);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len) {
    pthread_once(&made, make);
#if HAS_X86
    if (has_crc32) {
        return ~step_32(~crc, bytes, len);
    }
#endif
    return ~run_32(~crc, bytes, len);
}

// ---- joining ----

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

uint64_t crc64nvme_join(uint64_t first, uint64_t second, uint64_t second_bytes) {
    return move_on(first, second_bytes, UINT64_C(1) << 63, POLY_64) ^ second;
}

uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes) {
    return (uint32_t)move_on(first, second_bytes, UINT64_C(1) << 31, POLY_32) ^ second;
}
