/*
 * dataset_keys.c: which array of a file is a modality, which belongs to one, and which is a note.
 *
 * It reads names, types and shapes; the values are checked in dataset_check.c.
 */
#include "data/dataset.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char *const reserved[] = {"label", "split", "group", "id", "caption"};
static const char *const suffixes[] = {"length", "present", "index", "names", "vocab"};
static const char *const kind_choices[] = {"tokens", "features", "sequence"};

#define N_ITEMS(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_LISTED 12
#define KEY_BYTES (512 + 16)

/* The type and number of dimensions of a modality. */
static bool fits_modality(const mmf_array *header)
{
    return header->dtype != MMF_STR && header->n_dims >= 2 && header->n_dims <= 5;
}

mmf_status mmf_data_load(mmf_dataset *ds, const char *name, mmf_array *out)
{
    *out = (mmf_array){.data = NULL};
    const int64_t i = mmf_archive_find(ds->archive, name);
    return i < 0 ? MMF_OK : mmf_archive_load(ds->archive, (size_t)i, out);
}

mmf_status mmf_data_load_companion(mmf_dataset *ds, const char *base, const char *suffix,
                                   mmf_array *out)
{
    char key[KEY_BYTES];
    *out = (mmf_array){.data = NULL};
    const int n = snprintf(key, sizeof key, "%s.%s", base, suffix);
    return n < 0 || (size_t)n >= sizeof key ? MMF_OK : mmf_data_load(ds, key, out);
}

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0)
            return true;
    }
    return false;
}

static bool is_modality(const mmf_dataset *ds, size_t entry)
{
    const char *const name = mmf_archive_name(ds->archive, entry);
    return !strchr(name, '.') && !is_one_of(name, reserved, N_ITEMS(reserved)) &&
           (!ds->target_name || strcmp(name, ds->target_name) != 0) &&
           fits_modality(mmf_archive_header(ds->archive, entry));
}

/* ---- The choice of modalities -------------------------------------------------------------- */

typedef struct piece {
    const char *start;
    size_t n;
} piece;

/* Cuts the next comma-separated piece off `*list`, without blanks around it; false at the end. */
static bool next_piece(const char **list, piece *out)
{
    if (!*list)
        return false;
    const char *start = *list;
    const char *const comma = strchr(start, ',');
    const char *end = comma ? comma : start + strlen(start);
    *list = comma ? comma + 1 : NULL;
    while (start < end && *start == ' ')
        start++;
    while (end > start && end[-1] == ' ')
        end--;
    *out = (piece){start, (size_t)(end - start)};
    return true;
}

/* Copies a name out of an option; longer ones name nothing in any file. */
static bool copy_piece(piece p, char out[KEY_BYTES])
{
    if (p.n >= KEY_BYTES)
        return false;
    memcpy(out, p.start, p.n);
    out[p.n] = '\0';
    return true;
}

static mmf_status fail_unknown(mmf_dataset *ds, const char *name)
{
    const int64_t there = mmf_archive_find(ds->archive, name);
    if (there >= 0) {
        char shape[160];
        const mmf_array *const a = mmf_archive_header(ds->archive, (size_t)there);
        return mmf_data_fail(ds, MMF_ARG, name,
                             "this %s array of shape %s is no modality; expected numbers (N, d), "
                             "(N, T, d), (N, C, H, W) or (N, T, C, H, W) that are not the target",
                             mmf_dtype_name(a->dtype),
                             mmf_shape_text(shape, sizeof shape, a->shape, a->n_dims));
    }
    const size_t n = mmf_archive_count(ds->archive);
    const char **const names = mmf_alloc_zero(ds->ctx, n, sizeof *names);
    if (!names)
        return MMF_NOMEM;
    size_t n_names = 0;
    mmf_text list = {.ctx = ds->ctx};
    for (size_t i = 0; i < n; i++) {
        if (!is_modality(ds, i))
            continue;
        names[n_names++] = mmf_archive_name(ds->archive, i);
        if (n_names <= MAX_LISTED)
            mmf_text_add(&list, "%s%s", n_names > 1 ? ", " : "", names[n_names - 1]);
    }
    const char *const nearest = mmf_text_nearest(name, names, n_names);
    mmf_status status = list.status;
    if (status == MMF_OK && nearest)
        status = mmf_fail(ds->ctx, MMF_ARG, "%s: no modality \"%s\"; did you mean \"%s\"?",
                          ds->path, name, nearest);
    else if (status == MMF_OK)
        status = mmf_fail(ds->ctx, MMF_ARG, "%s: no modality \"%s\"; there are: %s%s", ds->path,
                          name, n_names ? list.data : "none", n_names > MAX_LISTED ? ", ..." : "");
    mmf_text_clear(&list);
    mmf_free(ds->ctx, names);
    return status;
}

/* Entry number of the modality that a piece of an option names. */
static mmf_status find_modality(mmf_dataset *ds, piece p, const char *option, size_t *entry)
{
    char name[KEY_BYTES];
    if (p.n == 0 || !copy_piece(p, name))
        return mmf_fail(ds->ctx, MMF_ARG, "%s: expected names of modalities, found \"%.40s\"",
                        option, p.start);
    const int64_t i = mmf_archive_find(ds->archive, name);
    if (i < 0 || !is_modality(ds, (size_t)i))
        return fail_unknown(ds, name);
    *entry = (size_t)i;
    return MMF_OK;
}

static mmf_status add_modality(mmf_dataset *ds, size_t entry)
{
    const char *const name = mmf_archive_name(ds->archive, entry);
    if (mmf_dataset_find(ds, name) >= 0)
        return mmf_fail(ds->ctx, MMF_ARG, "modalities: \"%s\" is named twice", name);
    mmf_data_modality *const m = &ds->modalities[ds->n_modalities++];
    m->view.name = name;
    m->view.dtype = mmf_archive_header(ds->archive, entry)->dtype;
    return MMF_OK;
}

/* Single columns of a table are the usual reason. */
static mmf_status no_modality(mmf_dataset *ds)
{
    mmf_text list = {.ctx = ds->ctx};
    size_t n_columns = 0;
    const char *first = NULL;
    for (size_t i = 0; i < mmf_archive_count(ds->archive); i++) {
        const char *const name = mmf_archive_name(ds->archive, i);
        const mmf_array *const header = mmf_archive_header(ds->archive, i);
        if (header->n_dims != 1 || header->dtype == MMF_STR || strchr(name, '.') ||
            is_one_of(name, reserved, N_ITEMS(reserved)) ||
            (ds->target_name && strcmp(name, ds->target_name) == 0))
            continue;
        if (++n_columns <= MAX_LISTED)
            mmf_text_add(&list, "%s%s", first ? ", " : "", name);
        first = first ? first : name;
    }
    mmf_status status = list.status;
    if (status == MMF_OK && first)
        status = mmf_fail(ds->ctx, MMF_FORMAT,
                          "%s: no modality: %s%s hold%s one number a sample; columns of a table "
                          "that are called alike up to a dot, as in x.%s, are one modality (x)",
                          ds->path, list.data, n_columns > MAX_LISTED ? ", ..." : "",
                          n_columns == 1 ? "s" : "", first);
    else if (status == MMF_OK)
        status = mmf_fail(ds->ctx, MMF_FORMAT,
                          "%s: no modality; expected an array of numbers of shape (N, d), "
                          "(N, T, d), (N, C, H, W) or (N, T, C, H, W)",
                          ds->path);
    mmf_text_clear(&list);
    return status;
}

static mmf_status choose_modalities(mmf_dataset *ds, const char *choice)
{
    const size_t n = mmf_archive_count(ds->archive);
    size_t n_found = 0;
    for (size_t i = 0; i < n; i++)
        n_found += is_modality(ds, i);
    if (n_found == 0)
        return no_modality(ds);
    ds->modalities = mmf_alloc_zero(ds->ctx, n_found, sizeof *ds->modalities);
    if (!ds->modalities)
        return MMF_NOMEM;
    if (!choice) {
        for (size_t i = 0; i < n; i++) {
            if (is_modality(ds, i))
                MMF_TRY(add_modality(ds, i));
        }
        return MMF_OK;
    }
    piece p;
    while (next_piece(&choice, &p)) {
        size_t entry = 0;
        MMF_TRY(find_modality(ds, p, "modalities", &entry));
        MMF_TRY(add_modality(ds, entry));
    }
    return MMF_OK;
}

/* ---- Kinds --------------------------------------------------------------------------------- */

/* What the option `kinds` says of `name` (an index into kind_choices), -1 if nothing. */
static mmf_status chosen_kind(mmf_dataset *ds, const char *kinds, const char *name, int *out)
{
    *out = -1;
    piece p;
    while (next_piece(&kinds, &p)) {
        const char *const equals = memchr(p.start, '=', p.n);
        if (!equals)
            return mmf_fail(ds->ctx, MMF_ARG, "kind: expected NAME=KIND, found \"%.*s\"",
                            (int)(p.n < 60 ? p.n : 60), p.start);
        size_t entry = 0;
        const piece left = {p.start, (size_t)(equals - p.start)};
        MMF_TRY(find_modality(ds, left, "kind", &entry));
        char kind[KEY_BYTES] = "";
        const piece right = {equals + 1, p.n - left.n - 1};
        if (!copy_piece(right, kind) || !is_one_of(kind, kind_choices, N_ITEMS(kind_choices))) {
            const char *const nearest = mmf_text_nearest(kind, kind_choices, N_ITEMS(kind_choices));
            return mmf_fail(ds->ctx, MMF_ARG,
                            "kind: \"%.60s\" is none of tokens, features, sequence%s%s%s", kind,
                            nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                            nearest ? "\"?" : "");
        }
        if (strcmp(mmf_archive_name(ds->archive, entry), name) != 0)
            continue;
        for (int k = 0; k < (int)N_ITEMS(kind_choices); k++) {
            if (strcmp(kind, kind_choices[k]) == 0)
                *out = k;
        }
    }
    return MMF_OK;
}

/* Fills in the kind and the sizes that follow from it; `values` is only a header yet. */
static mmf_status set_kind(mmf_dataset *ds, mmf_data_modality *m, int chosen, bool has_vocab)
{
    const mmf_array *const a = &m->values;
    mmf_modality *const v = &m->view;
    char shape[160];
    mmf_shape_text(shape, sizeof shape, a->shape, a->n_dims);
    const bool may_be_tokens = a->n_dims == 2 && mmf_dtype_is_integer(a->dtype);
    if (chosen == 0 && !may_be_tokens)
        return mmf_data_fail(ds, MMF_ARG, v->name,
                             "tokens are whole numbers (N, T); this is %s of shape %s",
                             mmf_dtype_name(a->dtype), shape);
    if (chosen == 2 && a->n_dims >= 4)
        return mmf_data_fail(ds, MMF_ARG, v->name,
                             "a sequence has shape (N, T) or (N, T, d); this has %s", shape);
    for (int d = 1; d < a->n_dims; d++) {
        if (a->shape[d] < 1)
            return mmf_data_fail(ds, MMF_FORMAT, v->name, "the shape %s has an empty dimension",
                                 shape);
    }
    v->n_rows = a->shape[0];
    v->n_dims = a->n_dims - 1;
    memcpy(v->shape, a->shape + 1, (size_t)v->n_dims * sizeof v->shape[0]);
    m->row = mmf_array_row(a);
    m->stored_steps = 1;
    if (chosen == 0 || (chosen < 0 && may_be_tokens && has_vocab)) {
        v->kind = MMF_TOKENS;
        m->stored_steps = a->shape[1];
    } else if (a->n_dims == 4) {
        v->kind = MMF_IMAGE;
        m->n_features = a->shape[1];
    } else if (a->n_dims == 5) {
        v->kind = MMF_VIDEO;
        m->stored_steps = a->shape[1];
        m->n_features = a->shape[2];
    } else if (a->n_dims == 3 || chosen == 2) {
        v->kind = MMF_SEQUENCE;
        m->stored_steps = a->shape[1];
        m->n_features = m->row / m->stored_steps;
        v->shape[1] = m->n_features;
        v->n_dims = 2;
    } else {
        v->kind = MMF_VECTOR;
        m->n_features = m->row;
    }
    m->n_steps = m->stored_steps;
    m->step = m->row / m->n_steps;
    return MMF_OK;
}

/* ---- Companions and notes ------------------------------------------------------------------ */

static mmf_status read_modality(mmf_dataset *ds, mmf_data_modality *m, const char *kinds)
{
    mmf_modality *const v = &m->view;
    int chosen = -1;
    /* Options list modalities with commas, and models of one are kept in files of its name. */
    if (strpbrk(v->name, ",/"))
        return mmf_data_fail(ds, MMF_FORMAT, v->name,
                             "a modality has no comma or slash in its name; rename it, or leave it "
                             "out with --modalities");
    MMF_TRY(chosen_kind(ds, kinds, v->name, &chosen));
    MMF_TRY(mmf_data_load_companion(ds, v->name, "vocab", &v->vocab));
    const int64_t entry = mmf_archive_find(ds->archive, v->name);
    m->values = *mmf_archive_header(ds->archive, (size_t)entry);
    MMF_TRY(set_kind(ds, m, chosen, v->vocab.data != NULL));
    MMF_TRY(mmf_archive_load(ds->archive, (size_t)entry, &m->values));
    MMF_TRY(mmf_data_load_companion(ds, v->name, "names", &v->names));
    MMF_TRY(mmf_data_load_companion(ds, v->name, "present", &m->present));
    MMF_TRY(mmf_data_load_companion(ds, v->name, "index", &m->index));
    if (mmf_modality_has_steps(v->kind))
        MMF_TRY(mmf_data_load_companion(ds, v->name, "length", &m->length));
    MMF_TRY(mmf_data_read_step_companions(ds, m));
    v->has_length = m->length.data != NULL;
    v->has_index = m->index.data != NULL;
    v->has_present = m->present.data != NULL;
    return MMF_OK;
}

/* Every modality of the file counts, chosen or not: a split must not depend on the choice. */
static mmf_status read_shares(mmf_dataset *ds)
{
    const size_t n = mmf_archive_count(ds->archive);
    ds->shares = mmf_alloc_zero(ds->ctx, n ? n : 1, sizeof *ds->shares);
    if (!ds->shares)
        return MMF_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (!is_modality(ds, i))
            continue;
        mmf_data_share *const share = &ds->shares[ds->n_shares];
        share->name = mmf_archive_name(ds->archive, i);
        MMF_TRY(mmf_data_load_companion(ds, share->name, "index", &share->index));
        MMF_TRY(mmf_data_load_companion(ds, share->name, "present", &share->present));
        ds->n_shares += share->index.data != NULL;
    }
    return MMF_OK;
}

/* True for "base.suffix" where the contract gives this pair a meaning. */
static bool is_companion(const mmf_dataset *ds, const char *name)
{
    const char *const dot = strrchr(name, '.');
    const bool of_steps = dot && mmf_data_is_step_companion(NULL, dot + 1);
    if (!dot || !(of_steps || is_one_of(dot + 1, suffixes, N_ITEMS(suffixes))))
        return false;
    char base[KEY_BYTES];
    if (!copy_piece((piece){name, (size_t)(dot - name)}, base))
        return false;
    if (ds->target_name && strcmp(base, ds->target_name) == 0)
        return strcmp(dot + 1, "names") == 0;
    const int64_t entry = mmf_archive_find(ds->archive, base);
    if (entry < 0 || !is_modality(ds, (size_t)entry))
        return false;
    const int64_t chosen = mmf_dataset_find(ds, base);
    if (chosen < 0)
        return true;
    const mmf_data_modality *const m = &ds->modalities[chosen];
    if (of_steps)
        return mmf_data_is_step_companion(m, dot + 1);
    if (strcmp(dot + 1, "length") == 0)
        return m->view.has_length;
    return strcmp(dot + 1, "vocab") != 0 || m->view.kind == MMF_TOKENS;
}

static mmf_status read_notes(mmf_dataset *ds)
{
    static const char *const used[] = {"split", "group", "id", "preparations"};
    const size_t n = mmf_archive_count(ds->archive);
    ds->notes = mmf_alloc_zero(ds->ctx, n ? n : 1, sizeof *ds->notes);
    if (!ds->notes)
        return MMF_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const char *const name = mmf_archive_name(ds->archive, i);
        const bool is_target = ds->target_name && strcmp(name, ds->target_name) == 0;
        if (is_target || is_modality(ds, i) || is_companion(ds, name) ||
            is_one_of(name, used, N_ITEMS(used)))
            continue;
        ds->notes[ds->n_notes++] = name;
    }
    return MMF_OK;
}

/* A vector with lengths is most likely a token array whose kind nobody named. */
static void warn_of_lengths(mmf_dataset *ds, const mmf_data_modality *m)
{
    char key[KEY_BYTES];
    const int n = snprintf(key, sizeof key, "%s.length", m->view.name);
    if (n < 0 || (size_t)n >= sizeof key || m->view.kind != MMF_VECTOR ||
        mmf_archive_find(ds->archive, key) < 0)
        return;
    mmf_ctx_log(ds->ctx, MMF_LOG_WARNING,
                "%s: \"%s\" is ignored: \"%s\" is read as a vector; if these are steps, add --kind "
                "%s=%s",
                ds->path, key, m->view.name, m->view.name,
                mmf_dtype_is_integer(m->view.dtype) ? "tokens" : "sequence");
}

mmf_status mmf_data_read_keys(mmf_dataset *ds, const mmf_dataset_options *options)
{
    MMF_TRY(choose_modalities(ds, options->modalities));
    for (size_t i = 0; i < ds->n_modalities; i++) {
        MMF_TRY(read_modality(ds, &ds->modalities[i], options->kinds));
        warn_of_lengths(ds, &ds->modalities[i]);
    }
    MMF_TRY(mmf_data_load(ds, "split", &ds->split));
    MMF_TRY(mmf_data_load(ds, "group", &ds->group));
    MMF_TRY(mmf_data_load(ds, "id", &ds->id));
    MMF_TRY(read_shares(ds));
    return read_notes(ds);
}
