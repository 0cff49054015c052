/* test_array.c: element types, conversions of every one of them, unaligned data, shapes as text. */
#include <float.h>
#include <math.h>

#include "support.h"

/* The value of a half by its definition, independent of bit tricks. */
static double half_value(unsigned bits)
{
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = (int)(bits >> 10 & 31), mantissa = (int)(bits & 1023);
    if (exponent == 31)
        return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

static void all_halves_convert(void **state)
{
    (void)state;
    static uint16_t halves[65536];
    static float floats[65536];
    for (unsigned i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    const mmf_array array = {MMF_F16, 1, {65536}, 2, halves};
    mmf_array_floats(&array, 0, 65536, floats);
    for (unsigned i = 0; i < 65536; i++) {
        const double wanted = half_value(i), got = mmf_array_number(&array, i);
        if (isnan(wanted)) {
            assert_true(isnan(got) && isnan(floats[i]));
            continue;
        }
        assert_true(got == wanted && (double)floats[i] == wanted);
        assert_int_equal(signbit(got) != 0, i >> 15);
    }
}

static void brain_floats_are_the_upper_half_of_floats(void **state)
{
    (void)state;
    static const float wanted[] = {0, 1, -2.5f, 0x1p127f, -0x1p-126f, INFINITY};
    uint16_t bits[6];
    for (int i = 0; i < 6; i++) {
        uint32_t whole = 0;
        memcpy(&whole, &wanted[i], 4);
        assert_int_equal(whole & 0xffff, 0);
        bits[i] = (uint16_t)(whole >> 16);
    }
    const mmf_array array = {MMF_BF16, 1, {6}, 2, bits};
    float floats[6];
    mmf_array_floats(&array, 0, 6, floats);
    for (int i = 0; i < 6; i++)
        assert_true(mmf_array_number(&array, i) == (double)wanted[i] && floats[i] == wanted[i]);
}

static void every_type_converts_at_any_address(void **state)
{
    (void)state;
    static const struct {
        mmf_dtype dtype;
        const char *name;
        unsigned char bytes[8];
        double number;
        int64_t integer;
    } cases[] = {
        {MMF_F16, "float16", {0x00, 0xc5}, -5, -5},
        {MMF_BF16, "bfloat16", {0xa0, 0xc0}, -5, -5},
        {MMF_F32, "float32", {0, 0, 0xb0, 0xc0}, -5.5, -5},
        {MMF_F64, "float64", {0, 0, 0, 0, 0, 0, 0x16, 0xc0}, -5.5, -5},
        {MMF_I8, "int8", {0x80}, -128, -128},
        {MMF_U8, "uint8", {0x80}, 128, 128},
        {MMF_I16, "int16", {0, 0x80}, -32768, -32768},
        {MMF_U16, "uint16", {0, 0x80}, 32768, 32768},
        {MMF_I32, "int32", {0, 0, 0, 0x80}, -2147483648.0, INT32_MIN},
        {MMF_U32, "uint32", {0, 0, 0, 0x80}, 2147483648.0, 2147483648},
        {MMF_I64, "int64", {0, 0, 0, 0, 0, 0, 0, 0x80}, -0x1p63, INT64_MIN},
        {MMF_U64, "uint64", {0, 0, 0, 0, 0, 0, 0, 0x80}, 0x1p63, INT64_MIN},
        {MMF_BOOL, "bool", {1}, 1, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const size_t n = mmf_dtype_bytes(cases[c].dtype);
        assert_string_equal(mmf_dtype_name(cases[c].dtype), cases[c].name);
        for (size_t offset = 0; offset < 3; offset++) {
            unsigned char bytes[8 * 2 + 3] = {0};
            memcpy(bytes + offset + n, cases[c].bytes, n); /* as element 1 */
            const mmf_array array = {cases[c].dtype, 1, {2}, n, bytes + offset};
            float f = 0;
            double d = 0;
            mmf_array_floats(&array, 1, 1, &f);
            mmf_array_doubles(&array, 1, 1, &d);
            assert_true(mmf_array_number(&array, 1) == cases[c].number);
            assert_true(d == cases[c].number && f == (float)cases[c].number);
            assert_true(mmf_array_integer(&array, 1) == cases[c].integer);
            assert_true(mmf_array_number(&array, 0) == 0);
        }
        assert_int_equal(mmf_dtype_is_float(cases[c].dtype), c < 4);
        assert_int_equal(mmf_dtype_is_integer(cases[c].dtype), c >= 4);
    }
    assert_false(mmf_dtype_is_float(MMF_STR) || mmf_dtype_is_integer(MMF_STR));
}

static void numbers_without_an_integer_are_marked(void **state)
{
    (void)state;
    const double numbers[] = {NAN, INFINITY, -1e30, 9e18};
    const mmf_array array = {MMF_F64, 1, {4}, 8, numbers};
    for (int i = 0; i < 3; i++)
        assert_true(mmf_array_integer(&array, i) == INT64_MIN);
    assert_true(mmf_array_integer(&array, 3) == 9000000000000000000);
}

static void strings_end_before_their_zeros(void **state)
{
    (void)state;
    const mmf_array array = {MMF_STR, 1, {3}, 3, "abcd\0\0\0\0\0"};
    size_t n = 9;
    assert_memory_equal(mmf_array_string(&array, 0, &n), "abc", 3);
    assert_int_equal(n, 3);
    assert_memory_equal(mmf_array_string(&array, 1, &n), "d", 1);
    assert_int_equal(n, 1);
    mmf_array_string(&array, 2, &n);
    assert_int_equal(n, 0);
}

static void shapes_count_and_print(void **state)
{
    (void)state;
    const mmf_array scalar = {.dtype = MMF_F32}, cube = {MMF_F32, 3, {2, 3, 4}, 4, NULL};
    assert_int_equal(mmf_array_count(&scalar), 1);
    assert_int_equal(mmf_array_count(&cube), 24);
    assert_int_equal(mmf_array_row(&cube), 12);
    char text[32];
    assert_string_equal(mmf_shape_text(text, sizeof text, cube.shape, 3), "(2, 3, 4)");
    assert_string_equal(mmf_shape_text(text, sizeof text, cube.shape, 1), "(2)");
    assert_string_equal(mmf_shape_text(text, sizeof text, cube.shape, 0), "()");
    for (size_t size = 1; size < 12; size++) {
        memset(text, '#', sizeof text);
        mmf_shape_text(text, size, cube.shape, 3);
        assert_true(strlen(text) < size);
        assert_memory_equal(text, "(2, 3, 4)", strlen(text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_halves_convert),
        cmocka_unit_test(brain_floats_are_the_upper_half_of_floats),
        cmocka_unit_test(every_type_converts_at_any_address),
        cmocka_unit_test(numbers_without_an_integer_are_marked),
        cmocka_unit_test(strings_end_before_their_zeros),
        cmocka_unit_test(shapes_count_and_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
