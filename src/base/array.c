/* array.c: element types and reading elements of possibly unaligned arrays. */
#include "mmfuse/base.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [MMF_F16] = {"float16", 2}, [MMF_BF16] = {"bfloat16", 2}, [MMF_F32] = {"float32", 4},
    [MMF_F64] = {"float64", 8}, [MMF_I8] = {"int8", 1},       [MMF_U8] = {"uint8", 1},
    [MMF_I16] = {"int16", 2},   [MMF_U16] = {"uint16", 2},    [MMF_I32] = {"int32", 4},
    [MMF_U32] = {"uint32", 4},  [MMF_I64] = {"int64", 8},     [MMF_U64] = {"uint64", 8},
    [MMF_BOOL] = {"bool", 1},   [MMF_STR] = {"string", 0},
};

const char *mmf_dtype_name(mmf_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t mmf_dtype_bytes(mmf_dtype dtype)
{
    return dtypes[dtype].bytes;
}

bool mmf_dtype_is_float(mmf_dtype dtype)
{
    return dtype <= MMF_F64;
}

bool mmf_dtype_is_integer(mmf_dtype dtype)
{
    return dtype >= MMF_I8 && dtype <= MMF_BOOL;
}

int64_t mmf_array_count(const mmf_array *array)
{
    int64_t n = 1;
    for (int d = 0; d < array->n_dims; d++)
        n *= array->shape[d];
    return n;
}

int64_t mmf_array_row(const mmf_array *array)
{
    int64_t n = 1;
    for (int d = 1; d < array->n_dims; d++)
        n *= array->shape[d];
    return n;
}

static float from_bits(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 31u;
    const uint32_t mantissa = half & 0x3ffu;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        const float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Copies element i out of the bytes; the array may be mapped at any offset. */
#define MMF_LOAD(type, target)                                                                     \
    type target = 0;                                                                               \
    memcpy(&target, (const unsigned char *)array->data + (size_t)i * sizeof(type), sizeof(type))

/* Each of these two hands the other the types it holds itself, so a call goes one level deep. */
/* NOLINTNEXTLINE(misc-no-recursion) */
double mmf_array_number(const mmf_array *array, int64_t i)
{
    switch (array->dtype) {
    case MMF_F16: {
        MMF_LOAD(uint16_t, bits);
        return (double)half_to_float(bits);
    }
    case MMF_BF16: {
        MMF_LOAD(uint16_t, bits);
        return (double)from_bits((uint32_t)bits << 16);
    }
    case MMF_F32: {
        MMF_LOAD(float, value);
        return (double)value;
    }
    case MMF_F64: {
        MMF_LOAD(double, value);
        return value;
    }
    case MMF_U64: {
        MMF_LOAD(uint64_t, value);
        return (double)value;
    }
    default:
        return (double)mmf_array_integer(array, i);
    }
}

/* NOLINTNEXTLINE(misc-no-recursion) */
int64_t mmf_array_integer(const mmf_array *array, int64_t i)
{
    switch (array->dtype) {
    case MMF_I8: {
        MMF_LOAD(int8_t, value);
        return value;
    }
    case MMF_U8:
    case MMF_BOOL: {
        MMF_LOAD(uint8_t, value);
        return value;
    }
    case MMF_I16: {
        MMF_LOAD(int16_t, value);
        return value;
    }
    case MMF_U16: {
        MMF_LOAD(uint16_t, value);
        return value;
    }
    case MMF_I32: {
        MMF_LOAD(int32_t, value);
        return value;
    }
    case MMF_U32: {
        MMF_LOAD(uint32_t, value);
        return value;
    }
    case MMF_I64:
    case MMF_U64: {
        MMF_LOAD(int64_t, value);
        return value;
    }
    case MMF_STR:
        return 0;
    default: {
        const double value = mmf_array_number(array, i);
        /* NaN and values outside int64 have no integer: the smallest one marks them. */
        return value > -9.2e18 && value < 9.2e18 ? (int64_t)value : INT64_MIN;
    }
    }
}

const char *mmf_array_string(const mmf_array *array, int64_t i, size_t *n_bytes)
{
    const char *cell = (const char *)array->data + (size_t)i * array->item_bytes;
    size_t n = array->item_bytes;
    while (n > 0 && cell[n - 1] == '\0')
        n--;
    *n_bytes = n;
    return cell;
}

void mmf_array_floats(const mmf_array *array, int64_t first, int64_t count, float *out)
{
    const unsigned char *const bytes = array->data;
    switch (array->dtype) {
    case MMF_F32:
        memcpy(out, bytes + (size_t)first * 4, (size_t)count * 4);
        return;
    case MMF_F16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half = 0;
            memcpy(&half, bytes + (size_t)(first + i) * 2, 2);
            out[i] = half_to_float(half);
        }
        return;
    case MMF_U8:
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)bytes[first + i];
        return;
    default:
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)mmf_array_number(array, first + i);
    }
}

void mmf_array_doubles(const mmf_array *array, int64_t first, int64_t count, double *out)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = mmf_array_number(array, first + i);
}

char *mmf_shape_text(char *out, size_t size, const int64_t *shape, int n_dims)
{
    size_t used = 0;
    out[0] = '\0';
    for (int d = 0; d < n_dims && used < size; d++) {
        const int n =
            snprintf(out + used, size - used, "%s%lld", d ? ", " : "(", (long long)shape[d]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size)
        snprintf(out + used, size - used, n_dims ? ")" : "()");
    return out;
}
