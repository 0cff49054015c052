/* main.c: the command's entry. */
#include <stdio.h>

#include "mmfuse/base.h"

int main(void)
{
    puts(mmf_version());
    return 0;
}
