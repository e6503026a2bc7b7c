/* Attention of new rows over what their text holds. Every row sums up the places before it, and its own, one by one in
 * their order.
 *
 * D numbers in a head, in rooms of P = D rounded up to 16. Keys lie in tiles of L = LANES places, (P, L) each; values by
 * places, (P) each. Both are floats, or bfloat16. */

#ifndef ATTENTION_H
#define ATTENTION_H

#include "vectors.h"

/* A head's keys and values, and how many bytes behind them the next ones lie that will be read, of how many places. */
typedef struct {
    const char *keys, *values;
    long D, P, ahead, places_ahead;
} head;

INLINE vec load_kept(const int narrow, const void *from, long index) {
    return narrow ? from_bf16((const uint16_t *)from + index) : load((const float *)from + index);
}

INLINE void keep(int narrow, void *to, long index, float x) {
    if (narrow) ((uint16_t *)to)[index] = to_bf16(x);
    else ((float *)to)[index] = x;
}

/* Keep the key and the value of a place. */
INLINE void keep_place(const int narrow, void *restrict keys, void *restrict values, long place, long D, long P,
                       const float *restrict key, const float *restrict value) {
    for (long d = 0; d < D; d++) keep(narrow, keys, (place / LANES * P + d) * LANES + place % LANES, key[d]);
    for (long d = 0; d < D; d++) keep(narrow, values, place * P + d, value[d]);
}

/* Norm a head's D numbers in place: by their mean square, then by weights where there are any. */
static void norm_head(float *restrict x, long D, float eps, const float *weights) {
    vec squares = {0};
    for (long d = 0; d < D; d += LANES) {
        vec y = d + LANES <= D ? load(x + d) : load_first(x + d, D - d);
        squares += y * y;
    }
    float scale = 1.0f / sqrtf(sum_of(squares) / (float)D + eps);
    for (long d = 0; d < D; d++) x[d] *= weights ? scale * weights[d] : scale;
}

/* Turn a head's pairs of numbers in place, by pairs of cosine and sine. */
static void turn(float *restrict x, long D, const float *turns) {
    for (long d = 0; d < D; d += 2) {
        float a = x[d], b = x[d + 1], cosine = turns[d], sine = turns[d + 1];
        x[d] = a * cosine - b * sine;
        x[d + 1] = a * sine + b * cosine;
    }
}

INLINE void scores_of(const int narrow, const int count, const int tiles, const float *const *queries,
                      const head *h, long tile, float *scores, long room) {
    const int bytes = LANES * (narrow ? 2 : 4);
    const char *soon = h->keys + tile * h->P * bytes + (tile * LANES < h->places_ahead ? h->ahead : 0);
    vec sums[AT_ONCE][4] = {0};
    for (long d = 0; d < h->D; d++) {
        fetch(soon + d * tiles * bytes, tiles * bytes);
#pragma GCC unroll 4
        for (int t = 0; t < tiles; t++) {
            vec key = load_kept(narrow, h->keys, ((tile + t) * h->P + d) * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < count; i++) sums[i][t] += key * queries[i][d];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++)
#pragma GCC unroll 4
        for (int t = 0; t < tiles; t++) store(scores + i * room + (tile + t) * LANES, sums[i][t]);
}

INLINE void values_of(const int narrow, const int count, const int parts, const float *scores, long room,
                      const long *ends, long all_end, const head *h, long first, float *out) {
    const int bytes = parts * LANES * (narrow ? 2 : 4);
    vec sums[AT_ONCE][4] = {0};
    for (long place = 0; place < all_end; place++) {
        long at = place * h->P + first;
        fetch(h->values + at * (narrow ? 2 : 4) + (place < h->places_ahead ? h->ahead : 0), bytes);
#pragma GCC unroll 4
        for (int t = 0; t < parts; t++) {
            vec value = load_kept(narrow, h->values, at + t * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < count; i++) sums[i][t] += value * scores[i * room + place];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) /* places that not all of them look at: what is no number there is not theirs */
        for (long place = all_end; place < ends[i]; place++)
#pragma GCC unroll 4
            for (int t = 0; t < parts; t++)
                sums[i][t] += load_kept(narrow, h->values, place * h->P + first + t * LANES) * scores[i * room + place];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++)
#pragma GCC unroll 4
        for (int t = 0; t < parts; t++) store(out + i * h->P + first + t * LANES, sums[i][t]);
}

/* `count` queries, known when this is compiled, the i-th over `ends[i]` places: the weighted values, in rooms of P. */
INLINE void attend_some(const int narrow, const int count, const float *const *queries, const long *ends,
                        const head *h, float *scores, long room, float *out) {
    long most = ends[0], least = ends[0];
    for (int i = 1; i < count; i++) {
        most = ends[i] > most ? ends[i] : most;
        least = ends[i] < least ? ends[i] : least;
    }
    const int some = count > 4 ? 2 : 4;
    long tiles = (most + LANES - 1) / LANES, tile = 0;
    for (; tile + some <= tiles; tile += some)
        scores_of(narrow, count, some, queries, h, tile, scores, room);
    if (some > 2 && tile + 2 <= tiles) {
        scores_of(narrow, count, 2, queries, h, tile, scores, room);
        tile += 2;
    }
    if (tile < tiles) scores_of(narrow, count, 1, queries, h, tile, scores, room);
    const ivec lanes = numbered();
    for (int i = 0; i < count; i++) {
        float *row = scores + i * room;
        vec top = all(-INFINITY), sum = {0};
        for (long t = 0; t < tiles; t++) {
            ivec seen = lanes + (int32_t)(t * LANES) < (int32_t)ends[i];
            top = larger(where(seen, load(row + t * LANES), all(-INFINITY)), top);
        }
        float largest = largest_of(top);
        for (long t = 0; t < tiles; t++) {
            ivec seen = lanes + (int32_t)(t * LANES) < (int32_t)ends[i];
            vec share = where(seen, exp_of(load(row + t * LANES) - largest), all(0.0f));
            sum += share;
            store(row + t * LANES, share);
        }
        vec scale = all(1.0f / sum_of(sum));
        for (long t = 0; t < tiles; t++) store(row + t * LANES, load(row + t * LANES) * scale);
    }
    const int parts = count > 4 ? 2 : 4;
    long first = 0;
    for (; first + parts * LANES <= h->P; first += parts * LANES)
        values_of(narrow, count, parts, scores, room, ends, least, h, first, out);
    for (; first < h->P; first += LANES) values_of(narrow, count, 1, scores, room, ends, least, h, first, out);
}

#define OF_QUERIES(count) \
    case count: \
        attend_some(narrow, count, queries, ends, h, scores, room, out); \
        break

INLINE void attend_in(const int narrow, int count, const float *const *queries, const long *ends, const head *h,
                      float *scores, long room, float *out) {
    switch (count) {
        OF_QUERIES(1);
        OF_QUERIES(2);
        OF_QUERIES(4);
#if AT_ONCE == 8
        OF_QUERIES(8);
#endif
    }
}

/* Some queries, as many as `at_once` says, already scaled; `scores` and `out` are room for as many rows. */
static void attend(int narrow, int count, const float *const *queries, const long *ends, const head *h,
                   float *scores, long room, float *out) {
    if (narrow) attend_in(1, count, queries, ends, h, scores, room, out);
    else attend_in(0, count, queries, ends, h, scores, room, out);
}

/* Whether attention comes out right, over places that fill a tile and some of the next one. */
static int attention_works(void) {
    enum { D = 16, PLACES = LANES + 3, ROOM = 2 * LANES };
    float query[D], keys[ROOM * D] = {0}, values[ROOM * D], scores[AT_ONCE * ROOM], out[AT_ONCE * D];
    double shares[PLACES], sum = 0.0;
    for (int d = 0; d < D; d++) query[d] = 0.1f * (float)(d - 5);
    for (int place = 0; place < PLACES; place++) {
        double score = 0.0;
        for (int d = 0; d < D; d++) {
            float key = (float)((place * 7 + d * 3) % 11 - 5);
            keys[(place / LANES * D + d) * LANES + place % LANES] = key;
            values[place * D + d] = (float)((place + d) % 5);
            score += (double)(query[d] * key);
        }
        sum += shares[place] = exp(score);
    }
    const float *queries[] = {query};
    long ends[] = {PLACES};
    head all_places = {.keys = (char *)keys, .values = (char *)values, .D = D, .P = D};
    attend(0, 1, queries, ends, &all_places, scores, ROOM, out);
    for (int d = 0; d < D; d++) {
        double exact = 0.0;
        for (int place = 0; place < PLACES; place++) exact += shares[place] / sum * (double)values[place * D + d];
        if (!(fabs((double)out[d] - exact) <= 1e-5)) return 0;
    }
    return 1;
}

#endif
