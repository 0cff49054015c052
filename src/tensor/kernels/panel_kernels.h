/*
 * panel_kernels.h: rows through a matrix that stands in panels of PANEL_COLUMNS columns.
 *
 * A block of rows and columns has its sums in registers while the panel streams by: what is left to
 * read is one broadcast a row and PANEL_VECTORS vectors a step.
 */
#ifndef MMFUSE_KERNELS_PANEL_H
#define MMFUSE_KERNELS_PANEL_H

/* Of 32 registers 24 hold sums, of 16 twelve. */
#if defined(__AVX512F__)
enum { PANEL_ROWS = 6, PANEL_VECTORS = 4 };
#else
enum { PANEL_ROWS = 6, PANEL_VECTORS = 2 };
#endif

enum {
    PANEL_LANES = VECTOR_BYTES / sizeof(mmf_real),
    PANEL_COLUMNS = PANEL_VECTORS * PANEL_LANES,
};

/* Sums are registers where loops over them are none; their bounds are constants. */
#ifdef __clang__
#define PANEL_UNROLL _Pragma("unroll")
#else
#define PANEL_UNROLL _Pragma("GCC unroll 8")
#endif

typedef mmf_real panel_lanes
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(mmf_real)), may_alias));

/* `rows` is a constant where this is inlined. */
__attribute__((always_inline)) static inline void
panel_block(int rows, int64_t k, const mmf_real *restrict a, int64_t a_step,
            const mmf_real *restrict panel, const mmf_real *restrict bias, mmf_real *restrict c,
            int64_t c_step)
{
    panel_lanes sums[PANEL_ROWS][PANEL_VECTORS];
    PANEL_UNROLL
    for (int r = 0; r < rows; r++) {
        PANEL_UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++)
            sums[r][v] = ((const panel_lanes *)bias)[v];
    }
    for (int64_t i = 0; i < k; i++) {
        const panel_lanes *const b = (const panel_lanes *)(panel + i * PANEL_COLUMNS);
        PANEL_UNROLL
        for (int r = 0; r < rows; r++) {
            PANEL_UNROLL
            for (int v = 0; v < PANEL_VECTORS; v++)
                sums[r][v] += a[r * a_step + i] * b[v];
        }
    }
    PANEL_UNROLL
    for (int r = 0; r < rows; r++) {
        PANEL_UNROLL
        for (int v = 0; v < PANEL_VECTORS; v++)
            ((panel_lanes *)(c + r * c_step))[v] = sums[r][v];
    }
}

static void panel_rows(int rows, int64_t k, const mmf_real *a, int64_t a_step,
                       const mmf_real *panel, const mmf_real *bias, mmf_real *c, int64_t c_step)
{
    switch (rows) {
    case 1:
        panel_block(1, k, a, a_step, panel, bias, c, c_step);
        break;
    case 2:
        panel_block(2, k, a, a_step, panel, bias, c, c_step);
        break;
    case 3:
        panel_block(3, k, a, a_step, panel, bias, c, c_step);
        break;
    case 4:
        panel_block(4, k, a, a_step, panel, bias, c, c_step);
        break;
    case 5:
        panel_block(5, k, a, a_step, panel, bias, c, c_step);
        break;
    default:
        panel_block(PANEL_ROWS, k, a, a_step, panel, bias, c, c_step);
        break;
    }
}

static void panel(const mmf_panel_product *p)
{
    mmf_real bias[PANEL_COLUMNS] = {0}, tile[PANEL_ROWS * PANEL_COLUMNS];
    for (int64_t j = 0; p->bias && j < p->n; j++)
        bias[j] = p->bias[j];
    for (int64_t row = 0; row < p->m; row += PANEL_ROWS) {
        const int rows = p->m - row < PANEL_ROWS ? (int)(p->m - row) : PANEL_ROWS;
        const bool whole = p->n == PANEL_COLUMNS;
        mmf_real *const c = p->c + row * p->c_step;
        panel_rows(rows, p->k, p->a + row * p->a_step, p->a_step, p->panel, bias, whole ? c : tile,
                   whole ? p->c_step : PANEL_COLUMNS);
        for (int r = 0; r < rows; r++) {
            mmf_real *const y = c + r * p->c_step;
            if (!whole)
                memcpy(y, tile + r * PANEL_COLUMNS, (size_t)p->n * sizeof *y);
            for (int64_t j = 0; p->relu && j < p->n; j++)
                y[j] = y[j] < (mmf_real)0 ? (mmf_real)0 : y[j];
        }
    }
}

#endif
