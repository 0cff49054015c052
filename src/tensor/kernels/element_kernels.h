/* element_kernels.h: element-wise loops: one memory pass each. */
#ifndef MMFUSE_KERNELS_ELEMENT_H
#define MMFUSE_KERNELS_ELEMENT_H

#define INV_SQRT_2 ((mmf_real)0.70710678118654752440)
#define INV_SQRT_2PI ((mmf_real)0.39894228040143267794)

static void fill(int64_t n, mmf_real value, mmf_real *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = value;
}

static void axpby(int64_t n, mmf_real alpha, const mmf_real *restrict x, mmf_real beta,
                  mmf_real *restrict y)
{
    if (beta == (mmf_real)0) {
        for (int64_t i = 0; i < n; i++)
            y[i] = alpha * x[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i] = beta * y[i] + alpha * x[i];
    }
}

static void muladd(int64_t n, const mmf_real *restrict a, const mmf_real *restrict b, mmf_real beta,
                   mmf_real *restrict y)
{
    if (beta == (mmf_real)0) {
        for (int64_t i = 0; i < n; i++)
            y[i] = a[i] * b[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i] = beta * y[i] + a[i] * b[i];
    }
}

/* Selected, not branched on: which element wins cannot be predicted. */
static inline void window_max_of(int64_t n, int64_t stride, const mmf_real *restrict x, int32_t at,
                                 mmf_real *restrict top, int32_t *restrict winner)
{
    for (int64_t i = 0; i < n; i++) {
        const mmf_real value = x[i * stride], old = top[i];
        const bool wins = !(value <= old) & (old == old);
        top[i] = wins ? value : old;
        winner[i] = wins ? at + (int32_t)(i * stride) : winner[i];
    }
}

static void window_max(int64_t n, int64_t stride, bool is_first, const mmf_real *x, int32_t at,
                       mmf_real *top, int32_t *winner)
{
    for (int64_t i = 0; is_first && i < n; i++) {
        top[i] = x[i * stride];
        winner[i] = at + (int32_t)(i * stride);
    }
    if (is_first)
        return;
    if (stride == 2) /* a constant, so that the compiler sees pairs */
        window_max_of(n, 2, x, at, top, winner);
    else if (stride == 1)
        window_max_of(n, 1, x, at, top, winner);
    else
        window_max_of(n, stride, x, at, top, winner);
}

static inline mmf_real gelu_value(mmf_real x)
{
    return (mmf_real)0.5 * x * (1 + verf(x * INV_SQRT_2));
}

static inline mmf_real gelu_slope(mmf_real x)
{
    const mmf_real phi = INV_SQRT_2PI * vexp((mmf_real)-0.5 * x * x);
    return (mmf_real)0.5 * (1 + verf(x * INV_SQRT_2)) + x * phi;
}

static void unary(mmf_unary f, int64_t n, const mmf_real *x, mmf_real *y, mmf_real p0, mmf_real p1)
{
    const mmf_real zero = 0;
    switch (f) {
    case MMF_UNARY_RELU:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] < zero ? zero : x[i]; /* NaN stays NaN */
        return;
    case MMF_UNARY_LEAKY_RELU:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] < zero ? p0 * x[i] : x[i];
        return;
    case MMF_UNARY_ELU:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] < zero ? p0 * (vexp(x[i]) - 1) : x[i];
        return;
    case MMF_UNARY_GELU:
        for (int64_t i = 0; i < n; i++)
            y[i] = gelu_value(x[i]);
        return;
    case MMF_UNARY_TANH:
        for (int64_t i = 0; i < n; i++)
            y[i] = vtanh(x[i]);
        return;
    case MMF_UNARY_SIGMOID:
        for (int64_t i = 0; i < n; i++)
            y[i] = vsigmoid(x[i]);
        return;
    case MMF_UNARY_SOFTPLUS:
        for (int64_t i = 0; i < n; i++)
            y[i] = vsoftplus(x[i]);
        return;
    case MMF_UNARY_EXP:
        for (int64_t i = 0; i < n; i++)
            y[i] = vexp(x[i]);
        return;
    case MMF_UNARY_LOG:
        for (int64_t i = 0; i < n; i++)
            y[i] = vlog(x[i]);
        return;
    case MMF_UNARY_SQRT:
        for (int64_t i = 0; i < n; i++)
            y[i] = vsqrt(x[i]);
        return;
    case MMF_UNARY_SIGNED_SQRT:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] < zero ? -vsqrt(-x[i]) : vsqrt(x[i]);
        return;
    case MMF_UNARY_ABS:
        for (int64_t i = 0; i < n; i++)
            y[i] = vabs(x[i]);
        return;
    case MMF_UNARY_SIGN:
        for (int64_t i = 0; i < n; i++)
            y[i] = (mmf_real)(x[i] > zero) - (mmf_real)(x[i] < zero);
        return;
    case MMF_UNARY_CLAMP:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] < p0 ? p0 : (x[i] > p1 ? p1 : x[i]);
        return;
    case MMF_UNARY_POW:
        for (int64_t i = 0; i < n; i++)
            y[i] = vpow(x[i], p0);
        return;
    case MMF_UNARY_AFFINE:
    case MMF_N_UNARY:
        for (int64_t i = 0; i < n; i++)
            y[i] = p0 * x[i] + p1;
        return;
    }
}

/* Adds dy * slope; `beta` decides once a loop whether something stands in dx. */
static inline mmf_real added(mmf_real beta, mmf_real old, mmf_real value)
{
    return beta == (mmf_real)0 ? value : old + value;
}

static void unary_grad(mmf_unary f, int64_t n, const mmf_real *restrict x,
                       const mmf_real *restrict y, const mmf_real *restrict dy,
                       mmf_real *restrict dx, mmf_real beta, mmf_real p0, mmf_real p1)
{
    const mmf_real zero = 0, one = 1;
    switch (f) {
    case MMF_UNARY_RELU:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], y[i] > zero ? dy[i] : zero);
        return;
    case MMF_UNARY_LEAKY_RELU:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], x[i] > zero ? dy[i] : p0 * dy[i]);
        return;
    case MMF_UNARY_ELU:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], x[i] > zero ? dy[i] : dy[i] * (y[i] + p0));
        return;
    case MMF_UNARY_GELU:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * gelu_slope(x[i]));
        return;
    case MMF_UNARY_TANH:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * (one - y[i] * y[i]));
        return;
    case MMF_UNARY_SIGMOID:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * y[i] * (one - y[i]));
        return;
    case MMF_UNARY_SOFTPLUS:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * vsigmoid(x[i]));
        return;
    case MMF_UNARY_EXP:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * y[i]);
        return;
    case MMF_UNARY_LOG:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] / x[i]);
        return;
    case MMF_UNARY_SQRT:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], (mmf_real)0.5 * dy[i] / y[i]);
        return;
    case MMF_UNARY_SIGNED_SQRT:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], y[i] == zero ? zero : (mmf_real)0.5 * dy[i] / vabs(y[i]));
        return;
    case MMF_UNARY_ABS:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * ((mmf_real)(x[i] > zero) - (mmf_real)(x[i] < zero)));
        return;
    case MMF_UNARY_SIGN:
    case MMF_N_UNARY:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], zero);
        return;
    case MMF_UNARY_CLAMP:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], x[i] >= p0 && x[i] <= p1 ? dy[i] : zero);
        return;
    case MMF_UNARY_POW:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], dy[i] * p0 * vpow(x[i], p0 - one));
        return;
    case MMF_UNARY_AFFINE:
        for (int64_t i = 0; i < n; i++)
            dx[i] = added(beta, dx[i], p0 * dy[i]);
        return;
    }
}

static inline mmf_real apply_binary(mmf_binary f, mmf_real a, mmf_real b)
{
    switch (f) {
    case MMF_BINARY_ADD:
        return a + b;
    case MMF_BINARY_SUB:
        return a - b;
    case MMF_BINARY_MUL:
        return a * b;
    case MMF_BINARY_DIV:
        return a / b;
    case MMF_BINARY_MAX:
        return a > b ? a : b;
    case MMF_BINARY_MIN:
    case MMF_N_BINARY:
        return a < b ? a : b;
    }
    return 0;
}

/* Inlined with a constant f, so that each operation gets its own vector loop. */
static inline void binary_row(mmf_binary f, int64_t n, const mmf_real *a, int a_col,
                              const mmf_real *b, int b_col, mmf_real *restrict y)
{
    if (a_col && b_col) {
        for (int64_t j = 0; j < n; j++)
            y[j] = apply_binary(f, a[j], b[j]);
    } else if (a_col) {
        const mmf_real constant = b[0];
        for (int64_t j = 0; j < n; j++)
            y[j] = apply_binary(f, a[j], constant);
    } else if (b_col) {
        const mmf_real constant = a[0];
        for (int64_t j = 0; j < n; j++)
            y[j] = apply_binary(f, constant, b[j]);
    } else {
        fill(n, apply_binary(f, a[0], b[0]), y);
    }
}

static void binary(mmf_binary f, int64_t rows, int64_t cols, const mmf_real *a, int64_t a_row,
                   int a_col, const mmf_real *b, int64_t b_row, int b_col, mmf_real *y)
{
    for (int64_t i = 0; i < rows; i++, a += a_row, b += b_row, y += cols) {
        switch (f) {
        case MMF_BINARY_ADD:
            binary_row(MMF_BINARY_ADD, cols, a, a_col, b, b_col, y);
            break;
        case MMF_BINARY_SUB:
            binary_row(MMF_BINARY_SUB, cols, a, a_col, b, b_col, y);
            break;
        case MMF_BINARY_MUL:
            binary_row(MMF_BINARY_MUL, cols, a, a_col, b, b_col, y);
            break;
        case MMF_BINARY_DIV:
            binary_row(MMF_BINARY_DIV, cols, a, a_col, b, b_col, y);
            break;
        case MMF_BINARY_MAX:
            binary_row(MMF_BINARY_MAX, cols, a, a_col, b, b_col, y);
            break;
        case MMF_BINARY_MIN:
        case MMF_N_BINARY:
            binary_row(MMF_BINARY_MIN, cols, a, a_col, b, b_col, y);
            break;
        }
    }
}

static void binary_grad(mmf_binary f, int side, int64_t n, const mmf_real *restrict a,
                        const mmf_real *restrict b, const mmf_real *restrict dy,
                        mmf_real *restrict d, mmf_real beta)
{
    const mmf_real half = (mmf_real)0.5, zero = 0;
    switch (f) {
    case MMF_BINARY_ADD:
        axpby(n, 1, dy, beta, d);
        return;
    case MMF_BINARY_SUB:
        axpby(n, side ? -1 : 1, dy, beta, d);
        return;
    case MMF_BINARY_MUL:
        muladd(n, dy, side ? a : b, beta, d);
        return;
    case MMF_BINARY_DIV:
        if (side) {
            for (int64_t i = 0; i < n; i++)
                d[i] = added(beta, d[i], -(dy[i] * (a[i] / b[i])) / b[i]);
        } else {
            for (int64_t i = 0; i < n; i++)
                d[i] = added(beta, d[i], dy[i] / b[i]);
        }
        return;
    case MMF_BINARY_MAX:
    case MMF_BINARY_MIN:
    case MMF_N_BINARY: {
        const mmf_real sign = (f == MMF_BINARY_MAX) == (side == 0) ? 1 : -1;
        for (int64_t i = 0; i < n; i++) {
            const mmf_real lead = sign * (a[i] - b[i]);
            d[i] = added(beta, d[i], lead > zero ? dy[i] : (lead < zero ? zero : half * dy[i]));
        }
        return;
    }
    }
}

static void bias_act(int64_t rows, int64_t cols, const mmf_real *restrict bias, mmf_activation act,
                     mmf_real *restrict y)
{
    static const mmf_unary functions[] = {[MMF_ACT_RELU] = MMF_UNARY_RELU,
                                          [MMF_ACT_GELU] = MMF_UNARY_GELU,
                                          [MMF_ACT_TANH] = MMF_UNARY_TANH,
                                          [MMF_ACT_SIGMOID] = MMF_UNARY_SIGMOID};
    for (int64_t i = 0; i < rows; i++, y += cols) {
        if (bias && act == MMF_ACT_RELU) {
            for (int64_t j = 0; j < cols; j++) {
                const mmf_real v = y[j] + bias[j];
                y[j] = v < (mmf_real)0 ? (mmf_real)0 : v;
            }
            continue;
        }
        if (bias) {
            for (int64_t j = 0; j < cols; j++)
                y[j] += bias[j];
        }
        if (act != MMF_ACT_NONE)
            unary(functions[act], cols, y, y, 0, 0);
    }
}

static void act_grad(mmf_activation act, int64_t n, const mmf_real *restrict y,
                     const mmf_real *restrict dy, mmf_real *restrict d)
{
    switch (act) {
    case MMF_ACT_RELU:
        unary_grad(MMF_UNARY_RELU, n, y, y, dy, d, 0, 0, 0);
        return;
    case MMF_ACT_TANH:
        unary_grad(MMF_UNARY_TANH, n, y, y, dy, d, 0, 0, 0);
        return;
    case MMF_ACT_SIGMOID:
        unary_grad(MMF_UNARY_SIGMOID, n, y, y, dy, d, 0, 0, 0);
        return;
    case MMF_ACT_NONE:
    case MMF_ACT_GELU:
        axpby(n, 1, dy, 0, d);
        return;
    }
}

#endif
