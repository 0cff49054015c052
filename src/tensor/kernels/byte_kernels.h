/* byte_kernels.h: reals to bytes and integer sums back, for products in eight bits. */

enum { BYTE_WAYS = 16 };

/* Each of these loops has one array of lanes: with several the compiler makes no vectors. */
static mmf_real least_of(int64_t n, const mmf_real *restrict x)
{
    mmf_real low[BYTE_WAYS] = {0};
    int64_t i = 0;
    for (; i + BYTE_WAYS <= n; i += BYTE_WAYS) {
        for (int k = 0; k < BYTE_WAYS; k++)
            low[k] = x[i + k] < low[k] ? x[i + k] : low[k];
    }
    for (; i < n; i++)
        low[0] = x[i] < low[0] ? x[i] : low[0];
    for (int k = 1; k < BYTE_WAYS; k++)
        low[0] = low[k] < low[0] ? low[k] : low[0];
    return low[0];
}

/* 0, or NaN where an element is not finite. */
static mmf_real zero_of(int64_t n, const mmf_real *restrict x)
{
    mmf_real zero[BYTE_WAYS] = {0};
    int64_t i = 0;
    for (; i + BYTE_WAYS <= n; i += BYTE_WAYS) {
        for (int k = 0; k < BYTE_WAYS; k++)
            zero[k] += x[i + k] * (mmf_real)0;
    }
    for (; i < n; i++)
        zero[0] += x[i] * (mmf_real)0;
    for (int k = 1; k < BYTE_WAYS; k++)
        zero[0] += zero[k];
    return zero[0];
}

/* x = scale (q - zero) with whole numbers 0 <= q <= levels, of which one is exactly 0. A row that
 * is not finite gets scale NaN, and so does everything made of it. */
static void quantise_row(int64_t n, const mmf_real *restrict x, int levels, uint8_t *restrict q,
                         mmf_real *scale, int32_t *zero)
{
    const mmf_real bad = zero_of(n, x), low = least_of(n, x), top = max(n, x);
    const mmf_real range = (top > (mmf_real)0 ? top : (mmf_real)0) - low;
    const mmf_real inverse = (mmf_real)levels / range;
    /* A range so small that its inverse overflows is none. */
    if (!(inverse < (mmf_real)1e30) || bad != bad) {
        for (int64_t j = 0; j < n; j++)
            q[j] = 0;
        *scale = bad;
        *zero = 0;
        return;
    }
    const mmf_real shift = (mmf_real)(int32_t)(-low * inverse + (mmf_real)0.5);
    *scale = range / (mmf_real)levels;
    *zero = (int32_t)shift;
    const mmf_real most = (mmf_real)levels;
    for (int64_t j = 0; j < n; j++) {
        mmf_real v = x[j] * inverse + shift + (mmf_real)0.5;
        v = v < (mmf_real)0 ? (mmf_real)0 : v;
        v = v > most ? most : v;
        q[j] = (uint8_t)(int32_t)v;
    }
}

/* Sixteen bits a factor: pairs of products are then one instruction, and the bytes of `b`, which
 * come from memory, are what is waited for. */
static void dot_bytes(int64_t rows, int64_t n, const int16_t *restrict a, const int8_t *restrict b,
                      int32_t *restrict sum)
{
    for (int64_t r = 0; r < rows; r++) {
        const int8_t *restrict const row = b + r * n;
        int32_t total = 0;
        for (int64_t j = 0; j < n; j++)
            total += (int32_t)a[j] * (int32_t)row[j];
        sum[r] = total;
    }
}

/* y[j] = scale weight_scale[j] (sum[j] - zero weight_sum[j]) + bias[j] */
static void dequantise(int64_t n, const int32_t *restrict sum, mmf_real scale, int32_t zero,
                       const mmf_real *restrict weight_scale, const int32_t *restrict weight_sum,
                       const mmf_real *restrict bias, mmf_real *restrict y)
{
    if (bias) {
        for (int64_t j = 0; j < n; j++)
            y[j] = scale * weight_scale[j] * (mmf_real)(sum[j] - zero * weight_sum[j]) + bias[j];
    } else {
        for (int64_t j = 0; j < n; j++)
            y[j] = scale * weight_scale[j] * (mmf_real)(sum[j] - zero * weight_sum[j]);
    }
}
