/* cli.h: what every verb shares: exit codes, the table's row, and the session around a context. */
#ifndef MMFUSE_CLI_CLI_H
#define MMFUSE_CLI_CLI_H

#include "mmfuse/prepare.h"
#include "mmfuse/tool.h"
#include "opt.h"

/** Exit codes of the command. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,       /**< the work failed; the message says what and where */
    CLI_USAGE = 2,        /**< wrong usage; the message says the nearest right one */
    CLI_INTERRUPTED = 130 /**< stopped by Ctrl-C after saving */
};

/** One verb: argv[0] is its name. */
typedef struct cli_verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    bool computes_long; /**< for seconds or more, on several threads */
} cli_verb;

int cmd_list(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_encode(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#define CLI_PATH_BYTES 4096

/** A context whose messages go to stderr, and the reading options every file is opened with. */
typedef struct cli_session {
    mmf_ctx *ctx;
    mmf_io_options io;
    char helper_dir[CLI_PATH_BYTES];
} cli_session;

/** @return OPT_GO_ON, or an exit code after saying why not. @param n_threads 0: all */
int cli_begin(cli_session *session, int64_t n_threads);
/** Frees the context and stops catching signals; returns `code`. */
int cli_end(cli_session *session, int code);
/** From here on Ctrl-C asks the context to stop; a second one ends the process at once. */
void cli_catch_interrupt(const cli_session *session);

/** Prints the context's message; the exit code is 130 for CANCELLED, else 1. */
int cli_failed(const cli_session *session, mmf_status status);
/** As cli_failed, but ARG came from an option of the user: exit code 2. */
int cli_refused(const cli_session *session, mmf_status status);
/** Prints "mmfuse: ..." and returns CLI_FAILED. */
int cli_error(const char *format, ...) MMF_PRINTF(1, 2);
/** Prints a line for the user on stderr. */
void cli_say(const char *format, ...) MMF_PRINTF(1, 2);

/** The rows of --json and --threads that most verbs share. */
typedef struct cli_common {
    bool json;
    int64_t threads;
} cli_common;
extern const opt_row cli_common_rows[];
extern const opt_row cli_json_rows[];

/** A model's definition by name; when unknown, says the nearest and returns NULL. */
const mmf_def *cli_find_model(const char *verb, const char *name);

#endif
