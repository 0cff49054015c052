/*
 * read_hdf5.c: the program mmfuse-read-hdf5: reads an HDF5 file and writes its arrays as one npz to
 * standard output.
 *
 * Two layouts are known: datasets of the data contract in the root group, and groups train, valid,
 * test that each hold the same datasets, as the feature files of the MMSA toolkit do; those are
 * joined along the first dimension, with `split` added. Links to other files, datasets whose bytes
 * lie in other files, and types that are no numbers or strings are left out with a warning.
 */
#include <stdio.h>
#include <string.h>

#include "hdf5_source.h"
#include "npz_output.h"

#define MAX_LINKS 65536
#define NAME_BYTES 512
#define N_SPLITS 3

typedef struct target {
    char name[NAME_BYTES];
    source parts[N_SPLITS];
    size_t n_parts;
    mmf_array array;
} target;

typedef struct job {
    mmf_ctx *ctx;
    target *targets;
    size_t n_targets, capacity;
    int splits[N_SPLITS]; /* split numbers of the groups that exist */
    int64_t split_rows[N_SPLITS];
    size_t n_splits; /* 0: the flat layout */
} job;

static void warn(const char *name, const char *why)
{
    fprintf(stderr, "\"%s\" is left out: %s\n", name, why);
}

/* Opens a dataset, or warns that it cannot be read. */
static bool open_source(hid_t group, const char *name, source *s)
{
    const char *why = "";
    const bool good = source_open(group, name, s, &why);
    if (!good)
        warn(name, why);
    return good;
}

/* ---- The arrays of the output ------------------------------------------------------------- */

static mmf_status add_target(job *j, const char *name, target **out)
{
    if (j->n_targets == j->capacity) {
        const size_t capacity = j->capacity ? 2 * j->capacity : 16;
        target *grown = mmf_realloc(j->ctx, j->targets, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        j->targets = grown;
        j->capacity = capacity;
    }
    target *const t = &j->targets[j->n_targets];
    *t = (target){0};
    snprintf(t->name, sizeof t->name, "%s", name);
    j->n_targets++;
    *out = t;
    return MMF_OK;
}

/* Checks that the parts fit together and measures text of any length. */
static mmf_status complete_target(job *j, target *t)
{
    mmf_array *const a = &t->array;
    const source *const first = &t->parts[0];
    *a = (mmf_array){.dtype = first->dtype, .n_dims = first->n_dims, .item_bytes = 1};
    for (int d = 1; d < first->n_dims; d++)
        a->shape[d] = (int64_t)first->dims[d];
    for (size_t p = 0; p < t->n_parts; p++) {
        source *const s = &t->parts[p];
        bool same = s->dtype == first->dtype && s->n_dims == first->n_dims;
        for (int d = 1; same && d < s->n_dims; d++)
            same = s->dims[d] == first->dims[d];
        if (!same)
            return mmf_fail(j->ctx, MMF_SHAPE,
                            "\"%s\" has another type or shape in one split than in the others",
                            t->name);
        if (j->n_splits > 0 && (int64_t)s->dims[0] != j->split_rows[p])
            return mmf_fail(j->ctx, MMF_SHAPE, "\"%s\" has %llu rows where its split has %lld",
                            t->name, (unsigned long long)s->dims[0], (long long)j->split_rows[p]);
        if (s->kind == VARIABLE_TEXT)
            MMF_TRY(source_stream(j->ctx, s, NULL, 0));
        a->item_bytes = s->width > a->item_bytes ? s->width : a->item_bytes;
        if (__builtin_add_overflow(a->shape[0], (int64_t)s->dims[0], &a->shape[0]))
            return mmf_fail(j->ctx, MMF_LIMIT, "\"%s\" has too many rows", t->name);
    }
    if (strcmp(t->name, "label") == 0) { /* [N, 1] and [N, 1, 1] mean one number a sample */
        while (a->n_dims > 1 && a->shape[a->n_dims - 1] == 1)
            a->n_dims--;
    }
    size_t bytes = a->item_bytes;
    bool fits = true;
    for (int d = 0; d < a->n_dims; d++)
        fits = fits && mmf_mul_ok(bytes, (size_t)a->shape[d], &bytes);
    if (!fits || bytes > MAX_ARRAY_BYTES)
        return mmf_fail(j->ctx, MMF_LIMIT, "\"%s\" takes more than %llu bytes", t->name,
                        (unsigned long long)MAX_ARRAY_BYTES);
    return MMF_OK;
}

static mmf_status write_target(job *j, target *t, mmf_npz_writer *writer)
{
    MMF_TRY(mmf_npz_begin(writer, t->name, &t->array));
    for (size_t p = 0; p < t->n_parts; p++) {
        const mmf_status status = source_stream(j->ctx, &t->parts[p], writer, t->array.item_bytes);
        if (status != MMF_OK)
            return mmf_fail_within(j->ctx, status, "\"%s\": ", t->name);
    }
    return mmf_npz_end(writer);
}

static mmf_status write_split(job *j, mmf_npz_writer *writer)
{
    int64_t n = 0;
    for (size_t p = 0; p < j->n_splits; p++)
        n += j->split_rows[p];
    const mmf_array header = {.dtype = MMF_I8, .n_dims = 1, .shape = {n}, .item_bytes = 1};
    MMF_TRY(mmf_npz_begin(writer, "split", &header));
    for (size_t p = 0; p < j->n_splits; p++) {
        const signed char split = (signed char)j->splits[p];
        for (int64_t i = 0; i < j->split_rows[p]; i++)
            MMF_TRY(mmf_npz_append(writer, &split, 1));
    }
    return mmf_npz_end(writer);
}

/* ---- Layouts ------------------------------------------------------------------------------ */

/* Name of link `i` of a group if it is a member with a usable name. */
static bool link_name(hid_t group, hsize_t i, char name[NAME_BYTES])
{
    if (!hdf5_link_name(group, i, name, NAME_BYTES))
        return false;
    if (hdf5_is_member(group, name))
        return true;
    warn(name, "it is a link");
    return false;
}

static mmf_status collect_flat(job *j, hid_t root)
{
    char name[NAME_BYTES];
    for (hsize_t i = 0; i < hdf5_count_links(root, MAX_LINKS); i++) {
        if (!link_name(root, i, name))
            continue;
        if (hdf5_object_type(root, name) != H5I_DATASET) {
            warn(name, "it is no dataset");
            continue;
        }
        source s;
        if (!open_source(root, name, &s))
            continue;
        target *t = NULL;
        const mmf_status status = add_target(j, name, &t);
        if (status != MMF_OK) {
            source_close(&s);
            return status;
        }
        t->parts[t->n_parts++] = s;
    }
    return MMF_OK;
}

/* The contract's key for a dataset of an MMSA group. */
static void contract_name(const char *name, const char *label, char out[NAME_BYTES])
{
    const size_t n = strlen(name);
    static const char lengths[] = "_lengths";
    const size_t n_lengths = sizeof lengths - 1;
    if (strcmp(name, label) == 0)
        snprintf(out, NAME_BYTES, "label");
    else if (strcmp(name, "text_bert") == 0)
        snprintf(out, NAME_BYTES, "text.bert"); /* token numbers, not a modality to learn from */
    else if (n > n_lengths && strcmp(name + n - n_lengths, lengths) == 0)
        snprintf(out, NAME_BYTES, "%.*s.length", (int)(n - n_lengths), name);
    else
        snprintf(out, NAME_BYTES, "%s", name);
}

static mmf_status collect_nested(job *j, const hid_t *groups)
{
    static const char *const labels[] = {"regression_labels", "labels", "label",
                                         "classification_labels"};
    const char *label = "";
    for (size_t i = 0; !*label && i < sizeof labels / sizeof labels[0]; i++) {
        if (hdf5_is_member(groups[0], labels[i]))
            label = labels[i];
    }
    char name[NAME_BYTES], key[NAME_BYTES];
    for (hsize_t i = 0; i < hdf5_count_links(groups[0], MAX_LINKS); i++) {
        if (!link_name(groups[0], i, name) || hdf5_object_type(groups[0], name) != H5I_DATASET)
            continue;
        contract_name(name, label, key);
        target *t = NULL;
        MMF_TRY(add_target(j, key, &t));
        bool complete = true;
        for (size_t p = 0; complete && p < j->n_splits; p++) {
            complete =
                hdf5_is_member(groups[p], name) && open_source(groups[p], name, &t->parts[p]);
            t->n_parts += complete;
        }
        if (!complete) {
            warn(name, "it is not in every split");
            for (size_t p = 0; p < t->n_parts; p++)
                source_close(&t->parts[p]);
            j->n_targets--;
        }
    }
    for (size_t p = 0; j->n_targets > 0 && p < j->n_splits; p++)
        j->split_rows[p] = (int64_t)j->targets[0].parts[p].dims[0];
    return MMF_OK;
}

static mmf_status collect(job *j, hid_t root)
{
    static const struct {
        const char *name;
        int split;
    } names[] = {{"train", 0}, {"valid", 1}, {"val", 1}, {"dev", 1}, {"test", 2}};
    hid_t groups[N_SPLITS];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const bool taken = j->n_splits > 0 && j->splits[j->n_splits - 1] == names[i].split;
        if (!taken && hdf5_is_member(root, names[i].name) &&
            hdf5_object_type(root, names[i].name) == H5I_GROUP) {
            groups[j->n_splits] = H5Gopen2(root, names[i].name, H5P_DEFAULT);
            if (groups[j->n_splits] < 0)
                return mmf_fail(j->ctx, MMF_FORMAT, "the group \"%s\" is damaged", names[i].name);
            j->splits[j->n_splits++] = names[i].split;
        }
    }
    const mmf_status status = j->n_splits > 0 ? collect_nested(j, groups) : collect_flat(j, root);
    for (size_t p = 0; p < j->n_splits; p++)
        H5Gclose(groups[p]);
    MMF_TRY(status);
    if (j->n_targets == 0)
        return mmf_fail(j->ctx, MMF_FORMAT,
                        "no dataset of numbers or strings in the root group, nor in groups train, "
                        "valid, test");
    for (size_t i = 0; i < j->n_targets; i++)
        MMF_TRY(complete_target(j, &j->targets[i]));
    return MMF_OK;
}

/* ---- Output ------------------------------------------------------------------------------- */

static mmf_status write_all(void *user, mmf_npz_writer *writer)
{
    job *const j = user;
    for (size_t i = 0; i < j->n_targets; i++)
        MMF_TRY(write_target(j, &j->targets[i], writer));
    return j->n_splits > 0 ? write_split(j, writer) : MMF_OK;
}

static mmf_status convert(job *j, const char *path)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return mmf_fail(j->ctx, MMF_FORMAT, "not an HDF5 file, or damaged");
    mmf_status status = collect(j, file);
    if (status == MMF_OK)
        status = npz_output(j->ctx, write_all, j);
    for (size_t i = 0; i < j->n_targets; i++) {
        for (size_t p = 0; p < j->targets[i].n_parts; p++)
            source_close(&j->targets[i].parts[p]);
    }
    mmf_free(j->ctx, j->targets);
    H5Fclose(file);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2 || strcmp(argv[1], "--help") == 0) {
        FILE *const out = argc == 2 ? stdout : stderr;
        fprintf(out, "usage: mmfuse-read-hdf5 FILE > OUT.npz\n\n"
                     "Writes the arrays of an HDF5 file as npz. FILE holds the datasets of the\n"
                     "data contract, or groups train, valid, test with the datasets of an MMSA\n"
                     "feature file. mmfuse starts this program for .h5 and .hdf5 files.\n");
        return argc == 2 ? 0 : 2;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    job j = {0};
    if (mmf_ctx_create(&j.ctx, NULL) != MMF_OK) {
        fprintf(stderr, "out of memory, or MMFUSE_CPU has an unknown value\n");
        return 1;
    }
    const mmf_status status = convert(&j, argv[1]);
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(j.ctx));
    mmf_ctx_free(j.ctx);
    return status == MMF_OK ? 0 : 1;
}
