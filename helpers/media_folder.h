/* media_folder.h: a file or a folder of files as arrays of the data contract. */
#ifndef MMFUSE_HELPERS_MEDIA_FOLDER_H
#define MMFUSE_HELPERS_MEDIA_FOLDER_H

#include "media_decode.h"

/** What to do with a file that cannot be decoded: say so and mark it absent, or fail. */
typedef enum on_error { FAIL_ON_ERROR, SKIP_ON_ERROR } on_error;

/**
 * Writes an npz to standard output: `image`, `audio` or `video`, `id`, and for folders of folders
 * `label` and `label.names`. `kind_given`: the options say the kind; else the endings do.
 */
mmf_status convert_folder(decoder *d, const char *path, bool kind_given, on_error policy);

#endif
