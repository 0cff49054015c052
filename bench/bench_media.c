/*
 * bench_media.c: how many files, or pairs of files, mmfuse-read-media decodes in a second.
 *
 *   bench_media [-r RUNS] [KEY=VALUE...] FILE... [-- [KEY=VALUE...] FILE...]
 *
 * Keys are the options of media.h, as kind=audio n_workers=1. Behind "--" stands a second list,
 * read row by row beside the first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/media.h"
#include "timer.h"

#define MAX_LISTS 2
#define SHOWN_ERRORS 5

typedef struct list {
    mmf_media_options options;
    const char *const *paths;
    int64_t n;
    mmf_media_stream *stream;
} list;

typedef struct tally {
    int64_t n_failed;
    double bytes;
} tally;

static mmf_status next(list *l, tally *t)
{
    mmf_media_item item;
    MMF_TRY(mmf_media_next(l->stream, &item));
    if (item.error[0] && t->n_failed++ < SHOWN_ERRORS)
        fprintf(stderr, "%s: %s\n", item.path, item.error);
    t->bytes += (double)mmf_array_count(&item.array) * (double)item.array.item_bytes;
    return MMF_OK;
}

/* Opening counts: it starts the programs. */
static mmf_status decode_all(mmf_ctx *ctx, list *lists, int n_lists, tally *t)
{
    mmf_status status = MMF_OK;
    for (int k = 0; status == MMF_OK && k < n_lists; k++)
        status =
            mmf_media_open(ctx, &lists[k].stream, &lists[k].options, lists[k].paths, lists[k].n);
    for (int64_t i = 0; status == MMF_OK && i < lists[0].n; i++) {
        for (int k = 0; status == MMF_OK && k < n_lists; k++)
            status = next(&lists[k], t);
    }
    for (int k = 0; k < n_lists; k++) {
        mmf_media_close(lists[k].stream);
        lists[k].stream = NULL;
    }
    return status;
}

/* Options, then files up to "--" or the end; returns where it stopped. */
static mmf_status parse_list(mmf_ctx *ctx, list *l, int argc, char **argv, int *at)
{
    l->options = (mmf_media_options)MMF_MEDIA_OPTIONS_INIT;
    for (; *at < argc && strchr(argv[*at], '='); ++*at)
        MMF_TRY(mmf_media_options_set(ctx, &l->options, argv[*at]));
    l->paths = (const char *const *)(argv + *at);
    while (*at < argc && strcmp(argv[*at], "--") != 0) {
        l->n++;
        ++*at;
    }
    return l->n > 0 ? MMF_OK : mmf_fail(ctx, MMF_ARG, "expected files behind the options");
}

static mmf_status measure(mmf_ctx *ctx, int argc, char **argv)
{
    int at = 1, n_lists = 0;
    long n_runs = 5;
    list lists[MAX_LISTS] = {0};
    if (argc > 2 && strcmp(argv[1], "-r") == 0) {
        n_runs = strtol(argv[2], NULL, 10);
        at = 3;
    }
    do
        MMF_TRY(parse_list(ctx, &lists[n_lists++], argc, argv, &at));
    while (at++ < argc && n_lists < MAX_LISTS);
    for (int k = 1; k < n_lists; k++) {
        if (lists[k].n != lists[0].n)
            return mmf_fail(ctx, MMF_ARG, "lists of %lld and %lld files", (long long)lists[0].n,
                            (long long)lists[k].n);
    }
    double best = 0;
    for (long r = 0; r < n_runs; r++) {
        tally t = {0};
        const double start = bench_seconds();
        MMF_TRY(decode_all(ctx, lists, n_lists, &t));
        const double seconds = bench_seconds() - start;
        best = best == 0 || seconds < best ? seconds : best;
        printf("%lld rows of %d, %lld failed, %.1f MB: %.3f s, %.0f rows/s\n",
               (long long)lists[0].n, n_lists, (long long)t.n_failed, t.bytes / 1e6, seconds,
               (double)lists[0].n / seconds);
    }
    printf("best: %.0f rows/s\n", (double)lists[0].n / best);
    return MMF_OK;
}

int main(int argc, char **argv)
{
    mmf_ctx *ctx = NULL;
    if (mmf_ctx_create(&ctx, NULL) != MMF_OK)
        return 1;
    const mmf_status status = measure(ctx, argc, argv);
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(ctx));
    mmf_ctx_free(ctx);
    return status == MMF_OK ? 0 : 1;
}
