/*
 * rnn_sample.c: a recurrent layer over one sample in passes over fixed parameters.
 *
 * A step is a row through the recurrent weight and takes as long as that takes to come from the
 * cache. So the weight is kept by pieces of units, all gates of an input together: a thread walks
 * through time with its units alone, reads one stream, and meets the others once a step.
 */
#include <string.h>

#include "tensor/rnn.h"

/* Units of a piece at least: less work than some 2 us is not worth meeting for. */
#define PIECE_UNITS 64

typedef struct sample_walk {
    const mmf_tape *tape;
    rnn_node *n;
    int64_t n_gates, piece_units;
    const mmf_real *weight; /* pieces of (H, gates, units) */
    mmf_real *product;      /* (rows) in the order of pieces */
    mmf_real *part;         /* (rows) GRU */
    const mmf_real *zeros;
} sample_walk;

static int64_t units_of(const sample_walk *w, int64_t piece)
{
    const int64_t rest = w->n->hidden - piece * w->piece_units;
    return rest < w->piece_units ? rest : w->piece_units;
}

static void arrange(const sample_walk *w, mmf_real *to)
{
    const rnn_node *const n = w->n;
    for (int64_t first = 0; first < n->hidden; first += w->piece_units) {
        const int64_t units = units_of(w, first / w->piece_units), row = w->n_gates * units;
        for (int64_t o = 0; o < row; o++) {
            const int64_t gate_row = o / units * n->hidden + first + o % units;
            for (int64_t i = 0; i < n->hidden; i++)
                to[i * row + o] = n->w.weight_hh->data[gate_row * n->hidden + i];
        }
        to += n->hidden * row;
    }
}

/* to[gate][first + u] += the recurrent product of the piece's units */
static void add_product(const sample_walk *w, int64_t piece, int64_t before, mmf_real *to)
{
    const rnn_node *const n = w->n;
    const mmf_kernels *const k = w->tape->k;
    const int64_t units = units_of(w, piece), row = w->n_gates * units;
    const int64_t offset = w->n_gates * piece * w->piece_units;
    mmf_real *const product = w->product + offset;
    k->sum_rows(n->hidden, row, n->node.out->data + before * n->hidden,
                w->weight + offset * n->hidden, row, product);
    for (int64_t g = 0; g < w->n_gates; g++)
        k->axpby(units, 1, product + g * units, 1, to + g * n->hidden);
}

static void lstm_units(const sample_walk *w, int64_t piece, int64_t t, int64_t before)
{
    const rnn_node *const n = w->n;
    const int64_t first = piece * w->piece_units, at = t * n->hidden + first;
    mmf_real *const gates = n->gates + t * n->stride + first, *const cells = n->cells->data;
    if (before >= 0)
        add_product(w, piece, before, gates);
    w->tape->k->lstm_cell(units_of(w, piece), n->hidden, gates,
                          before < 0 ? w->zeros : cells + before * n->hidden + first, cells + at,
                          n->tanh_c + at, n->node.out->data + at);
}

static void gru_units(const sample_walk *w, int64_t piece, int64_t t, int64_t before)
{
    const rnn_node *const n = w->n;
    const int64_t first = piece * w->piece_units, at = t * n->hidden + first;
    const int64_t units = units_of(w, piece);
    mmf_real *const sequence = n->node.out->data, *const part = w->part + first;
    for (int64_t g = 0; g < w->n_gates; g++) {
        mmf_real *const to = part + g * n->hidden;
        if (n->w.bias_hh)
            memcpy(to, n->w.bias_hh->data + g * n->hidden + first, (size_t)units * sizeof *to);
        else
            memset(to, 0, (size_t)units * sizeof *to);
    }
    if (before >= 0)
        add_product(w, piece, before, part);
    w->tape->k->gru_cell(units, n->hidden, n->gates + t * n->stride + first, part,
                         before < 0 ? w->zeros : sequence + before * n->hidden + first,
                         n->tanh_c + at, sequence + at);
}

static void walk_piece(void *argument, int64_t step, int64_t piece)
{
    const sample_walk *const w = argument;
    const rnn_node *const n = w->n;
    const int64_t t = rnn_walk_step(n, step), before = rnn_previous_step(n, t);
    if (rnn_is_valid(n, 0, t)) {
        (n->is_gru ? gru_units : lstm_units)(w, piece, t, before);
        return;
    }
    const int64_t at = t * n->hidden + piece * w->piece_units;
    const size_t size = (size_t)units_of(w, piece) * sizeof(mmf_real);
    memset(n->node.out->data + at, 0, size);
    if (n->cells)
        memset(n->cells->data + at, 0, size);
}

static int64_t units_a_piece(int64_t hidden)
{
    const int64_t least = (hidden + MMF_LOCKSTEP_MOST_PIECES - 1) / MMF_LOCKSTEP_MOST_PIECES;
    return least <= PIECE_UNITS ? PIECE_UNITS
                                : (least + PIECE_UNITS - 1) / PIECE_UNITS * PIECE_UNITS;
}

bool mmf_rnn_walk_sample(mmf_tape *tape, rnn_node *n, mmf_real *part, const mmf_real *zeros)
{
    if (n->batch != 1)
        return false;
    sample_walk w = {.tape = tape, .n = n, .part = part, .zeros = zeros};
    w.n_gates = n->rows / n->hidden;
    w.piece_units = units_a_piece(n->hidden);
    bool is_new = false;
    mmf_real *const kept = mmf_tape__keep(tape, n->w.weight_hh, "recurrent",
                                          (size_t)n->w.weight_hh->count * sizeof *kept, &is_new);
    w.weight = kept;
    w.product = kept ? mmf_tape__reals(tape, n->rows) : NULL;
    if (!w.product)
        return false;
    if (is_new) {
        arrange(&w, kept);
        mmf_tape__give_back(n->w.weight_hh);
    }
    mmf_tape__lockstep(tape, n->steps, (n->hidden + w.piece_units - 1) / w.piece_units,
                       n->w.weight_hh->count, walk_piece, &w);
    return true;
}
