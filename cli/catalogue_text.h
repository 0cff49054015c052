/* catalogue_text.h: definitions as words and as JSON, for `list` and `info`. */
#ifndef MMFUSE_CLI_CATALOGUE_TEXT_H
#define MMFUSE_CLI_CATALOGUE_TEXT_H

#include <jansson.h>

#include "mmfuse/model.h"

/** The name that --model takes: "only-MODALITY" for `only`. */
const char *cli_model_label(const mmf_def *def);
/** "regression, classes" in short. */
const char *cli_tasks_label(const mmf_def *def);
/** What `list` says of a model that does not take everything: "two modalities", or its tasks. */
const char *cli_limits_label(const mmf_def *def);
/** "unimodal", "late", or the structure. */
const char *cli_family(const mmf_def *def);
/** {"name", "title", ...}; models also have family, timing, tasks. */
json_t *cli_def_json(const mmf_def *def, bool is_model);
/** The definition that says what this one is: itself, or the operator it is made around. */
const mmf_def *cli_described(const mmf_def *def);
/** The option table as a list of objects. */
json_t *cli_options_json(const mmf_def *def);
/** The option table as text on stdout. */
void cli_print_options(const mmf_def *def);
/** Kinds of modality as a list of names. */
json_t *cli_takes_json(unsigned takes);
/** "vectors, sequences" into `out`. */
char *cli_takes_text(unsigned takes, char *out, size_t size);

#endif
