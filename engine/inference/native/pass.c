/* A pass of a small GPT over some rows of one text or of many: token ids in, logits out. The same maths as
 * `engine.model`, with weights as `engine.inference.native.weights` lays them out.
 *
 * N rows; C numbers in the stream, H heads, G key-value heads, D numbers in a head. Rows of floats begin at multiples
 * of LANES. Every row is computed alike, whichever rows are read with it, and with any number of threads. */

#include "attention.h"
#include "draw.h"
#include "guess.h"
#include "products.h"
#include "threads.h"
#include "vectors.h"

enum { GELU, GELU_ERF, RELU, RELU2, SILU };

typedef struct {
    product qkv, out, up, down; /* with a gate, its tiles and those of `up` take turns */
    const float *norms[2], *norm_biases[2];
    const float *qk_norm; /* (H + G, D) */
    void *kept;           /* (2, slots, G, capacity, P): keys and values */
    int64_t slots;
} layer;

typedef struct {
    int32_t C, H, G, D, P, inner, vocabulary, blocks, capacity;
    int32_t activation, norms_heads, is_layer_norm, is_narrow;
    float eps, cap;
    const float *embedding; /* (V, C) */
    const float *positions; /* (block_size, C), or nothing */
    const float *turns;     /* (block_size, D): cosines and sines in pairs, or nothing */
    const float *first;     /* the first block's answers to each token, (V, LANES times its tiles), or nothing */
    const float *norm, *norm_bias;
    product head;
    layer *layers;
} model;

typedef struct {
    int32_t texts, threads;
    const int32_t *ids;     /* of all rows */
    const int32_t *slots;   /* of each text */
    const int32_t *past;    /* tokens that its slot holds */
    const int32_t *rows;    /* and how many it goes on with */
    const int32_t *wanted;  /* of these, how many of the last are answered */
    const int32_t *places;  /* which row of the logits takes the first of these */
    float *logits;          /* (any, V) */
    char *scratch;
} batch;

typedef struct {
    const model *m;
    const batch *b;
    const layer *l;
    const product *p, *then; /* the product at hand, and what is multiplied behind it, if anything */
    long N; /* rows */
    float *x, *qkv, *read, *h, *steps, *own; /* the stream; a block's queries, keys, values; what was read; the MLP */
    char *inputs;
    const char *from; /* rows of inputs of the product at hand, `from_stride` bytes each */
    int32_t *first_rows, *places; /* of each text; of each row that is answered */
    const float *norms, *norm_biases, *source;
    long x_room, qkv_room, read_room, h_room, own_room, stride, from_stride, score_room, source_room, source_size;
    long heads_of_piece;
} pass;

#define ROWS_OF_PIECE 8

/* Norm a row: by its mean square, or as LayerNorm does. */
static void norm_row(const pass *s, const float *x, float *restrict y) {
    const float *norms = s->norms, *biases = s->norm_biases;
    long C = s->m->C, whole = C / LANES * LANES;
    vec sum = {0}, squares = {0};
    float mean = 0.0f;
    if (s->m->is_layer_norm) {
        for (long c = 0; c < C; c += LANES) sum += c < whole ? load(x + c) : load_first(x + c, C - whole);
        mean = sum_of(sum) / (float)C;
    }
    for (long c = 0; c < whole; c += LANES) squares += (load(x + c) - mean) * (load(x + c) - mean);
    float rest = 0.0f;
    for (long c = whole; c < C; c++) rest += (x[c] - mean) * (x[c] - mean);
    float scale = 1.0f / sqrtf((sum_of(squares) + rest) / (float)C + s->m->eps);
    for (long c = 0; c < C; c++) {
        float z = (x[c] - mean) * scale;
        if (norms) z *= norms[c];
        y[c] = biases ? z + biases[c] : z;
    }
}

static void norm_rows(void *context, long piece, int thread) {
    const pass *s = context;
    float *normed = s->own + thread * s->own_room;
    long first = piece * ROWS_OF_PIECE, end = first + ROWS_OF_PIECE < s->N ? first + ROWS_OF_PIECE : s->N;
    for (long n = first; n < end; n++) {
        norm_row(s, s->x + n * s->x_room, normed);
        prepare(s->p->kind, normed, s->m->C, s->inputs + n * s->stride, s->steps + n);
    }
}

static void prepare_rows(void *context, long piece, int thread) {
    const pass *s = context;
    long first = piece * ROWS_OF_PIECE, end = first + ROWS_OF_PIECE < s->N ? first + ROWS_OF_PIECE : s->N;
    (void)thread;
    for (long n = first; n < end; n++)
        prepare(s->p->kind, s->source + n * s->source_room, s->source_size, s->inputs + n * s->stride, s->steps + n);
}

/* What is done with a product's answers, a row and a tile at a time. */
typedef void use(const pass *s, long row, long tile, vec y);

/* While rows of a piece are multiplied, the weights of the piece that this thread will probably have next are fetched:
 * of this product, or of the one behind it. With the first rows come the weights of the piece itself. */
INLINE void share_tiles(const pass *s, long piece, use *each) {
    const product *p = s->p, *q = p;
    long tile = piece * TILES_AT_ONCE, next = tile + TILES_AT_ONCE * s->b->threads;
    if (next >= p->tiles && s->then) {
        next -= p->tiles;
        q = s->then;
    }
    long left = next < q->tiles ? TILES_AT_ONCE * tile_bytes(q) : 0;
    const char *here = weights_of(p, tile), *soon = here;
    for (long row = 0, rows; row < s->N; row += rows) {
        vec y[AT_ONCE][TILES_AT_ONCE];
        rows = at_once(s->N - row);
        answers_of(p, tile, (int)rows, s->from + row * s->from_stride, s->from_stride, s->steps + row, soon, y);
        soon = left > 0 ? weights_of(q, next + TILES_AT_ONCE) - left : here;
        left -= tile_bytes(p);
        for (int m = 0; m < rows; m++)
            for (int t = 0; t < TILES_AT_ONCE; t++) each(s, row + m, tile + t, y[m][t]);
    }
}

INLINE void keep_projection(const pass *s, long row, long tile, vec y) {
    store(s->qkv + row * s->qkv_room + tile * LANES, y);
}

INLINE void add_to_stream(const pass *s, long row, long tile, vec y) {
    float *x = s->x + row * s->x_room + tile * LANES;
    store(x, load(x) + y);
}

INLINE void activate(const pass *s, long row, long tile, vec y) {
    float *h = s->h + row * s->h_room + tile * LANES;
    switch (s->m->activation) {
        case GELU: y = gelu(y); break;
        case GELU_ERF: y = gelu_erf(y); break;
        case RELU: y = relu(y); break;
        case RELU2: y = relu(y); y = y * y; break;
        case SILU: /* the gate comes first, then what goes through it */
            h = s->h + row * s->h_room + tile / 2 * LANES;
            if (tile % 2) y = load(h) * y;
            else y = silu(y);
    }
    store(h, y);
}

INLINE void answer(const pass *s, long row, long tile, vec y) {
    float cap = s->m->cap;
    long left = s->m->vocabulary - tile * LANES;
    float *logits = s->b->logits + (long)s->places[row] * s->m->vocabulary + tile * LANES;
    if (cap > 0.0f) y = cap * tanh_of(y / cap);
    if (left >= LANES) store(logits, y);
    else if (left > 0) memcpy(logits, &y, 4 * (size_t)left);
}

static void project_tiles(void *s, long piece, int thread) { (void)thread; share_tiles(s, piece, keep_projection); }
static void add_tiles(void *s, long piece, int thread) { (void)thread; share_tiles(s, piece, add_to_stream); }
static void activate_tiles(void *s, long piece, int thread) { (void)thread; share_tiles(s, piece, activate); }
static void answer_tiles(void *s, long piece, int thread) { (void)thread; share_tiles(s, piece, answer); }

/* A key-value head of one text: keep the keys and values of its new rows, then read for the heads that share it. The
 * head `next` is what this thread will probably read then. */
static void attend_head(const pass *s, long number, long next, int thread) {
    const model *m = s->m;
    long text = number / m->G, g = number % m->G, D = m->D, P = m->P, shared = m->H / m->G;
    long past = s->b->past[text], rows = s->b->rows[text], first = s->first_rows[text];
    long of_head = m->capacity * P * (m->is_narrow ? 2 : 4);
    char *keys = (char *)s->l->kept + (s->b->slots[text] * m->G + g) * of_head;
    char *values = keys + (long)s->l->slots * m->G * of_head;
    float scale = 1.0f / sqrtf((float)D);
    int is_normed = m->norms_heads && !(m->first && s->l == m->layers); /* what is looked up is normed already */
    for (long r = 0; r < rows; r++) {
        float *qkv = s->qkv + (first + r) * s->qkv_room, *key = qkv + (m->H + g) * D;
        const float *value = key + m->G * D, *turns = m->turns + (past + r) * D;
        if (is_normed) norm_head(key, D, m->eps, s->l->qk_norm ? s->l->qk_norm + (m->H + g) * D : 0);
        if (m->turns) turn(key, D, turns);
        long place = past + r;
        if (m->is_narrow) keep_place(1, keys, values, place, D, P, key, value);
        else keep_place(0, keys, values, place, D, P, key, value);
        for (long h = g * shared; h < (g + 1) * shared; h++) {
            float *query = qkv + h * D;
            if (is_normed) norm_head(query, D, m->eps, s->l->qk_norm ? s->l->qk_norm + h * D : 0);
            if (m->turns) turn(query, D, turns);
            for (long d = 0; d < D; d++) query[d] *= scale;
        }
    }
    head here = {.keys = keys, .values = values, .D = D, .P = P};
    if (next < (long)s->b->texts * m->G) {
        here.ahead = ((s->b->slots[next / m->G] - s->b->slots[text]) * (long)m->G + next % m->G - g) * of_head;
        here.places_ahead = s->b->past[next / m->G] + s->b->rows[next / m->G];
    }
    float *scores = s->own + thread * s->own_room, *out = scores + AT_ONCE * s->score_room;
    for (long query = 0, count; query < shared * rows; query += count) {
        count = at_once(shared * rows - query);
        const float *queries[AT_ONCE];
        long ends[AT_ONCE];
        float *reads[AT_ONCE];
        for (int i = 0; i < count; i++) {
            long r = (query + i) % rows, h = g * shared + (query + i) / rows;
            queries[i] = s->qkv + (first + r) * s->qkv_room + h * D;
            reads[i] = s->read + (first + r) * s->read_room + h * D;
            ends[i] = past + r + 1;
        }
        attend(m->is_narrow, (int)count, queries, ends, &here, scores, s->score_room, out);
        for (int i = 0; i < count; i++) memcpy(reads[i], out + i * P, 4 * (size_t)D);
    }
}

static void attend_heads(void *context, long piece, int thread) {
    const pass *s = context;
    long count = s->heads_of_piece, first = piece * count, then = first + count * s->b->threads;
    for (long i = 0; i < count; i++) attend_head(s, first + i, i + 1 < count ? first + i + 1 : then, thread);
}

static void norm_all(pass *s, const float *norms, const float *biases, const product *p) {
    s->norms = norms;
    s->norm_biases = biases;
    s->p = p;
    s->from = s->inputs;
    s->from_stride = s->stride;
    share(norm_rows, s, (s->N + ROWS_OF_PIECE - 1) / ROWS_OF_PIECE);
}

static void prepare_all(pass *s, const float *source, long room, long size, const product *p) {
    s->source = source;
    s->source_room = room;
    s->source_size = size;
    s->p = p;
    s->from = p->kind == FP32 ? (const char *)source : s->inputs;
    s->from_stride = p->kind == FP32 ? 4 * room : s->stride;
    if (p->kind != FP32) share(prepare_rows, s, (s->N + ROWS_OF_PIECE - 1) / ROWS_OF_PIECE);
}

static void multiply_all(pass *s, piece_of_work *work, const product *then) {
    s->then = then;
    share(work, s, s->p->tiles / TILES_AT_ONCE);
}

/* Leave of the stream, and of what was read, the rows that are answered. */
static void leave_wanted(pass *s) {
    long left = 0;
    for (long text = 0; text < s->b->texts; text++) {
        long wanted = s->b->wanted[text], from = s->first_rows[text] + s->b->rows[text] - wanted;
        for (long i = 0; i < wanted; i++, left++) {
            s->places[left] = s->b->places[text] + (int32_t)i;
            if (left == from + i) continue;
            memmove(s->x + left * s->x_room, s->x + (from + i) * s->x_room, 4 * (size_t)s->x_room);
            memmove(s->read + left * s->read_room, s->read + (from + i) * s->read_room, 4 * (size_t)s->read_room);
        }
    }
    s->N = left;
}

static void begin_texts(void *context, long piece, int thread) {
    const pass *s = context;
    const model *m = s->m;
    long first = piece * ROWS_OF_PIECE, end = first + ROWS_OF_PIECE < s->b->texts ? first + ROWS_OF_PIECE : s->b->texts;
    (void)thread;
    for (long text = first; text < end; text++)
        for (long r = 0; r < s->b->rows[text]; r++) {
            long row = s->first_rows[text] + r, id = s->b->ids[row];
            float *restrict x = s->x + row * s->x_room;
            const float *token = m->embedding + id * m->C;
            const float *place = m->positions ? m->positions + (s->b->past[text] + r) * m->C : 0;
            for (long c = 0; c < m->C; c++) x[c] = token[c] + (place ? place[c] : 0.0f);
            for (long c = m->C; c < s->x_room; c++) x[c] = 0.0f;
            if (m->first) memcpy(s->qkv + row * s->qkv_room, m->first + id * s->qkv_room, 4 * (size_t)s->qkv_room);
        }
}

static void begin(pass *s) {
    long row = 0;
    for (long text = 0; text < s->b->texts; row += s->b->rows[text++]) s->first_rows[text] = (int32_t)row;
    share(begin_texts, s, (s->b->texts + ROWS_OF_PIECE - 1) / ROWS_OF_PIECE);
}

/* Where in the scratch everything lies; returns its bytes. */
static long lay_out(pass *s, long rows, long texts, long threads) {
    const model *m = s->m;
    char *at = s->b ? s->b->scratch : 0, *from = at;
    long most = m->C > m->H * m->D ? m->C : m->H * m->D;
    if (m->inner > most) most = m->inner;
    s->x_room = padded(m->C, TILES_AT_ONCE * LANES);
    s->qkv_room = (long)m->layers[0].qkv.tiles * LANES;
    s->read_room = padded(m->H * m->D, LANES);
    s->h_room = padded(m->inner, TILES_AT_ONCE * LANES);
    s->score_room = padded(m->capacity, LANES);
    s->own_room = AT_ONCE * (s->score_room + m->P);
    if (s->own_room < s->x_room) s->own_room = s->x_room;
    s->stride = row_bytes(FP32, most);
#define ROOM(name, bytes) name = (void *)at; at += padded((long)(bytes), 64)
    ROOM(s->x, 4 * rows * s->x_room);
    ROOM(s->qkv, 4 * rows * s->qkv_room);
    ROOM(s->read, 4 * rows * s->read_room);
    ROOM(s->h, 4 * rows * s->h_room);
    ROOM(s->inputs, rows * s->stride);
    ROOM(s->steps, 4 * rows);
    ROOM(s->own, 4 * threads * s->own_room);
    ROOM(s->first_rows, 4 * texts);
    ROOM(s->places, 4 * rows);
    return at - from;
}

/* Bytes of scratch for so many rows; begins at a multiple of 64. */
long scratch_bytes(const model *m, long rows, long texts, long threads) {
    pass s = {.m = m};
    return lay_out(&s, rows, texts, threads);
}

void read_rows(const model *m, const batch *b) {
    pass s = {.m = m, .b = b};
    for (long text = 0; text < b->texts; text++) s.N += b->rows[text];
    lay_out(&s, s.N, b->texts, b->threads);
    begin_pass(b->threads);
    begin(&s);
    for (int number = 0; number < m->blocks; number++) {
        const layer *l = s.l = m->layers + number;
        if (number || !m->first) {
            norm_all(&s, l->norms[0], l->norm_biases[0], &l->qkv);
            multiply_all(&s, project_tiles, 0);
        }
        s.heads_of_piece = b->texts >= 4 * b->threads ? m->G : 1;
        share(attend_heads, &s, (long)b->texts * m->G / s.heads_of_piece);
        if (number == m->blocks - 1) leave_wanted(&s); /* nothing looks at the others any more */
        if (!s.N) break;
        prepare_all(&s, s.read, s.read_room, m->H * m->D, &l->out);
        multiply_all(&s, add_tiles, &l->up);
        norm_all(&s, l->norms[1], l->norm_biases[1], &l->up);
        multiply_all(&s, activate_tiles, &l->down);
        prepare_all(&s, s.h, s.h_room, m->inner, &l->down);
        multiply_all(&s, add_tiles, number + 1 < m->blocks ? &l[1].qkv : &m->head);
    }
    if (s.N) {
        norm_all(&s, m->norm, m->norm_bias, &m->head);
        multiply_all(&s, answer_tiles, 0);
    }
    end_pass();
}

void draw_rows(const drawing *d) { draw_all(d); }

void guess_all(draft *const *drafts, int32_t count) {
    for (int32_t i = 0; i < count; i++) guess(drafts[i]);
}

/* How many outputs are in a tile of weights. */
int lanes(void) { return LANES; }

/* What kinds of numbers this was built for: 1 for bfloat16, 2 for whole numbers, in instructions of the processor. */
int built_for(void) {
    int kinds = 0;
#if defined(__AVX512BF16__)
    kinds |= 1;
#endif
#if defined(__AVX512VNNI__) || (defined(__AVXVNNI__) && LANES == 8)
    kinds |= 2;
#endif
    return kinds;
}

/* Whether this processor computes what it should. */
int works(void) { return products_work() && attention_works(); }
