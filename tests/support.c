/* support.c: see support.h. */
#include "support.h"

#include "base/file.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

mmf_ctx *test_ctx(void)
{
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, NULL), MMF_OK);
    return ctx;
}

const char *test_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *const path = paths[next++ % 8];
    char folder[256];
    snprintf(folder, sizeof folder, MMF_BINARY_DIR "/scratch.%ld", (long)getpid());
    mkdir(folder, 0777);
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

const char *test_shared(const char *name)
{
    static char path[512];
    const char *const given = getenv("MMFUSE_SHARED");
    snprintf(path, sizeof path, "%s/%s", given ? given : MMF_SOURCE_DIR "/../shared", name);
    if (access(path, R_OK) == 0)
        return path;
    fprintf(stderr, "SKIPPED: %s is absent; set MMFUSE_SHARED to the folder of the shared data\n",
            path);
    return NULL;
}

void test_write(mmf_ctx *ctx, const char *folder, const char *name, const char *text)
{
    char path[600], parent[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
    test_ok(ctx, mmf_make_folder(ctx, parent));
    test_ok(ctx, mmf_write_text(ctx, path, text, strlen(text)));
}

void test_ok(const mmf_ctx *ctx, mmf_status status)
{
    if (status != MMF_OK)
        fail_msg("%s: %s", mmf_status_name(status), mmf_ctx_error(ctx));
}

void test_fails(const mmf_ctx *ctx, mmf_status status, mmf_status wanted, const char *piece)
{
    if (status != wanted)
        fail_msg("expected \"%s\", got \"%s\" (%s)", mmf_status_name(wanted),
                 mmf_status_name(status), mmf_ctx_error(ctx));
    if (piece && !strstr(mmf_ctx_error(ctx), piece))
        fail_msg("the message lacks \"%s\": %s", piece, mmf_ctx_error(ctx));
}
