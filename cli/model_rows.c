/* model_rows.c: see model_rows.h. */
#include "model_rows.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "scoring.h"

bool cli_is_model_file(const char *path)
{
    unsigned char head[65536];
    const char key[] = "\"mmfuse\"";
    FILE *const file = fopen(path, "rbe");
    if (!file)
        return false;
    const size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    return n > 9 && head[8] == '{' && memmem(head, n, key, sizeof key - 1) != NULL;
}

int cli_load_model(const cli_session *session, mmf_model **out, const char *path)
{
    const mmf_status status = mmf_model_load(session->ctx, out, path);
    if (status == MMF_OK)
        return OPT_GO_ON;
    const int code = cli_failed(session, status);
    if (access(path, R_OK) == 0 && !cli_is_model_file(path))
        cli_say("the model comes first, then the data");
    return code;
}

int cli_open_for_model(const cli_session *session, mmf_dataset **out, const mmf_model *model,
                       const char *path, const cli_data *data)
{
    cli_dataset_options made;
    *out = NULL;
    const int code = cli_dataset_options_make(&made, session, data);
    if (code != OPT_GO_ON)
        return code;
    made.options.modalities =
        data->modalities; /* those that are used; all of the model's are opened */
    made.options.target_optional = true;
    if (mmf_model_preparations(model)) /* decoding may take long */
        cli_catch_interrupt(session);
    const mmf_status status = mmf_model_open_data(session->ctx, out, model, path, &made.options);
    out_progress_clear(&made.prepare.progress);
    if (status != MMF_OK)
        return cli_failed(session, status);
    for (size_t m = 0; m < mmf_dataset_n_modalities(*out); m++) {
        const mmf_modality *const seen = mmf_dataset_modality(*out, m);
        if (seen->n_absent == mmf_dataset_count(*out))
            cli_say("%s: \"%s\" is absent in every row", path, seen->name);
    }
    return OPT_GO_ON;
}

int cli_use_bits(const char *verb, const mmf_model *model, const char *modalities, uint64_t *use)
{
    const mmf_schema *const schema = mmf_model_inputs(model);
    const char *names[64];
    *use = MMF_ALL_MODALITIES;
    if (!modalities)
        return OPT_GO_ON;
    *use = 0;
    for (const char *at = modalities; *at;) {
        char name[256];
        const size_t width = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(width < 255 ? width : 255), at);
        size_t m = 0;
        while (m < schema->count && strcmp(schema->inputs[m].name, name) != 0)
            m++;
        if (m == schema->count) {
            size_t n = 0;
            for (; n < schema->count && n < 64; n++)
                names[n] = schema->inputs[n].name;
            const char *const nearest = opt_nearest(name, names, n);
            return nearest ? opt_misuse(verb, "the model has no modality \"%s\"; did you mean %s?",
                                        name, nearest)
                           : opt_misuse(verb, "the model has no modality \"%s\"; its first is %s",
                                        name, names[0]);
        }
        *use |= UINT64_C(1) << m;
        at += width + (at[width] == ',');
    }
    return OPT_GO_ON;
}

/* ---- Rows -------------------------------------------------------------------------------- */

/* The split options of the command in the training record; false if there is none. */
static bool recorded_split(const mmf_model *model, cli_split *out, char ***words, size_t *n_words)
{
    json_t *const record =
        json_loads(mmf_model_record(model) ? mmf_model_record(model) : "", 0, NULL);
    const char *const command = json_string_value(json_object_get(record, "command"));
    *words = command ? cli_split_command(command, n_words) : NULL;
    json_decref(record);
    *out = (cli_split){0};
    return *words && opt_scan(cli_split_rows, out, *n_words, *words);
}

static int split_options_of(const char *verb, const mmf_model *model, const mmf_dataset *dataset,
                            const cli_split *given, bool says, mmf_split_options *out)
{
    if (cli_split_is_given(given))
        return cli_split_options(verb, given, out);
    char **words = NULL;
    size_t n_words = 0;
    cli_split recorded = {0};
    const bool known = recorded_split(model, &recorded, &words, &n_words);
    const int code = cli_split_options(verb, &recorded, out);
    if (says && !mmf_dataset_has_split(dataset))
        cli_say(known ? "%s has no split: divided again as when the model was trained"
                      : "%s has no split and the model does not say how it was trained: divided "
                        "by default, so rows may have been seen in training",
                mmf_dataset_path(dataset));
    cli_free_words(words, n_words);
    return code;
}

static int all_rows(const cli_session *session, const mmf_dataset *dataset, cli_rows *out)
{
    out->count = mmf_dataset_count(dataset);
    out->rows = mmf_alloc_zero(session->ctx, (size_t)out->count, sizeof *out->rows);
    if (!out->rows)
        return cli_failed(session, MMF_NOMEM);
    for (int64_t i = 0; i < out->count; i++)
        out->rows[i] = i;
    return OPT_GO_ON;
}

/* Rows of out->part, which may be none. @param says  on stderr how a file was divided */
static int take_part(const cli_session *session, const char *verb, const mmf_model *model,
                     const mmf_dataset *dataset, const cli_split *split, bool says, cli_rows *out)
{
    mmf_split_options options;
    const int code = split_options_of(verb, model, dataset, split, says, &options);
    if (code != OPT_GO_ON)
        return code;
    mmf_split parts = {0};
    const mmf_status status = mmf_split_make(session->ctx, &parts, dataset, &options);
    if (status != MMF_OK)
        return cli_refused(session, status);
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++) {
        if (strcmp(out->part, cli_part_name((mmf_part)p)) == 0) {
            out->rows = parts.rows[p];
            out->count = parts.count[p];
            parts.rows[p] = NULL;
            parts.count[p] = 0;
        }
    }
    mmf_split_clear(session->ctx, &parts);
    return OPT_GO_ON;
}

int cli_choose_rows(const cli_session *session, const char *verb, const mmf_model *model,
                    const mmf_dataset *dataset, const char *part, const cli_split *split,
                    cli_rows *out)
{
    *out = (cli_rows){.part = part};
    if (strcmp(part, "all") == 0)
        return all_rows(session, dataset, out);
    if (mmf_dataset_target_kind(dataset) == MMF_TARGET_NONE && !mmf_dataset_has_split(dataset))
        return cli_error("%s has neither a split nor a target to divide it by; use --part all",
                         mmf_dataset_path(dataset));
    const int code = take_part(session, verb, model, dataset, split, true, out);
    if (code != OPT_GO_ON)
        return code;
    if (out->count == 0) {
        cli_rows_clear(session, out);
        return cli_error("%s has no %s rows; choose another --part", mmf_dataset_path(dataset),
                         part);
    }
    return OPT_GO_ON;
}

int cli_training_rows(const cli_session *session, const char *verb, const mmf_model *model,
                      const mmf_dataset *dataset, const cli_split *split, cli_rows *out)
{
    *out = (cli_rows){.part = "train"};
    return take_part(session, verb, model, dataset, split, false, out);
}

void cli_rows_clear(const cli_session *session, cli_rows *rows)
{
    mmf_free(session->ctx, rows->rows);
    *rows = (cli_rows){0};
}
