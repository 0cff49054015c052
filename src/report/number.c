/* number.c: see number.h. */
#include "report/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NOTHING 1e-15    /* less is what rounding left of 0 */
#define SMALLEST 0.0005  /* that three decimals show */
#define LARGEST 999999.5 /* more is read by its power of ten */

bool mmf_number_is_tiny(double value)
{
    return fabs(value) < SMALLEST;
}

int mmf_number_exponent(double value)
{
    /* What arithmetic left just below a power of ten belongs to it. */
    return (int)floor(log10(fabs(value)) + 1e-9);
}

const char *mmf_number_power(char out[MMF_NUMBER_BYTES], double value, int decimals)
{
    /* The C library rounds the factor; only its exponent, "e+09", is written anew. */
    char text[MMF_NUMBER_BYTES + 8];
    const int most = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
    const int n = snprintf(text, sizeof text, "%.*e", most, value);
    int factor = 0;
    while (factor < n && text[factor] != 'e')
        factor++;
    if (factor == n)
        snprintf(out, MMF_NUMBER_BYTES, "%s", value < 0 ? "-inf" : "inf");
    else
        snprintf(out, MMF_NUMBER_BYTES, "%.*se%ld", factor, text,
                 strtol(text + factor + 1, NULL, 10));
    return out;
}

const char *mmf_number_text(char out[MMF_NUMBER_BYTES], double value)
{
    const double x = fabs(value);
    if (x > LARGEST)
        return mmf_number_power(out, value, 2);
    if (x >= NOTHING && x < SMALLEST)
        return mmf_number_power(out, value, 1);
    const int decimals = x >= 1000 ? 0 : x >= 100 ? 1 : x >= 10 ? 2 : 3;
    snprintf(out, MMF_NUMBER_BYTES, "%.*f", decimals, x < NOTHING ? 0 : value);
    return out;
}
