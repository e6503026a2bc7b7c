/* Some numbers at once, as many as a register of this processor holds, and functions of them that compute each number
 * alike wherever it stands. */

#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define AT_ONCE 8 /* rows that share what is read, so that their sums fit in the registers */
#elif defined(__AVX__)
#define LANES 8
#define AT_ONCE 4
#else
#define LANES 4
#define AT_ONCE 4
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint8_t bvec __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* How many of what is left are taken at once: as many as fit, in powers of two, for which alone there is code. */
INLINE int at_once(long left) {
    int taken = AT_ONCE;
    while (taken > left) taken /= 2;
    return taken;
}

INLINE long padded(long count, long step) { return (count + step - 1) / step * step; }

INLINE vec load(const float *from) { return *(const vec *)from; }

INLINE ivec load_whole(const int32_t *from) { return *(const ivec *)from; }

/* Have so many bytes brought near that will soon be read; there need not be any there. */
INLINE void fetch(const char *from, const int bytes) {
    for (int at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

INLINE void store(float *to, vec x) { *(vec *)to = x; }

INLINE vec all(float x) { return (vec){0} + x; }

/* `x` where the mask is set, else `y`. */
INLINE vec where(ivec mask, vec x, vec y) { return (vec)(((ivec)x & mask) | ((ivec)y & ~mask)); }

/* The larger and the smaller, and `y` where one is no number; by itself gcc takes four instructions for one. */
#if LANES == 16
INLINE vec larger(vec x, vec y) { return (vec)_mm512_max_ps((__m512)x, (__m512)y); }
INLINE vec smaller(vec x, vec y) { return (vec)_mm512_min_ps((__m512)x, (__m512)y); }
#elif LANES == 8
INLINE vec larger(vec x, vec y) { return (vec)_mm256_max_ps((__m256)x, (__m256)y); }
INLINE vec smaller(vec x, vec y) { return (vec)_mm256_min_ps((__m256)x, (__m256)y); }
#else
INLINE vec larger(vec x, vec y) { return where(x > y, x, y); }
INLINE vec smaller(vec x, vec y) { return where(x < y, x, y); }
#endif

/* Without its sign. */
INLINE vec size_of(vec x) { return (vec)((ivec)x & 0x7fffffff); }

/* The first `count` numbers from `from`, and zeros. */
INLINE vec load_first(const float *from, long count) {
    vec x = {0};
    memcpy(&x, from, 4 * (size_t)count);
    return x;
}

INLINE float sum_of(vec x) {
    float parts[LANES];
    memcpy(parts, &x, sizeof parts);
#pragma GCC unroll 4
    for (int width = LANES / 2; width; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; i++) parts[i] += parts[i + width];
    return parts[0];
}

/* 0, 1, 2 ... */
INLINE ivec numbered(void) {
    ivec numbers = {0};
    for (int i = 0; i < LANES; i++) numbers[i] = i;
    return numbers;
}

INLINE float largest_of(vec x) {
    float parts[LANES];
    memcpy(parts, &x, sizeof parts);
#pragma GCC unroll 4
    for (int width = LANES / 2; width; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; i++) parts[i] = parts[i] > parts[i + width] ? parts[i] : parts[i + width];
    return parts[0];
}

/* bfloat16 is the upper half of a float. */
INLINE vec from_bf16(const uint16_t *from) {
#if LANES == 16 /* by itself gcc takes four instructions for one */
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#else
    return (vec)(__builtin_convertvector(*(const hvec *)from, uvec) << 16);
#endif
}

INLINE uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); /* no number stays none */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* e to the x, to within two units in the last place; what is beyond the range of a float counts as its end. */
INLINE vec exp_of(vec x) {
    x = smaller(all(88.0f), larger(all(-87.0f), x));
    vec whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    vec rest = x - whole * 0.693359375f;
    rest = rest + whole * 2.12194440e-4f;
    vec y = all(1.9875691500e-4f);
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    ivec power = __builtin_convertvector(whole, ivec);
    return (vec)((ivec)y + (power << 23));
}

/* x / (1 + exp(y)); nothing is left of it where that is beyond a float. */
INLINE vec over_one_and_exp(vec x, vec y) { return where(y > 87.0f, all(0.0f), x / (exp_of(y) + 1.0f)); }

/* GELU by tanh, which is x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))). */
INLINE vec gelu(vec x) {
    vec inner = (x * x * (-2.0f * 0.7978845608f * 0.044715f) - 2.0f * 0.7978845608f) * x;
    return over_one_and_exp(x, inner);
}

INLINE vec gelu_erf(vec x) {
    float parts[LANES];
    memcpy(parts, &x, sizeof parts);
    for (int i = 0; i < LANES; i++) parts[i] *= 0.5f * (1.0f + erff(parts[i] * 0.70710678f));
    return load(parts);
}

INLINE vec silu(vec x) { return over_one_and_exp(x, -x); }

INLINE vec relu(vec x) { return larger(all(0.0f), x); }

INLINE vec tanh_of(vec x) { return 1.0f - 2.0f / (exp_of(x + x) + 1.0f); }

#endif
