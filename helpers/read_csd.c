/*
 * read_csd.c: the program mmfuse-read-csd: computational sequences of the CMU-MultimodalSDK,
 * aligned in time, as one npz.
 *
 * As the SDK's `align` does: videos that are in every file are kept; to an interval of the
 * reference belongs the mean of the entries that overlap it by more than 10 microseconds. An
 * interval that nothing of a modality overlaps has zeros in a sequence, and is absent as a vector.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csd_sequence.h"
#include "npz_output.h"

#define MAX_SEQUENCES 16
#define MAX_SAMPLES ((int64_t)1 << 24)
#define ID_BYTES (CSD_NAME_BYTES + 24)

/* What becomes a sample. */
typedef enum unit {
    VIDEOS,   /* one file: a video is a sequence of its entries */
    ENTRIES,  /* an interval of the reference is a sample of vectors */
    SEGMENTS, /* an interval of the labels is a sequence of the reference's intervals in it */
} unit;

typedef struct sample {
    int64_t video, entry; /* entry of the labels or of the reference; -1: the whole video */
    double from, to;
    int64_t n_steps;
} sample;

typedef struct job {
    mmf_ctx *ctx;
    csd_sequence sequences[MAX_SEQUENCES];
    size_t n_sequences;
    int label;            /* which of them holds the labels; -1: none */
    int64_t label_column; /* -1: all */
    unit unit;
    int64_t max_steps; /* 0: no limit */
    char **videos;
    int64_t n_videos;
    sample *samples;
    int64_t n_samples, capacity, n_steps; /* n_steps: of the longest */
    char *vocabulary;                     /* cells of word_bytes; the first is empty */
    size_t word_bytes;
    int64_t n_words;
} job;

/* ---- Samples ------------------------------------------------------------------------------ */

static bool long_enough(const csd_video *v, int64_t i)
{
    return v->intervals[2 * i + 1] - v->intervals[2 * i] >= CSD_LEAST;
}

/* The step entries of a sample: all of the reference's in it, the last max_steps of them. */
static int64_t list_steps(const job *j, const sample *s, const csd_video *reference, int64_t *steps)
{
    int64_t n = 0, first = 0, end = reference->n;
    if (j->unit == SEGMENTS)
        csd_range(reference, s->from, s->to, &first, &end);
    for (int64_t i = first; i < end; i++) {
        if (long_enough(reference, i) &&
            (j->unit != SEGMENTS || csd_overlaps(reference, i, s->from, s->to)))
            steps[n++] = i;
    }
    const int64_t extra = j->max_steps > 0 && n > j->max_steps ? n - j->max_steps : 0;
    memmove(steps, steps + extra, (size_t)(n - extra) * sizeof *steps);
    return n - extra;
}

static mmf_status add_sample(job *j, sample s, const csd_video *reference, int64_t *steps)
{
    if (j->n_samples == j->capacity) {
        const int64_t capacity = j->capacity ? 2 * j->capacity : 1024;
        sample *const grown = mmf_realloc(j->ctx, j->samples, (size_t)capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        j->samples = grown;
        j->capacity = capacity;
    }
    if (j->n_samples >= MAX_SAMPLES)
        return mmf_fail(j->ctx, MMF_LIMIT, "more than %lld samples", (long long)MAX_SAMPLES);
    s.n_steps = j->unit == ENTRIES ? 1 : list_steps(j, &s, reference, steps);
    j->n_steps = s.n_steps > j->n_steps ? s.n_steps : j->n_steps;
    j->samples[j->n_samples++] = s;
    return MMF_OK;
}

static mmf_status add_video(job *j, int64_t video)
{
    csd_video reference, labels = {0};
    MMF_TRY(csd_load(j->ctx, &j->sequences[0], &reference, j->videos[video]));
    int64_t *const steps = mmf_alloc_zero(j->ctx, (size_t)reference.n, sizeof *steps);
    mmf_status status = steps ? MMF_OK : MMF_NOMEM;
    if (status == MMF_OK && j->unit == SEGMENTS)
        status = csd_load(j->ctx, &j->sequences[j->label], &labels, j->videos[video]);
    if (status == MMF_OK && j->unit == VIDEOS)
        status = add_sample(j, (sample){.video = video, .entry = -1}, &reference, steps);
    const csd_video *const from = j->unit == SEGMENTS ? &labels : &reference;
    for (int64_t i = 0; status == MMF_OK && j->unit != VIDEOS && i < from->n; i++) {
        if (long_enough(from, i))
            status = add_sample(j,
                                (sample){.video = video,
                                         .entry = i,
                                         .from = from->intervals[2 * i],
                                         .to = from->intervals[2 * i + 1]},
                                &reference, steps);
    }
    mmf_free(j->ctx, steps);
    csd_unload(j->ctx, &reference);
    csd_unload(j->ctx, &labels);
    return status;
}

static mmf_status find_samples(job *j)
{
    MMF_TRY(csd_common_videos(j->ctx, j->sequences, j->n_sequences, &j->videos, &j->n_videos));
    if (j->n_videos == 0)
        return mmf_fail(j->ctx, MMF_FORMAT, "no video is in all of the files");
    for (int64_t i = 0; i < j->n_videos; i++)
        MMF_TRY(add_video(j, i));
    if (j->n_steps == 0)
        return mmf_fail(j->ctx, MMF_FORMAT, "no interval of \"%s\" lies in any sample",
                        j->sequences[0].name);
    return MMF_OK;
}

/* ---- Words -------------------------------------------------------------------------------- */

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds the words of a video to the sorted vocabulary, each once. */
static mmf_status merge_words(job *j, const csd_video *v)
{
    const size_t width = v->word_bytes < j->word_bytes ? j->word_bytes : v->word_bytes + 1;
    char *const cells = mmf_alloc_zero(j->ctx, (size_t)(j->n_words + v->n), width);
    char **const all = mmf_alloc_zero(j->ctx, (size_t)(j->n_words + v->n), sizeof *all);
    char *const merged = mmf_alloc_zero(j->ctx, (size_t)(j->n_words + v->n), width);
    const bool good = cells && all && merged;
    for (int64_t i = 0; good && i < j->n_words + v->n; i++) {
        all[i] = cells + (size_t)i * width;
        if (i < j->n_words)
            memcpy(all[i], j->vocabulary + (size_t)i * j->word_bytes, j->word_bytes);
        else
            memcpy(all[i], v->words + (size_t)(i - j->n_words) * v->word_bytes, v->word_bytes);
    }
    int64_t n = 0;
    if (good)
        qsort(all, (size_t)(j->n_words + v->n), sizeof *all, compare_words);
    for (int64_t i = 0; good && i < j->n_words + v->n; i++) {
        if (i == 0 || strcmp(all[i], all[i - 1]) != 0)
            memcpy(merged + (size_t)n++ * width, all[i], width);
    }
    mmf_free(j->ctx, cells);
    mmf_free(j->ctx, all);
    if (!good) {
        mmf_free(j->ctx, merged);
        return MMF_NOMEM;
    }
    mmf_free(j->ctx, j->vocabulary);
    j->vocabulary = merged;
    j->word_bytes = width;
    j->n_words = n;
    return MMF_OK;
}

static mmf_status collect_words(job *j, const csd_sequence *s)
{
    mmf_free(j->ctx, j->vocabulary);
    j->word_bytes = 1;
    j->n_words = 1; /* the empty word fills what is beyond the length */
    j->vocabulary = mmf_alloc_zero(j->ctx, 1, 1);
    mmf_status status = j->vocabulary ? MMF_OK : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < j->n_videos; i++) {
        csd_video v;
        status = csd_load(j->ctx, s, &v, j->videos[i]);
        if (status == MMF_OK)
            status = merge_words(j, &v);
        csd_unload(j->ctx, &v);
    }
    return status;
}

static int64_t number_of_word(const job *j, const csd_video *v, int64_t i)
{
    const char *const word = v->words + (size_t)i * v->word_bytes;
    int64_t low = 0, high = j->n_words - 1;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const char *const other = j->vocabulary + (size_t)middle * j->word_bytes;
        if (strncmp(other, word, v->word_bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- Alignment ---------------------------------------------------------------------------- */

/* The mean of the entries that overlap [from, to] into `out`; false if there are none. */
static bool average(const csd_sequence *s, const csd_video *v, double from, double to, float *out)
{
    int64_t first = 0, end = 0, n = 0;
    double sum[1024];
    csd_range(v, from, to, &first, &end);
    for (int64_t at = 0; at < s->width; at += 1024) {
        const int64_t width = s->width - at < 1024 ? s->width - at : 1024;
        memset(sum, 0, sizeof sum);
        n = 0;
        for (int64_t i = first; i < end; i++) {
            if (!csd_overlaps(v, i, from, to))
                continue;
            n++;
            for (int64_t k = 0; k < width; k++)
                sum[k] += v->features[i * s->width + at + k];
        }
        for (int64_t k = 0; k < width && n > 0; k++)
            out[at + k] = (float)(sum[k] / (double)n);
    }
    return n > 0;
}

/* The word of an interval is the first that overlaps it: words have no mean. */
static bool first_word(const job *j, const csd_video *v, double from, double to, int64_t *out)
{
    int64_t first = 0, end = 0;
    csd_range(v, from, to, &first, &end);
    for (int64_t i = first; i < end; i++) {
        if (csd_overlaps(v, i, from, to)) {
            *out = number_of_word(j, v, i);
            return true;
        }
    }
    return false;
}

/* One row of a modality: an entry of its own where it is the reference, else what overlaps. */
static bool fill_row(const job *j, const csd_sequence *s, const csd_video *v,
                     const csd_video *reference, int64_t step, void *row)
{
    const bool own = s == &j->sequences[0];
    const double from = reference->intervals[2 * step], to = reference->intervals[2 * step + 1];
    if (s->is_words) {
        if (!own)
            return first_word(j, v, from, to, row);
        *(int64_t *)row = number_of_word(j, reference, step);
        return true;
    }
    if (!own)
        return average(s, v, from, to, row);
    for (int64_t k = 0; k < s->width; k++)
        ((float *)row)[k] = (float)reference->features[step * s->width + k];
    return true;
}

/* What is at hand while the samples of one modality are written, video by video. */
typedef struct cursor {
    int64_t video; /* -1: none */
    csd_video own, reference;
    int64_t *steps;
} cursor;

static void leave_video(const job *j, cursor *c)
{
    csd_unload(j->ctx, &c->own);
    csd_unload(j->ctx, &c->reference);
    mmf_free(j->ctx, c->steps);
    *c = (cursor){.video = -1};
}

static mmf_status go_to_video(const job *j, const csd_sequence *s, cursor *c, int64_t video)
{
    if (c->video == video)
        return MMF_OK;
    leave_video(j, c);
    MMF_TRY(csd_load(j->ctx, &j->sequences[0], &c->reference, j->videos[video]));
    if (s != &j->sequences[0])
        MMF_TRY(csd_load(j->ctx, s, &c->own, j->videos[video]));
    c->steps = mmf_alloc_zero(j->ctx, (size_t)c->reference.n, sizeof *c->steps);
    c->video = video;
    return c->steps ? MMF_OK : MMF_NOMEM;
}

static mmf_status write_rows(job *j, const csd_sequence *s, mmf_npz_writer *writer,
                             unsigned char *present)
{
    const size_t row_bytes = (size_t)s->width * (s->is_words ? sizeof(int64_t) : sizeof(float));
    unsigned char *const rows = mmf_alloc_zero(j->ctx, (size_t)j->n_steps, row_bytes);
    cursor c = {.video = -1};
    mmf_status status = rows ? MMF_OK : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < j->n_samples; i++) {
        const sample *const x = &j->samples[i];
        status = go_to_video(j, s, &c, x->video);
        if (status != MMF_OK)
            break;
        memset(rows, 0, (size_t)j->n_steps * row_bytes);
        int64_t n = 1;
        if (j->unit == ENTRIES)
            c.steps[0] = x->entry;
        else
            n = list_steps(j, x, &c.reference, c.steps);
        for (int64_t k = 0; k < n && k < j->n_steps; k++) {
            const bool there =
                fill_row(j, s, &c.own, &c.reference, c.steps[k], rows + (size_t)k * row_bytes);
            present[i] = present[i] || there;
        }
        status = mmf_npz_append(writer, rows, (size_t)j->n_steps * row_bytes);
    }
    leave_video(j, &c);
    mmf_free(j->ctx, rows);
    return status;
}

/* ---- Arrays ------------------------------------------------------------------------------- */

static mmf_status write_lengths(job *j, mmf_npz_writer *writer, const char *key,
                                const unsigned char *present)
{
    int64_t *const lengths = mmf_alloc_zero(j->ctx, (size_t)j->n_samples, sizeof *lengths);
    if (!lengths)
        return MMF_NOMEM;
    for (int64_t i = 0; i < j->n_samples; i++)
        lengths[i] = present[i] ? j->samples[i].n_steps : 0;
    const mmf_array array = {
        .dtype = MMF_I64, .n_dims = 1, .shape = {j->n_samples}, .item_bytes = 8, .data = lengths};
    const mmf_status status = mmf_npz_add(writer, key, &array);
    mmf_free(j->ctx, lengths);
    return status;
}

static mmf_status write_vocabulary(job *j, mmf_npz_writer *writer, const char *key)
{
    const mmf_array array = {.dtype = MMF_STR,
                             .n_dims = 1,
                             .shape = {j->n_words},
                             .item_bytes = j->word_bytes,
                             .data = j->vocabulary};
    return mmf_npz_add(writer, key, &array);
}

static mmf_status write_modality(job *j, const csd_sequence *s, mmf_npz_writer *writer)
{
    mmf_array header = {.dtype = s->is_words ? MMF_I64 : MMF_F32,
                        .n_dims = 2,
                        .shape = {j->n_samples, s->is_words ? j->n_steps : s->width},
                        .item_bytes = s->is_words ? sizeof(int64_t) : sizeof(float)};
    const bool is_sequence = j->unit != ENTRIES || s->is_words;
    if (j->unit != ENTRIES && !s->is_words) {
        header.n_dims = 3;
        header.shape[1] = j->n_steps;
        header.shape[2] = s->width;
    }
    char key[CSD_NAME_BYTES + 16];
    if (s->is_words)
        MMF_TRY(collect_words(j, s));
    unsigned char *const present = mmf_alloc_zero(j->ctx, (size_t)j->n_samples, 1);
    if (!present)
        return MMF_NOMEM;
    mmf_status status = mmf_npz_begin(writer, s->name, &header);
    if (status == MMF_OK)
        status = write_rows(j, s, writer, present);
    if (status == MMF_OK)
        status = mmf_npz_end(writer);
    snprintf(key, sizeof key, "%s.%s", s->name, is_sequence ? "length" : "present");
    const mmf_array flags = {
        .dtype = MMF_U8, .n_dims = 1, .shape = {j->n_samples}, .item_bytes = 1, .data = present};
    if (status == MMF_OK)
        status =
            is_sequence ? write_lengths(j, writer, key, present) : mmf_npz_add(writer, key, &flags);
    mmf_free(j->ctx, present);
    snprintf(key, sizeof key, "%s.vocab", s->name);
    return status == MMF_OK && s->is_words ? write_vocabulary(j, writer, key) : status;
}

static mmf_status write_label(job *j, mmf_npz_writer *writer)
{
    const csd_sequence *const s = &j->sequences[j->label];
    const bool one = s->width == 1 || j->label_column >= 0;
    const int64_t first = j->label_column >= 0 ? j->label_column : 0, n = one ? 1 : s->width;
    const mmf_array header = {.dtype = MMF_F32,
                              .n_dims = one ? 1 : 2,
                              .shape = {j->n_samples, n},
                              .item_bytes = sizeof(float)};
    MMF_TRY(mmf_npz_begin(writer, "label", &header));
    csd_video v = {0};
    int64_t video = -1;
    mmf_status status = MMF_OK;
    for (int64_t i = 0; status == MMF_OK && i < j->n_samples; i++) {
        const sample *const x = &j->samples[i];
        if (video != x->video) {
            csd_unload(j->ctx, &v);
            status = csd_load(j->ctx, s, &v, j->videos[x->video]);
            video = x->video;
        }
        for (int64_t k = 0; status == MMF_OK && k < n; k++) {
            const float value = (float)v.features[x->entry * s->width + first + k];
            status = mmf_npz_append(writer, &value, sizeof value);
        }
    }
    csd_unload(j->ctx, &v);
    MMF_TRY(status);
    return mmf_npz_end(writer);
}

/* `id` as the SDK names aligned entries, VIDEO[NUMBER], and `group`, the video. */
static mmf_status write_names(job *j, mmf_npz_writer *writer)
{
    char *const text = mmf_alloc_zero(j->ctx, (size_t)j->n_samples, ID_BYTES);
    const char **const names = mmf_alloc_zero(j->ctx, (size_t)j->n_samples, sizeof *names);
    mmf_status status = text && names ? MMF_OK : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < j->n_samples; i++) {
        const sample *const x = &j->samples[i];
        char *const id = text + (size_t)i * ID_BYTES;
        if (x->entry < 0)
            snprintf(id, ID_BYTES, "%s", j->videos[x->video]);
        else
            snprintf(id, ID_BYTES, "%s[%lld]", j->videos[x->video], (long long)x->entry);
        names[i] = id;
    }
    if (status == MMF_OK)
        status = npz_add_strings(j->ctx, writer, "id", names, j->n_samples);
    for (int64_t i = 0; status == MMF_OK && i < j->n_samples; i++)
        names[i] = j->videos[j->samples[i].video];
    if (status == MMF_OK)
        status = npz_add_strings(j->ctx, writer, "group", names, j->n_samples);
    mmf_free(j->ctx, text);
    mmf_free(j->ctx, names);
    return status;
}

static mmf_status write_all(void *user, mmf_npz_writer *writer)
{
    job *const j = user;
    for (size_t i = 0; i < j->n_sequences; i++) {
        if ((int)i != j->label)
            MMF_TRY(write_modality(j, &j->sequences[i], writer));
    }
    if (j->label >= 0)
        MMF_TRY(write_label(j, writer));
    return write_names(j, writer);
}

/* ---- The command line --------------------------------------------------------------------- */

/* NAME=FILE, or FILE, which is named after itself without folder, ending and dots. */
static mmf_status add_file(job *j, const char *argument)
{
    if (j->n_sequences == MAX_SEQUENCES)
        return mmf_fail(j->ctx, MMF_LIMIT, "more than %d files", MAX_SEQUENCES);
    csd_sequence *const s = &j->sequences[j->n_sequences];
    const char *const equals = strchr(argument, '='), *const slash = strrchr(argument, '/');
    const bool named = equals && (!strchr(argument, '/') || equals < strchr(argument, '/'));
    const char *const from = named ? argument : slash ? slash + 1 : argument;
    const char *const dot = strrchr(from, '.');
    const size_t n = named ? (size_t)(equals - argument)
                     : dot ? (size_t)(dot - from)
                           : strlen(from);
    if (n == 0 || n >= sizeof s->name)
        return mmf_fail(j->ctx, MMF_ARG, "%s: expected NAME=FILE", argument);
    memcpy(s->name, from, n);
    s->name[n] = '\0';
    for (size_t i = 0; !named && i < n; i++)
        s->name[i] = s->name[i] == '.' ? '_' : s->name[i];
    for (size_t i = 0; i < j->n_sequences; i++) {
        if (strcmp(j->sequences[i].name, s->name) == 0)
            return mmf_fail(j->ctx, MMF_ARG, "two files are called \"%s\": give NAME=FILE",
                            s->name);
    }
    if (strcmp(s->name, "label") == 0)
        j->label = (int)j->n_sequences;
    j->n_sequences++;
    return csd_open(j->ctx, s, named ? equals + 1 : argument);
}

static mmf_status parse_number(job *j, const char *option, const char *text, int64_t *out)
{
    char *end = NULL;
    const long long value = text ? strtoll(text, &end, 10) : -1;
    if (!text || end == text || *end || value < 0 || value > INT32_MAX)
        return mmf_fail(j->ctx, MMF_ARG, "%s: expected a number", option);
    *out = value;
    return MMF_OK;
}

static mmf_status parse(job *j, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const bool steps = strcmp(argv[i], "--steps") == 0;
        if (steps || strcmp(argv[i], "--label-column") == 0) {
            MMF_TRY(
                parse_number(j, argv[i], argv[i + 1], steps ? &j->max_steps : &j->label_column));
            i++;
        } else {
            MMF_TRY(add_file(j, argv[i]));
        }
    }
    if (j->n_sequences == 0 || (j->n_sequences == 1 && j->label == 0))
        return mmf_fail(j->ctx, MMF_ARG, "expected a file that is no label; see --help");
    j->unit = j->n_sequences == 1 ? VIDEOS : j->label > 0 ? SEGMENTS : ENTRIES;
    if (j->label < 0)
        return MMF_OK;
    const csd_sequence *const label = &j->sequences[j->label];
    if (label->is_words || j->label_column >= label->width)
        return mmf_fail(j->ctx, MMF_ARG, "%s: labels are %lld numbers an entry", label->path,
                        (long long)label->width);
    return MMF_OK;
}

static int usage(bool asked)
{
    fprintf(
        asked ? stdout : stderr,
        "usage: mmfuse-read-csd [--steps N] [--label-column N] [NAME=]FILE... > OUT.npz\n\n"
        "Aligns computational sequences of the CMU-MultimodalSDK (.csd) in time. One FILE: each\n"
        "video is a sequence. Several: each interval of the first is a sample, with the mean of\n"
        "what overlaps it in the others. With label=FILE, not first: each interval of the labels\n"
        "is a sample, a sequence of the first file's intervals in it (words, say), of which the\n"
        "last N are kept. Example:\n"
        "  mmfuse-read-csd text=glove.csd audio=covarep.csd vision=facet.csd label=labels.csd\n");
    return asked ? 0 : 2;
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0)
        return usage(argc == 2);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    job j = {.label = -1, .label_column = -1};
    if (mmf_ctx_create(&j.ctx, NULL) != MMF_OK) {
        fprintf(stderr, "out of memory, or MMFUSE_CPU has an unknown value\n");
        return 1;
    }
    mmf_status status = parse(&j, argc, argv);
    if (status == MMF_OK)
        status = find_samples(&j);
    if (status == MMF_OK)
        status = npz_output(j.ctx, write_all, &j);
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(j.ctx));
    for (size_t i = 0; i < j.n_sequences; i++)
        csd_close(&j.sequences[i]);
    for (int64_t i = 0; i < j.n_videos; i++)
        mmf_free(j.ctx, j.videos[i]);
    mmf_free(j.ctx, j.videos);
    mmf_free(j.ctx, j.samples);
    mmf_free(j.ctx, j.vocabulary);
    mmf_ctx_free(j.ctx);
    return status == MMF_OK ? 0 : status == MMF_ARG ? 2 : 1;
}
