/* Matrix products of a few rows and packed weights. Each sum runs over its inputs in their order, whichever rows are
 * beside it, so a row's answer is the same to the bit in whatever company.
 *
 * M rows, K inputs, N outputs. Weights lie in tiles of L = LANES outputs: fp32 (K, L); bf16 (K / 2, L, 2);
 * int8 (K / 4, L, 4). */

#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "vectors.h"

enum { FP32, BF16, INT8 };

typedef struct {
    int32_t kind, inputs, tiles; /* an even number of tiles, the last perhaps of zeros alone */
    const void *weights;
    const float *bias;    /* of each output, or nothing */
    const float *scales;  /* int8: of each output */
    const int32_t *sums;  /* int8: 128 times the sum of each output's weights */
} product;

#define TILES_AT_ONCE 2

/* How many bytes a row of inputs takes. */
INLINE long row_bytes(int kind, long inputs) {
    return padded(kind == FP32 ? 4 * inputs : kind == BF16 ? 2 * padded(inputs, 2) : padded(inputs, 4), 64);
}

/* How many bytes a tile of weights takes, and where one is. */
INLINE long tile_bytes(const product *p) {
    long steps = p->kind == FP32 ? p->inputs : p->kind == BF16 ? (p->inputs + 1) / 2 : (p->inputs + 3) / 4;
    return 4 * LANES * steps;
}

INLINE const char *weights_of(const product *p, long tile) { return (const char *)p->weights + tile * tile_bytes(p); }

/* Rows of floats as a product of their kind wants them; for int8 with the step of each row's numbers, of which there
 * are 127 on either side of zero, which is 128. */
static void prepare(int kind, const float *x, long inputs, void *to, float *step) {
    if (kind == FP32) {
        memcpy(to, x, 4 * (size_t)inputs);
        return;
    }
    if (kind == BF16) {
        uint16_t *halves = to;
        for (long k = 0; k < inputs; k++) halves[k] = to_bf16(x[k]);
        if (inputs & 1) halves[inputs] = 0;
        return;
    }
    uint8_t *bytes = to;
    vec most = {0}, none = {0};
    long whole = inputs / LANES * LANES;
    for (long k = 0; k < inputs; k += LANES) {
        vec y = k < whole ? load(x + k) : load_first(x + k, inputs - whole);
        most = larger(size_of(y), most);
        none += y * 0.0f; /* what is no number would else be lost */
    }
    float largest = largest_of(most), scale = largest > 0.0f ? 127.0f / largest : 0.0f;
    *step = largest / 127.0f + sum_of(none);
    for (long k = 0; k < inputs; k += LANES) {
        vec y = k < whole ? load(x + k) : load_first(x + k, inputs - whole);
        ivec numbers = __builtin_convertvector((y * scale + 12582912.0f) - 12582912.0f, ivec) + 128;
        bvec narrow = __builtin_convertvector(numbers, bvec);
        if (k < whole) *(bvec *)(bytes + k) = narrow;
        else memcpy(bytes + k, &narrow, (size_t)(inputs - whole));
    }
    for (long k = inputs; k < padded(inputs, 4); k++) bytes[k] = 128;
}

/* Sums of `rows` rows and `tiles` tiles, both known when this is compiled. `x` is in rows of `stride` bytes. */
INLINE void sums_fp32(const int rows, const int tiles, const product *p, long tile, const char *x, long stride,
                      const char *soon, vec sums[AT_ONCE][TILES_AT_ONCE]) {
    const float *weights = (const float *)weights_of(p, tile);
    for (long k = 0; k < p->inputs; k++) {
        if (rows == AT_ONCE) fetch(soon + k * LANES * 4, LANES * 4);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                sums[m][t] += load(weights + (t * (long)p->inputs + k) * LANES) * ((const float *)(x + m * stride))[k];
    }
}

INLINE void sums_bf16(const int rows, const int tiles, const product *p, long tile, const char *x, long stride,
                      const char *soon, vec sums[AT_ONCE][TILES_AT_ONCE]) {
    const long pairs = (p->inputs + 1) / 2;
    const uint32_t *weights = (const uint32_t *)weights_of(p, tile);
    for (long k = 0; k < pairs; k++) {
        if (rows == AT_ONCE) fetch(soon + k * LANES * 4, LANES * 4);
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            uvec both = *(const uvec *)(weights + (t * pairs + k) * LANES);
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++) {
                uint32_t pair = ((const uint32_t *)(x + m * stride))[k];
#if defined(__AVX512BF16__)
                __m512 sum = _mm512_dpbf16_ps((__m512)sums[m][t], (__m512bh)both, (__m512bh)_mm512_set1_epi32((int)pair));
                sums[m][t] = (vec)sum;
#else
                uint32_t bits[2] = {pair << 16, pair & 0xffff0000u};
                float numbers[2];
                memcpy(numbers, bits, 8);
                sums[m][t] += (vec)(both << 16) * numbers[0];
                sums[m][t] += (vec)(both & 0xffff0000u) * numbers[1];
#endif
            }
        }
    }
}

INLINE void sums_int8(const int rows, const int tiles, const product *p, long tile, const char *x, long stride,
                      const char *soon, ivec sums[AT_ONCE][TILES_AT_ONCE]) {
    const long quads = (p->inputs + 3) / 4;
    const int32_t *weights = (const int32_t *)weights_of(p, tile);
    for (long k = 0; k < quads; k++) {
        if (rows == AT_ONCE) fetch(soon + k * LANES * 4, LANES * 4);
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            ivec four = load_whole(weights + (t * quads + k) * LANES);
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++) {
                int32_t numbers = ((const int32_t *)(x + m * stride))[k];
#if defined(__AVX512VNNI__)
                sums[m][t] = (ivec)_mm512_dpbusd_epi32((__m512i)sums[m][t], _mm512_set1_epi32(numbers), (__m512i)four);
#elif defined(__AVXVNNI__) && LANES == 8
                __m256i both = _mm256_set1_epi32(numbers);
                sums[m][t] = (ivec)_mm256_dpbusd_avx_epi32((__m256i)sums[m][t], both, (__m256i)four);
#else
                uint32_t bytes = (uint32_t)numbers;
                sums[m][t] += (int32_t)(bytes & 255) * (four << 24 >> 24);
                sums[m][t] += (int32_t)(bytes >> 8 & 255) * (four << 16 >> 24);
                sums[m][t] += (int32_t)(bytes >> 16 & 255) * (four << 8 >> 24);
                sums[m][t] += (int32_t)(bytes >> 24) * (four >> 24);
#endif
            }
        }
    }
}

INLINE void rows_of_tiles(const int kind, const int rows, const int tiles, const product *p, long tile, const char *x,
                          long stride, const float *steps, const char *soon, vec answers[AT_ONCE][TILES_AT_ONCE]) {
    vec sums[AT_ONCE][TILES_AT_ONCE] = {0};
    ivec numbers[AT_ONCE][TILES_AT_ONCE] = {0};
    if (kind == FP32) sums_fp32(rows, tiles, p, tile, x, stride, soon, sums);
    if (kind == BF16) sums_bf16(rows, tiles, p, tile, x, stride, soon, sums);
    if (kind == INT8) sums_int8(rows, tiles, p, tile, x, stride, soon, numbers);
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++) {
        long output = (tile + t) * LANES;
        vec bias = p->bias ? load(p->bias + output) : all(0.0f);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            vec y = sums[m][t];
            if (kind == INT8) {
                ivec whole = numbers[m][t] - load_whole(p->sums + output);
                y = __builtin_convertvector(whole, vec) * (load(p->scales + output) * steps[m]);
            }
            answers[m][t] = y + bias;
        }
    }
}

#define OF_ROWS(rows) \
    case rows: \
        rows_of_tiles(kind, rows, TILES_AT_ONCE, p, tile, x, stride, steps, soon, answers); \
        break

INLINE void some_rows(const int kind, int rows, const product *p, long tile, const char *x, long stride,
                      const float *steps, const char *soon, vec answers[AT_ONCE][TILES_AT_ONCE]) {
    switch (rows) {
        OF_ROWS(1);
        OF_ROWS(2);
        OF_ROWS(4);
#if AT_ONCE == 8
        OF_ROWS(8);
#endif
    }
}

/* What TILES_AT_ONCE tiles answer to some rows, as many as `at_once` says. */
static void answers_of(const product *p, long tile, int rows, const char *x, long stride, const float *steps,
                       const char *soon, vec answers[AT_ONCE][TILES_AT_ONCE]) {
    if (p->kind == FP32) some_rows(FP32, rows, p, tile, x, stride, steps, soon, answers);
    if (p->kind == BF16) some_rows(BF16, rows, p, tile, x, stride, steps, soon, answers);
    if (p->kind == INT8) some_rows(INT8, rows, p, tile, x, stride, steps, soon, answers);
}

/* Whether products of all kinds come out right. */
static int products_work(void) {
    enum { K = 12 };
    float x[K], answers[LANES];
    float floats[TILES_AT_ONCE * K * LANES] = {0}; /* the second tile is zeros */
    uint16_t halves[TILES_AT_ONCE * K * LANES] = {0};
    int8_t bytes[TILES_AT_ONCE * K * LANES] = {0};
    float scales[TILES_AT_ONCE * LANES] = {0};
    int32_t sums[TILES_AT_ONCE * LANES] = {0};
    for (int k = 0; k < K; k++) x[k] = (float)(k - 4);
    for (int n = 0; n < LANES; n++) {
        scales[n] = 1.0f;
        sums[n] = 0;
        for (int k = 0; k < K; k++) {
            int weight = n - k;
            floats[k * LANES + n] = (float)weight;
            halves[(k / 2 * LANES + n) * 2 + k % 2] = to_bf16((float)weight);
            bytes[(k / 4 * LANES + n) * 4 + k % 4] = (int8_t)weight;
            sums[n] += 128 * weight;
        }
    }
    const void *weights[] = {floats, halves, bytes};
    for (int kind = FP32; kind <= INT8; kind++) {
        product p = {.kind = kind, .inputs = K, .tiles = TILES_AT_ONCE, .weights = weights[kind], .scales = scales, .sums = sums};
        float inputs[16], step;
        vec y[AT_ONCE][TILES_AT_ONCE];
        prepare(kind, x, K, inputs, &step);
        answers_of(&p, 0, 1, (char *)inputs, sizeof inputs, &step, weights[kind], y);
        store(answers, y[0][0]);
        for (int n = 0; n < LANES; n++) {
            float exact = 0.0f, error = kind == INT8 ? 2.0f : 1e-3f;
            for (int k = 0; k < K; k++) exact += x[k] * (float)(n - k);
            if (!(fabsf(answers[n] - exact) <= error * (kind == INT8 ? 1.0f + fabsf((float)n) : 1.0f))) return 0;
        }
    }
    return 1;
}

#endif
