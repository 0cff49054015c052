/* geometry.c: see geometry.h. */
#include "tensor/geometry.h"

#include "tensor/tape.h"

bool mmf_geometry_measure(mmf_tape *tape, const char *op, bool flat, const mmf_window *window,
                          mmf_geometry *g)
{
    for (int d = 0; d < 2; d++) {
        const bool unused = flat && d == 0; /* the height of a 1-D window */
        const int from = flat ? 0 : d;
        g->kernel[d] = unused ? 1 : window->kernel[from];
        g->stride[d] = unused || window->stride[from] == 0 ? 1 : window->stride[from];
        g->padding[d] = unused ? 0 : window->padding[from];
        if (g->kernel[d] < 1 || g->stride[d] < 1 || g->padding[d] < 0) {
            mmf_tape__fail(tape, MMF_ARG, op, "window with kernel %lld, stride %lld, padding %lld",
                           (long long)g->kernel[d], (long long)g->stride[d],
                           (long long)g->padding[d]);
            return false;
        }
    }
    const int64_t room_h = g->height + 2 * g->padding[0] - g->kernel[0];
    const int64_t room_w = g->width + 2 * g->padding[1] - g->kernel[1];
    if (room_h < 0 || room_w < 0) {
        mmf_tape__fail(tape, MMF_SHAPE, op, "a window of %lld x %lld does not fit into %lld x %lld",
                       (long long)g->kernel[0], (long long)g->kernel[1], (long long)g->height,
                       (long long)g->width);
        return false;
    }
    g->out_height = room_h / g->stride[0] + 1;
    g->out_width = room_w / g->stride[1] + 1;
    return true;
}

void mmf_geometry_inside(const mmf_geometry *g, int64_t kx, int64_t *first, int64_t *last)
{
    const int64_t shift = kx - g->padding[1], stride = g->stride[1];
    *first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    const int64_t room = g->width - shift;
    *last = room <= 0 ? 0 : (room + stride - 1) / stride;
    if (*last > g->out_width)
        *last = g->out_width;
    if (*first > *last)
        *first = *last;
}
