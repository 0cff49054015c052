/*
 * tensor.h: tensors, the tape and the operations with their gradients.
 *
 * Define-by-run: an operation computes at once and, when gradients are wanted, records itself on
 * the tape. Models are plain C functions; control flow is C.
 *
 *     mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true, .seed = 1, .step = 7});
 *     mmf_tensor *y = mmf_linear(tape, x, w, b, MMF_ACT_RELU);
 *     mmf_tensor *loss = mmf_cross_entropy(tape, y, classes, NULL, 0);
 *     mmf_tape_backward(tape, loss);
 *
 * Errors stick: an operation given NULL or unfit shapes returns NULL and leaves one message on the
 * tape; later operations pass NULL on; mmf_tape_status tells once. Everything an operation returns
 * belongs to the tape and vanishes with the next mmf_tape_begin.
 *
 * Letters for dimensions: B batch, T time, N nodes, M modalities, D features, H heads, K classes, C
 * channels, R rank.
 */
#ifndef MMFUSE_TENSOR_H
#define MMFUSE_TENSOR_H

#include "mmfuse/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The element type: float; the double build exists for gradient checks only. */
#ifdef MMF_DOUBLE
typedef double mmf_real;
#else
typedef float mmf_real;
#endif

typedef struct mmf_tape mmf_tape;

/**
 * A dense row-major tensor of reals or of 64-bit integers (tokens, labels, indices). Parameters
 * live outside the tape and are open values too; what operations return is read-only for the
 * caller.
 */
typedef struct mmf_tensor {
    union {
        mmf_real *data;
        int64_t *ints;
    };
    mmf_real
        *grad; /**< NULL until the backward pass reaches it; parameters: their slot, always there */
    int64_t count;
    int64_t shape[MMF_MAX_DIMS];
    int n_dims;
    bool is_int;
    bool wants_grad;
    bool is_mapped;   /**< values are read-only pages of a file, which can be read again */
    uint64_t touched; /**< backward pass that last wrote `grad`; see mmf_tensor_has_grad */
} mmf_tensor;

/** How the operations that follow behave. */
typedef struct mmf_pass {
    bool record;   /**< keep what the backward pass needs */
    bool training; /**< dropout drops, batch norm uses and updates batch statistics */
    uint64_t seed; /**< dropout masks depend on (seed, step, site, element) */
    uint64_t step;
    bool fixed; /**< parameters keep their values until a pass of this tape without it: operations
                   may keep other layouts of them for the next pass */
    bool int8;  /**< with `fixed`: large linear layers in eight bits, quantised as they run */
} mmf_pass;

/** @param out the caller owns it and frees it with mmf_tape_free; the context must outlive it */
MMF_API mmf_status mmf_tape_create(mmf_ctx *ctx, mmf_tape **out);
MMF_API void mmf_tape_free(mmf_tape *tape);
/** Forgets everything on the tape, its error included, and starts a pass. */
MMF_API void mmf_tape_begin(mmf_tape *tape, const mmf_pass *pass);
MMF_API const mmf_pass *mmf_tape_pass(const mmf_tape *tape);
MMF_API mmf_ctx *mmf_tape_ctx(const mmf_tape *tape);
/** The first error since mmf_tape_begin; its message is then also the context's. */
MMF_API mmf_status mmf_tape_status(mmf_tape *tape);
/** Bytes of activations and scratch at the peak so far. */
MMF_API size_t mmf_tape_peak_bytes(const mmf_tape *tape);
/** Operations recorded since mmf_tape_begin. */
MMF_API int64_t mmf_tape_n_nodes(const mmf_tape *tape);
/**
 * Additions and multiplications of matrix products, convolutions and recurrences since
 * mmf_tape_begin; element-wise work, a small part, is not counted.
 */
MMF_API double mmf_tape_flops(const mmf_tape *tape);

/**
 * Gradients of a scalar `loss` for everything recorded. Parameters that the loss does not reach get
 * zeros through mmf_params_finish_gradients.
 */
MMF_API mmf_status mmf_tape_backward(mmf_tape *tape, mmf_tensor *loss);
/** As mmf_tape_backward for the expression sum(out * cotangent). */
MMF_API mmf_status mmf_tape_backward_from(mmf_tape *tape, mmf_tensor *out,
                                          const mmf_real *cotangent);
/** True when the last backward pass of `tape` wrote this tensor's gradient. */
MMF_API bool mmf_tensor_has_grad(const mmf_tape *tape, const mmf_tensor *tensor);
/** Name of the first recorded operation whose output is not finite, NULL if all are. */
MMF_API const char *mmf_tape_first_nonfinite(const mmf_tape *tape);

/**
 * Inference inside a layer: what was made after the mark is given back, and `keep` moves down to
 * it. While recording both do nothing. Returns `keep`.
 */
typedef struct mmf_tape_mark {
    void *chunk;
    size_t used, total;
} mmf_tape_mark;
MMF_API mmf_tape_mark mmf_tape_enter(mmf_tape *tape);
MMF_API mmf_tensor *mmf_tape_leave(mmf_tape *tape, mmf_tape_mark mark, mmf_tensor *keep);

/** A part of a network as a function of one tensor; `self` is what mmf_recompute was given. */
typedef mmf_tensor *mmf_segment_fn(mmf_tape *tape, const void *self, mmf_tensor *x);
/**
 * Runs a part of a network and keeps its input alone: the backward pass runs it again for what its
 * gradients need, with the same random draws. Memory for time: of many such parts in a row only one
 * at a time has its activations.
 *
 * The part must not have gradients for other tensors of the pass than x, and changes no state
 * (batch norm's statistics would be updated twice).
 *
 * @param self   `n_self` bytes, copied
 * @param wants  something in it, or x, wants gradients
 */
MMF_API mmf_tensor *mmf_recompute(mmf_tape *tape, mmf_segment_fn *fn, const void *self,
                                  size_t n_self, mmf_tensor *x, bool wants);

/* ---- Leaves ------------------------------------------------------------------------------ */

/** Wraps memory that the caller lends until the next mmf_tape_begin. */
MMF_API mmf_tensor *mmf_input(mmf_tape *tape, mmf_real *data, int n_dims, const int64_t *shape);
/** As mmf_input, and the backward pass leaves its gradient in `grad`. */
MMF_API mmf_tensor *mmf_variable(mmf_tape *tape, mmf_real *data, int n_dims, const int64_t *shape);
MMF_API mmf_tensor *mmf_input_ints(mmf_tape *tape, int64_t *data, int n_dims, const int64_t *shape);
/** A new tensor filled with `value`. */
MMF_API mmf_tensor *mmf_full(mmf_tape *tape, int n_dims, const int64_t *shape, double value);
/** `n` evenly spaced numbers from `low` to `high`, both included; for n = 1 `low`. @return (n) */
MMF_API mmf_tensor *mmf_linspace(mmf_tape *tape, int64_t n, double low, double high);

/* ---- Arithmetic (numpy broadcasting) ----------------------------------------------------- */

MMF_API mmf_tensor *mmf_add(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
MMF_API mmf_tensor *mmf_sub(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
MMF_API mmf_tensor *mmf_mul(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
MMF_API mmf_tensor *mmf_div(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
/** At ties both get half of the gradient. */
MMF_API mmf_tensor *mmf_maximum(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
MMF_API mmf_tensor *mmf_minimum(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
/** scale * x + shift */
MMF_API mmf_tensor *mmf_affine(mmf_tape *, mmf_tensor *x, double scale, double shift);

/* ---- Element-wise functions -------------------------------------------------------------- */

MMF_API mmf_tensor *mmf_relu(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_leaky_relu(mmf_tape *, mmf_tensor *x, double slope);
MMF_API mmf_tensor *mmf_elu(mmf_tape *, mmf_tensor *x, double alpha);
/** x Phi(x) with the exact error function. */
MMF_API mmf_tensor *mmf_gelu(mmf_tape *, mmf_tensor *x);
/** x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: the approximation of it that Flax defaults to.
 */
MMF_API mmf_tensor *mmf_gelu_tanh(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_tanh(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_sigmoid(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_softplus(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_exp(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_log(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_sqrt(mmf_tape *, mmf_tensor *x);
/** sign(x) sqrt(|x|); gradient 0 at 0, where the slope is infinite. */
MMF_API mmf_tensor *mmf_signed_sqrt(mmf_tape *, mmf_tensor *x);
/** Gradient 0 at 0. */
MMF_API mmf_tensor *mmf_abs(mmf_tape *, mmf_tensor *x);
/** Not differentiable: gradient 0 everywhere. */
MMF_API mmf_tensor *mmf_sign(mmf_tape *, mmf_tensor *x);
/** Gradient 0 where clamped. */
MMF_API mmf_tensor *mmf_clamp(mmf_tape *, mmf_tensor *x, double low, double high);
/** x^exponent for a constant exponent. */
MMF_API mmf_tensor *mmf_pow(mmf_tape *, mmf_tensor *x, double exponent);
/** Logarithm of the gamma function. @errors ARG: an element is not positive */
MMF_API mmf_tensor *mmf_log_gamma(mmf_tape *, mmf_tensor *x);
/** Its derivative. @errors ARG: an element is not positive */
MMF_API mmf_tensor *mmf_digamma(mmf_tape *, mmf_tensor *x);
/** The angle whose cosine is x, in radians. @errors ARG: an element is not between -1 and 1 */
MMF_API mmf_tensor *mmf_acos(mmf_tape *, mmf_tensor *x);

/* ---- Products ---------------------------------------------------------------------------- */

typedef enum mmf_activation {
    MMF_ACT_NONE,
    MMF_ACT_RELU,
    MMF_ACT_GELU,
    MMF_ACT_TANH,
    MMF_ACT_SIGMOID
} mmf_activation;

/**
 * act(x W' + b), in one pass after the product.
 * @param x (..., D)  @param w (O, D)  @param b (O) or NULL  @return (..., O)
 */
MMF_API mmf_tensor *mmf_linear(mmf_tape *, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                               mmf_activation activation);
/**
 * op(a) op(b), op transposing the last two dimensions on request; leading dimensions are batches
 * and must be equal, or absent on one side (shared by all batches).
 */
MMF_API mmf_tensor *mmf_matmul(mmf_tape *, mmf_tensor *a, mmf_tensor *b, bool transpose_a,
                               bool transpose_b);
/**
 * scale q k' for every head: the width is split into `n_heads`, outermost first.
 * @param q (B, Tq, D)  @param k (B, Tk, D)  @return (B, H, Tq, Tk)
 */
MMF_API mmf_tensor *mmf_head_scores(mmf_tape *, mmf_tensor *q, mmf_tensor *k, int64_t n_heads,
                                    double scale);
/** a v for every head. @param a (B, H, Tq, Tk)  @param v (B, Tk, E)  @return (B, Tq, E) */
MMF_API mmf_tensor *mmf_head_mix(mmf_tape *, mmf_tensor *a, mmf_tensor *v);
/** (B, I), (B, J) -> (B, I * J), second index fastest. */
MMF_API mmf_tensor *mmf_outer(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
/**
 * y[j] = sum_i a[i] b[(j - i) mod D], row by row, for any D. The cost is D times the elements of
 * `b` that are not 0: cheap for sketches of short vectors.
 * @param a, b (B, D)  @return (B, D)
 */
MMF_API mmf_tensor *mmf_circular_convolution(mmf_tape *, mmf_tensor *a, mmf_tensor *b);

/**
 * a^-1 b for symmetric positive definite matrices, of which the lower triangle is read. The
 * gradient of `a` is symmetric. NaN for a matrix that is not positive definite.
 * @param a (..., n, n)  @param b (..., n, k)  @return (..., n, k)
 * @cost n^3 / 3 + 2 n^2 k flop a matrix, in plain loops: for up to a few dozen rows
 */
MMF_API mmf_tensor *mmf_spd_solve(mmf_tape *, mmf_tensor *a, mmf_tensor *b);
/** log |a| of such matrices. @param a (..., n, n)  @return (...), (1) for one matrix */
MMF_API mmf_tensor *mmf_log_determinant(mmf_tape *, mmf_tensor *a);

/* ---- Reductions: over one axis (negative counts from the end); the axis is dropped -------- */

/** Axis that means all elements: the result has shape (1). */
#define MMF_ALL_AXES 99

MMF_API mmf_tensor *mmf_sum(mmf_tape *, mmf_tensor *x, int axis);
MMF_API mmf_tensor *mmf_mean(mmf_tape *, mmf_tensor *x, int axis);
/** The first of equal values gets the gradient. */
MMF_API mmf_tensor *mmf_max(mmf_tape *, mmf_tensor *x, int axis);
MMF_API mmf_tensor *mmf_min(mmf_tape *, mmf_tensor *x, int axis);
MMF_API mmf_tensor *mmf_logsumexp(mmf_tape *, mmf_tensor *x, int axis);
/** Divides by n - correction (0 biased, 1 unbiased). */
MMF_API mmf_tensor *mmf_variance(mmf_tape *, mmf_tensor *x, int axis, int correction);
/** Mean over the valid steps. @param x (B, T, D)  @param length (B) integers or NULL  @return (B,
 * D) */
MMF_API mmf_tensor *mmf_masked_mean(mmf_tape *, mmf_tensor *x, const mmf_tensor *length);

/* ---- Softmax and normalisation ----------------------------------------------------------- */

/** What a fully masked row becomes. */
typedef enum mmf_empty_row {
    MMF_EMPTY_ZERO,    /**< all zeros (log-softmax: all 0, without gradient) */
    MMF_EMPTY_UNIFORM, /**< 1/n everywhere, without gradient (log-softmax: -log n) */
    MMF_EMPTY_SHIFTED  /**< the softmax of the unmasked scores: what adding a large constant does */
} mmf_empty_row;

/**
 * Softmax over the last axis. @param mask reals, 1 keep, 0 drop, of x's shape or broadcast against
 * it as (B, 1, ..., D): leading dimensions of size 1 allowed; NULL: nothing masked.
 */
MMF_API mmf_tensor *mmf_softmax(mmf_tape *, mmf_tensor *x, const mmf_tensor *mask,
                                mmf_empty_row empty);
/** Masked entries of the result are 0 and get no gradient. */
MMF_API mmf_tensor *mmf_log_softmax(mmf_tape *, mmf_tensor *x, const mmf_tensor *mask,
                                    mmf_empty_row empty);
/** Over the last axis, biased variance. @param weight, bias (D) or NULL */
MMF_API mmf_tensor *mmf_layer_norm(mmf_tape *, mmf_tensor *x, mmf_tensor *weight, mmf_tensor *bias,
                                   double eps);
/**
 * weight (x - mean) / (deviation + eps) + bias over the last axis, with the unbiased deviation and
 * eps outside of the root. Where a row is constant the deviation has no gradient.
 * @errors SHAPE when the axis has a single element
 */
MMF_API mmf_tensor *mmf_deviation_norm(mmf_tape *, mmf_tensor *x, mmf_tensor *weight,
                                       mmf_tensor *bias, double eps);
/**
 * Over all axes but `axis`. Training passes use batch statistics (biased variance) and move the
 * running ones by `momentum` (unbiased variance); other passes use the running ones.
 * @param running_mean, running_var (C), updated in place
 * @errors SHAPE in training when a channel has a single value
 */
MMF_API mmf_tensor *mmf_batch_norm(mmf_tape *, mmf_tensor *x, mmf_tensor *weight, mmf_tensor *bias,
                                   mmf_tensor *running_mean, mmf_tensor *running_var, int axis,
                                   double momentum, double eps);
/** As mmf_batch_norm in a pass that does not train: with the running statistics, always. */
MMF_API mmf_tensor *mmf_batch_norm_fixed(mmf_tape *, mmf_tensor *x, mmf_tensor *weight,
                                         mmf_tensor *bias, mmf_tensor *running_mean,
                                         mmf_tensor *running_var, int axis, double eps);
/** x / max(|x|, eps) over the last axis. */
MMF_API mmf_tensor *mmf_l2_normalise(mmf_tape *, mmf_tensor *x, double eps);
/** Cosine over the last axis: a.b / max(|a| |b|, eps). */
MMF_API mmf_tensor *mmf_cosine(mmf_tape *, mmf_tensor *a, mmf_tensor *b, double eps);

/* ---- Shape ------------------------------------------------------------------------------- */

/** A view: one dimension may be -1. */
MMF_API mmf_tensor *mmf_reshape(mmf_tape *, mmf_tensor *x, int n_dims, const int64_t *shape);
MMF_API mmf_tensor *mmf_concat(mmf_tape *, mmf_tensor *const *parts, int n_parts, int axis);
/** Elements [first, first + length) along an axis. */
MMF_API mmf_tensor *mmf_slice(mmf_tape *, mmf_tensor *x, int axis, int64_t first, int64_t length);
/** Equal shapes to a new axis. */
MMF_API mmf_tensor *mmf_stack(mmf_tape *, mmf_tensor *const *parts, int n_parts, int axis);
/** Adds `before` and `after` elements of `value` along an axis. */
MMF_API mmf_tensor *mmf_pad(mmf_tape *, mmf_tensor *x, int axis, int64_t before, int64_t after,
                            double value);
/** Result dimension i is dimension order[i] of x. */
MMF_API mmf_tensor *mmf_permute(mmf_tape *, mmf_tensor *x, const int *order);
MMF_API mmf_tensor *mmf_transpose(mmf_tape *, mmf_tensor *x, int axis_a, int axis_b);
/** Images for convolutions with channels last, and back. @param x (B, C, H, W)  @return (B, H, W,
 * C)
 */
MMF_API mmf_tensor *mmf_channels_last(mmf_tape *, mmf_tensor *x);
MMF_API mmf_tensor *mmf_channels_first(mmf_tape *, mmf_tensor *x);
/** Repeats to a larger shape by broadcasting. */
MMF_API mmf_tensor *mmf_expand(mmf_tape *, mmf_tensor *x, int n_dims, const int64_t *shape);

/* ---- Look-up ----------------------------------------------------------------------------- */

/** Rows of x, reals or integers, along axis 0. @param index integers of any shape S @return S +
 * x.shape[1:] */
MMF_API mmf_tensor *mmf_index_select(mmf_tape *, mmf_tensor *x, const mmf_tensor *index);
/** One element a row of the last axis. @param index (...) integers without x's last axis */
MMF_API mmf_tensor *mmf_gather(mmf_tape *, mmf_tensor *x, const mmf_tensor *index);
/** Adds row i of x to row index[i] of a zero tensor with n_rows rows. @param index (x.shape[0]) */
MMF_API mmf_tensor *mmf_scatter_add(mmf_tape *, mmf_tensor *x, const mmf_tensor *index,
                                    int64_t n_rows);
/**
 * Softmax over all rows of one segment, column by column.
 * @param x (R, ...)  @param index (R) the segment of each row, in any order  @return x's shape
 */
MMF_API mmf_tensor *mmf_segment_softmax(mmf_tape *, mmf_tensor *x, const mmf_tensor *index,
                                        int64_t n_segments);
/** The segment of each row where segment i has counts[i] consecutive rows. @return integers
 * (total) @errors ARG: the counts do not sum to `total` */
MMF_API mmf_tensor *mmf_segments(mmf_tape *, const mmf_tensor *counts, int64_t total);
/** Rows of a table; row `padding` (-1: none) gets no gradient. @param tokens (B, T) @return (B, T,
 * D) */
MMF_API mmf_tensor *mmf_embedding(mmf_tape *, mmf_tensor *table, const mmf_tensor *tokens,
                                  int64_t padding);
/** 1 where step t < length[b], else 0. @return (B, T) */
MMF_API mmf_tensor *mmf_length_mask(mmf_tape *, const mmf_tensor *length, int64_t n_steps);

/** 1 where the integer is not `padding`, else 0: also a mask of integers as reals. @return tokens'
 * shape */
MMF_API mmf_tensor *mmf_token_mask(mmf_tape *, const mmf_tensor *tokens, int64_t padding);
/** 1 where column j <= row i + ahead, else 0. @return (n_queries, n_keys) */
MMF_API mmf_tensor *mmf_causal_mask(mmf_tape *, int64_t n_queries, int64_t n_keys, int64_t ahead);
/**
 * The `count` largest of every row of scores (B, R), largest first, the earlier among equals, as
 * rows b R + r for mmf_index_select. @return integers (B, count)
 */
MMF_API mmf_tensor *mmf_top_rows(mmf_tape *, const mmf_tensor *scores, int64_t count);
/** first, first + step, ... @return (count) */
MMF_API mmf_tensor *mmf_range(mmf_tape *, int64_t count, double first, double step);
/**
 * Row t: sin(p f_k), then cos(p f_k), for position p = first + t and rates f_k from 1 down to
 * 1/10000 in geometric steps; an odd width ends in a zero. @return (n_steps, width)
 * @paper Vaswani et al., NeurIPS 2017, in the layout of tensor2tensor
 */
MMF_API mmf_tensor *mmf_sinusoid(mmf_tape *, int64_t n_steps, int64_t width, int64_t first);

/** Position of the last token that is not `padding`, plus one, at least 1. @return (B) integers */
MMF_API mmf_tensor *mmf_token_lengths(mmf_tape *, const mmf_tensor *tokens, int64_t padding);

/** Position of the largest element of the last axis, the first among equals. @return integers (...)
 */
MMF_API mmf_tensor *mmf_argmax(mmf_tape *, const mmf_tensor *x);
/** Whole numbers that are stored as reals, as integers. @errors ARG: not whole */
MMF_API mmf_tensor *mmf_whole_numbers(mmf_tape *, const mmf_tensor *x);
/** Numbers of the elements that are above 0. @return integers (n); NULL, and no error, if none is
 */
MMF_API mmf_tensor *mmf_rows_where(mmf_tape *, const mmf_tensor *flags);
/** 1 at the index, 0 elsewhere. @param index integers (B) @return (B, K) */
MMF_API mmf_tensor *mmf_one_hot(mmf_tape *, const mmf_tensor *index, int64_t n_classes);
/** Ones on the diagonal, zeros elsewhere. @return (n, n) */
MMF_API mmf_tensor *mmf_identity(mmf_tape *, int64_t n);
/** 1 where rows i and j along axis 0 are equal, else 0. @param x (N, ...) reals or integers @return
 * (N, N) without a path for gradients */
MMF_API mmf_tensor *mmf_same_rows(mmf_tape *, const mmf_tensor *x);

/** How valid steps move together and back, as rows for mmf_index_select. */
typedef struct mmf_compaction {
    mmf_tensor *gather; /**< (B, L) rows of (B S): the valid steps of a sample in their order; L is
                           the most that a sample has, at least 1 */
    mmf_tensor
        *scatter;     /**< (B, S) rows of (B L): where each step went; any where it is not valid */
    mmf_tensor *mask; /**< (B, L): 1 where a valid step went */
} mmf_compaction;
/** @param valid (B, S) reals, 1 where a step counts */
MMF_API mmf_compaction mmf_compact(mmf_tape *, const mmf_tensor *valid);

/* ---- Convolution and pooling ------------------------------------------------------------- */

typedef struct mmf_window {
    int64_t kernel[2], stride[2],
        padding[2]; /**< height, width; 1-D uses the first; 0 stride means 1 */
} mmf_window;

/** What batch norm has for each channel. */
typedef struct mmf_batch_norm_state {
    mmf_tensor *weight, *bias;              /**< (C) or NULL */
    mmf_tensor *running_mean, *running_var; /**< (C), updated in place */
    double momentum, eps;
    bool fixed; /**< the running statistics, in training too */
} mmf_batch_norm_state;

/** What follows a batch norm at once, in this order. */
typedef struct mmf_norm_around {
    mmf_tensor *residual;   /**< of the input's shape, added; NULL: none */
    const mmf_window *pool; /**< maximum over windows; NULL: none; not with a residual */
    bool relu;
} mmf_norm_around;
/**
 * mmf_batch_norm over all axes but the last one, and what follows it, in few passes over memory.
 * @param x (..., C); (B, H, W, C) where windows are taken
 */
MMF_API mmf_tensor *mmf_batch_norm_last(mmf_tape *, mmf_tensor *x,
                                        const mmf_batch_norm_state *state,
                                        const mmf_norm_around *around);

/** @param x (B, C, T)  @param w (O, C, k)  @param b (O) or NULL  @return (B, O, T') */
MMF_API mmf_tensor *mmf_conv1d(mmf_tape *, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                               const mmf_window *window);
/** @param x (B, C, H, W)  @param w (O, C, kh, kw)  @return (B, O, H', W') */
MMF_API mmf_tensor *mmf_conv2d(mmf_tape *, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                               const mmf_window *window);
/** With channels last, in which training is fastest. @param x (B, H, W, C)  @param w (O, C, kh, kw)
 * @return (B, H', W', O) */
MMF_API mmf_tensor *mmf_conv_last(mmf_tape *, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                                  const mmf_window *window);
/** @param x (B, C, T) or (B, C, H, W); padding never wins a maximum */
MMF_API mmf_tensor *mmf_max_pool(mmf_tape *, mmf_tensor *x, const mmf_window *window);
/** Padding counts as zeros in the mean, as in PyTorch's default. */
MMF_API mmf_tensor *mmf_avg_pool(mmf_tape *, mmf_tensor *x, const mmf_window *window);

/* ---- Recurrent layers -------------------------------------------------------------------- */

/** Parameters of one direction of one layer, PyTorch's names and row order (i f g o; r z n). */
typedef struct mmf_rnn_weights {
    mmf_tensor *weight_ih; /**< (G H, D), G = 4 for LSTM, 3 for GRU */
    mmf_tensor *weight_hh; /**< (G H, H) */
    mmf_tensor *bias_ih;   /**< (G H) or NULL */
    mmf_tensor *bias_hh;   /**< (G H) or NULL */
} mmf_rnn_weights;

typedef struct mmf_rnn_output {
    mmf_tensor *sequence; /**< (B, T, H), zeros beyond each length */
    mmf_tensor *h_n;      /**< (B, H), state at each sample's own end */
    mmf_tensor *c_n;      /**< (B, H); NULL for GRU */
    mmf_tensor *cells; /**< (B, T, H), the cell of every step; NULL for GRU. Its gradient counts if
                          the loss depends on one of the others as well */
} mmf_rnn_output;

/**
 * One direction of one LSTM layer over sequences of their own lengths, zero initial state.
 * @param x (B, T, D)  @param length (B) in [1, T] or NULL: all T  @param reverse starts at length -
 * 1
 * @paper Hochreiter and Schmidhuber, Neural Computation 1997, with forget gate; PyTorch's layout
 */
MMF_API mmf_rnn_output mmf_lstm(mmf_tape *, mmf_tensor *x, const mmf_rnn_weights *w,
                                const mmf_tensor *length, bool reverse);
/** As mmf_lstm. @paper Cho et al., EMNLP 2014; PyTorch's variant (reset after the product) */
MMF_API mmf_rnn_output mmf_gru(mmf_tape *, mmf_tensor *x, const mmf_rnn_weights *w,
                               const mmf_tensor *length, bool reverse);

/* ---- Regularisation ---------------------------------------------------------------------- */

/** Zeroes with probability p and scales the rest by 1/(1-p) in training passes; else x itself. */
MMF_API mmf_tensor *mmf_dropout(mmf_tape *, mmf_tensor *x, double p);

/** Masks over sequences of frames, such as log-mel spectrograms; all 0: none. */
typedef struct mmf_augment_options {
    int64_t n_feature_masks, feature_span; /**< bands, and their largest width in features */
    int64_t n_time_masks, time_span;       /**< spans of time, and their largest length in steps */
    double time_share;                     /**< no span is longer than this share of the steps */
} mmf_augment_options;
/**
 * In training passes zeroes random bands of features and spans of the valid steps, drawn for every
 * sample; else x itself.
 * @param x (B, T, D), normalised  @param length (B) or NULL: all T
 * @paper Park et al., SpecAugment, Interspeech 2019; without the time warp
 */
MMF_API mmf_tensor *mmf_spec_augment(mmf_tape *, mmf_tensor *x, const mmf_tensor *length,
                                     const mmf_augment_options *options);
/** Standard normal draws that depend on (seed, step, site, element): the noise of a sample.
 * Constants, without a path for gradients. */
MMF_API mmf_tensor *mmf_normal_noise(mmf_tape *, int n_dims, const int64_t *shape);
/** Such draws of -log(-log u): scores plus them are largest by the odds of their softmax. */
MMF_API mmf_tensor *mmf_gumbel_noise(mmf_tape *, int n_dims, const int64_t *shape);
/** Identity forward, -scale times the gradient backward. @paper Ganin and Lempitsky, ICML 2015 */
MMF_API mmf_tensor *mmf_gradient_reversal(mmf_tape *, mmf_tensor *x, double scale);
/** x without a path for gradients. */
MMF_API mmf_tensor *mmf_detach(mmf_tape *, mmf_tensor *x);

/* ---- Pre-training: what is hidden and exchanged; without gradients ------------------------- */

/** Which tokens are hidden, and by what. */
typedef struct mmf_masking {
    double rate;            /**< of the tokens that may be hidden */
    int64_t mask_token;     /**< stands for a hidden one in 8 of 10 */
    int64_t vocab;          /**< 1 of 10 becomes any of 1 to vocab - 1 */
    const int64_t *special; /**< never hidden */
    size_t n_special;
    bool at_least_one; /**< the first one of a row where none was drawn */
} mmf_masking;
/**
 * Tokens of which some are hidden, drawn by (seed, step, site).
 * @param tokens (B, T)  @param valid (B, T) reals, 1 where a token may be hidden; NULL: all
 * @param labels  receives (B, T): the token where one was hidden, -1 elsewhere
 * @paper Devlin et al., NAACL 2019, section 3.1
 */
MMF_API mmf_tensor *mmf_mask_tokens(mmf_tape *, const mmf_tensor *tokens, const mmf_tensor *valid,
                                    const mmf_masking *how, mmf_tensor **labels);
/** 1 where a step is hidden, else 0; drawn likewise. @return (n_rows, n_steps) */
MMF_API mmf_tensor *mmf_mask_steps(mmf_tape *, int64_t n_rows, int64_t n_steps,
                                   const mmf_tensor *valid, double rate, bool at_least_one);
/**
 * Row numbers for mmf_index_select of which some, drawn likewise, are those of another row. A
 * single row stays. @param moved  receives (n_rows): 1 where the row is another's  @return (n_rows)
 */
MMF_API mmf_tensor *mmf_exchange(mmf_tape *, int64_t n_rows, double rate, mmf_tensor **moved);
/**
 * The transport plan between two sets of points of equal weights, by the inexact proximal point
 * method (IPOT). Its columns sum to 1 / m exactly, its rows to 1 / n in the limit.
 *
 * @param cost (B, N, M)  @param from (B, N), to (B, M)  1 where there is a point; NULL: everywhere
 * @param beta  step of the proximal point; smaller is nearer to the exact plan, and slower
 * @cost B n_iterations N M
 * @paper Xie, Wang, Wang, Zha, UAI 2019, arXiv:1802.04307
 */
MMF_API mmf_tensor *mmf_transport_plan(mmf_tape *, const mmf_tensor *cost, const mmf_tensor *from,
                                       const mmf_tensor *to, double beta, int64_t n_iterations);

/* ---- Correlation ------------------------------------------------------------------------- */

/** Canonical correlations and the directions that reach them. */
typedef struct mmf_correlation {
    mmf_tensor *correlation; /**< (k), falling */
    mmf_tensor *x_projection,
        *y_projection; /**< (P, k), (Q, k), without a path for gradients; the entry of largest
                          magnitude in each column of the first is positive */
} mmf_correlation;

/**
 * The k largest canonical correlations of the rows of x and y, with r added to the diagonals of
 * both covariances (which are over n - 1). Not smooth where two of them are equal, or one is 0.
 *
 * @param x (B, P)  @param y (B, Q)  @param both (B) or (B, 1), 0 leaves a row out; NULL: all count
 * @param k in [1, min(P, Q)]
 * @paper Hotelling, Biometrika 1936; the gradient: Andrew et al., ICML 2013
 */
MMF_API mmf_correlation mmf_canonical_correlation(mmf_tape *, mmf_tensor *x, mmf_tensor *y,
                                                  const mmf_tensor *both, int64_t k, double r);

/* ---- Losses: means over the batch, shape (1) ---------------------------------------------- */

MMF_API mmf_tensor *mmf_l1_loss(mmf_tape *, mmf_tensor *x, const mmf_tensor *target);
MMF_API mmf_tensor *mmf_mse_loss(mmf_tape *, mmf_tensor *x, const mmf_tensor *target);
/** Huber with threshold beta. */
MMF_API mmf_tensor *mmf_smooth_l1_loss(mmf_tape *, mmf_tensor *x, const mmf_tensor *target,
                                       double beta);
/**
 * @param logits (B, K)  @param classes (B) integers; rows below 0 are ignored
 * @param weight (K) class weights or NULL (the mean is weighted, as in PyTorch)  @param smoothing
 * [0, 1)
 */
MMF_API mmf_tensor *mmf_cross_entropy(mmf_tape *, mmf_tensor *logits, const mmf_tensor *classes,
                                      const mmf_tensor *weight, double smoothing);
/** -sum q log softmax(x) for a distribution q (B, K) a row. */
MMF_API mmf_tensor *mmf_soft_cross_entropy(mmf_tape *, mmf_tensor *logits,
                                           const mmf_tensor *target);
/** Mean over all elements. @param weight (K) weights of the positive class or NULL */
MMF_API mmf_tensor *mmf_bce_logits(mmf_tape *, mmf_tensor *logits, const mmf_tensor *target,
                                   const mmf_tensor *weight);
/** @param log_p (B, K) log-probabilities */
MMF_API mmf_tensor *mmf_nll_loss(mmf_tape *, mmf_tensor *log_p, const mmf_tensor *classes,
                                 const mmf_tensor *weight);
/** KL(target || exp(log_p)), sum over the last axis, mean over rows; 0 log 0 = 0. */
MMF_API mmf_tensor *mmf_kl_loss(mmf_tape *, mmf_tensor *log_p, const mmf_tensor *target);
/** PyTorch's cosine embedding loss. @param target (B) of +1 or -1 */
MMF_API mmf_tensor *mmf_cosine_loss(mmf_tape *, mmf_tensor *a, mmf_tensor *b,
                                    const mmf_tensor *target, double margin);

/**
 * Mean over anchors i of the mean over i's positives p and negatives n of max(0, margin[i, n] -
 * x[i, p] + x[i, n]); anchors that lack either are left out, 0 if all do.
 * @param x (N, N) likeness  @param positive, negative (N, N) 1 where j is one of i's
 * @param margin (N, N)
 * @cost N^3 at most, N^2 memory
 */
MMF_API mmf_tensor *mmf_triplet_loss(mmf_tape *, mmf_tensor *x, const mmf_tensor *positive,
                                     const mmf_tensor *negative, const mmf_tensor *margin);

#ifdef __cplusplus
}
#endif
#endif
