/* hdf5_source.c: see hdf5_source.h. */
#include "hdf5_source.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)8 << 20)       /* read at a time */
#define MAX_BLOCK_BYTES ((size_t)256 << 20) /* of one chunk or row that must be read whole */
#define MAX_CELL_BYTES ((size_t)1 << 20)
#define TEXT_ROWS 4096
/* deflate makes at most 1,032 bytes of one; a dataset that claims more than this has no data. */
#define MAX_GROWTH 1032
#define FREE_BYTES ((uint64_t)64 << 20)

/* ---- Describing a dataset ----------------------------------------------------------------- */

static bool is_half(hid_t type)
{
    size_t sign = 0, exponent = 0, n_exponent = 0, mantissa = 0, n_mantissa = 0;
    return H5Tget_size(type) == 2 && H5Tget_order(type) == H5T_ORDER_LE &&
           H5Tget_fields(type, &sign, &exponent, &n_exponent, &mantissa, &n_mantissa) >= 0 &&
           sign == 15 && exponent == 10 && n_exponent == 5 && mantissa == 0 && n_mantissa == 10 &&
           H5Tget_ebias(type) == 15 && H5Tget_norm(type) == H5T_NORM_IMPLIED;
}

static bool set_number(source *s, hid_t memory_type, mmf_dtype dtype)
{
    s->kind = NUMBER;
    s->memory_type = H5Tcopy(memory_type);
    s->dtype = dtype;
    s->width = mmf_dtype_bytes(dtype);
    return s->memory_type >= 0;
}

static bool set_integer(source *s, hid_t type)
{
    const bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
    switch (H5Tget_size(type)) {
    case 1:
        return is_signed ? set_number(s, H5T_STD_I8LE, MMF_I8)
                         : set_number(s, H5T_STD_U8LE, MMF_U8);
    case 2:
        return is_signed ? set_number(s, H5T_STD_I16LE, MMF_I16)
                         : set_number(s, H5T_STD_U16LE, MMF_U16);
    case 4:
        return is_signed ? set_number(s, H5T_STD_I32LE, MMF_I32)
                         : set_number(s, H5T_STD_U32LE, MMF_U32);
    default:
        return is_signed ? set_number(s, H5T_STD_I64LE, MMF_I64)
                         : set_number(s, H5T_STD_U64LE, MMF_U64);
    }
}

static bool set_float(source *s, hid_t type)
{
    if (is_half(type))
        return set_number(s, type, MMF_F16); /* HDF5 knows no half of its own to convert to */
    return H5Tget_size(type) <= 4 ? set_number(s, H5T_IEEE_F32LE, MMF_F32)
                                  : set_number(s, H5T_IEEE_F64LE, MMF_F64);
}

static bool set_text(source *s, hid_t type)
{
    s->dtype = MMF_STR;
    s->memory_type = H5Tcopy(type);
    s->kind = H5Tis_variable_str(type) > 0 ? VARIABLE_TEXT : FIXED_TEXT;
    s->padded_space = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
    s->width = s->kind == FIXED_TEXT ? H5Tget_size(type) : 1;
    return s->memory_type >= 0 && s->width > 0 && s->width <= MAX_CELL_BYTES;
}

static bool describe_type(source *s, hid_t type)
{
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        return set_integer(s, type);
    case H5T_FLOAT:
        return set_float(s, type);
    case H5T_STRING:
        return set_text(s, type);
    case H5T_ENUM: { /* h5py keeps booleans so */
        const hid_t base = H5Tget_super(type);
        const bool done = base >= 0 && set_integer(s, base);
        if (base >= 0)
            H5Tclose(base);
        return done;
    }
    default:
        return false;
    }
}

/* Where the bytes lie; false (with the reason) if in other files. */
static bool describe_storage(source *s, const char **why)
{
    const hid_t plan = H5Dget_create_plist(s->dataset);
    if (plan < 0)
        return false;
    const H5D_layout_t layout = H5Pget_layout(plan);
    bool own = H5Pget_external_count(plan) <= 0 && layout != H5D_VIRTUAL && layout >= 0;
    if (!own)
        *why = "its data lie in other files";
    hsize_t chunk[H5S_MAX_RANK];
    if (own && layout == H5D_CHUNKED && H5Pget_chunk(plan, H5S_MAX_RANK, chunk) == s->n_dims) {
        s->chunk_rows = chunk[0];
        size_t bytes = s->width;
        for (int d = 0; own && d < s->n_dims; d++)
            own = mmf_mul_ok(bytes, (size_t)chunk[d], &bytes);
        s->chunk_bytes = bytes;
    }
    H5Pclose(plan);
    return own;
}

static bool describe_shape(source *s, const char **why)
{
    const hid_t space = H5Dget_space(s->dataset);
    const int n_dims = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    bool good = false;
    if (n_dims > MMF_MAX_DIMS || n_dims < 1)
        *why = "it has no dimension, or more than 6";
    else
        good = H5Sget_simple_extent_type(space) == H5S_SIMPLE &&
               H5Sget_simple_extent_dims(space, s->dims, NULL) == n_dims;
    s->n_dims = n_dims;
    if (space >= 0)
        H5Sclose(space);
    size_t bytes = s->width;
    for (int d = 0; good && d < n_dims; d++)
        good = s->dims[d] <= INT64_MAX &&
               mmf_mul_ok(bytes, (size_t)(s->dims[d] ? s->dims[d] : 1), &bytes);
    const hsize_t stored = H5Dget_storage_size(s->dataset);
    if (good && s->kind != VARIABLE_TEXT)
        good = bytes <= MAX_ARRAY_BYTES && (bytes <= FREE_BYTES || bytes / MAX_GROWTH <= stored);
    return good;
}

void source_close(source *s)
{
    if (s->memory_type > 0)
        H5Tclose(s->memory_type);
    if (s->dataset > 0)
        H5Dclose(s->dataset);
    *s = (source){0};
}

bool source_open(hid_t group, const char *name, source *s, const char **why)
{
    *s = (source){0};
    *why = "its type, size or shape cannot be read";
    s->dataset = H5Dopen2(group, name, H5P_DEFAULT);
    const hid_t type = s->dataset < 0 ? -1 : H5Dget_type(s->dataset);
    const bool good =
        type >= 0 && describe_type(s, type) && describe_shape(s, why) && describe_storage(s, why);
    if (type >= 0)
        H5Tclose(type);
    if (!good)
        source_close(s);
    return good;
}

/* ---- Reading blocks of rows --------------------------------------------------------------- */

static mmf_status select_rows(mmf_ctx *ctx, const source *s, hsize_t first, hsize_t n_rows,
                              hid_t spaces[2])
{
    hsize_t start[MMF_MAX_DIMS] = {first}, count[MMF_MAX_DIMS];
    memcpy(count, s->dims, sizeof count);
    count[0] = n_rows;
    spaces[0] = H5Dget_space(s->dataset);
    spaces[1] = H5Screate_simple(s->n_dims, count, NULL);
    if (spaces[0] >= 0 && spaces[1] >= 0 &&
        H5Sselect_hyperslab(spaces[0], H5S_SELECT_SET, start, NULL, count, NULL) >= 0)
        return MMF_OK;
    return mmf_fail(ctx, MMF_FORMAT, "rows %llu to %llu cannot be selected",
                    (unsigned long long)first, (unsigned long long)(first + n_rows));
}

static mmf_status read_rows(mmf_ctx *ctx, const source *s, hsize_t first, hsize_t n_rows, void *out)
{
    hid_t spaces[2] = {-1, -1};
    mmf_status status = select_rows(ctx, s, first, n_rows, spaces);
    if (status == MMF_OK &&
        H5Dread(s->dataset, s->memory_type, spaces[1], spaces[0], H5P_DEFAULT, out) < 0)
        status = mmf_fail(ctx, MMF_FORMAT, "rows %llu to %llu are damaged",
                          (unsigned long long)first, (unsigned long long)(first + n_rows));
    for (int i = 0; i < 2; i++) {
        if (spaces[i] >= 0)
            H5Sclose(spaces[i]);
    }
    return status;
}

static hsize_t cells_per_row(const source *s)
{
    hsize_t n = 1;
    for (int d = 1; d < s->n_dims; d++)
        n *= s->dims[d];
    return n;
}

/* Rows of a block: about BLOCK_BYTES, in whole chunks so that no chunk is decompressed twice. */
static mmf_status rows_per_block(mmf_ctx *ctx, const source *s, hsize_t *out)
{
    const size_t item = s->kind == VARIABLE_TEXT ? sizeof(char *) : s->width;
    const size_t row = (size_t)cells_per_row(s) * item;
    if (row > MAX_BLOCK_BYTES || s->chunk_bytes > MAX_BLOCK_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "a row of %zu bytes in chunks of %zu; at most %zu are read",
                        row, s->chunk_bytes, MAX_BLOCK_BYTES);
    hsize_t rows = row ? BLOCK_BYTES / row : 1;
    if (s->kind == VARIABLE_TEXT && rows > TEXT_ROWS)
        rows = TEXT_ROWS;
    if (s->chunk_rows > 0 && s->chunk_rows * (row ? row : 1) <= MAX_BLOCK_BYTES)
        rows = rows > s->chunk_rows ? rows / s->chunk_rows * s->chunk_rows : s->chunk_rows;
    *out = rows ? rows : 1;
    return MMF_OK;
}

/* Fixed text: what stands behind its end becomes zero. */
static void clean_cell(const source *s, char *cell)
{
    size_t n = strnlen(cell, s->width);
    while (s->padded_space && n > 0 && cell[n - 1] == ' ')
        n--;
    memset(cell + n, 0, s->width - n);
}

/* Hands a block to the writer, text in cells of `width` bytes; writer NULL: measures text only. */
static mmf_status use_block(mmf_ctx *ctx, source *s, void *block, size_t n_cells,
                            mmf_npz_writer *writer, size_t width)
{
    if (s->kind == NUMBER)
        return mmf_npz_append(writer, block, n_cells * s->width);
    char *cell = writer ? mmf_alloc(ctx, width) : NULL;
    if (writer && !cell)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < n_cells; i++) {
        const char *text = (const char *)block + i * s->width;
        size_t n = s->width;
        if (s->kind == VARIABLE_TEXT) {
            text = ((char *const *)block)[i];
            n = text ? strlen(text) : 0;
        }
        if (n > MAX_CELL_BYTES)
            status = mmf_fail(ctx, MMF_LIMIT, "a text of %zu bytes; at most %zu are read", n,
                              MAX_CELL_BYTES);
        else if (!writer)
            s->width = n > s->width ? n : s->width;
        else {
            memset(cell, 0, width);
            memcpy(cell, text ? text : "", n);
            status = mmf_npz_append(writer, cell, width);
        }
    }
    mmf_free(ctx, cell);
    return status;
}

static void reclaim(const source *s, hsize_t n_rows, void *block)
{
    hsize_t count[MMF_MAX_DIMS];
    memcpy(count, s->dims, sizeof count);
    count[0] = n_rows;
    const hid_t space = H5Screate_simple(s->n_dims, count, NULL);
    if (space >= 0) {
        H5Dvlen_reclaim(s->memory_type, space, H5P_DEFAULT, block);
        H5Sclose(space);
    }
}

mmf_status source_stream(mmf_ctx *ctx, source *s, mmf_npz_writer *writer, size_t width)
{
    hsize_t n_block = 0;
    MMF_TRY(rows_per_block(ctx, s, &n_block));
    const bool variable = s->kind == VARIABLE_TEXT;
    const size_t n_row = (size_t)cells_per_row(s);
    const size_t item = variable ? sizeof(char *) : s->width;
    n_block = n_block < s->dims[0] ? n_block : s->dims[0];
    void *block = mmf_alloc_zero(ctx, (size_t)n_block * n_row, item);
    if (!block)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    for (hsize_t first = 0; n_row > 0 && status == MMF_OK && first < s->dims[0]; first += n_block) {
        const hsize_t left = s->dims[0] - first;
        const hsize_t n_rows = n_block < left ? n_block : left;
        const size_t n_cells = (size_t)n_rows * n_row;
        if (variable)
            memset(block, 0, n_cells * item);
        status = read_rows(ctx, s, first, n_rows, block);
        if (status != MMF_OK)
            break;
        for (size_t i = 0; s->kind == FIXED_TEXT && i < n_cells; i++)
            clean_cell(s, (char *)block + i * s->width);
        status = use_block(ctx, s, block, n_cells, writer, width);
        if (variable)
            reclaim(s, n_rows, block);
    }
    mmf_free(ctx, block);
    return status;
}

size_t source_cells(const source *s)
{
    return (size_t)s->dims[0] * (size_t)cells_per_row(s);
}

mmf_status source_read(mmf_ctx *ctx, source *s, void *out, size_t n_cells)
{
    const size_t width = s->kind == NUMBER ? sizeof(double) : s->width;
    if (s->kind == VARIABLE_TEXT || n_cells != source_cells(s))
        return mmf_fail(ctx, MMF_FORMAT, "text of variable length, or of another shape");
    if (n_cells > MAX_BLOCK_BYTES / width || s->chunk_bytes > MAX_BLOCK_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "more than %zu bytes at a time", MAX_BLOCK_BYTES);
    if (n_cells == 0)
        return MMF_OK;
    if (s->kind == NUMBER && s->dtype != MMF_F64) {
        H5Tclose(s->memory_type);
        s->memory_type = H5Tcopy(H5T_IEEE_F64LE);
        s->dtype = MMF_F64;
        s->width = sizeof(double);
    }
    MMF_TRY(read_rows(ctx, s, 0, s->dims[0], out));
    for (size_t i = 0; s->kind == FIXED_TEXT && i < n_cells; i++)
        clean_cell(s, (char *)out + i * s->width);
    return MMF_OK;
}

/* ---- Groups ------------------------------------------------------------------------------- */

bool hdf5_is_member(hid_t group, const char *name)
{
    H5L_info_t info;
    return H5Lexists(group, name, H5P_DEFAULT) > 0 &&
           H5Lget_info(group, name, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
}

H5I_type_t hdf5_object_type(hid_t group, const char *name)
{
    const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    const H5I_type_t type = object < 0 ? H5I_BADID : H5Iget_type(object);
    if (object >= 0)
        H5Oclose(object);
    return type;
}

hsize_t hdf5_count_links(hid_t group, hsize_t most)
{
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0)
        return 0;
    return info.nlinks < most ? info.nlinks : most;
}

bool hdf5_link_name(hid_t group, hsize_t i, char *name, size_t size)
{
    const ssize_t n =
        H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, size, H5P_DEFAULT);
    return n > 0 && (size_t)n < size;
}
