/* Guesses of what texts go on with, as `engine.inference.draft` makes them: by a table of what follows what, with the
 * noise that the model will draw with, and where a text repeats itself by what followed the last time. */

#ifndef GUESS_H
#define GUESS_H

#include <math.h>
#include <stdint.h>

#define MOST_GUESSES 8
#define LONGEST_MATCH 64
#define SHARED 4

/* A table that all texts of a model share. A context is packed, its oldest token highest, with a bit above that. */
typedef struct {
    int32_t longest, bits;   /* tokens of the longest contexts; bits of an id */
    int64_t rooms;           /* a power of two, more than there are contexts */
    uint64_t *contexts;      /* of each room: a context, or 0 */
    int32_t *rows;           /* of each room: where in the next ones that context is */
    uint64_t odd;            /* any odd number, one that who made the table does not know: it says which rooms are whose */
    const int64_t *ends;     /* of each row: where its tokens begin, and the next one's */
    const int32_t *ids;      /* the tokens that may follow */
    const float *logarithms; /* of their shares */
} table;

/* One text. Its rooms remember for each few tokens the latest place behind them. They are in fours, in each of which what
 * is new puts out what is oldest. */
typedef struct {
    const table *table;
    const int32_t *tokens; /* of the text so far */
    int64_t length, learned;
    const float *noise;    /* of the places to come, (count, V), or nothing where the temperature is 0 */
    int64_t vocabulary;
    float scale;           /* what logits are multiplied by before the noise is added */
    int32_t match, rooms;  /* tokens of a match; a power of two, at least SHARED */
    uint64_t *keys;
    int64_t *places;       /* 0 for none */
    int32_t wanted, found;
    int32_t guesses[MOST_GUESSES];
} draft;

static uint64_t lowest_bits(uint64_t x, int bits) { return bits < 64 ? x & (((uint64_t)1 << bits) - 1) : x; }

#define GOLDEN 0x9e3779b97f4a7c15u

/* One of so many rooms, at most 1 << 32. All of a key counts: many agree in their latest tokens. */
static int64_t room_of(uint64_t key, uint64_t odd, int64_t rooms) {
    return (int64_t)(((key ^ key >> 32) * odd) >> 32) & (rooms - 1);
}

/* Put contexts of a length, whose rows follow each other from `row` on, into their rooms. Of one that a table has several
 * times, as none of ours does, the last counts. */
void fill_table(table *t, const uint64_t *contexts, int64_t count, int32_t length, int64_t row) {
    uint64_t tag = (uint64_t)1 << (length * t->bits);
    for (int64_t i = 0; i < count; i++) {
        uint64_t key = contexts[i] | tag;
        int64_t room = room_of(key, t->odd, t->rooms);
        while (t->contexts[room] && t->contexts[room] != key) room = (room + 1) & (t->rooms - 1);
        t->contexts[room] = key;
        t->rows[room] = (int32_t)(row + i);
    }
}

/* The row of the longest context that is known at the end of `recent`. All know the empty one, which is the first. */
static int64_t row_of(const table *t, uint64_t recent) {
    for (int length = t->longest; length > 0; length--) {
        uint64_t key = lowest_bits(recent, length * t->bits) | (uint64_t)1 << (length * t->bits);
        for (int64_t room = room_of(key, t->odd, t->rooms); t->contexts[room]; room = (room + 1) & (t->rooms - 1))
            if (t->contexts[room] == key) return t->rows[room];
    }
    return 0;
}

/* The latest place behind the tokens at the end of `recent`, or 0. */
static int64_t place_of(const draft *d, uint64_t recent) {
    uint64_t key = lowest_bits(recent, d->match * d->table->bits);
    int64_t first = room_of(key, GOLDEN, d->rooms / SHARED) * SHARED;
    for (int64_t room = first; room < first + SHARED; room++)
        if (d->keys[room] == key && d->places[room]) return d->places[room];
    return 0;
}

/* Remember that it is `place`. */
static void remember(draft *d, uint64_t recent, int64_t place) {
    uint64_t key = lowest_bits(recent, d->match * d->table->bits);
    int64_t first = room_of(key, GOLDEN, d->rooms / SHARED) * SHARED, oldest = first;
    for (int64_t room = first; room < first + SHARED; room++) {
        if (d->places[room] && d->keys[room] == key) {
            oldest = room;
            break;
        }
        if (d->places[room] < d->places[oldest]) oldest = room;
    }
    d->keys[oldest] = key;
    d->places[oldest] = place;
}

/* Take in what is new of a text; returns its latest tokens, packed. */
static uint64_t learn(draft *d) {
    int bits = d->table->bits;
    int64_t oldest = d->length - d->rooms, begin = d->learned > oldest ? d->learned : oldest;
    int64_t before = begin > 64 / bits ? begin - 64 / bits : 0;
    uint64_t recent = 0;
    for (int64_t place = before; place < begin; place++) recent = recent << bits | (uint64_t)d->tokens[place];
    for (int64_t place = begin; place < d->length; place++) {
        if (place >= d->match) remember(d, recent, place);
        recent = recent << bits | (uint64_t)d->tokens[place];
    }
    d->learned = d->length;
    return recent;
}

static void guess(draft *d) {
    const table *t = d->table;
    uint64_t recent = learn(d);
    int64_t place = place_of(d, recent), length = 0;
    while (length < place && length < LONGEST_MATCH && d->tokens[place - 1 - length] == d->tokens[d->length - 1 - length])
        length++;
    if (length < d->match) place = 0;
    for (d->found = 0; d->found < d->wanted; d->found++) {
        const float *noise = d->noise ? d->noise + d->found * d->vocabulary : 0;
        int64_t row = row_of(t, recent);
        int32_t token = -1, follows = -1;
        float best = -INFINITY, share = 0.0f;
        if (place) follows = place < d->length ? d->tokens[place] : d->guesses[place - d->length];
        for (int64_t i = t->ends[row]; i < t->ends[row + 1]; i++) {
            int32_t id = t->ids[i];
            float value = t->logarithms[i] * d->scale + (noise ? noise[id] : 0.0f);
            if (id == follows) share = expf(t->logarithms[i]);
            if (value > best) {
                best = value;
                token = id;
            }
        }
        if (place) { /* the longer the match, the surer */
            float value = logf(share + 2.0f * (float)length / (float)d->match - 1.0f) * d->scale;
            if (value + (noise ? noise[follows] : 0.0f) > best) token = follows;
        }
        if (token < 0) break;
        d->guesses[d->found] = token;
        recent = recent << t->bits | (uint64_t)token;
        if (token == follows) {
            place++;
            length += length < LONGEST_MATCH;
        } else {
            place = place_of(d, recent);
            place = place < d->length ? place : 0;
            length = d->match;
        }
    }
}

#endif
