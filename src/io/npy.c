/*
 * npy.c: see npy.h. Python objects are refused: reading them means running code.
 */
#include "io/npy.h"

#include <string.h>

#include "io/archive.h"
#include "io/utf8.h"

/* ---- Header ------------------------------------------------------------------------------- */

mmf_status mmf_npy_header_size(mmf_ctx *ctx, const unsigned char *prefix, size_t n_bytes,
                               size_t *out)
{
    if (n_bytes < 10 || memcmp(prefix, "\x93NUMPY", 6) != 0)
        return mmf_fail(ctx, MMF_FORMAT,
                        "not an npy array: it does not begin with the mark of that format");
    const unsigned version = prefix[6];
    if (version < 1 || version > 3)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "npy version %u; versions 1 to 3 are read", version);
    size_t size = 10 + ((size_t)prefix[8] | (size_t)prefix[9] << 8);
    if (version > 1) {
        if (n_bytes < 12)
            return mmf_fail(ctx, MMF_FORMAT, "the npy header is cut off");
        size += 2 + ((size_t)prefix[10] << 16 | (size_t)prefix[11] << 24);
    }
    if (size > MMF_NPY_MAX_HEADER_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "an npy header of %zu bytes; at most %d are read", size,
                        MMF_NPY_MAX_HEADER_BYTES);
    *out = size;
    return MMF_OK;
}

/* A cursor over the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. */
typedef struct cursor {
    mmf_ctx *ctx;
    const char *at, *end;
} cursor;

static char peek(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t'))
        c->at++;
    return c->at < c->end ? *c->at : '\0';
}

static bool accept(cursor *c, char wanted)
{
    if (peek(c) != wanted || wanted == '\0')
        return false;
    c->at++;
    return true;
}

static bool accept_word(cursor *c, const char *word)
{
    peek(c);
    const size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return false;
    c->at += n;
    return true;
}

static mmf_status bad_header(const cursor *c, const char *expected)
{
    return mmf_fail(c->ctx, MMF_FORMAT, "the npy header is damaged: expected %s", expected);
}

static mmf_status read_quoted(cursor *c, char *out, size_t size)
{
    const char quote = peek(c);
    if (quote != '\'' && quote != '"')
        return bad_header(c, "a quoted text");
    c->at++;
    size_t n = 0;
    while (c->at < c->end && *c->at != quote) {
        if (n + 1 >= size || (unsigned char)*c->at < 32)
            return bad_header(c, "a short quoted text");
        out[n++] = *c->at++;
    }
    if (c->at == c->end)
        return bad_header(c, "a closing quote");
    c->at++;
    out[n] = '\0';
    return MMF_OK;
}

static mmf_status read_size(cursor *c, int64_t *out)
{
    peek(c);
    int64_t value = 0;
    const char *const start = c->at;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *c->at - '0', &value))
            return mmf_fail(c->ctx, MMF_LIMIT, "a dimension in the npy header exceeds 2^63");
    }
    if (c->at == start)
        return bad_header(c, "a size in the shape");
    if (c->at < c->end && *c->at == 'L') /* Python 2 wrote long integers so */
        c->at++;
    *out = value;
    return MMF_OK;
}

static mmf_status read_shape(cursor *c, mmf_array *array)
{
    if (!accept(c, '('))
        return bad_header(c, "\"(\" before the shape");
    while (!accept(c, ')')) {
        if (array->n_dims == MMF_MAX_DIMS)
            return mmf_fail(c->ctx, MMF_LIMIT, "more than %d dimensions", MMF_MAX_DIMS);
        MMF_TRY(read_size(c, &array->shape[array->n_dims++]));
        if (!accept(c, ',') && peek(c) != ')')
            return bad_header(c, "\",\" or \")\" in the shape");
    }
    return MMF_OK;
}

static mmf_status refuse_type(mmf_ctx *ctx, const char *descr)
{
    const char *const kind = strchr(descr, 'O') ? "Python objects" : "a type that is not offered";
    return mmf_fail(ctx, MMF_UNSUPPORTED,
                    "the element type \"%s\" means %s; save numbers, or text as fixed-width "
                    "strings, for example with array.astype('float32') or array.astype('U')",
                    descr, kind);
}

static mmf_status set_type(mmf_ctx *ctx, const char *descr, mmf_npy *npy)
{
    static const struct {
        const char *code;
        mmf_dtype dtype;
    } types[] = {
        {"f2", MMF_F16}, {"f4", MMF_F32}, {"f8", MMF_F64}, {"i1", MMF_I8},
        {"u1", MMF_U8},  {"i2", MMF_I16}, {"u2", MMF_U16}, {"i4", MMF_I32},
        {"u4", MMF_U32}, {"i8", MMF_I64}, {"u8", MMF_U64}, {"b1", MMF_BOOL},
    };
    const char *code = descr;
    if (*code && strchr("<>|=", *code))
        code++;
    npy->big_endian = descr[0] == '>';
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(code, types[i].code) == 0) {
            npy->array.dtype = types[i].dtype;
            npy->array.item_bytes = mmf_dtype_bytes(types[i].dtype);
            return MMF_OK;
        }
    }
    if (code[0] != 'S' && code[0] != 'a' && code[0] != 'U')
        return refuse_type(ctx, descr);
    size_t width = 0;
    const char *digit = code + 1;
    for (; *digit >= '0' && *digit <= '9' && width < MMF_IO_MAX_BYTES; digit++)
        width = 10 * width + (size_t)(*digit - '0');
    if (*digit || width == 0)
        return mmf_fail(ctx, MMF_FORMAT, "the string type \"%s\" has no usable width", descr);
    npy->utf32 = code[0] == 'U';
    npy->array.dtype = MMF_STR;
    npy->array.item_bytes = npy->utf32 ? 4 * width : width;
    return MMF_OK;
}

static mmf_status read_fields(cursor *c, mmf_npy *npy, char *descr, size_t descr_bytes)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    int seen = 0;
    if (!accept(c, '{'))
        return bad_header(c, "\"{\"");
    while (!accept(c, '}')) {
        char key[16];
        MMF_TRY(read_quoted(c, key, sizeof key));
        if (!accept(c, ':'))
            return bad_header(c, "\":\" after a key");
        int field = 0;
        if (strcmp(key, "descr") == 0) {
            field = DESCR;
            if (peek(c) == '[')
                return mmf_fail(c->ctx, MMF_UNSUPPORTED,
                                "the array has named fields; save each field as an array");
            MMF_TRY(read_quoted(c, descr, descr_bytes));
        } else if (strcmp(key, "fortran_order") == 0) {
            field = ORDER;
            npy->fortran_order = accept_word(c, "True");
            if (!npy->fortran_order && !accept_word(c, "False"))
                return bad_header(c, "True or False");
        } else if (strcmp(key, "shape") == 0) {
            field = SHAPE;
            npy->array.n_dims = 0;
            MMF_TRY(read_shape(c, &npy->array));
        }
        if (field == 0 || (seen & field))
            return bad_header(c, "descr, fortran_order and shape, once each");
        seen |= field;
        if (!accept(c, ',') && peek(c) != '}')
            return bad_header(c, "\",\" or \"}\"");
    }
    if (seen != (DESCR | ORDER | SHAPE) || peek(c) != '\0' || c->at != c->end)
        return bad_header(c, "descr, fortran_order and shape, and nothing else");
    return MMF_OK;
}

mmf_status mmf_npy_parse(mmf_ctx *ctx, const unsigned char *bytes, size_t n_bytes, size_t max_bytes,
                         mmf_npy *out)
{
    *out = (mmf_npy){0};
    MMF_TRY(mmf_npy_header_size(ctx, bytes, n_bytes, &out->header_bytes));
    if (n_bytes < out->header_bytes)
        return mmf_fail(ctx, MMF_FORMAT, "the npy header is cut off: %zu of %zu bytes", n_bytes,
                        out->header_bytes);
    const char *const text = (const char *)bytes;
    cursor c = {ctx, text + (bytes[6] > 1 ? 12 : 10), text + out->header_bytes};
    char descr[32];
    MMF_TRY(read_fields(&c, out, descr, sizeof descr));
    MMF_TRY(set_type(ctx, descr, out));
    return mmf_array_measure(ctx, &out->array, max_bytes, &out->data_bytes);
}

/* ---- Data --------------------------------------------------------------------------------- */

/* Walks the cells of an array in row-major order over data in column-major order. */
typedef struct walk {
    int n_dims;
    int64_t shape[MMF_MAX_DIMS], index[MMF_MAX_DIMS];
    size_t stride[MMF_MAX_DIMS], cell;
} walk;

static walk walk_start(const mmf_npy *npy)
{
    walk w = {.n_dims = npy->array.n_dims};
    size_t stride = 1;
    for (int i = 0; i < w.n_dims; i++) {
        const int d = npy->fortran_order ? i : w.n_dims - 1 - i;
        w.shape[d] = npy->array.shape[d];
        w.stride[d] = stride;
        stride *= (size_t)w.shape[d];
    }
    return w;
}

static void walk_next(walk *w)
{
    for (int d = w->n_dims - 1; d >= 0; d--) {
        w->cell += w->stride[d];
        if (++w->index[d] < w->shape[d])
            return;
        w->cell -= (size_t)w->shape[d] * w->stride[d];
        w->index[d] = 0;
    }
}

static void copy_number(unsigned char *out, const unsigned char *in, size_t n, bool swap)
{
    for (size_t i = 0; i < n; i++)
        out[i] = in[swap ? n - 1 - i : i];
}

static uint32_t read_code(const unsigned char *in, bool big_endian)
{
    return big_endian
               ? (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3]
               : (uint32_t)in[3] << 24 | (uint32_t)in[2] << 16 | (uint32_t)in[1] << 8 | in[0];
}

/* Writes one U cell as UTF-8 into `out` (NULL: only counts); returns its bytes. */
static size_t convert_cell(const mmf_npy *npy, const unsigned char *cell, char *out)
{
    size_t n_codes = npy->array.item_bytes / 4, n = 0;
    while (n_codes > 0 && read_code(cell + 4 * (n_codes - 1), false) == 0)
        n_codes--;
    for (size_t i = 0; i < n_codes; i++) {
        char sequence[4];
        const size_t n_sequence =
            mmf_utf8_encode(read_code(cell + 4 * i, npy->big_endian), sequence);
        if (out)
            memcpy(out + n, sequence, n_sequence);
        n += n_sequence;
    }
    return n;
}

static mmf_status convert_utf32(mmf_ctx *ctx, const mmf_npy *npy, const unsigned char *data,
                                mmf_array *array, void **owned)
{
    const size_t count = npy->data_bytes / npy->array.item_bytes;
    size_t width = 1;
    for (size_t i = 0; i < count; i++) {
        const size_t n = convert_cell(npy, data + i * npy->array.item_bytes, NULL);
        width = n > width ? n : width;
    }
    char *cells = mmf_alloc_zero(ctx, count, width);
    if (!cells)
        return MMF_NOMEM;
    walk w = walk_start(npy);
    for (size_t i = 0; i < count; i++, walk_next(&w))
        convert_cell(npy, data + w.cell * npy->array.item_bytes, cells + i * width);
    array->item_bytes = width;
    array->data = *owned = cells;
    return MMF_OK;
}

static bool strings_valid(const mmf_array *array, const unsigned char *data, size_t n_bytes)
{
    const size_t width = array->item_bytes;
    for (size_t i = 0; i + width <= n_bytes; i += width) {
        if (!mmf_utf8_valid((const char *)data + i, width))
            return false;
    }
    return true;
}

mmf_status mmf_npy_convert(mmf_ctx *ctx, const mmf_npy *npy, const unsigned char *data,
                           mmf_array *array, void **owned)
{
    *array = npy->array;
    *owned = NULL;
    if (npy->utf32)
        return convert_utf32(ctx, npy, data, array, owned);
    const size_t item_bytes = array->item_bytes;
    const bool text = array->dtype == MMF_STR;
    const bool swap = npy->big_endian && !text && item_bytes > 1;
    const bool reorder = npy->fortran_order && array->n_dims > 1;
    const bool repair = text && !strings_valid(array, data, npy->data_bytes);
    if (!swap && !reorder && !repair) {
        array->data = data;
        return MMF_OK;
    }
    unsigned char *copy = mmf_alloc(ctx, npy->data_bytes);
    if (!copy)
        return MMF_NOMEM;
    walk w = walk_start(npy);
    for (size_t i = 0; i < npy->data_bytes; i += item_bytes, walk_next(&w)) {
        copy_number(copy + i, data + w.cell * item_bytes, item_bytes, swap);
        if (repair)
            mmf_utf8_repair((char *)copy + i, item_bytes);
    }
    array->data = *owned = copy;
    return MMF_OK;
}

/* ---- Writing ------------------------------------------------------------------------------ */

void mmf_npy_write_header(mmf_text *text, const mmf_array *array, size_t n_characters)
{
    static const char *const codes[] = {
        [MMF_F16] = "<f2", [MMF_F32] = "<f4", [MMF_F64] = "<f8", [MMF_I8] = "|i1",
        [MMF_U8] = "|u1",  [MMF_I16] = "<i2", [MMF_U16] = "<u2", [MMF_I32] = "<i4",
        [MMF_U32] = "<u4", [MMF_I64] = "<i8", [MMF_U64] = "<u8", [MMF_BOOL] = "|b1",
    };
    const size_t start = text->length;
    mmf_text_add_bytes(text, "\x93NUMPY\x01\0\0\0", 10);
    if (array->dtype == MMF_STR)
        mmf_text_add(text, "{'descr': '<U%zu'", n_characters);
    else
        mmf_text_add(text, "{'descr': '%s'", codes[array->dtype]);
    mmf_text_add(text, ", 'fortran_order': False, 'shape': (");
    for (int d = 0; d < array->n_dims; d++)
        mmf_text_add(text, "%s%lld", d ? ", " : "", (long long)array->shape[d]);
    mmf_text_add(text, "%s), }", array->n_dims == 1 ? "," : "");
    while (text->status == MMF_OK && (text->length - start + 1) % MMF_NPY_ALIGNMENT != 0)
        mmf_text_add_bytes(text, " ", 1);
    mmf_text_add_bytes(text, "\n", 1);
    if (text->status != MMF_OK)
        return;
    const size_t n = text->length - start - 10;
    text->data[start + 8] = (char)(n & 0xff);
    text->data[start + 9] = (char)(n >> 8);
}

/* ---- A file of one array ------------------------------------------------------------------ */

static mmf_status open_npy(mmf_archive *archive)
{
    mmf_npy *npy = mmf_alloc_zero(archive->ctx, 1, sizeof *npy);
    if (!npy)
        return MMF_NOMEM;
    archive->reader = npy;
    MMF_TRY(mmf_npy_parse(archive->ctx, archive->bytes, archive->n_bytes,
                          archive->options.max_bytes, npy));
    const size_t found = archive->n_bytes - npy->header_bytes;
    if (found != npy->data_bytes)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the header promises %zu bytes of data, the file holds %zu",
                        npy->data_bytes, found);
    return mmf_archive_append(archive, "data", 4, &npy->array);
}

static mmf_status load_npy(mmf_archive *archive, size_t i)
{
    const mmf_npy *const npy = archive->reader;
    mmf_entry *const entry = &archive->entries[i];
    return mmf_npy_convert(archive->ctx, npy, archive->bytes + npy->header_bytes, &entry->array,
                           &entry->owned);
}

static void close_npy(mmf_archive *archive)
{
    mmf_free(archive->ctx, archive->reader);
}

const mmf_format mmf_format_npy = {"npy", open_npy, load_npy, close_npy};
