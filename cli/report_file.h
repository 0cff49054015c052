/* report_file.h: the HTML report of a result. */
#ifndef MMFUSE_CLI_REPORT_FILE_H
#define MMFUSE_CLI_REPORT_FILE_H

#include "cli.h"

/** Writes the report of a JSON text. @return CLI_OK, or an exit code after saying why not */
int cli_write_report(const cli_session *session, const char *path, const char *json);

#endif
