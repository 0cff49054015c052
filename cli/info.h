/* info.h: the kinds of things that `info` describes. Each returns an exit code. */
#ifndef MMFUSE_CLI_INFO_H
#define MMFUSE_CLI_INFO_H

#include "data_options.h"

int cli_info_data(const cli_session *session, const char *path, const cli_data *data,
                  const cli_split *split, bool as_json);
/** Before anything is prepared: columns, files, and those that are missing. */
int cli_info_manifest(const cli_session *session, const char *path, bool as_json);
int cli_info_model_file(const cli_session *session, const char *path, bool as_json);
int cli_info_definition(const mmf_def *def, bool as_json);
int cli_info_system(const cli_session *session, bool as_json);

#endif
