/* prepare_options.c: see prepare_options.h. */
#include "prepare_options.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_ROWS                                                                                 \
    {"cache",                                                                                      \
     0,                                                                                            \
     OPT_TEXT,                                                                                     \
     offsetof(cli_prepare, cache),                                                                 \
     "DIR",                                                                                        \
     0,                                                                                            \
     0,                                                                                            \
     NULL,                                                                                         \
     "where prepared arrays are kept (default: $MMFUSE_CACHE, else mmfuse in the user's cache "    \
     "folder)"},                                                                                   \
        {"on-error",                                                                               \
         0,                                                                                        \
         OPT_CHOICE,                                                                               \
         offsetof(cli_prepare, on_error),                                                          \
         NULL,                                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         "skip|fail",                                                                              \
         "what a file that cannot be read does: ends the run (fail, the default), or makes its "   \
         "modality absent in its rows (skip)"},                                                    \
    {                                                                                              \
        "workers", 0, OPT_INT, offsetof(cli_prepare, workers), "N", 1, 256, NULL,                  \
            "decoding programs side by side (default: one a processor)"                            \
    }

const opt_row cli_cache_rows[] = {CACHE_ROWS, {0}};

const opt_row cli_prepare_rows[] = {
    {"text", 0, OPT_TEXT, offsetof(cli_prepare, text), "SPEC", 0, 0, NULL,
     "how columns of text are prepared: NAME[:OPTION=VALUE...][=SOURCE] (`mmfuse list` names the "
     "preparations)"},
    {"image", 0, OPT_TEXT, offsetof(cli_prepare, image), "SPEC", 0, 0, NULL,
     "columns that name images, as in image:size=64 (default: image)"},
    {"audio", 0, OPT_TEXT, offsetof(cli_prepare, audio), "SPEC", 0, 0, NULL,
     "columns that name recordings, as in logmel:n_mels=40 (default: logmel)"},
    {"video", 0, OPT_TEXT, offsetof(cli_prepare, video), "SPEC", 0, 0, NULL,
     "columns that name videos, as in frames:size=64 (default: frames)"},
    {"prepare", 0, OPT_TEXTS, offsetof(cli_prepare, columns), "COLUMN=SPEC", 0, 0, NULL,
     "one column by its name; may be repeated"},
    CACHE_ROWS,
    {0},
};

bool cli_prepare_is_given(const cli_prepare *prepare)
{
    return prepare->text || prepare->image || prepare->audio || prepare->video ||
           prepare->columns.count > 0;
}

/* The environment is the user's, so it is read here and not in the library. */
static bool name_cache(const cli_prepare *prepare, char *out, size_t size)
{
    const char *const own = getenv("MMFUSE_CACHE"), *const shared = getenv("XDG_CACHE_HOME");
    const char *const home = getenv("HOME");
    int n = 0;
    if (prepare->cache || (own && *own))
        n = snprintf(out, size, "%s", prepare->cache ? prepare->cache : own);
    else if (shared && *shared)
        n = snprintf(out, size, "%s/mmfuse", shared);
    else
        n = snprintf(out, size, "%s/.cache/mmfuse", home && *home ? home : ".");
    return n > 0 && (size_t)n < size;
}

static void show(void *user, const mmf_prepare_event *event)
{
    char left[32], rate[32], skipped[48] = "";
    out_progress *const progress = user;
    if (event->n_skipped > 0)
        snprintf(skipped, sizeof skipped, "  %lld left out", (long long)event->n_skipped);
    out_progress_show(progress, (double)event->n_done / (double)(event->n_rows ? event->n_rows : 1),
                      "%s  %lld of %lld  %s a second  %s left%s", event->modality,
                      (long long)event->n_done, (long long)event->n_rows,
                      out_number_text(rate, sizeof rate, round(event->rate)),
                      out_seconds_text(left, sizeof left, event->seconds_left), skipped);
    if (event->n_done == event->n_rows)
        out_progress_clear(progress);
}

int cli_prepare_make(cli_prepare_setup *out, const cli_session *session, const cli_prepare *prepare)
{
    const char *const kinds[] = {"text", "image", "audio", "video"};
    const char *const specs[] = {prepare->text, prepare->image, prepare->audio, prepare->video};
    out->options = (mmf_prepare_options)MMF_PREPARE_OPTIONS_INIT;
    mmf_prepare_options *const o = &out->options;
    for (size_t i = 0; i < prepare->columns.count; i++)
        out->specs[o->n_specs++] = prepare->columns.items[i];
    for (size_t k = 0; k < sizeof specs / sizeof *specs; k++) {
        if (!specs[k])
            continue;
        const int n = snprintf(out->kinds[k], CLI_SPEC_BYTES, "@%s=%s", kinds[k], specs[k]);
        if (n < 0 || n >= CLI_SPEC_BYTES)
            return cli_error("--%s: the specification is too long", kinds[k]);
        out->specs[o->n_specs++] = out->kinds[k];
    }
    if (!name_cache(prepare, out->cache, sizeof out->cache))
        return cli_error("--cache: the path is too long");
    out->progress = out_progress_make();
    o->specs = out->specs;
    o->cache = out->cache;
    o->skip_bad = prepare->on_error && strcmp(prepare->on_error, "skip") == 0;
    o->n_workers = (int)prepare->workers;
    o->io = &session->io;
    o->watch = show;
    o->watch_user = &out->progress;
    return OPT_GO_ON;
}
