/*
 * bench_media.c: how many files of a list mmfuse-read-media decodes in a second.
 *
 *   bench_media [-r RUNS] [KEY=VALUE...] FILE... (options of media.h, as kind=audio n_workers=2)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/media.h"
#include "timer.h"

typedef struct tally {
    int64_t n_failed;
    double bytes;
} tally;

static mmf_status decode_all(mmf_ctx *ctx, const mmf_media_options *options,
                             const char *const *paths, int64_t n, tally *t)
{
    mmf_media_stream *stream = NULL;
    MMF_TRY(mmf_media_open(ctx, &stream, options, paths, n));
    mmf_status status = MMF_OK;
    for (int64_t i = 0; status == MMF_OK && i < n; i++) {
        mmf_media_item item;
        status = mmf_media_next(stream, &item);
        if (status != MMF_OK)
            break;
        if (item.error[0] && t->n_failed++ < 5)
            fprintf(stderr, "%s: %s\n", item.path, item.error);
        t->bytes += (double)mmf_array_count(&item.array) * (double)item.array.item_bytes;
    }
    mmf_media_close(stream);
    return status;
}

int main(int argc, char **argv)
{
    mmf_ctx *ctx = NULL;
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    if (mmf_ctx_create(&ctx, NULL) != MMF_OK)
        return 1;
    int at = 1;
    long n_runs = 5;
    if (argc > 2 && strcmp(argv[1], "-r") == 0) {
        n_runs = strtol(argv[2], NULL, 10);
        at = 3;
    }
    mmf_status status = MMF_OK;
    for (; status == MMF_OK && at < argc && strchr(argv[at], '='); at++)
        status = mmf_media_options_set(ctx, &options, argv[at]);
    double best = 0;
    for (long r = 0; status == MMF_OK && r < n_runs; r++) {
        tally t = {0};
        const double start = bench_seconds();
        status = decode_all(ctx, &options, (const char *const *)(argv + at), argc - at, &t);
        const double seconds = bench_seconds() - start;
        best = best == 0 || seconds < best ? seconds : best;
        if (status == MMF_OK)
            printf("%d files, %lld failed, %.1f MB: %.3f s, %.0f files/s\n", argc - at,
                   (long long)t.n_failed, t.bytes / 1e6, seconds, (argc - at) / seconds);
    }
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(ctx));
    else
        printf("best: %.0f files/s\n", (argc - at) / best);
    mmf_ctx_free(ctx);
    return status == MMF_OK ? 0 : 1;
}
