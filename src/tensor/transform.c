/* transform.c: see transform.h. */
#include "tensor/transform.h"

#if defined(MMF_WITH_KISSFFT) && !defined(MMF_DOUBLE)

#include <kiss_fft.h>
#include <limits.h>

/* Rows of complex numbers that a lane works on: what is transformed, its transform, one more. */
enum { IN, OUT, OTHER, N_ROWS };

typedef struct transform_job {
    int64_t width;
    kiss_fft_cfg forward, inverse;
    const mmf_real *a, *b, *dy;
    mmf_real *y, *da, *db;
    mmf_lanes lanes;
    kiss_fft_cpx *scratch; /* N_ROWS of each lane */
} transform_job;

static kiss_fft_cpx product(kiss_fft_cpx x, kiss_fft_cpx y)
{
    return (kiss_fft_cpx){x.r * y.r - x.i * y.i, x.r * y.i + x.i * y.r};
}

static kiss_fft_cpx conjugate(kiss_fft_cpx x)
{
    return (kiss_fft_cpx){x.r, -x.i};
}

/* Element k of the transforms of a and b, from that of a + i b. */
static void part(const kiss_fft_cpx *both, int64_t width, int64_t k, kiss_fft_cpx *a,
                 kiss_fft_cpx *b)
{
    const kiss_fft_cpx x = both[k], mirrored = both[k == 0 ? 0 : width - k];
    *a = (kiss_fft_cpx){(x.r + mirrored.r) / 2, (x.i - mirrored.i) / 2};
    *b = (kiss_fft_cpx){(x.i + mirrored.i) / 2, (mirrored.r - x.r) / 2};
}

/* The transform of a + i b in `out`; b NULL: of a alone. */
static void transform(const transform_job *j, const mmf_real *a, const mmf_real *b,
                      kiss_fft_cpx *in, kiss_fft_cpx *out)
{
    for (int64_t i = 0; i < j->width; i++)
        in[i] = (kiss_fft_cpx){a[i], b ? b[i] : 0};
    kiss_fft(j->forward, in, out);
}

static void convolve_range(void *argument, int64_t begin, int64_t end)
{
    const transform_job *const j = argument;
    const int64_t lane = mmf_lane_take(&j->lanes);
    kiss_fft_cpx *const in = j->scratch + lane * N_ROWS * j->width, *const out = in + j->width;
    for (int64_t r = begin; r < end; r++) {
        transform(j, j->a + r * j->width, j->b + r * j->width, in, out);
        for (int64_t k = 0; k < j->width; k++) {
            kiss_fft_cpx a, b;
            part(out, j->width, k, &a, &b);
            in[k] = product(a, b);
        }
        kiss_fft(j->inverse, in, out);
        for (int64_t i = 0; i < j->width; i++)
            j->y[r * j->width + i] = out[i].r / (float)j->width;
    }
    mmf_lane_give(&j->lanes, lane);
}

/* da = the correlation of dy with b, db with a: both are parts of one complex row. */
static void back_range(void *argument, int64_t begin, int64_t end)
{
    const transform_job *const j = argument;
    const int64_t lane = mmf_lane_take(&j->lanes), width = j->width;
    kiss_fft_cpx *const in = j->scratch + lane * N_ROWS * width;
    kiss_fft_cpx *const both = in + OUT * width, *const dy = in + OTHER * width;
    for (int64_t r = begin; r < end; r++) {
        transform(j, j->dy + r * width, NULL, in, dy);
        transform(j, j->a + r * width, j->b + r * width, in, both);
        for (int64_t k = 0; k < width; k++) {
            kiss_fft_cpx a, b;
            part(both, width, k, &a, &b);
            const kiss_fft_cpx da = product(dy[k], conjugate(b));
            const kiss_fft_cpx db = product(dy[k], conjugate(a));
            in[k] = (kiss_fft_cpx){da.r - db.i, da.i + db.r};
        }
        kiss_fft(j->inverse, in, both);
        for (int64_t i = 0; j->da && i < width; i++)
            j->da[r * width + i] += both[i].r / (float)width;
        for (int64_t i = 0; j->db && i < width; i++)
            j->db[r * width + i] += both[i].i / (float)width;
    }
    mmf_lane_give(&j->lanes, lane);
}

static kiss_fft_cfg factors(mmf_tape *tape, int64_t width, bool inverse)
{
    size_t bytes = 0;
    kiss_fft_alloc((int)width, inverse, NULL, &bytes);
    void *const memory = mmf_tape__alloc(tape, bytes);
    return memory ? kiss_fft_alloc((int)width, inverse, memory, &bytes) : NULL;
}

static bool run(mmf_tape *tape, int64_t rows, transform_job *j, mmf_range_fn *fn)
{
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    const int64_t grain = mmf_grain(j->width * 64);
    if (j->width > INT_MAX || !mmf_tape__lanes(tape, rows, grain, &j->lanes))
        return false;
    j->forward = factors(tape, j->width, false);
    j->inverse = factors(tape, j->width, true);
    j->scratch = mmf_tape__alloc(
        tape, (size_t)(j->lanes.count * N_ROWS * j->width) * sizeof *j->scratch + 1);
    const bool fine = j->forward && j->inverse && j->scratch;
    if (fine)
        mmf_tape__parallel(tape, rows, grain, fn, j);
    mmf_arena_rewind(&tape->arena, mark);
    return fine;
}

bool mmf_transform_convolve(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                            const mmf_real *b, mmf_real *y)
{
    transform_job job = {.width = width, .a = a, .b = b, .y = y};
    return run(tape, rows, &job, convolve_range);
}

bool mmf_transform_convolve_back(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                                 const mmf_real *b, const mmf_real *dy, mmf_real *da, mmf_real *db)
{
    transform_job job = {.width = width, .a = a, .b = b, .dy = dy, .da = da, .db = db};
    return run(tape, rows, &job, back_range);
}

#else

bool mmf_transform_convolve(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                            const mmf_real *b, mmf_real *y)
{
    (void)tape, (void)rows, (void)width, (void)a, (void)b, (void)y;
    return false;
}

bool mmf_transform_convolve_back(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                                 const mmf_real *b, const mmf_real *dy, mmf_real *da, mmf_real *db)
{
    (void)tape, (void)rows, (void)width, (void)a, (void)b, (void)dy, (void)da, (void)db;
    return false;
}

#endif
