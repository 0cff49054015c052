/* rnn_kernels.h: the element-wise part of one LSTM step, gates in PyTorch's order i f g o. */
#ifndef MMFUSE_KERNELS_RNN_H
#define MMFUSE_KERNELS_RNN_H

static void lstm_cell(int64_t h, mmf_real *restrict gates, const mmf_real *restrict c_old,
                      mmf_real *restrict c, mmf_real *restrict tanh_c, mmf_real *restrict h_out)
{
    mmf_real *const gi = gates, *const gf = gates + h, *const gg = gates + 2 * h,
                    *const go = gates + 3 * h;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real i = vsigmoid(gi[j]), f = vsigmoid(gf[j]), g = vtanh(gg[j]),
                       o = vsigmoid(go[j]);
        const mmf_real cell = f * c_old[j] + i * g;
        const mmf_real squashed = vtanh(cell);
        gi[j] = i;
        gf[j] = f;
        gg[j] = g;
        go[j] = o;
        c[j] = cell;
        tanh_c[j] = squashed;
        h_out[j] = o * squashed;
    }
}

static void lstm_cell_grad(int64_t h, const mmf_real *restrict gates,
                           const mmf_real *restrict c_old, const mmf_real *restrict tanh_c,
                           const mmf_real *restrict dh, mmf_real *restrict dc,
                           mmf_real *restrict dgates)
{
    const mmf_real one = 1;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real i = gates[j], f = gates[h + j], g = gates[2 * h + j], o = gates[3 * h + j];
        const mmf_real d_cell = dc[j] + dh[j] * o * (one - tanh_c[j] * tanh_c[j]);
        dgates[j] = d_cell * g * i * (one - i);
        dgates[h + j] = d_cell * c_old[j] * f * (one - f);
        dgates[2 * h + j] = d_cell * i * (one - g * g);
        dgates[3 * h + j] = dh[j] * tanh_c[j] * o * (one - o);
        dc[j] = d_cell * f;
    }
}

#endif
