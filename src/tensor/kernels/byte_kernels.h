/* byte_kernels.h: reals to bytes and integer sums back, for products in eight bits. */
#ifndef MMFUSE_KERNELS_BYTE_H
#define MMFUSE_KERNELS_BYTE_H

#ifdef __AVX2__
#include <immintrin.h>
#endif

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

static inline int32_t dot_byte_row(int64_t n, const uint8_t *restrict a, const int8_t *restrict b)
{
    int32_t total = 0;
    for (int64_t j = 0; j < n; j++)
        total += (int32_t)a[j] * (int32_t)b[j];
    return total;
}

/* Rows taken together: they share what is loaded of `a`, and none waits for its sum to be folded.
 */
enum { BYTE_ROWS = 4 };

/* Each level has instructions of its own for this, which no compiler finds. */
#ifdef __AVX2__

/* Sixteen bits a factor, whose products are then added in pairs. */
static void dot_four_rows(int64_t n, const uint8_t *restrict a, const int8_t *restrict b,
                          int32_t *restrict sum)
{
    enum { STEP = 16 };
    __m256i sums[BYTE_ROWS] = {{0}};
    int64_t j = 0;
    for (; j + STEP <= n; j += STEP) {
        const __m256i factor = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i_u *)(a + j)));
        for (int r = 0; r < BYTE_ROWS; r++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i_u *)(b + r * n + j));
            const __m256i pairs = _mm256_madd_epi16(factor, _mm256_cvtepi8_epi16(bytes));
            sums[r] = _mm256_add_epi32(sums[r], pairs);
        }
    }
    for (int r = 0; r < BYTE_ROWS; r++) {
        int32_t lanes[sizeof(__m256i) / sizeof(int32_t)];
        memcpy(lanes, &sums[r], sizeof lanes);
        sum[r] = dot_byte_row(n - j, a + j, b + r * n + j);
        for (size_t l = 0; l < sizeof lanes / sizeof *lanes; l++)
            sum[r] += lanes[l];
    }
}

#else

static void dot_four_rows(int64_t n, const uint8_t *restrict a, const int8_t *restrict b,
                          int32_t *restrict sum)
{
    for (int r = 0; r < BYTE_ROWS; r++)
        sum[r] = dot_byte_row(n, a, b + r * n);
}

#endif

#ifdef __AVX512BW__

/* Four products of bytes a lane are one instruction where the processor has AVX-512 VNNI. */
__attribute__((target("avx512vnni"))) static void dot_four_rows_at_once(int64_t n,
                                                                        const uint8_t *restrict a,
                                                                        const int8_t *restrict b,
                                                                        int32_t *restrict sum)
{
    enum { STEP = 64 };
    __m512i sums[BYTE_ROWS] = {{0}};
    for (int64_t j = 0; j < n; j += STEP) {
        const __mmask64 mask = n - j < STEP ? ((__mmask64)1 << (n - j)) - 1 : ~(__mmask64)0;
        const __m512i factor = _mm512_maskz_loadu_epi8(mask, a + j);
        for (int r = 0; r < BYTE_ROWS; r++)
            sums[r] =
                _mm512_dpbusd_epi32(sums[r], factor, _mm512_maskz_loadu_epi8(mask, b + r * n + j));
    }
    for (int r = 0; r < BYTE_ROWS; r++)
        sum[r] = _mm512_reduce_add_epi32(sums[r]);
}

#endif

typedef void four_rows_fn(int64_t n, const uint8_t *restrict a, const int8_t *restrict b,
                          int32_t *restrict sum);

static four_rows_fn *four_rows_of_processor(void)
{
#ifdef __AVX512BW__
    if (__builtin_cpu_supports("avx512vnni"))
        return dot_four_rows_at_once;
#endif
    return dot_four_rows;
}

/* The bytes of `b`, which come from memory, are what is waited for. */
static void dot_bytes(int64_t rows, int64_t n, const uint8_t *restrict a, const int8_t *restrict b,
                      int32_t *restrict sum)
{
    four_rows_fn *const four_rows = four_rows_of_processor();
    int64_t r = 0;
    for (; r + BYTE_ROWS <= rows; r += BYTE_ROWS)
        four_rows(n, a, b + r * n, sum + r);
    for (; r < rows; r++)
        sum[r] = dot_byte_row(n, a, b + r * n);
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

#endif
