/* support.h: what every test needs: a context, a scratch folder, and the place of the shared data.
 */
#ifndef MMFUSE_TESTS_SUPPORT_H
#define MMFUSE_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mmfuse/base.h"

/** Sanitizer builds give every piece of an arena its own allocation: there a step allocates. */
#ifdef MMF_ARENA_DEBUG
enum { TEST_ARENAS_ALLOCATE = 1 };
#else
enum { TEST_ARENAS_ALLOCATE = 0 };
#endif

/** Slow builds (sanitizers, portable products) look for other faults: long tests take a sample. */
#ifdef MMF_TEST_SAMPLE
enum { TEST_SAMPLE = 1 };
#else
enum { TEST_SAMPLE = 0 };
#endif

/** A context with defaults; a failure ends the test. */
mmf_ctx *test_ctx(void);
/** Path of `name` in a scratch folder of this process; borrowed, valid until eight more calls. */
const char *test_path(const char *name);
/** Path below the shared data (`$MMFUSE_SHARED` or ../shared); NULL, said on stderr, if it is
 * absent. */
const char *test_shared(const char *name);
/** Writes a text file "FOLDER/NAME", where the name may have folders of its own. */
void test_write(mmf_ctx *ctx, const char *folder, const char *name, const char *text);
/** Asserts success and prints the context's message otherwise. */
void test_ok(const mmf_ctx *ctx, mmf_status status);
/** Asserts that a call failed with `wanted` and that the message contains every given piece. */
void test_fails(const mmf_ctx *ctx, mmf_status status, mmf_status wanted, const char *piece);

#endif
