/*
 * kernels.h: the table of element loops that are compiled once a processor level.
 *
 * Arrays must not overlap unless a line says so; there is no alignment requirement. `beta` is 0
 * (overwrite) or 1 (add to what stands there).
 */
#ifndef MMFUSE_TENSOR_KERNELS_H
#define MMFUSE_TENSOR_KERNELS_H

#include "mmfuse/tensor.h"

typedef enum mmf_unary {
    MMF_UNARY_RELU,
    MMF_UNARY_LEAKY_RELU, /* p0 slope */
    MMF_UNARY_ELU,        /* p0 alpha */
    MMF_UNARY_GELU,
    MMF_UNARY_TANH,
    MMF_UNARY_SIGMOID,
    MMF_UNARY_SOFTPLUS,
    MMF_UNARY_EXP,
    MMF_UNARY_LOG,
    MMF_UNARY_SQRT,
    MMF_UNARY_SIGNED_SQRT,
    MMF_UNARY_ABS,
    MMF_UNARY_SIGN,
    MMF_UNARY_CLAMP,  /* p0 low, p1 high */
    MMF_UNARY_POW,    /* p0 exponent */
    MMF_UNARY_AFFINE, /* p0 scale, p1 shift */
    MMF_N_UNARY
} mmf_unary;

typedef enum mmf_binary {
    MMF_BINARY_ADD,
    MMF_BINARY_SUB,
    MMF_BINARY_MUL,
    MMF_BINARY_DIV,
    MMF_BINARY_MAX,
    MMF_BINARY_MIN,
    MMF_N_BINARY
} mmf_binary;

/** Constants of one Adam step over a range of a flat block. */
typedef struct mmf_adam {
    mmf_real lr, beta1, beta2, eps;
    mmf_real rest1, rest2; /* 1 - beta, of which single precision would keep few digits */
    mmf_real l2;           /* added to the gradient times the weight (Adam) */
    mmf_real decay;        /* weight is multiplied by 1 - lr * decay (AdamW) */
    mmf_real correction1;  /* 1 / (1 - beta1^t) */
    mmf_real correction2;  /* 1 / sqrt(1 - beta2^t) */
    mmf_real grad_scale;   /* of clipping by norm; 1: none */
} mmf_adam;

/** Queries that the kernel `attend` takes at once. */
#define MMF_ATTEND_QUERIES 16

/** One head of some queries: tiles with a query a column, (rows, MMF_ATTEND_QUERIES). */
typedef struct mmf_attend_tile {
    int64_t n_keys, width, value_width;
    const mmf_real *q; /* (width, queries), times the scale */
    const mmf_real *k; /* (n_keys, width), rows k_step apart */
    int64_t k_step;
    const mmf_real *v; /* (n_keys, value_width), rows v_step apart */
    int64_t v_step;
    const mmf_real *mask; /* (n_keys, queries), 0 leaves out; NULL: none */
    mmf_real *y;          /* (value_width, queries); zeros where the mask keeps nothing */
} mmf_attend_tile;

/** C (rows, n) = A (rows, k) by a panel, + bias; 0 where that is negative if `relu`. */
typedef struct mmf_panel_product {
    int rows; /* 1 to panel_rows */
    int64_t n, k;
    const mmf_real *packed; /* A, as (k, rows) */
    const mmf_real *panel;  /* (k, panel_columns), of which n columns count */
    const mmf_real *bias;   /* (n) or NULL */
    bool relu;
    mmf_real *c; /* rows c_step apart */
    int64_t c_step;
    const mmf_real *next; /* read soon, to be asked for on the way: n_next; NULL: nothing */
    int64_t n_next;
} mmf_panel_product;

/** Constants of one channel in the backward pass of batch norm. */
typedef struct mmf_channel_grad {
    mmf_real mean, factor, mean_dy, slope;
} mmf_channel_grad;

/** Constants of each channel of a map. */
typedef struct mmf_map_norm {
    const mmf_real *mean, *scale, *shift;
} mmf_map_norm;

typedef struct mmf_map_grad {
    const mmf_real *mean, *factor, *mean_dy, *slope;
} mmf_map_grad;

enum { MMF_NO_WINNER = 255 };

/** Pixels of a window: where their channels stand, and their numbers within it. */
typedef struct mmf_window_taps {
    int64_t n;
    int64_t offset[MMF_NO_WINNER];
    uint8_t number[MMF_NO_WINNER];
} mmf_window_taps;

/** How a row was normalised: (x - mean - rest) scale. */
typedef struct mmf_row_norm {
    mmf_real mean, rest; /* rest: of rounding the mean; 0 for layer norm */
    mmf_real scale;
    mmf_real divisor; /* of the gradient's part along the normalised row */
} mmf_row_norm;

typedef struct mmf_kernels {
    /* y = f(x) */
    void (*unary)(mmf_unary f, int64_t n, const mmf_real *x, mmf_real *y, mmf_real p0, mmf_real p1);
    /* dx = beta dx + dy f'(x); y = f(x) is given because many derivatives are cheaper from it */
    void (*unary_grad)(mmf_unary f, int64_t n, const mmf_real *x, const mmf_real *y,
                       const mmf_real *dy, mmf_real *dx, mmf_real beta, mmf_real p0, mmf_real p1);
    /* y[i,j] = f(a[i*a_row + j*a_col], b[i*b_row + j*b_col]); column strides are 0 or 1 */
    void (*binary)(mmf_binary f, int64_t rows, int64_t cols, const mmf_real *a, int64_t a_row,
                   int a_col, const mmf_real *b, int64_t b_row, int b_col, mmf_real *y);
    /* d = beta d + dy * df/da (side 0) or df/db (side 1) for equal shapes */
    void (*binary_grad)(mmf_binary f, int side, int64_t n, const mmf_real *a, const mmf_real *b,
                        const mmf_real *dy, mmf_real *d, mmf_real beta);
    /* y = beta y + alpha x */
    void (*axpby)(int64_t n, mmf_real alpha, const mmf_real *x, mmf_real beta, mmf_real *y);
    /* y = beta y + a * b */
    void (*muladd)(int64_t n, const mmf_real *a, const mmf_real *b, mmf_real beta, mmf_real *y);
    void (*fill)(int64_t n, mmf_real value, mmf_real *y);
    /* y[i, j] = a[i] b[j] */
    void (*outer)(int64_t n_i, int64_t n_j, const mmf_real *a, const mmf_real *b, mmf_real *y);
    /* da[i] = beta_a da[i] + sum_j g[i, j] b[j], db[j] = beta_b db[j] + sum_i g[i, j] a[i]; NULL:
     * not wanted */
    void (*outer_grad)(int64_t n_i, int64_t n_j, const mmf_real *a, const mmf_real *b,
                       const mmf_real *g, mmf_real beta_a, mmf_real *da, mmf_real beta_b,
                       mmf_real *db);

    /* One element of n windows that are `stride` apart: top[i] = max(top[i], x[i stride]), with its
     * place `at` + i stride as winner[i]; the first element wins anyway. NaN wins and stays. */
    void (*window_max)(int64_t n, int64_t stride, bool is_first, const mmf_real *x, int32_t at,
                       mmf_real *top, int32_t *winner);

    /* Fixed-order sums in sixteen lanes, folded in double. */
    mmf_real (*sum)(int64_t n, const mmf_real *x);
    mmf_real (*dot)(int64_t n, const mmf_real *a, const mmf_real *b);
    mmf_real (*max)(int64_t n, const mmf_real *x);
    /* y[j] = beta y[j] + alpha sum_i x[i, j], rows in order */
    void (*column_sum)(int64_t rows, int64_t cols, mmf_real alpha, const mmf_real *x, mmf_real beta,
                       mmf_real *y);

    /* y[i] = sum_j w[i, j] x[j], rows `stride` apart */
    void (*dot_rows)(int64_t rows, int64_t cols, const mmf_real *w, int64_t stride,
                     const mmf_real *x, mmf_real *y);
    /* y[j] = sum_i x[i] w[i, j], rows `stride` apart and in order; those with x[i] = 0 are not
     * read */
    void (*sum_rows)(int64_t rows, int64_t cols, const mmf_real *x, const mmf_real *w,
                     int64_t stride, mmf_real *y);

    void (*panel)(const mmf_panel_product *product);
    /* What a product has in registers at a time: most rows, and the columns of a panel. */
    int64_t panel_rows, panel_columns;
    /* (rows, k), rows a_step apart, to (k, rows) */
    void (*pack_rows)(int rows, int64_t k, const mmf_real *a, int64_t a_step, mmf_real *packed);

    /* y = act(y + bias) in place over rows; bias NULL: none */
    void (*bias_act)(int64_t rows, int64_t cols, const mmf_real *bias, mmf_activation act,
                     mmf_real *y);
    /* d = dy * act'(y) from the output y; not for GELU */
    void (*act_grad)(mmf_activation act, int64_t n, const mmf_real *y, const mmf_real *dy,
                     mmf_real *d);

    /* x = scale (q - zero) with 0 <= q <= levels; see byte_kernels.h */
    void (*quantise_row)(int64_t n, const mmf_real *x, int levels, uint8_t *q, mmf_real *scale,
                         int32_t *zero);
    /* sum[r] = a . b[r] for rows of n bytes */
    void (*dot_bytes)(int64_t rows, int64_t n, const uint8_t *a, const int8_t *b, int32_t *sum);
    /* y[j] = scale weight_scale[j] (sum[j] - zero weight_sum[j]) + bias[j]; bias may be NULL */
    void (*dequantise)(int64_t n, const int32_t *sum, mmf_real scale, int32_t zero,
                       const mmf_real *weight_scale, const int32_t *weight_sum,
                       const mmf_real *bias, mmf_real *y);

    /* One row each: y = softmax(x) over n, with mask (NULL: none); returns the number kept. */
    int64_t (*softmax_row)(int64_t n, const mmf_real *x, const mmf_real *mask, mmf_real *y);
    /* dx = beta dx + y (dy - sum y dy) */
    void (*softmax_row_grad)(int64_t n, const mmf_real *y, const mmf_real *dy, mmf_real beta,
                             mmf_real *dx);
    /* softmax(q' k) v; scratch for n_keys x MMF_ATTEND_QUERIES elements */
    void (*attend)(const mmf_attend_tile *attend, mmf_real *scratch);
    /* y = (x - mean) scale w + b, scale being 1 / sqrt(variance + eps), or by the unbiased
     * deviation 1 / (deviation + eps); w, b may be NULL */
    void (*norm_row)(int64_t n, const mmf_real *x, const mmf_real *w, const mmf_real *b,
                     mmf_real eps, bool by_deviation, mmf_real *y, mmf_row_norm *row);
    /* Gradient of norm_row for x, and additions to dw, db (NULL: not wanted) */
    void (*norm_row_grad)(int64_t n, const mmf_real *x, const mmf_real *w, const mmf_row_norm *row,
                          const mmf_real *dy, mmf_real beta, mmf_real *dx, mmf_real *dw,
                          mmf_real *db);

    /* Batch norm, one run of one channel: sum (x - mean)^2; sum dy (x - mean); (x - mean) scale +
     * shift; dx = factor (dy - mean_dy - (x - mean) slope) */
    double (*centered_square)(int64_t n, const mmf_real *x, mmf_real mean);
    double (*centered_dot)(int64_t n, const mmf_real *x, mmf_real mean, const mmf_real *dy);
    void (*centered_affine)(int64_t n, const mmf_real *x, mmf_real mean, mmf_real scale,
                            mmf_real shift, mmf_real *y);
    void (*channel_grad)(int64_t n, const mmf_real *x, const mmf_real *dy,
                         const mmf_channel_grad *g, mmf_real beta, mmf_real *dx);

    /* Batch norm of maps with channels last, pixels x channels. With z = (x - mean) scale + shift +
     * residual (NULL: none), y = max(z, 0) or z; dz = dy, where y (NULL: everywhere) is above 0.
     * Means and sums of squares of x - mean; y; sums of dz and of dz (x - mean);
     * dx = beta dx + factor (dz - mean_dy - (x - mean) slope) */
    void (*map_moments)(int64_t pixels, int64_t channels, const mmf_real *x, mmf_real *mean,
                        mmf_real *square);
    void (*map_affine)(int64_t pixels, int64_t channels, const mmf_map_norm *norm, bool relu,
                       const mmf_real *x, const mmf_real *residual, mmf_real *y);
    void (*map_grad_sums)(int64_t pixels, int64_t channels, const mmf_real *mean, const mmf_real *x,
                          const mmf_real *y, const mmf_real *dy, mmf_real *sum_dy,
                          mmf_real *sum_dy_x);
    void (*map_grad)(int64_t pixels, int64_t channels, const mmf_map_grad *grad, const mmf_real *x,
                     const mmf_real *y, const mmf_real *dy, mmf_real beta, mmf_real *dx);
    /* Maxima of n windows `step` elements apart, channels last, and the numbers of the pixels that
     * won: none where nothing is above `low`. NaN wins. Then dy is added where a pixel won. */
    void (*window_top)(int64_t n, int64_t channels, int64_t step, const mmf_window_taps *taps,
                       const mmf_real *x, mmf_real low, mmf_real *top, uint8_t *winner);
    void (*window_give)(int64_t n, int64_t channels, int64_t step, const mmf_window_taps *taps,
                        const uint8_t *winner, const mmf_real *dy, mmf_real *dx);

    /* LSTM cell for h units of one row: four gates (pre-activation in, activated out) `stride`
     * elements apart, c_old -> c, tanh_c, h */
    void (*lstm_cell)(int64_t h, int64_t stride, mmf_real *gates, const mmf_real *c_old,
                      mmf_real *c, mmf_real *tanh_c, mmf_real *h_out);
    /* From dh, dc (updated to the previous step's dc): d of the pre-activations into dgates */
    void (*lstm_cell_grad)(int64_t h, const mmf_real *gates, const mmf_real *c_old,
                           const mmf_real *tanh_c, const mmf_real *dh, mmf_real *dc,
                           mmf_real *dgates);
    /* GRU cell for h units of one row: three gates (input part in, activated out) and the recurrent
     * part with its bias, both `stride` elements apart, h_old -> the recurrent n part and h */
    void (*gru_cell)(int64_t h, int64_t stride, mmf_real *gates, const mmf_real *recurrent,
                     const mmf_real *h_old, mmf_real *recurrent_n, mmf_real *h_out);
    /* From d_out and dh (updated to the previous step's): d of both parts of the pre-activations */
    void (*gru_cell_grad)(int64_t h, const mmf_real *gates, const mmf_real *h_old,
                          const mmf_real *recurrent_n, const mmf_real *d_out, mmf_real *dh,
                          mmf_real *d_gates, mmf_real *d_recurrent);

    /* y = beta y + x * m / (1-p), m from Philox(seed, stream, element); `first` is a multiple of
     * 128; called with x = dy for the gradient */
    void (*dropout)(int64_t first, int64_t n, uint64_t seed, uint64_t stream, mmf_real p,
                    const mmf_real *x, mmf_real *y, mmf_real beta);

    /* One pass over weights, gradients and both moments. */
    void (*adam)(int64_t n, const mmf_adam *step, const mmf_real *grad, mmf_real *m, mmf_real *v,
                 mmf_real *w);
} mmf_kernels;

/** The table for a processor level. */
const mmf_kernels *mmf_kernels_for(mmf_cpu cpu);

extern const mmf_kernels mmf_kernels_portable;
#ifdef MMF_HAVE_X86_KERNELS
extern const mmf_kernels mmf_kernels_avx2, mmf_kernels_avx512;
#endif

#endif
