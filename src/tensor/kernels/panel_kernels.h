/*
 * panel_kernels.h: rows through a matrix that stands in panels of PANEL_COLUMNS columns.
 *
 * A block of rows and columns has its sums in registers while the panel streams by. Rows stand in
 * blocks too, a step beside the other: rows some power of two apart would take the same few lines
 * of the cache, and have an address each.
 */
#ifndef MMFUSE_KERNELS_PANEL_H
#define MMFUSE_KERNELS_PANEL_H

/* Of 32 registers 28 hold sums, of 16 twelve. */
#if defined(__AVX512F__)
enum { PANEL_ROWS = 14 };
#else
enum { PANEL_ROWS = 6 };
#endif

enum {
    PANEL_VECTORS = 2,
    PANEL_LANES = VECTOR_BYTES / sizeof(mmf_real),
    PANEL_COLUMNS = PANEL_VECTORS * PANEL_LANES,
    PANEL_LINE = 64 / sizeof(mmf_real),
    PANEL_LINES = PANEL_COLUMNS > PANEL_LINE ? PANEL_COLUMNS / PANEL_LINE : 1, /* of a step */
    PANEL_AHEAD = 4096, /* bytes: what comes from the outer caches is asked for so far ahead */
};

/* Sums are registers where loops over them are none; their bounds are constants. */
#ifdef __clang__
#define PANEL_UNROLL _Pragma("unroll")
#else
#define PANEL_UNROLL _Pragma("GCC unroll 16")
#endif

typedef mmf_real panel_lanes
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(mmf_real)), may_alias));

/* ---- Rows -------------------------------------------------------------------------------- */

typedef mmf_real panel_four
    __attribute__((vector_size(4 * sizeof(mmf_real)), aligned(sizeof(mmf_real)), may_alias));

/* Four steps of four rows, to a step of `rows`. */
static void pack_four(int rows, const mmf_real *a, int64_t a_step, mmf_real *packed)
{
    const panel_four r0 = *(const panel_four *)a, r1 = *(const panel_four *)(a + a_step),
                     r2 = *(const panel_four *)(a + 2 * a_step),
                     r3 = *(const panel_four *)(a + 3 * a_step);
    const panel_four early01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
                     early23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5),
                     late01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
                     late23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    *(panel_four *)packed = __builtin_shufflevector(early01, early23, 0, 1, 4, 5);
    *(panel_four *)(packed + rows) = __builtin_shufflevector(early01, early23, 2, 3, 6, 7);
    *(panel_four *)(packed + 2 * rows) = __builtin_shufflevector(late01, late23, 0, 1, 4, 5);
    *(panel_four *)(packed + 3 * rows) = __builtin_shufflevector(late01, late23, 2, 3, 6, 7);
}

/* Steps that fill a line of the cache: rows that want the same place there come once a line. Among
 * the last four rows may be some of the four before. */
static void pack_line(int rows, const mmf_real *a, int64_t a_step, mmf_real *packed)
{
    for (int r = 0; r < rows; r += 4) {
        const int row = r < rows - 4 ? r : rows - 4;
        for (int64_t i = 0; i < PANEL_LINE; i += 4)
            pack_four(rows, a + row * a_step + i, a_step, packed + i * rows + row);
    }
}

static void pack_rows(int rows, int64_t k, const mmf_real *a, int64_t a_step, mmf_real *packed)
{
    if (rows < 4 || k < PANEL_LINE) {
        for (int64_t i = 0; i < k; i++) {
            for (int r = 0; r < rows; r++)
                packed[i * rows + r] = a[r * a_step + i];
        }
        return;
    }
    for (int64_t i = 0; i < k; i += PANEL_LINE) {
        const int64_t step = i < k - PANEL_LINE ? i : k - PANEL_LINE;
        pack_line(rows, a + step, a_step, packed + step * rows);
    }
}

/* ---- Products ---------------------------------------------------------------------------- */

/* What the second level of the cache is asked for on the way, bytes a step. */
typedef struct panel_next {
    const char *from;
    int64_t step;
} panel_next;

/* `rows` is a constant where this is inlined. */
__attribute__((always_inline)) static inline void
panel_block(int rows, int64_t k, const mmf_real *restrict a, const mmf_real *restrict panel,
            const panel_next *next, const mmf_real *restrict bias, mmf_real *restrict c,
            int64_t c_step)
{
    const char *wanted = next->from;
    panel_lanes sums[PANEL_ROWS][PANEL_VECTORS];
    PANEL_UNROLL
    for (int r = 0; r < rows; r++) {
        PANEL_UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++)
            sums[r][v] = ((const panel_lanes *)bias)[v];
    }
    for (const mmf_real *const end = a + k * rows; a < end; a += rows, panel += PANEL_COLUMNS) {
        const panel_lanes *const b = (const panel_lanes *)panel;
        PANEL_UNROLL
        for (int line = 0; line < PANEL_LINES; line++)
            __builtin_prefetch((const char *)(panel + line * PANEL_LINE) + PANEL_AHEAD);
        __builtin_prefetch(wanted, 0, 2);
        wanted += next->step;
        PANEL_UNROLL
        for (int r = 0; r < rows; r++) {
            PANEL_UNROLL
            for (int v = 0; v < PANEL_VECTORS; v++)
                sums[r][v] += a[r] * b[v];
        }
    }
    PANEL_UNROLL
    for (int r = 0; r < rows; r++) {
        PANEL_UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++)
            ((panel_lanes *)(c + r * c_step))[v] = sums[r][v];
    }
}

#define PANEL_CASE(n)                                                                              \
    case (n):                                                                                      \
        panel_block(n, k, a, panel, next, bias, c, c_step);                                        \
        break;

static void panel_rows(int rows, int64_t k, const mmf_real *a, const mmf_real *panel,
                       const panel_next *next, const mmf_real *bias, mmf_real *c, int64_t c_step)
{
    switch (rows) {
        PANEL_CASE(1)
        PANEL_CASE(2)
        PANEL_CASE(3)
        PANEL_CASE(4)
        PANEL_CASE(5)
        PANEL_CASE(6)
#if defined(__AVX512F__)
        PANEL_CASE(7)
        PANEL_CASE(8)
        PANEL_CASE(9)
        PANEL_CASE(10)
        PANEL_CASE(11)
        PANEL_CASE(12)
        PANEL_CASE(13)
        PANEL_CASE(14)
#endif
    default:
        break;
    }
}

static void panel(const mmf_panel_product *p)
{
    const bool is_whole = p->n == PANEL_COLUMNS;
    mmf_real bias[PANEL_COLUMNS] = {0}, tile[PANEL_ROWS * PANEL_COLUMNS];
    for (int64_t j = 0; p->bias && j < p->n; j++)
        bias[j] = p->bias[j];
    const panel_next next = {(const char *)(p->next ? p->next : p->panel),
                             p->n_next * (int64_t)sizeof *p->next / p->k};
    panel_rows(p->rows, p->k, p->packed, p->panel, &next, bias, is_whole ? p->c : tile,
               is_whole ? p->c_step : PANEL_COLUMNS);
    for (int r = 0; r < p->rows; r++) {
        mmf_real *const y = p->c + r * p->c_step;
        if (!is_whole)
            memcpy(y, tile + r * PANEL_COLUMNS, (size_t)p->n * sizeof *y);
        for (int64_t j = 0; p->relu && j < p->n; j++)
            y[j] = y[j] < (mmf_real)0 ? (mmf_real)0 : y[j];
    }
}

#endif
