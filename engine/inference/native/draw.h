/* A token for each row of logits where nothing is filtered: the likeliest, with the noise that it is drawn with. */

#ifndef DRAW_H
#define DRAW_H

#include "vectors.h"

typedef struct {
    int32_t texts, rows, vocabulary;
    const float *temperatures; /* of each text; 0 is greedy: the noise is left out */
    const float *logits;       /* (texts, rows, V) */
    const float *const *noise; /* of each text, (rows, V); nothing where it is greedy */
    int32_t *ids;              /* (texts, rows) */
    float *logprobs;           /* of these tokens, before the temperature */
    float *tops, *logs;        /* of each row: a token's logprob is its logit, less the one, less the other */
} drawing;

/* Where the largest number is, the first of them; what is no number counts as none. */
static long largest_at(const float *logits, const float *noise, long V, float top, float temperature) {
    float best = -INFINITY;
    long at = 0;
    for (long v = 0; v < V; v++) {
        float x = logits[v];
        if (temperature > 0.0f) {
            if (temperature != 1.0f) x = (x - top) / temperature; /* from the largest, so that it cannot overflow */
            x += noise[v];
        }
        if (x > best) {
            best = x;
            at = v;
        }
    }
    return at;
}

static void draw_all(const drawing *d) {
    long V = d->vocabulary;
    for (long text = 0; text < d->texts; text++)
        for (long row = 0; row < d->rows; row++) {
            long number = text * d->rows + row, v = 0;
            const float *logits = d->logits + number * V;
            vec most = all(-INFINITY), sum = {0};
            float top = -INFINITY, rest = 0.0f;
            for (; v + LANES <= V; v += LANES) most = larger(load(logits + v), most);
            top = largest_of(most);
            for (; v < V; v++) top = logits[v] > top ? logits[v] : top;
            for (v = 0; v + LANES <= V; v += LANES) sum += exp_of(load(logits + v) - top);
            for (; v < V; v++) rest += expf(logits[v] - top);
            float temperature = d->temperatures[text];
            long at = largest_at(logits, temperature > 0.0f ? d->noise[text] + row * V : 0, V, top, temperature);
            d->ids[number] = (int32_t)at;
            d->tops[number] = top;
            d->logs[number] = logf(sum_of(sum) + rest);
            d->logprobs[number] = logits[at] - top - d->logs[number];
        }
}

#endif
