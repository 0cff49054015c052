/* prepare_options.h: how the raw columns of a manifest are prepared, and where that is kept. */
#ifndef MMFUSE_CLI_PREPARE_OPTIONS_H
#define MMFUSE_CLI_PREPARE_OPTIONS_H

#include "cli.h"
#include "output.h"

#define CLI_SPEC_BYTES 4096

/** Values of cli_prepare_rows and cli_cache_rows. */
typedef struct cli_prepare {
    const char *text, *image, *audio, *video, *cache, *on_error;
    opt_texts columns;
    int64_t workers;
} cli_prepare;

/** What to make of columns; the rows of cli_cache_rows are among them. */
extern const opt_row cli_prepare_rows[];
/** Where it is kept, and what happens when a file is bad: for models, which know the rest. */
extern const opt_row cli_cache_rows[];

/** Options of the library, with the memory behind them. */
typedef struct cli_prepare_setup {
    mmf_prepare_options options;
    const char *specs[OPT_MAX_TEXTS + 4];
    char kinds[4][CLI_SPEC_BYTES];
    char cache[CLI_PATH_BYTES];
    out_progress progress;
} cli_prepare_setup;

/** @return OPT_GO_ON or an exit code; strings are borrowed from `prepare` and the session */
int cli_prepare_make(cli_prepare_setup *out, const cli_session *session,
                     const cli_prepare *prepare);
/** True if some column is to be prepared in a way that was asked for. */
bool cli_prepare_is_given(const cli_prepare *prepare);

#endif
