/*
 * vector_math.h: exp, tanh, erf and log as short branch-free expressions that compilers vectorize.
 *
 * Polynomials were fitted for single precision; the double build calls libm, which makes it the
 * oracle they are tested against.
 */
#ifndef MMFUSE_KERNELS_VECTOR_MATH_H
#define MMFUSE_KERNELS_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "mmfuse/tensor.h"

#ifdef MMF_DOUBLE

static inline mmf_real vexp(mmf_real x)
{
    return exp(x);
}
static inline mmf_real vtanh(mmf_real x)
{
    return tanh(x);
}
static inline mmf_real verf(mmf_real x)
{
    return erf(x);
}
static inline mmf_real vlog(mmf_real x)
{
    return log(x);
}
static inline mmf_real vsqrt(mmf_real x)
{
    return sqrt(x);
}
static inline mmf_real vabs(mmf_real x)
{
    return fabs(x);
}
static inline mmf_real vpow(mmf_real x, mmf_real p)
{
    return pow(x, p);
}

#else

static inline float bits_to_float(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_to_bits(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* 2^n e^r with x = n log 2 + r, |r| <= log 2 / 2; e^r by its Taylor polynomial of degree 7
 * (remainder below 2^-26). Two factors of 2^(n/2) reach the subnormal range and infinity without a
 * branch. */
static inline float vexp(float x)
{
    const float magic =
        12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    const float clipped = x > 104.0f ? 104.0f : (x < -104.0f ? -104.0f : x);
    const float shifted = clipped * 1.44269504f + magic;
    const int32_t n = (int32_t)float_to_bits(shifted) - (int32_t)0x4B400000;
    const float whole = shifted - magic;
    float r = clipped - whole * 0.693145752f;
    r -= whole * 1.42860677e-6f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int32_t half = n >> 1;
    const float scale_a = bits_to_float((uint32_t)(half + 127) << 23);
    const float scale_b = bits_to_float((uint32_t)(n - half + 127) << 23);
    const float result = p * scale_a * scale_b;
    return x != x ? x : result;
}

/* (1 - e^-2|x|) / (1 + e^-2|x|), and x - x^3/3 + ... near 0 where the difference cancels. */
static inline float vtanh(float x)
{
    const float a = x < 0 ? -x : x;
    const float e = vexp(-2.0f * a);
    const float large = (1.0f - e) / (1.0f + e);
    const float s = x * x;
    float p = -8.86323553e-3f; /* -1382/155925 */
    p = p * s + 2.18694885e-2f;
    p = p * s - 5.39682540e-2f;
    p = p * s + 1.33333333e-1f;
    p = p * s - 3.33333333e-1f;
    const float small = x + x * s * p;
    return a < 0.35f ? small : (x < 0 ? -large : large);
}

/* erf: below 1 an odd polynomial fitted to 1.4e-9; above it 1 - erfc(a) with
 * erfc(a) = t e^(-a^2 + q(t)), t = 1 / (1 + a/2), q the Chebyshev fit of Press et al., Numerical
 * Recipes (relative error of erfc 1.2e-7). */
static inline float verf(float x)
{
    const float a = x < 0 ? -x : x;
    const float s = x * x;
    float p = 7.88249711e-5f;
    p = p * s - 8.01885499e-4f;
    p = p * s + 5.18931194e-3f;
    p = p * s - 2.68543288e-2f;
    p = p * s + 1.12835975e-1f;
    p = p * s - 3.76126269e-1f;
    p = p * s + 1.12837917f;
    const float small = x * p;
    const float t = 1.0f / (1.0f + 0.5f * a);
    float q = 0.17087277f;
    q = q * t - 0.82215223f;
    q = q * t + 1.48851587f;
    q = q * t - 1.13520398f;
    q = q * t + 0.27886807f;
    q = q * t - 0.18628806f;
    q = q * t + 0.09678418f;
    q = q * t + 0.37409196f;
    q = q * t + 1.00002368f;
    q = q * t - 1.26551223f;
    const float complement = t * vexp(-s + q);
    const float large = 1.0f - complement;
    return a < 1.0f ? small : (x < 0 ? -large : large);
}

/* log(m 2^e) with m in [sqrt(1/2), sqrt(2)): atanh series in (m-1)/(m+1). */
static inline float vlog(float x)
{
    const int tiny = x < 1.17549435e-38f;
    const float scaled = tiny ? x * 8388608.0f : x;
    uint32_t bits = float_to_bits(scaled);
    bits += 0x3f800000u - 0x3f3504f3u;
    const float e = (float)((int32_t)(bits >> 23) - 127) - (tiny ? 23.0f : 0.0f);
    const float m = bits_to_float((bits & 0x007fffffu) + 0x3f3504f3u);
    const float z = (m - 1.0f) / (m + 1.0f);
    const float s = z * z;
    float p = 0.222222222f;
    p = p * s + 0.285714286f;
    p = p * s + 0.4f;
    p = p * s + 0.666666667f;
    const float result = e * 0.693147181f + (2.0f * z + z * s * p);
    const float edge = x < 0 ? NAN : (x > 0 ? INFINITY : -INFINITY);
    return x > 0 && x <= 3.40282347e38f ? result : (x != x ? x : edge);
}

static inline float vsqrt(float x)
{
    return sqrtf(x);
}
static inline float vabs(float x)
{
    return fabsf(x);
}
static inline float vpow(float x, float p)
{
    return powf(x, p);
}

#endif

static inline mmf_real vsigmoid(mmf_real x)
{
    return (mmf_real)1 / ((mmf_real)1 + vexp(-x));
}

/* max(x, 0) + log(1 + e^-|x|): no overflow on either side. */
static inline mmf_real vsoftplus(mmf_real x)
{
    const mmf_real e = vexp(-vabs(x));
#ifdef MMF_DOUBLE
    const mmf_real tail = log1p(e);
#else
    /* log(1 + e) keeps its digits for small e through the ratio log(u) e / (u - 1). */
    const float u = 1.0f + e;
    const float tail = u - 1.0f > 0 ? vlog(u) * (e / (u - 1.0f)) : e;
#endif
    return (x > 0 ? x : 0) + tail;
}

#endif
