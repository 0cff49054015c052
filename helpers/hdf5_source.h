/*
 * hdf5_source.h: one dataset of an HDF5 file, described and streamed in blocks of rows.
 *
 * Datasets whose bytes lie in other files, that claim far more than they store, and types that are
 * no numbers or strings are refused.
 */
#ifndef MMFUSE_HELPERS_HDF5_SOURCE_H
#define MMFUSE_HELPERS_HDF5_SOURCE_H

#include <hdf5.h>

#include "mmfuse/io.h"

#define MAX_ARRAY_BYTES ((uint64_t)64 << 30)

typedef enum cell_kind { NUMBER, FIXED_TEXT, VARIABLE_TEXT } cell_kind;

/* A dataset, or the part of an array that one split holds. */
typedef struct source {
    hid_t dataset, memory_type;
    int n_dims;
    hsize_t dims[MMF_MAX_DIMS];
    hsize_t chunk_rows; /* 0: not chunked */
    size_t chunk_bytes;
    cell_kind kind;
    mmf_dtype dtype;
    size_t width;      /* bytes of an element in memory; of the longest cell for text */
    bool padded_space; /* fixed text that is filled up with spaces */
} source;

/** Opens a dataset; false, with the reason in `why`, if it is not one that can be read. */
bool source_open(hid_t group, const char *name, source *s, const char **why);
void source_close(source *s);

/**
 * Appends all rows to the writer's array, text in cells of `width` bytes. Without a writer only the
 * width of variable text is measured.
 */
mmf_status source_stream(mmf_ctx *ctx, source *s, mmf_npz_writer *writer, size_t width);

/**
 * Reads all rows into `out`, numbers as doubles (one a cell), text of fixed width as its cells.
 *
 * @param n_cells  how many `out` has room for; FORMAT if there are more or fewer
 */
mmf_status source_read(mmf_ctx *ctx, source *s, void *out, size_t n_cells);
/** Cells of a dataset. */
size_t source_cells(const source *s);

/** Whether `name` lies in this group and this file: links by name may lead elsewhere. */
bool hdf5_is_member(hid_t group, const char *name);
H5I_type_t hdf5_object_type(hid_t group, const char *name);
/** Number of links of a group, at most `most`. */
hsize_t hdf5_count_links(hid_t group, hsize_t most);
/** Name of link `i` in the order of names; false if it has none that fits. */
bool hdf5_link_name(hid_t group, hsize_t i, char *name, size_t size);

#endif
