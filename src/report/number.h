/* number.h: how every report writes a number, in a terminal as on a page. */
#ifndef MMFUSE_REPORT_NUMBER_H
#define MMFUSE_REPORT_NUMBER_H

#include <stdbool.h>

#define MMF_NUMBER_BYTES 24

/** Three decimals, fewer from 10 on; "1.2e-4" and "1.23e12" where those would say nothing or take
 * many digits. What rounding leaves of 0 is 0. NaN is for the caller to name. Returns `out`. */
const char *mmf_number_text(char out[MMF_NUMBER_BYTES], double value);

/** "5e11": `decimals` of the power's factor. Returns `out`. @param value  not 0, finite */
const char *mmf_number_power(char out[MMF_NUMBER_BYTES], double value, int decimals);

/** The power of ten of a number's first digit. @param value  not 0, finite */
int mmf_number_exponent(double value);

/** Three decimals would write it as 0. */
bool mmf_number_is_tiny(double value);

#endif
