/*
 * analyzer.h: put in front of every file by scripts/tidy.sh, never part of a build.
 *
 * A failing call returns what mmf_fail returns. The analyser sees no definition of it, so it also
 * follows the path on which a failure is MMF_OK and reports the out-parameters left NULL there.
 */
#include "mmfuse/base.h"

#define mmf_fail(ctx, status, ...) ((void)(mmf_fail)(ctx, status, __VA_ARGS__), (status))
#define mmf_fail_within(ctx, status, ...)                                                          \
    ((void)(mmf_fail_within)(ctx, status, __VA_ARGS__), (status))
