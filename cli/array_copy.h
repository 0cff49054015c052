/* array_copy.h: arrays into an npz piece by piece, and what was written as a list. */
#ifndef MMFUSE_CLI_ARRAY_COPY_H
#define MMFUSE_CLI_ARRAY_COPY_H

#include "cli.h"
#include "output.h"

/**
 * @param share   of the work that is done before
 * @errors        IO, CANCELLED
 */
mmf_status cli_copy_array(const cli_session *session, mmf_npz_writer *writer, const char *name,
                          const mmf_array *array, out_progress *progress, double share);
/** {"name", "dtype", "shape"} */
json_t *cli_array_json(const char *name, const mmf_array *array);
/** Prints a list of these as a table. */
void cli_print_arrays(const json_t *arrays);

#endif
