/* explain_text.h: an explanation as tables for a terminal. */
#ifndef MMFUSE_CLI_EXPLAIN_TEXT_H
#define MMFUSE_CLI_EXPLAIN_TEXT_H

#include <jansson.h>

/** Prints what mmf_explain put into `explanation` on stdout. */
void explain_text_print(const json_t *explanation);

#endif
