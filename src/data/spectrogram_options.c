/* spectrogram_options.c: options of spectrograms by name, and their bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/spectrogram.h"

typedef enum row_type { ROW_WHOLE, ROW_REAL, ROW_FLAG, ROW_CHOICE } row_type;

/* `choices` of ROW_CHOICE in the order of the enumeration, or of false and true. */
typedef struct option_row {
    const char *name;
    row_type type;
    size_t offset;
    double low, high;
    const char *choices[5];
} option_row;

#define AT(field) offsetof(mmf_spectrogram_options, field)

static const option_row rows[] = {
    {"sample_rate", ROW_WHOLE, AT(sample_rate), 1, 1e7, {0}},
    {"n_fft", ROW_WHOLE, AT(n_fft), 2, 1 << 20, {0}},
    {"hop_length", ROW_WHOLE, AT(hop_length), 0, 1 << 30, {0}},
    {"win_length", ROW_WHOLE, AT(win_length), 0, 1 << 20, {0}},
    {"window", ROW_CHOICE, AT(window), 0, 0, {"hann", "hamming", "blackman", "boxcar"}},
    {"center", ROW_FLAG, AT(center), 0, 0, {0}},
    {"pad_mode", ROW_CHOICE, AT(pad_mode), 0, 0, {"constant", "reflect", "edge"}},
    {"power", ROW_REAL, AT(power), 1e-3, 16, {0}},
    {"n_mels", ROW_WHOLE, AT(n_mels), 0, 8192, {0}},
    {"fmin", ROW_REAL, AT(fmin), 0, 1e7, {0}},
    {"fmax", ROW_REAL, AT(fmax), 0, 1e7, {0}},
    {"htk", ROW_FLAG, AT(htk), 0, 0, {0}},
    {"norm", ROW_FLAG, AT(slaney_norm), 0, 0, {"none", "slaney"}},
    {"output", ROW_CHOICE, AT(output), 0, 0, {"power", "log", "db"}},
    {"amin", ROW_REAL, AT(amin), 1e-37, 1e37, {0}},
    {"ref", ROW_REAL, AT(ref), 0, 1e37, {0}},
    {"top_db", ROW_REAL, AT(top_db), -1, 1e6, {0}},
    {"n_mfcc", ROW_WHOLE, AT(n_mfcc), 0, 8192, {0}},
    {"dct_ortho", ROW_FLAG, AT(dct_ortho), 0, 0, {0}},
    {"lifter", ROW_REAL, AT(lifter), 0, 1e6, {0}},
};

enum { N_ROWS = sizeof rows / sizeof *rows };

/* Aliases: librosa calls the rate `sr`. */
static const option_row *find_row(mmf_ctx *ctx, const char *name)
{
    const char *names[N_ROWS];
    for (size_t i = 0; i < N_ROWS; i++) {
        names[i] = rows[i].name;
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    if (strcmp(name, "sr") == 0)
        return &rows[0];
    const char *const nearest = mmf_text_nearest(name, names, N_ROWS);
    mmf_fail(ctx, MMF_ARG, "spectrograms have no option \"%s\"%s%s%s", name,
             nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return NULL;
}

static mmf_status set_choice(mmf_ctx *ctx, void *field, const option_row *row, const char *value)
{
    static const char *const truth[] = {"false", "true", NULL};
    const char *const *const choices = row->choices[0] ? row->choices : truth;
    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], value) != 0)
            continue;
        if (row->type == ROW_FLAG)
            *(bool *)field = i == 1;
        else
            memcpy(field, &i, sizeof i); /* an enumeration's size is an int's */
        return MMF_OK;
    }
    char known[80] = "";
    for (int i = 0; choices[i]; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 choices[i]);
    return mmf_fail(ctx, MMF_ARG, "option %s of spectrograms: expected one of %s, found \"%s\"",
                    row->name, known, value);
}

mmf_status mmf_spectrogram_set(mmf_ctx *ctx, mmf_spectrogram_options *options, const char *name,
                               const char *value)
{
    const option_row *const row = find_row(ctx, name);
    if (!row)
        return MMF_ARG;
    void *const field = (char *)options + row->offset;
    if (row->type == ROW_FLAG || row->type == ROW_CHOICE)
        return set_choice(ctx, field, row, value);
    double number = 0;
    /* Written so that what is no number fails as well. */
    const bool fits =
        mmf_text_number(value, strlen(value), &number) && number >= row->low && number <= row->high;
    if (!fits || (row->type == ROW_WHOLE && number != (double)(int64_t)number))
        return mmf_fail(ctx, MMF_ARG,
                        "option %s of spectrograms: expected a %snumber from %g to %g, found "
                        "\"%s\"",
                        row->name, row->type == ROW_WHOLE ? "whole " : "", row->low, row->high,
                        value);
    if (row->type == ROW_WHOLE)
        *(int64_t *)field = (int64_t)number;
    else
        *(double *)field = number;
    return MMF_OK;
}

static mmf_status check_bounds(mmf_ctx *ctx, const mmf_spectrogram_options *o)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const char *const field = (const char *)o + rows[i].offset;
        double value = 0;
        if (rows[i].type == ROW_WHOLE)
            value = (double)*(const int64_t *)(const void *)field;
        else if (rows[i].type == ROW_REAL)
            value = *(const double *)(const void *)field;
        else
            continue;
        if (!(value >= rows[i].low && value <= rows[i].high))
            return mmf_fail(ctx, MMF_ARG, "option %s of spectrograms: expected %g to %g, found %g",
                            rows[i].name, rows[i].low, rows[i].high, value);
    }
    return MMF_OK;
}

mmf_status mmf_spectrogram_check(mmf_ctx *ctx, mmf_spectrogram_options *o)
{
    MMF_TRY(check_bounds(ctx, o));
    if (o->win_length == 0)
        o->win_length = o->n_fft;
    if (o->hop_length == 0)
        o->hop_length = o->win_length >= 4 ? o->win_length / 4 : 1;
    if (o->fmax == 0)
        o->fmax = (double)o->sample_rate / 2;
    if (o->win_length > o->n_fft)
        return mmf_fail(ctx, MMF_ARG,
                        "a window of %lld samples does not fit into transforms of %lld; make n_fft "
                        "larger or win_length smaller",
                        (long long)o->win_length, (long long)o->n_fft);
    if (o->n_mels > 0 && (o->fmin >= o->fmax || o->fmax > (double)o->sample_rate / 2))
        return mmf_fail(ctx, MMF_ARG,
                        "mel filters from %g to %g Hz; recordings of %lld samples a second hold 0 "
                        "to %g Hz",
                        o->fmin, o->fmax, (long long)o->sample_rate, (double)o->sample_rate / 2);
    const int64_t n_bands = o->n_mels > 0 ? o->n_mels : o->n_fft / 2 + 1;
    if (o->n_mfcc > n_bands)
        return mmf_fail(ctx, MMF_ARG,
                        "%lld coefficients of %lld values a frame; n_mfcc must not be above n_mels",
                        (long long)o->n_mfcc, (long long)n_bands);
    return MMF_OK;
}
